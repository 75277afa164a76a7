"""Plays cases: on a double of its own, each in a fresh tenant, with one call of the client."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from hashlib import blake2b
from types import TracebackType
from typing import Any, Literal, Self

import msgspec

from mockserver.backend.backend import Backend
from mockserver.backend.journal import Exchange
from mockserver.check.drive.concurrent import ConcurrentCalls
from mockserver.check.drive.protocol import Call, Driver, Pending
from mockserver.check.hunt.earlier import EarlierPlays
from mockserver.check.hunt.notices import notices
from mockserver.check.model import (
    TOKEN_PREFIX,
    Case,
    ClientError,
    DoubleError,
    Outcome,
    Run,
    fault_of,
    is_valid,
    operation_of,
)
from mockserver.check.rules.calls import numbered
from mockserver.check.rules.evidence import retry_after_exceeds_deadline
from mockserver.check.rules.registry import is_runaway
from mockserver.clock import SECOND, wall_time
from mockserver.contract.contract import Contract
from mockserver.errors import MockServerError
from mockserver.scenarios.catalogue import Catalogue
from mockserver.scenarios.scenario import Scenario
from mockserver.server.mock_server import MockServer
from mockserver.server.tls import Authority

Comparison = Callable[[Any, bytes], bool]
TICK = 0.05  # seconds between looks at a client that is still running
BUSY = 0.05  # share of a run by which looks came late, above which the machine was too busy to keep a deadline
STARTUP = 2.0  # deadlines that a process may take to start, until its first request
PATIENCE = 2.0  # deadlines that a patient play waits for a client which gets no processor, at most
PAUSE = 3.0  # seconds without a request after which a client that was told to wait for longer is taken to do so
SETTLE = 0.2  # seconds that requests of a client which was ended are waited for, at most
CUT_OFF_GRACE = 2 * SECOND  # nanoseconds that a client has to end, once everything is refused
# What is left to chance comes out the same in every play of a case, or it could be neither
# confirmed nor shrunk.
CHANCES = b"the kit's"
# What a client gets once it has broken a rule beyond doubt, so that one that would never end does
# so soon.
CUT_OFF: dict[str, Any] = {
    "name": "cut-off",
    "faults": {
        "createPrediction": [{"status": 401, "times": "always"}],
        "*": [{"status": 404, "times": "always"}],
    },
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client is held to: seconds until a run must have ended, and what it declares of itself."""

    deadline: float = 10.0
    client_timeout: float | None = None
    strict_urls: bool = False

    @property
    def longest(self) -> float:
        """Seconds that a run may take."""
        return (
            self.deadline
            if self.client_timeout is None
            else self.client_timeout + CUT_OFF_GRACE / SECOND
        )


class Deadline:
    """When a call must have ended.

    Its seconds count from its first request: what a process takes to start, up to `startup` seconds,
    is no part of a call. With `patient`, neither is the time for which the client was ready to run
    and no processor was free, up to so many times the deadline.
    """

    def __init__(self, seconds: float, *, startup: float = 0.0, patient: bool = False) -> None:
        self._seconds, self._startup, self.patient = seconds, startup, patient
        self._started = wall_time()
        self._cut_off_end: int | None = None
        self.exhausted = False

    def seconds_left(self, run: Run, pending: Pending) -> float:
        """Seconds until the call must have ended; none if it should have."""
        now = wall_time()
        if self._cut_off_end is not None:
            return (self._cut_off_end - now) / SECOND
        if run.exchanges:
            left = self._seconds - (now - run.exchanges[0].received_at) / SECOND
        else:
            left = self._seconds + self._startup - (now - self._started) / SECOND
        if left > 0 or not self.patient:
            return left

        waited, longest = pending.seconds_without_processor(), PATIENCE * self._seconds
        self.exhausted = waited > longest
        return left + min(waited, longest)

    def end_within(self, nanoseconds: int) -> None:
        """Have it end that soon."""
        self._cut_off_end = wall_time() + nanoseconds


class Harness:
    """A double and the plays on it, one at a time.

    With an `authority` it speaks https. `result` says of what a client returned whether it is the
    picture with those bytes, where that is neither a URL nor bytes. `webhook` is the address at
    which the client receives webhooks.
    """

    def __init__(
        self,
        contract: Contract,
        *,
        files: Literal["separate", "same"] = "separate",
        seed: int = 0,
        authority: Authority | None = None,
        result: Comparison | None = None,
        base_path: str = "",
        webhook: str | None = None,
    ) -> None:
        self.contract = contract
        self._base_path = base_path
        self.catalogue = Catalogue(contract)
        self._server = MockServer(
            contract=contract, files_origin=files, seed=seed, tls=authority or False
        )
        self._files: Literal["separate", "same"] = files
        self._seed = seed
        self._authority = authority
        self._result = result
        self._webhook = webhook
        self._played = 0
        self._earlier = EarlierPlays()
        self._cut_off_scenario = self.catalogue.parse(CUT_OFF)

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        reason: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.__exit__(kind, reason, trace)

    def clone(self) -> Harness:
        """One like it, with a double of its own: a request with a wrong token is known by its port."""
        return Harness(
            self.contract,
            files=self._files,
            seed=self._seed,
            authority=self._authority,
            result=self._result,
            base_path=self._base_path,
            webhook=self._webhook,
        )

    @property
    def base_url(self) -> str:
        """What clients are given as the base URL."""
        return self._server.base_url + self._base_path

    def check(self, case: Case) -> Scenario:
        """The scenario of a case. Raises MockServerError if the contract does not allow the case."""
        operation = operation_of(self.contract, case.model)
        if not is_valid(operation, case.input):
            raise MockServerError(f"the contract does not allow this input of {case.model}")
        return self.catalogue.parse(case.scenario)

    def play(
        self,
        case: Case,
        driver: Driver,
        limits: Limits,
        *,
        name: str | None = None,
        timeout: float | None = None,
        idle: float | None = None,
        patient: bool = False,
        on_tick: Callable[[], None] = lambda: None,
    ) -> Run:
        """Play a case to a client, once, and end it `timeout` seconds after its first request.

        Left out, `timeout` is as the limits have it. A client that could not run because the machine
        was busy has longer if the play is `patient`. `name` is what the play's token, and so its predictions, are made from; none is given twice.
        A client that sends no request for `idle` seconds is ended sooner. `on_tick` is called as
        long as it runs. Raises ClientError if the client cannot be run, DoubleError if the double
        broke its contract.
        """
        scenario = self.check(case)
        token = self._fresh_token(name)
        draft = Run(
            case=case,
            scenario=scenario,
            contract=self.contract,
            token=token,
            outcome=Outcome("hung"),
            exchanges=(),
            timeout=limits.longest if timeout is None else timeout,
            client_timeout=limits.client_timeout,
            strict_urls=limits.strict_urls,
            tls=self._authority is not None,
        )
        self._server.call_in_loop(lambda backend: _prepare(backend, token, scenario, case))
        started = wall_time()
        try:
            deadline = Deadline(
                draft.timeout,
                startup=STARTUP * limits.deadline if driver.starts_process else 0.0,
                patient=patient,
            )
            run = self._watch_call(case, driver, draft, deadline, idle, on_tick)
        except BaseException:  # a client that cannot be run, the end of the budget, or Ctrl-C
            self._end(token, still_running=True)
            raise
        if not run.exchanges and self._server.call_in_loop(self._earlier.are_heard):
            self._end(token, still_running=run.outcome.kind == "hung")
            return self._play_elsewhere(
                case,
                driver,
                limits,
                name=f"{name or self._played}, elsewhere",
                timeout=timeout,
                idle=idle,
                patient=patient,
                on_tick=on_tick,
            )
        seconds = (wall_time() - started) / SECOND
        started_after = (run.exchanges[0].received_at - started) / SECOND if run.exchanges else 0.0
        pictures = self._server.call_in_loop(
            lambda backend: _output_urls(backend, run, self._server.url)
        )
        ends = self._server.call_in_loop(lambda backend: _ends(backend, run))
        values = [part.value for part in run.outcome.parts or (run.outcome,)]
        # Drawing takes a while, so only where the client returned bytes, or what has to be compared
        # with them.
        compared = self._result is not None and not all(
            isinstance(value, str | list | None) for value in values
        )
        drawn = compared or any(map(_is_bytes, values))
        bodies = self._server.call_in_loop(lambda backend: _bodies(backend, run)) if drawn else {}
        self._end(token, still_running=run.outcome.kind == "hung")
        _check_double(run)
        outputs, delivered = frozenset(pictures.values()), tuple(_delivered(run, bodies))
        run = replace(run, pictures=pictures, outputs=outputs, bodies=bodies, delivered=delivered)
        run = replace(run, final_statuses=ends, seconds=seconds, started_after=started_after)
        return self._with_compared_result(run) if compared else run

    def _play_elsewhere(self, case: Case, driver: Driver, limits: Limits, **how: Any) -> Run:
        """Play a case on a double that knows no earlier play.

        Where a client sent nothing but requests under an earlier token, these may be what an
        earlier call left behind, or this call's, with the wrong token. Here only this call's arrive.
        """
        with self.clone() as fresh:
            return fresh.play(case, driver, limits, **how)

    def _watch_call(
        self,
        case: Case,
        driver: Driver,
        draft: Run,
        deadline: Deadline,
        idle: float | None,
        on_tick: Callable[[], None],
    ) -> Run:
        """Start a call, and watch it to its end. However that comes, no client is left running."""
        pending = self._start(case, driver, draft.token)
        try:
            return self._watch(pending, draft, deadline, idle, on_tick)
        except BaseException:
            pending.kill()
            raise

    def _start(self, case: Case, driver: Driver, token: str) -> Pending:
        given = deepcopy(case.input)  # a client in this process may change what it is given
        call = Call(
            self.base_url, token, case.model, given, self._server.ca_file, webhook_url=self._webhook
        )
        if case.concurrent == 1:
            return driver.start(call)
        operation, numbers = operation_of(self.contract, case.model), range(1, case.concurrent + 1)
        calls = [
            replace(call, id=number, input=numbered(operation, given, number)) for number in numbers
        ]
        return ConcurrentCalls(driver.start_together(calls))

    def _with_compared_result(self, run: Run) -> Run:
        """The run; what its author says to be a picture that was served has become the bytes of that."""
        parts = tuple(self._compared(part, run) for part in run.outcome.parts)
        return replace(
            run, outcome=msgspec.structs.replace(self._compared(run.outcome, run), parts=parts)
        )

    def _compared(self, outcome: Outcome, run: Run) -> Outcome:
        assert self._result is not None
        if isinstance(outcome.value, str | list | None):
            return outcome
        try:
            same = [picture for picture in run.delivered if self._result(outcome.value, picture)]
        except Exception as reason:
            said = f"`result`, which compares what the client returned with a picture, raised {reason!r}"
            raise ClientError(said) from reason
        return msgspec.structs.replace(outcome, value=same[0]) if same else outcome

    def _watch(
        self,
        pending: Pending,
        draft: Run,
        deadline: Deadline,
        idle: float | None,
        on_tick: Callable[[], None],
    ) -> Run:
        """The run to its end. A client that has broken a rule beyond doubt is cut off, and killed if it goes on."""
        run, started, late = draft, wall_time(), 0.0
        while (left := deadline.seconds_left(run, pending)) > 0:
            began = wall_time()
            outcome = pending.wait(min(TICK, left))
            late += max(0.0, (wall_time() - began) / SECOND - TICK)
            if outcome is not None:
                run = run if run.cut_off else replace(run, exchanges=self._exchanges(run.token))
                return replace(run, outcome=outcome)

            on_tick()
            if run.cut_off:
                continue
            run = replace(run, exchanges=self._exchanges(run.token))
            last_seen = run.exchanges[-1].received_at if run.exchanges else started
            patience = (
                PAUSE
                if draft.client_timeout is None and retry_after_exceeds_deadline(run)
                else idle
            )
            if is_runaway(run):
                run = replace(run, cut_off=True)
                self._cut_off(run.token)
                deadline.end_within(CUT_OFF_GRACE)
            elif patience is not None and wall_time() - last_seen > patience * SECOND:
                break

        if not run.cut_off:
            run = replace(run, exchanges=self._exchanges(run.token))
        self._cut_off(run.token)
        # A patient play has waited for the machine already.
        overloaded = deadline.exhausted if deadline.patient else late > BUSY * run.timeout
        return replace(run, outcome=pending.kill(), machine_overloaded=overloaded)

    def _exchanges(self, token: str) -> tuple[Exchange, ...]:
        """What the client of this run has sent, in order, also under a wrong token."""
        return self._server.call_in_loop(lambda backend: _exchanges(backend, token, self._earlier))

    def _cut_off(self, token: str) -> None:
        """Refuse everything from here on."""
        self._server.call_in_loop(
            lambda backend: backend.store.tenant(token).set_scenario(self._cut_off_scenario)
        )

    def _fresh_token(self, name: str | None) -> str:
        self._played += 1
        digest = blake2b(f"{self._seed}/{name or self._played}".encode(), digest_size=10)
        return TOKEN_PREFIX + digest.hexdigest()

    def _end(self, token: str, *, still_running: bool) -> None:
        """Have nothing of this play reach the next one.

        What a process had sent before it was killed is read first. A thread cannot be killed.
        """
        if still_running:
            self._cut_off(token)
            self._server.settle(SETTLE)
        self._server.call_in_loop(
            lambda backend: self._earlier.end(backend, token, still_running=still_running)
        )


def _prepare(backend: Backend, token: str, scenario: Scenario, case: Case) -> None:
    tenant = backend.store.tenant(token)
    tenant.chances = CHANCES
    tenant.set_scenario(scenario)
    tenant.set_clock(case.clock)


def _exchanges(backend: Backend, token: str, earlier: EarlierPlays) -> tuple[Exchange, ...]:
    # All tenants are read, not only the run's: a client that sends a wrong token lands in another.
    exchanges = [
        exchange
        for tenant in backend.store.tenants()
        for exchange in (*tenant.journal, *notices(tenant.deliveries, tenant.name))
        if tenant.name == token or not earlier.sent(exchange, tenant)
    ]
    return tuple(sorted(exchanges, key=lambda exchange: exchange.received_at))


def _output_urls(backend: Backend, run: Run, origin: str) -> dict[str, str]:
    """The URLs of the pictures that were made, by the ids of their predictions."""
    made = backend.store.tenant(run.token).predictions.values()
    return {prediction.id: backend.renderer.output_url(prediction, origin) for prediction in made}


def _ends(backend: Backend, run: Run) -> dict[str, str]:
    """The statuses in which the lifecycles of the predictions end, by their ids."""
    made = backend.store.tenant(run.token).predictions.values()
    return {prediction.id: prediction.timeline[-1].status for prediction in made}


def _bodies(backend: Backend, run: Run) -> dict[str, bytes]:
    """The pictures that were made, by the ids of their predictions."""
    made = backend.store.tenant(run.token).predictions.values()
    return {prediction.id: backend.pictures.draw(prediction).data for prediction in made}


def _delivered(run: Run, bodies: Mapping[str, bytes]) -> Iterator[bytes]:
    """The bodies that a client which downloads the picture may return: each was delivered whole, as HTTP frames it.

    That is the picture, and what a fault made of it under a Content-Length that agrees: no client
    can tell that such a body is not the picture without decoding it.
    """
    yield from bodies.values()
    # The journal keeps no pictures, but it keeps how long a spoilt one was.
    for exchange in run.exchanges:
        picture = bodies.get(exchange.prediction_id or "")
        if (
            picture is None
            or exchange.method != "GET"
            or exchange.status != 200
            or exchange.fault is None
        ):
            continue
        if run.role(exchange) == "deliver" and fault_of(exchange).kind == "body":
            yield picture[: exchange.response.body_size]


def _is_bytes(value: object) -> bool:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return isinstance(value, bytes) or (isinstance(value, str) and value.startswith("data:"))


def _check_double(run: Run) -> None:
    """Raise DoubleError if the double withheld a response that its contract does not allow."""
    for exchange in run.exchanges:
        if exchange.status == 500 and exchange.fault is None:
            said = exchange.response.body.decode("utf-8", "replace")[:500]
            raise DoubleError(f"the double broke its own contract, please report it: {said}")

"""Plays cases on a double of its own: each in a fresh tenant, with one call of the client."""

from __future__ import annotations

import time
from collections.abc import Callable
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
from mockserver.check.hunt.deadline import Deadline
from mockserver.check.hunt.earlier import EarlierPlays
from mockserver.check.hunt.served import check_double, with_served
from mockserver.check.hunt.webhook_exchanges import webhook_exchanges
from mockserver.check.model import (
    TOKEN_PREFIX,
    Case,
    ClientError,
    Outcome,
    Run,
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

# Whether an object that the client returned is the picture with those bytes.
Comparison = Callable[[Any, bytes], bool]

TICK = 0.05  # seconds between two looks at a call that is still running
STARTUP = 2.0  # deadlines that a process may take to start, until its first request
SETTLE = 0.2  # seconds, at most, that a killed client's last requests are waited for
CUT_OFF_GRACE = 2 * SECOND  # nanoseconds that a client has to end once everything is refused
# Share of a run by which ticks came late; above it the machine was too busy to keep a deadline.
MAX_LATENESS = 0.05
# Seconds without a request after which a client counts as waiting out a Retry-After that exceeds
# the deadline.
LONG_WAIT = 3.0
# Chance has the same results in every play of a case, or none could be confirmed or shrunk.
CHANCE_SEED = b"the kit's"
# Served once a client has broken a rule beyond doubt, so that even one that never ends does.
CUT_OFF: dict[str, Any] = {
    "name": "cut-off",
    "faults": {
        "createPrediction": [{"status": 401, "times": "always"}],
        "*": [{"status": 404, "times": "always"}],
    },
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client is held to.

    Attributes:
        deadline: Seconds from the first request until a call must have ended.
        client_timeout: Seconds after which the client promises to give up by itself, if it does.
        strict_urls: Whether it is an error, and not a warning, to follow `urls.*` elsewhere.
    """

    deadline: float = 10.0
    client_timeout: float | None = None
    strict_urls: bool = False

    @property
    def longest(self) -> float:
        """Seconds that a run may take."""
        if self.client_timeout is None:
            return self.deadline
        return self.client_timeout + CUT_OFF_GRACE / SECOND


class Harness:
    """A double and the plays on it, one at a time. To be used as a context manager.

    With an `authority` it speaks https. `result` decides whether an object that a client returned,
    other than a URL or bytes, is the picture with the given bytes. `webhook` is the address at
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
        self.catalogue = Catalogue(contract)
        self._files: Literal["separate", "same"] = files
        self._seed = seed
        self._authority = authority
        self._result = result
        self._base_path = base_path
        self._webhook = webhook
        self._server = MockServer(
            contract=contract, files_origin=files, seed=seed, tls=authority or False
        )
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
        """A harness like this one, with a double of its own.

        A request with a wrong token can be attributed to a play only by the port of its double.
        """
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
        """The base URL for clients."""
        return self._server.base_url + self._base_path

    def check(self, case: Case) -> Scenario:
        """The scenario of a case. Raises MockServerError if the contract does not allow it."""
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
        linger: float = 0.0,
        on_tick: Callable[[], None] = lambda: None,
    ) -> Run:
        """Play a case to a client, once.

        Args:
            case: The case.
            driver: Runs the client.
            limits: What the client is held to.
            name: Determines the token of the play, and so its predictions; must be unique.
            timeout: Seconds after its first request at which the call is ended; by default as the
                limits have it.
            idle: Seconds without a request after which the call is ended earlier.
            patient: Extend the timeout by the time in which the client got no processor.
            linger: Seconds after a call has returned in which its client is still watched.
            on_tick: Called while the call is running. What it raises ends the play.

        Raises ClientError if the client cannot be run, DoubleError if the double broke its
        contract, MockServerError if the contract does not allow the case.
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
        # BaseException: a client that cannot be run, a stopped play, or Ctrl-C.
        except BaseException:
            self._end(token, still_running=True)
            raise

        if not run.exchanges and self._server.call_in_loop(self._earlier.have_sent_requests):
            self._end(token, still_running=run.outcome.kind == "hung")
            return self._play_elsewhere(
                case,
                driver,
                limits,
                name=f"{name or self._played}, elsewhere",
                timeout=timeout,
                idle=idle,
                patient=patient,
                linger=linger,
                on_tick=on_tick,
            )

        seconds = (wall_time() - started) / SECOND
        if run.outcome.kind == "returned" and linger:
            run = self._with_late_requests(run, linger, on_tick)
        started_after = (run.exchanges[0].received_at - started) / SECOND if run.exchanges else 0.0
        return self._complete(replace(run, seconds=seconds, started_after=started_after))

    def _with_late_requests(self, run: Run, linger: float, on_tick: Callable[[], None]) -> Run:
        """The run of a call that has returned, with what its client sends in the next seconds."""
        end = wall_time() + round(linger * SECOND)
        while wall_time() < end:
            time.sleep(TICK)
            on_tick()
        return replace(run, exchanges=self._exchanges(run.token))

    def _play_elsewhere(self, case: Case, driver: Driver, limits: Limits, **options: Any) -> Run:
        """Play a case on a double that knows no earlier play.

        If only requests under an earlier token have arrived, they may be late ones of an earlier
        call, or this call's, with the wrong token. A new double receives only this call's.
        """
        with self.clone() as fresh:
            return fresh.play(case, driver, limits, **options)

    def _complete(self, run: Run) -> Run:
        """End the play of a run, and add what the double served."""
        values = [part.value for part in run.outcome.parts or (run.outcome,)]
        compared = self._result is not None and not all(map(_is_plain, values))
        # Pictures are drawn only if the client returned bytes, or an object to compare with bytes.
        draw = compared or any(map(_is_bytes, values))
        complete = self._server.call_in_loop(
            lambda backend: with_served(backend, run, self._server.url, draw=draw)
        )
        self._end(run.token, still_running=run.outcome.kind == "hung")
        check_double(complete)
        return self._with_compared_result(complete) if compared else complete

    def _with_compared_result(self, run: Run) -> Run:
        """The run, with the bytes of a picture in place of each object that `result` says it is."""
        parts = tuple(self._compared(part, run) for part in run.outcome.parts)
        return replace(
            run, outcome=msgspec.structs.replace(self._compared(run.outcome, run), parts=parts)
        )

    def _compared(self, outcome: Outcome, run: Run) -> Outcome:
        assert self._result is not None
        if _is_plain(outcome.value):
            return outcome
        try:
            same = [picture for picture in run.delivered if self._result(outcome.value, picture)]
        except Exception as error:
            raise ClientError(
                f"`result`, which compares a return value with a picture, raised {error!r}"
            ) from error
        return msgspec.structs.replace(outcome, value=same[0]) if same else outcome

    def _watch_call(
        self,
        case: Case,
        driver: Driver,
        draft: Run,
        deadline: Deadline,
        idle: float | None,
        on_tick: Callable[[], None],
    ) -> Run:
        """Start a call, and watch it until it ends. No client is left running, whatever happens."""
        pending = self._start(case, driver, draft.token)
        try:
            return self._watch(pending, draft, deadline, idle, on_tick)
        except BaseException:
            pending.kill()
            raise

    def _start(self, case: Case, driver: Driver, token: str) -> Pending:
        call = Call(
            base_url=self.base_url,
            token=token,
            model=case.model,
            input=deepcopy(case.input),  # a client in this process may change it
            ca_file=self._server.ca_file,
            webhook_url=self._webhook,
        )
        if case.concurrent == 1:
            return driver.start(call)

        operation = operation_of(self.contract, case.model)
        calls = [
            replace(call, id=number, input=numbered(operation, call.input, number))
            for number in range(1, case.concurrent + 1)
        ]
        return ConcurrentCalls(driver.start_together(calls))

    def _watch(
        self,
        pending: Pending,
        draft: Run,
        deadline: Deadline,
        idle: float | None,
        on_tick: Callable[[], None],
    ) -> Run:
        """Watch a call until it ends.

        A client that has broken a rule beyond doubt is refused everything from then on, and killed
        if it still goes on.
        """
        run, started, late = draft, wall_time(), 0.0
        while (left := deadline.seconds_left(run, pending)) > 0:
            tick_started = wall_time()
            outcome = pending.wait(min(TICK, left))
            late += max(0.0, (wall_time() - tick_started) / SECOND - TICK)
            if outcome is not None:
                return replace(self._with_exchanges(run), outcome=outcome)

            on_tick()
            if run.cut_off:
                continue

            run = self._with_exchanges(run)
            if is_runaway(run):
                run = replace(run, cut_off=True)
                self._cut_off(run.token)
                deadline.end_within(CUT_OFF_GRACE)
                continue

            waits_long = draft.client_timeout is None and retry_after_exceeds_deadline(run)
            max_silence = LONG_WAIT if waits_long else idle
            last_request = run.exchanges[-1].received_at if run.exchanges else started
            silence = (wall_time() - last_request) / SECOND
            if max_silence is not None and silence > max_silence:
                break

        run = self._with_exchanges(run)
        self._cut_off(run.token)
        # A patient play has already waited for a busy machine; any other only notices one.
        overloaded = deadline.exhausted if deadline.patient else late > MAX_LATENESS * run.timeout
        return replace(run, outcome=pending.kill(), machine_overloaded=overloaded)

    def _with_exchanges(self, run: Run) -> Run:
        """The run with its exchanges until now; once it is cut off, with those until then."""
        return run if run.cut_off else replace(run, exchanges=self._exchanges(run.token))

    def _exchanges(self, token: str) -> tuple[Exchange, ...]:
        """What the client of a play has sent, in order, including requests with a wrong token."""
        return self._server.call_in_loop(lambda backend: _exchanges(backend, token, self._earlier))

    def _cut_off(self, token: str) -> None:
        """Refuse all further requests with this token."""
        self._server.call_in_loop(
            lambda backend: backend.store.tenant(token).set_scenario(self._cut_off_scenario)
        )

    def _fresh_token(self, name: str | None) -> str:
        self._played += 1
        digest = blake2b(f"{self._seed}/{name or self._played}".encode(), digest_size=10)
        return TOKEN_PREFIX + digest.hexdigest()

    def _end(self, token: str, *, still_running: bool) -> None:
        """End a play, so that nothing of it is attributed to the next one.

        A killed process may have sent requests that are not read yet, so these are waited for. A
        thread cannot be killed: its requests are refused from now on.
        """
        if still_running:
            self._cut_off(token)
            self._server.settle(SETTLE)
        self._server.call_in_loop(
            lambda backend: self._earlier.end(backend, token, still_running=still_running)
        )


def _prepare(backend: Backend, token: str, scenario: Scenario, case: Case) -> None:
    tenant = backend.store.tenant(token)
    tenant.chances = CHANCE_SEED
    tenant.set_scenario(scenario)
    tenant.set_clock(case.clock)


def _exchanges(backend: Backend, token: str, earlier: EarlierPlays) -> tuple[Exchange, ...]:
    # A client that sends a wrong token ends up in another tenant, so all of them are read.
    exchanges = [
        exchange
        for tenant in backend.store.tenants()
        for exchange in (*tenant.journal, *webhook_exchanges(tenant.deliveries, tenant.name))
        if tenant.name == token or not earlier.sent(exchange, tenant)
    ]
    return tuple(sorted(exchanges, key=lambda exchange: exchange.received_at))


def _is_plain(value: object) -> bool:
    """Whether a returned value is compared as it is, and not by `result`."""
    return isinstance(value, str | list | None)


def _is_bytes(value: object) -> bool:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return isinstance(value, bytes) or (isinstance(value, str) and value.startswith("data:"))

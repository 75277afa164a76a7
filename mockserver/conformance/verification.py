"""The gateway, asked what the plan says, and judged. Nothing is sent that could be billed once the lid is reached."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from secrets import token_bytes, token_hex
from typing import Any, NamedTuple
from urllib.parse import quote

from mockserver.conformance.exchange import GatewayExchange
from mockserver.conformance.gateway import GatewaySession, GatewayUnreachable, Reply, retry_after
from mockserver.conformance.inputs import JSON
from mockserver.conformance.judge import departure, is_inconclusive, judge
from mockserver.conformance.life import Life
from mockserver.conformance.picture import judge_picture
from mockserver.conformance.plan import LifeProbe, Probe, VerifyPlan, plan_for, request_headers
from mockserver.conformance.verify_report import Collector, NotSeen, VerifyFinding, VerifyReport
from mockserver.contract.contract import Contract
from mockserver.contract.operation import Operation
from mockserver.errors import MockServerError
from mockserver.json_text import read_json
from mockserver.scenarios.timeline import TERMINAL

ATTEMPTS = 3  # of a request that is answered: come back later
MAX_PATIENCE = 60.0  # seconds of a Retry-After that are waited
MAX_UNANSWERED = 5  # reads in a row, after which a prediction is given up
CANCEL_READS = 10  # reads after a cancel that is not told at once
LID_REACHED = "the lid on spending was reached"

Listen = Callable[[str], None]
Watch = Callable[[GatewayExchange], None]


class VerifySettings(NamedTuple):
    """How a gateway is verified: `spend` predictions at most, `poll` seconds between reads, `deadline` for each.

    `fuzz` is the number of forbidden creates that are drawn.
    """

    token: str = ""
    spend: int = 0
    poll: float = 1.0
    deadline: float = 600.0
    accepted: Sequence[VerifyFinding] = ()
    fuzz: int = 0


class Verification:
    """One verification of a gateway. `listen` is told what is being done, `watch` is shown each exchange."""

    def __init__(
        self,
        contract: Contract,
        session: GatewaySession,
        settings: VerifySettings,
        listen: Listen = lambda _: None,
        watch: Watch = lambda _: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._sleep = sleep
        self._contract = contract
        self._session = session
        self._settings = settings
        self._listen = listen
        self._watch = watch
        self._gateway = session.gateway
        self._wrong_token = f"wrong-{token_hex(12)}"
        self.plan: VerifyPlan = plan_for(contract, token_bytes(16), settings.fuzz)
        self._collector = Collector(contract, settings.token, settings.accepted)
        self._requests = 0
        self._spent = 0  # predictions that were billed, or may have been
        self._not_seen: list[NotSeen] = []
        self._asked: Counter[str] = (
            Counter()
        )  # creates of any kind, those of lives, and reads of theirs
        self._seen: Counter[str] = (
            Counter()
        )  # those that were answered; of lives and reads, with a prediction
        self._running: dict[
            str, str
        ] = {}  # predictions that nobody has seen end yet, and why they were made

    def run(self) -> VerifyReport:
        """Carry the plan out.

        Raises MockServerError if the gateway cannot be reached, or refuses the token.
        """
        began, interrupted = time.perf_counter(), False
        try:
            self._check_reach()
            for probe in self.plan.free:
                self._send(probe)
            for probe in self.plan.forbidden:
                self._send(probe)
            for life in self.plan.lives:
                self._run_lifecycle(life)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            for identifier in list(self._running):
                self._cancel(identifier, "left running")

        return self._collector.report(
            url=self._gateway.url,
            unverified=self._why_unverified(),
            spent=self._spent,
            spend_limit=self._settings.spend,
            not_seen=self._not_seen,
            requests=self._requests,
            seconds=time.perf_counter() - began,
            interrupted=interrupted,
        )

    def _why_unverified(self) -> str:
        """Why nothing is known of the gateway that is worth the name, though nothing departs; else nothing."""
        told = self._collector.operations.values()
        answers = sorted(
            {status for each in told for status, said in each.items() if said != "not seen"}
        )
        if not any(status.startswith("2") for status in answers):
            return f"it is out of order: all it answered was {', '.join(answers)}"
        said = {
            "create": "no create was answered",
            "life": "no prediction could be made",
            "read": "none could be read",
        }
        return next(
            (why for kind, why in said.items() if self._asked[kind] and not self._seen[kind]), ""
        )

    def _check_reach(self) -> None:
        """Whether the gateway is there, and takes the token."""
        first = self.plan.free[0]
        try:
            seen = self._exchange(
                first.operation,
                first.method,
                first.path,
                request_headers(first, self._settings.token),
            )
        except GatewayUnreachable as reason:
            raise MockServerError(f"cannot reach {self._gateway.url}: {reason}") from reason
        if seen.status == 401:
            needed = "a token is needed (--token, REPLICATE_API_TOKEN)"
            said = "the token is refused" if self._settings.token else needed
            raise MockServerError(f"{self._gateway.url} answers 401: {said}")

    @property
    def _may_spend(self) -> bool:
        return self._spent < self._settings.spend

    def _skip(self, what: str, reason: str) -> None:
        self._not_seen.append(NotSeen(what, reason))

    def _send(self, probe: Probe) -> None:
        """Send one request of the plan, and judge what comes back."""
        what = f"{probe.operation.operation_id}: {probe.title}"
        if probe.creates and not self._may_spend:
            self._skip(
                what, LID_REACHED if self._settings.spend else "it could be billed (--spend)"
            )
            return
        self._listen(what)
        token = self._wrong_token if probe.auth == "wrong" else self._settings.token
        seen = self._patiently(probe, request_headers(probe, token), what, token)
        if seen is None:
            return
        accepted = 200 <= seen.status < 300
        self._judge(probe.title, seen)
        prediction = seen.prediction()
        if probe.creates and accepted:
            self._cancel_accepted(probe, prediction)

    def _cancel_accepted(self, probe: Probe, prediction: Mapping[str, Any] | None) -> None:
        """Cancel at once what should have been refused."""
        if prediction is None:
            self._skip(
                f"{probe.operation.operation_id}: {probe.title}: its cancel",
                "the answer names no prediction",
            )
            return
        identifier = str(prediction.get("id"))
        self._running[identifier] = probe.title
        self._cancel(identifier, probe.title)

    def _patiently(
        self, probe: Probe, headers: Mapping[str, str], what: str, token: str
    ) -> GatewayExchange | None:
        """One exchange, again if the gateway says: come back later. None if nothing of it was seen."""
        self._asked["create"] += probe.creates
        for attempt in range(1, ATTEMPTS + 1):
            try:
                seen = self._exchange(
                    probe.operation,
                    probe.method,
                    probe.path,
                    headers,
                    probe.body,
                    probe.must_refuse,
                    token,
                )
            except GatewayUnreachable as reason:
                self._spent += probe.creates  # nobody knows whether it was created
                self._watch(
                    GatewayExchange(
                        operation=probe.operation, method=probe.method, path=probe.path, token=token
                    )
                )
                self._skip(what, f"no answer: {reason}")
                return None
            # What failed on the gateway's side may have been created all the same.
            self._spent += probe.creates and (200 <= seen.status < 300 or seen.status >= 500)
            if not is_inconclusive(seen.status):
                self._seen["create"] += probe.creates
                return seen
            wait = _asked_to_wait(seen) if seen.status in (429, 503) else None
            self._judge(probe.title, seen)
            if (
                attempt == ATTEMPTS
                or wait is None
                or wait > MAX_PATIENCE
                or (probe.creates and not self._may_spend)
            ):
                break
            self._listen(f"{what}: waiting {wait:.0f} s, as asked")
            self._sleep(wait)
        self._skip(what, f"answered {seen.status}")
        return None

    def _exchange(
        self,
        operation: Operation,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        must_refuse: bool = False,
        token: str | None = None,
    ) -> GatewayExchange:
        self._requests += 1
        reply = self._session.ask(method, path, headers, body)
        seen = observed(operation, method, path, headers, body, reply)
        seen.token, seen.must_refuse = self._settings.token if token is None else token, must_refuse
        self._watch(seen)
        return seen

    def _judge(self, title: str, seen: GatewayExchange, life: Life | None = None) -> None:
        found = judge(self._contract, seen, self._gateway.origin)
        prediction = seen.prediction()
        if life is not None and prediction is not None:
            found += life.take(seen, prediction)
        self._collector.take(title, seen, found)

    def _run_lifecycle(self, probe: LifeProbe) -> None:
        """Create a prediction, and follow it as the plan says."""
        what = f"{probe.operation.operation_id}: {probe.title}"
        if not self._may_spend:
            self._skip(
                what, LID_REACHED if self._settings.spend else "it would be billed (--spend)"
            )
            return
        self._listen(what)
        create = Probe(
            probe.title,
            probe.operation,
            probe.operation.method,
            probe.operation.path,
            JSON,
            probe.body,
        )
        headers = request_headers(create, self._settings.token)
        if probe.way == "wait":
            headers["prefer"] = "wait"
        self._asked["life"] += 1
        seen = self._patiently(create._replace(creates=True), headers, what, self._settings.token)
        if seen is None:
            return
        prediction = seen.prediction()
        self._seen["life"] += prediction is not None
        life = Life("" if prediction is None else str(prediction.get("id")))
        self._judge(probe.title, seen, life)
        if prediction is None:
            self._skip(f"{what}: its life", f"the create was answered {seen.status}")
            return
        self._running[life.id] = probe.title
        if probe.way == "cancel":
            self._cancel_and_read(life, probe)
            return
        if self._follow(life, probe.title):
            output = life.last.get("output")
            self._read(life, probe.title)
            # An hour after its end the picture is gone, and so may it be after a moment.
            removed = life.last.get("data_removed") is True
            self._look_at_picture("gone" if removed else life.status, output, probe)

    def _follow(self, life: Life, title: str) -> bool:
        """Read a prediction until it has ended; False if its end was not seen."""
        deadline = time.perf_counter() + self._settings.deadline
        unanswered = 0  # reads in a row
        while not life.ended:
            if life.status not in self._contract.statuses or life.status in TERMINAL:
                self._skip(f"{title}: its end", f"its status is {life.status!r}")
                return False
            if time.perf_counter() > deadline:
                self._skip(
                    f"{title}: its end", f"it was {life.status} after {self._settings.deadline:g} s"
                )
                return False
            self._sleep(self._settings.poll)
            unanswered = 0 if self._read(life, title) else unanswered + 1
            if unanswered == MAX_UNANSWERED:
                return False
        self._running.pop(life.id, None)
        return True

    def _read(self, life: Life, title: str) -> bool:
        """Read a prediction once, and judge it; False if nothing of it was seen."""
        reader = self._contract.reader
        assert reader is not None
        path = reader.path.replace("{prediction_id}", _safe(life.id))
        probe = Probe(title, reader, reader.method, path)
        what = f"{reader.operation_id}: {title}"
        self._asked["read"] += 1
        seen = self._patiently(
            probe, request_headers(probe, self._settings.token), what, self._settings.token
        )
        if seen is None:
            return False
        self._judge(title, seen, life)
        if seen.prediction() is None:
            self._skip(f"{title}: its end", f"a read was answered {seen.status}")
            return False
        self._seen["read"] += 1
        return True

    def _cancel_and_read(self, life: Life, probe: LifeProbe) -> None:
        if life.ended:
            self._skip(f"{probe.title}: the cancel", "it had ended by then")
            return
        seen = self._cancel(life.id, probe.title, life)
        if seen is None or seen.prediction() is None:
            self._skip(f"{probe.title}: the cancel", "it was not answered with a prediction")
            return
        for _ in range(CANCEL_READS):
            if not self._read(life, probe.title):
                return
            if life.ended:
                break
            self._sleep(self._settings.poll)
        else:
            said = f"{life.status} still, {CANCEL_READS} reads after its cancel was answered {seen.status}"
            self._collector.take(probe.title, seen, [departure(seen, "MC704", "/status", said)])
        if life.status in ("succeeded", "failed") and not life.cancel_asked:
            self._skip(f"{probe.title}: the cancel", f"it was {life.status} by then")

    def _cancel(
        self, identifier: str, title: str, life: Life | None = None
    ) -> GatewayExchange | None:
        """Cancel a prediction that was billed, or is going to be."""
        self._running.pop(identifier, None)
        for operation in self._contract.of_role("cancel"):
            path = operation.path.replace("{prediction_id}", _safe(identifier))
            probe = Probe(title, operation, operation.method, path)
            what = f"{operation.operation_id}: {title}"
            seen = self._patiently(
                probe, request_headers(probe, self._settings.token), what, self._settings.token
            )
            if seen is not None:
                self._judge(title, seen, life)
            return seen
        return None

    def _look_at_picture(self, status: str, output: object, probe: LifeProbe) -> None:
        """Fetch the picture of a prediction that has succeeded, and judge it."""
        deliver = next(
            (each for each in self._contract.of_role("deliver") if each.method == "GET"), None
        )
        if status != "succeeded" or deliver is None:
            self._skip(f"{probe.title}: its picture", f"it is {status}")
            return
        if not isinstance(output, str) or "://" not in output:
            self._skip(f"{probe.title}: its picture", "there is no URL of it")
            return
        self._listen(f"{deliver.operation_id}: {probe.title}")
        self._requests += 1
        try:
            reply = self._session.fetch(output)
        except GatewayUnreachable as reason:
            seen = GatewayExchange(
                operation=deliver, method="GET", path=output, token=self._settings.token
            )
            self._collector.take(
                probe.title,
                seen,
                [departure(seen, "MC707", "", f"the picture cannot be fetched: {reason}")],
            )
            return
        seen = observed(deliver, "GET", output, {}, None, reply)
        seen.token = self._settings.token
        self._watch(seen)
        sent = read_json(probe.body)
        creating = self._contract.model_asked(probe.operation, sent)
        assert creating is not None
        found = judge(self._contract, seen, self._gateway.origin) if seen.status == 200 else []
        self._collector.take(
            probe.title, seen, [*found, *judge_picture(seen, creating, sent["input"], decode=True)]
        )


def observed(
    operation: Operation,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes | None,
    reply: Reply,
) -> GatewayExchange:
    """An exchange with a gateway as it is judged."""
    return GatewayExchange(
        operation=operation,
        method=method,
        path=path,
        token="",
        sent_headers=headers,
        sent_body=body or b"",
        sent=_decoded(body),
        status=reply.status,
        headers=reply.headers,
        body=reply.body,
        size=reply.size,
        whole=reply.whole,
        unreadable=reply.unreadable,
        at=reply.at,
        seconds=reply.seconds,
    )


def _decoded(body: bytes | None) -> Any:
    try:
        return None if body is None else read_json(body)
    except ValueError:
        return None


def _asked_to_wait(seen: GatewayExchange) -> float | None:
    try:
        value = seen.value() if seen.body else None
    except ValueError:
        value = None
    return retry_after(dict(seen.headers), value)


def _safe(identifier: str) -> str:
    """An identifier that a gateway made up, as one part of a path."""
    return quote(identifier[:200], safe="")

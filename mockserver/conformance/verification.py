"""Carries out a plan, and judges the responses.

Nothing that could be billed is sent once the spend limit is reached.
"""

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

ATTEMPTS = 3  # of a request with inconclusive responses
MAX_PATIENCE = 60.0  # seconds of a Retry-After; a longer one is not waited for
MAX_UNANSWERED = 5  # consecutive reads without a prediction, before giving up on it
CANCEL_READS = 10  # reads after a cancel until it must have taken effect
LIMIT_REACHED = "the spend limit was reached"

Listen = Callable[[str], None]
Watch = Callable[[GatewayExchange], None]


class VerifySettings(NamedTuple):
    """How a gateway is verified.

    At most `spend` predictions are billed, with `poll` seconds between reads and `deadline` seconds
    for each. `fuzz` is the number of generated creates that are forbidden.
    """

    token: str = ""
    spend: int = 0
    poll: float = 1.0
    deadline: float = 600.0
    accepted: Sequence[VerifyFinding] = ()
    fuzz: int = 0


class Verification:
    """One verification of a gateway. `listen` gets each step as text, `watch` each exchange."""

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

        # Creates of any kind, those of lives, and reads: how many were sent, and how many of them
        # were answered, those of lives and reads with a prediction.
        self._sent: Counter[str] = Counter()
        self._answered: Counter[str] = Counter()

        # Predictions whose end was not seen yet, and the titles of their probes.
        self._running: dict[str, str] = {}

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
        """Why conforming exchanges do not show that the gateway conforms; empty if they do."""
        operations = self._collector.operations.values()
        answers = sorted({status for statuses in operations for status in statuses})
        if not any(status.startswith("2") for status in answers):
            return f"it is out of order: all it answered was {', '.join(answers)}"
        reasons = {
            "create": "no create was answered",
            "life": "no prediction could be made",
            "read": "none could be read",
        }
        return next(
            (why for kind, why in reasons.items() if self._sent[kind] and not self._answered[kind]),
            "",
        )

    def _check_reach(self) -> None:
        """Raise MockServerError if the gateway is unreachable or rejects the token."""
        first = self.plan.free[0]
        try:
            exchange = self._exchange(
                first.operation,
                first.method,
                first.path,
                request_headers(first, self._settings.token),
            )
        except GatewayUnreachable as reason:
            raise MockServerError(f"cannot reach {self._gateway.url}: {reason}") from reason
        if exchange.status == 401:
            needed = "a token is needed (--token, REPLICATE_API_TOKEN)"
            why = "the token is refused" if self._settings.token else needed
            raise MockServerError(f"{self._gateway.url} answers 401: {why}")

    @property
    def _may_spend(self) -> bool:
        return self._spent < self._settings.spend

    def _skip(self, what: str, reason: str) -> None:
        self._not_seen.append(NotSeen(what, reason))

    def _send(self, probe: Probe) -> None:
        """Send one request of the plan, and judge the response."""
        what = f"{probe.operation.operation_id}: {probe.title}"
        if probe.creates and not self._may_spend:
            self._skip(
                what, LIMIT_REACHED if self._settings.spend else "it could be billed (--spend)"
            )
            return
        self._listen(what)
        token = self._wrong_token if probe.auth == "wrong" else self._settings.token
        exchange = self._patiently(probe, request_headers(probe, token), what, token)
        if exchange is None:
            return
        accepted = 200 <= exchange.status < 300
        self._judge(probe.title, exchange)
        prediction = exchange.prediction()
        if probe.creates and accepted:
            self._cancel_accepted(probe, prediction)

    def _cancel_accepted(self, probe: Probe, prediction: Mapping[str, Any] | None) -> None:
        """Cancel a prediction that should not have been created."""
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
        """One exchange, repeated if the gateway asks for it; None if it stays inconclusive."""
        self._sent["create"] += probe.creates
        for attempt in range(1, ATTEMPTS + 1):
            try:
                exchange = self._exchange(
                    probe.operation,
                    probe.method,
                    probe.path,
                    headers,
                    probe.body,
                    probe.must_refuse,
                    token,
                )
            except GatewayUnreachable as reason:
                self._spent += probe.creates  # it may have been created
                self._watch(
                    GatewayExchange(
                        operation=probe.operation, method=probe.method, path=probe.path, token=token
                    )
                )
                self._skip(what, f"no answer: {reason}")
                return None
            # A create may have taken effect although the gateway failed.
            may_bill = 200 <= exchange.status < 300 or exchange.status >= 500
            self._spent += probe.creates and may_bill
            if not is_inconclusive(exchange.status):
                self._answered["create"] += probe.creates
                return exchange
            wait = _requested_wait(exchange) if exchange.status in (429, 503) else None
            self._judge(probe.title, exchange)
            if (
                attempt == ATTEMPTS
                or wait is None
                or wait > MAX_PATIENCE
                or (probe.creates and not self._may_spend)
            ):
                break
            self._listen(f"{what}: waiting {wait:.0f} s, as requested")
            self._sleep(wait)
        self._skip(what, f"answered {exchange.status}")
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
        exchange = exchange_of(operation, method, path, headers, body, reply)
        exchange.token = self._settings.token if token is None else token
        exchange.must_refuse = must_refuse
        self._watch(exchange)
        return exchange

    def _judge(self, title: str, exchange: GatewayExchange, life: Life | None = None) -> None:
        departures = judge(self._contract, exchange, self._gateway.origin)
        prediction = exchange.prediction()
        if life is not None and prediction is not None:
            departures += life.take(exchange, prediction)
        self._collector.take(title, exchange, departures)

    def _run_lifecycle(self, probe: LifeProbe) -> None:
        """Create a prediction, and follow, cancel or await it."""
        what = f"{probe.operation.operation_id}: {probe.title}"
        if not self._may_spend:
            self._skip(
                what, LIMIT_REACHED if self._settings.spend else "it would be billed (--spend)"
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
        self._sent["life"] += 1
        exchange = self._patiently(
            create._replace(creates=True), headers, what, self._settings.token
        )
        if exchange is None:
            return
        prediction = exchange.prediction()
        self._answered["life"] += prediction is not None
        life = Life("" if prediction is None else str(prediction.get("id")))
        self._judge(probe.title, exchange, life)
        if prediction is None:
            self._skip(f"{what}: its life", f"the create was answered {exchange.status}")
            return
        self._running[life.id] = probe.title
        if probe.way == "cancel":
            self._cancel_and_read(life, probe)
            return
        if self._follow(life, probe.title):
            output = life.last.get("output")
            self._read(life, probe.title)
            # Pictures are deleted an hour after the end, or earlier.
            removed = life.last.get("data_removed") is True
            self._judge_picture("gone" if removed else life.status, output, probe)

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
        """Read a prediction once, and judge it; False without a prediction in the response."""
        reader = self._contract.reader
        assert reader is not None
        path = reader.path.replace("{prediction_id}", _safe(life.id))
        probe = Probe(title, reader, reader.method, path)
        what = f"{reader.operation_id}: {title}"
        self._sent["read"] += 1
        exchange = self._patiently(
            probe, request_headers(probe, self._settings.token), what, self._settings.token
        )
        if exchange is None:
            return False
        self._judge(title, exchange, life)
        if exchange.prediction() is None:
            self._skip(f"{title}: its end", f"a read was answered {exchange.status}")
            return False
        self._answered["read"] += 1
        return True

    def _cancel_and_read(self, life: Life, probe: LifeProbe) -> None:
        if life.ended:
            self._skip(f"{probe.title}: the cancel", "it had ended by then")
            return
        exchange = self._cancel(life.id, probe.title, life)
        if exchange is None or exchange.prediction() is None:
            self._skip(f"{probe.title}: the cancel", "it was not answered with a prediction")
            return
        for _ in range(CANCEL_READS):
            if not self._read(life, probe.title):
                return
            if life.ended:
                break
            self._sleep(self._settings.poll)
        else:
            message = (
                f"{life.status} still, {CANCEL_READS} reads after its cancel was answered "
                f"{exchange.status}"
            )
            late = departure(exchange, "MC704", "/status", message)
            self._collector.take(probe.title, exchange, [late])
        if life.status in ("succeeded", "failed") and not life.cancel_accepted:
            self._skip(f"{probe.title}: the cancel", f"it was {life.status} by then")

    def _cancel(
        self, identifier: str, title: str, life: Life | None = None
    ) -> GatewayExchange | None:
        """Cancel a prediction, and return the exchange if it was conclusive."""
        self._running.pop(identifier, None)
        for operation in self._contract.of_role("cancel"):
            path = operation.path.replace("{prediction_id}", _safe(identifier))
            probe = Probe(title, operation, operation.method, path)
            what = f"{operation.operation_id}: {title}"
            exchange = self._patiently(
                probe, request_headers(probe, self._settings.token), what, self._settings.token
            )
            if exchange is not None:
                self._judge(title, exchange, life)
            return exchange
        return None

    def _judge_picture(self, status: str, output: object, probe: LifeProbe) -> None:
        """Download and judge the picture of a prediction that has succeeded."""
        deliver = next(
            (
                operation
                for operation in self._contract.of_role("deliver")
                if operation.method == "GET"
            ),
            None,
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
            exchange = GatewayExchange(
                operation=deliver, method="GET", path=output, token=self._settings.token
            )
            self._collector.take(
                probe.title,
                exchange,
                [departure(exchange, "MC707", "", f"the picture cannot be fetched: {reason}")],
            )
            return
        exchange = exchange_of(deliver, "GET", output, {}, None, reply)
        exchange.token = self._settings.token
        self._watch(exchange)
        sent = read_json(probe.body)
        creating = self._contract.model_asked(probe.operation, sent)
        assert creating is not None
        departures = list(judge_picture(exchange, creating, sent["input"], decode=True))
        if exchange.status == 200:
            departures = [*judge(self._contract, exchange, self._gateway.origin), *departures]
        self._collector.take(probe.title, exchange, departures)


def exchange_of(
    operation: Operation,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes | None,
    reply: Reply,
) -> GatewayExchange:
    """The exchange of a request and its reply; its token is set by the caller."""
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


def _requested_wait(exchange: GatewayExchange) -> float | None:
    try:
        value = exchange.value() if exchange.body else None
    except ValueError:
        value = None
    return retry_after(dict(exchange.headers), value)


def _safe(identifier: str) -> str:
    """An id from a gateway as one segment of a path."""
    return quote(identifier[:200], safe="")

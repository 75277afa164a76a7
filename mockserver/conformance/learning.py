"""Makes a scenario for the double of what a gateway did, without secrets and prompts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from mockserver.clock import SECOND, timestamp, wall_time
from mockserver.conformance.exchange import GatewayExchange
from mockserver.conformance.judge import is_inconclusive, origin_of
from mockserver.conformance.life import instant
from mockserver.contract.contract import Contract
from mockserver.errors import ScenarioError
from mockserver.redaction import MIN_SECRET
from mockserver.reporting.files import write_file
from mockserver.scenarios.catalogue import Catalogue
from mockserver.scenarios.scenario import Body
from mockserver.scenarios.timeline import TERMINAL
from mockserver.scenarios.variation import vary

MAX_LIVES = 1000  # predictions
MAX_SCRIPT = 1000  # exchanges of an operation
MAX_TEXT = 1000  # characters of a text
SHORTEST = 0.001  # seconds of a status that was seen
REDACTED = "redacted"

_TIMES = ("created_at", "started_at", "completed_at")
_NATURAL = frozenset({400, 405, 413, 415, 416, 422})  # errors that are due to the request
_HEADER = re.compile(r"(x-[a-z0-9-]{1,60}|ratelimit-[a-z]{1,20})")
_HEADER_VALUE = re.compile(r"[!-~]([ -~]{0,198}[!-~])?")


class _LearnedLife:
    """One prediction: its statuses with their times, and its last state."""

    def __init__(self) -> None:
        self.statuses: list[tuple[str, int]] = []
        self.last: dict[str, Any] = {}
        self.canceled = False
        self.from_birth = False  # its first status is the one at creation

    def step(self, status: str, nanoseconds: int) -> dict[str, Any]:
        """A step of the lifecycle. A status that was seen lasts at least SHORTEST."""
        least = SHORTEST if status in dict(self.statuses) else 0.0
        return {"status": status, "seconds": max(least, _seconds(nanoseconds))}


class Learner:
    """Takes exchanges with a gateway, and makes a scenario of them. `origin` is the gateway's."""

    def __init__(self, contract: Contract, origin: str) -> None:
        self._contract = contract
        self._origin = origin
        self._lives: dict[str, _LearnedLife] = {}
        self._scripts: dict[str, list[dict[str, Any] | None]] = {}
        self._predictions: list[dict[str, Any]] = []
        self._created: list[dict[str, Any]] = []  # in responses to creates
        self._secrets: set[str] = set()
        self._create_statuses: Counter[int] = Counter()
        self._dialects: Counter[str] = Counter()
        self._headers: dict[str, set[str]] = {}
        self._answers = 0
        self._waits: list[str] = []
        self._effective = False

    def __call__(self, exchange: GatewayExchange) -> None:
        """Add one exchange; without a response its status is 0."""
        operation = exchange.operation
        if len(exchange.token) >= MIN_SECRET:
            self._secrets.add(exchange.token)
        self._keep_inputs_secret(exchange)
        if operation.role == "deliver" or exchange.method != operation.method or operation.public:
            return
        prediction = (
            exchange.prediction() if operation.role in ("create", "get", "cancel") else None
        )
        self._take_script(exchange)
        if not exchange.status:
            return
        self._take_headers(exchange)
        self._take_dialect(exchange)
        if prediction is not None and not exchange.must_refuse:
            self._take_prediction(exchange, prediction)

    def _keep_inputs_secret(self, exchange: GatewayExchange) -> None:
        inputs = exchange.sent.get("input") if isinstance(exchange.sent, dict) else None
        if isinstance(inputs, dict) and len(self._secrets) < MAX_LIVES:
            texts = [
                value
                for value in inputs.values()
                if isinstance(value, str) and len(value) >= MIN_SECRET
            ]
            self._secrets.update(text[:MAX_TEXT] for text in texts)

    def _take_script(self, exchange: GatewayExchange) -> None:
        script = self._scripts.setdefault(exchange.operation.family, [])
        if len(script) < MAX_SCRIPT:
            script.append(self._fault(exchange))

    def _fault(self, exchange: GatewayExchange) -> dict[str, Any] | None:
        """The fault in an exchange that is not due to its request; None if there is none."""
        if not exchange.status:
            return {"disconnect": "close"}
        if (
            exchange.status < 400
            or exchange.status in _NATURAL
            or (exchange.must_refuse and not is_inconclusive(exchange.status))
        ):
            return None
        named = exchange.path.rstrip("/").split("/")
        if (
            exchange.status == 404
            and not any(part in self._lives for part in named)
            and exchange.operation.role != "create"
        ):
            return None  # the prediction was never seen
        fault: dict[str, Any] = {"status": exchange.status}
        retry_after = exchange.header("retry-after")
        if re.fullmatch(r"\d{1,5}", retry_after):
            fault["retry_after"] = int(retry_after)
        text = _error_text(exchange)
        if text is not None:
            fault["detail"] = text
        elif exchange.size:
            fault["page"] = "html"
        else:
            fault["page"] = "empty"
        return fault

    def _take_headers(self, exchange: GatewayExchange) -> None:
        self._answers += 1
        for name in {name for name, _ in exchange.headers}:
            if _HEADER.fullmatch(name) and (self._answers == 1 or name in self._headers):
                self._headers.setdefault(name, set()).add(exchange.header(name))
        missing = self._headers.keys() - {name for name, _ in exchange.headers}
        for name in missing:
            del self._headers[name]

    def _take_dialect(self, exchange: GatewayExchange) -> None:
        if exchange.status < 400:
            return
        try:
            value = exchange.value()
        except ValueError:
            return
        if isinstance(value, dict):
            self._dialects["new-api" if isinstance(value.get("error"), dict) else "replicate"] += 1

    def _take_prediction(self, exchange: GatewayExchange, prediction: dict[str, Any]) -> None:
        identifier, status = str(prediction.get("id")), str(prediction["status"])
        role = exchange.operation.role
        if role == "create":
            self._create_statuses[exchange.status] += 1
            inputs = exchange.sent.get("input") if isinstance(exchange.sent, dict) else None
            echoed = prediction.get("input")
            if (
                isinstance(inputs, dict)
                and isinstance(echoed, dict)
                and echoed.keys() - inputs.keys()
            ):
                self._effective = True
            if exchange.sent_headers.get("prefer", "").startswith("wait"):
                self._waits.append(
                    "recorded" if status == "processing" and prediction.get("output") else status
                )
        if identifier not in self._lives and len(self._lives) >= MAX_LIVES:
            return
        life = self._lives.setdefault(identifier, _LearnedLife())
        life.canceled = life.canceled or role == "cancel"
        if not life.statuses and role == "create":
            life.from_birth = not exchange.sent_headers.get("prefer", "").startswith("wait")
        if not life.statuses or life.statuses[-1][0] != status:
            life.statuses.append((status, exchange.at))
        life.last = prediction
        if len(self._predictions) < 10 * MAX_LIVES:
            self._predictions.append(prediction)
            if role == "create":
                self._created.append(prediction)

    def scenario(self, name: str = "learnt") -> dict[str, Any]:
        """The scenario as JSON values, without parts that the double does not support."""
        catalogue = Catalogue(self._contract)
        learned: dict[str, Any] = {"name": name}
        for part in self._parts():
            candidate = _merged(learned, part)
            try:
                catalogue.parse(candidate)
            except ScenarioError:
                continue
            learned = candidate
        return dict(self._without_secrets(learned))

    def write(self, path: Path) -> None:
        """Write the scenario as YAML. Raises MockServerError."""
        content = yaml.safe_dump(self.scenario(), sort_keys=False, allow_unicode=True, width=110)
        when = timestamp(wall_time() // SECOND * SECOND)
        head = f"# Learned from {self._origin} at {when}, of {len(self._lives)} predictions.\n"
        write_file(path, (head + content).encode())

    def _parts(self) -> Iterator[dict[str, Any]]:
        """The parts of the scenario, the most certain first."""
        lifecycle = self._lifecycle()
        if lifecycle:
            yield {"lifecycle": lifecycle}
        if self._create_statuses:
            status = self._create_statuses.most_common(1)[0][0]
            if status != self._contract.of_role("create")[0].success:
                yield {"create_status": status}
        if self._dialects:
            yield {"errors": self._dialects.most_common(1)[0][0]}
        for family, script in self._scripts.items():
            while script and script[-1] is None:
                script.pop()
            if script:
                yield {"faults": {family: [self._without_secrets(fault) for fault in script]}}
        for waited in self._waits[:1]:
            wait = "recorded" if waited == "recorded" else "final" if waited in TERMINAL else None
            if wait is not None:
                yield {"wait": wait}
        yield from self._of_bodies()
        for name, values in sorted(self._headers.items()):
            (value, *others) = values
            if self._answers > 1 and not others and _HEADER_VALUE.fullmatch(value):
                yield {"headers": {name: self._without_secrets(value)}}

    def _lifecycle(self) -> list[dict[str, Any]]:
        """The steps of a prediction that was not canceled, and has ended if any has."""
        lives = [life for life in self._lives.values() if life.statuses and not life.canceled]
        ended = [life for life in lives if life.statuses[-1][0] in TERMINAL]
        if not lives:
            return []
        if not ended:
            return self._open_lifecycle(max(lives, key=lambda life: len(life.statuses)))
        usual = Counter(life.statuses[-1][0] for life in ended).most_common(1)[0][0]
        life = next(life for life in ended if life.statuses[-1][0] == usual)
        last: dict[str, Any] = {"status": usual}
        if usual == "failed" and isinstance(life.last.get("error"), str):
            last["error"] = self._without_secrets(life.last["error"][:MAX_TEXT]) or REDACTED
        if life.from_birth and life.statuses[0][0] == usual:
            return [last]
        created, started, completed = (instant(life.last.get(name)) for name in _TIMES)
        if completed is None or created is None:
            return [*self._open_lifecycle(life)[:-1], last]
        if started is None:
            return [life.step("starting", completed - created), last]
        return [
            life.step("starting", started - created),
            life.step("processing", completed - started),
            last,
        ]

    def _open_lifecycle(self, life: _LearnedLife) -> list[dict[str, Any]]:
        """The statuses as they were seen, with the times of the reads; the last one never ends."""
        steps = [
            life.step(status, later - at) for (status, at), (_, later) in pairwise(life.statuses)
        ]
        return [*steps, {"status": life.statuses[-1][0]}]

    def _of_bodies(self) -> Iterator[dict[str, Any]]:
        """The optional parts of predictions."""
        whole = [item for item in self._predictions if item.get("data_removed") is not True]
        known = self._contract.prediction_schema["properties"]
        extra: dict[str, Any] = {}
        for prediction in whole:
            for name, value in prediction.items():
                if name not in known:
                    extra.setdefault(name, value)
        for name, value in list(extra.items())[:50]:
            yield {"body": {"extra": {name: self._without_secrets(value)}}}
        for name in self._omitted(whole):
            yield {"body": {"omit": [name]}}
        filled = {name for item in whole for name, value in item.items() if value is not None}
        templates = self._contract.templates
        empty = {
            name
            for item in whole
            for name, sample in templates.get(str(item["status"]), {}).items()
            if sample is not None and name in item and item[name] is None
        }
        for name in sorted(empty - filled):
            yield {"body": {"null": [name]}}
        digits = {
            _digits(item[name])
            for item in whole
            for name in _TIMES
            if isinstance(item.get(name), str)
        }
        if len(digits) == 1 and digits != {3} and None not in digits:
            yield {"body": {"fraction": digits.pop()}}
        if self._effective:
            yield {"body": {"input": "effective"}}
        yield from self._of_urls(whole)

    def _omitted(self, whole: list[dict[str, Any]]) -> list[str]:
        """Names that no read has, nor any create unless the contract requires them there."""
        templates = self._contract.templates
        # Predictions that never started lack properties that others have.
        whole = [
            item
            for item in whole
            if item["status"] not in ("canceled", "aborted") or "started_at" in item
        ]
        reads = [item for item in whole if not any(item is created for created in self._created)]
        absent, there = _compared(reads or whole, templates)
        created = _compared(self._created, templates)[1] if reads else set()
        create = self._contract.of_role("create")[0]
        first = {**templates.get("starting", {}), "model": create.model}
        omitted = []
        for name in sorted(absent - there):
            varied = vary(Body(omit=(name,)), create, create.success, first)
            if name not in created or varied == first:
                omitted.append(name)
        return omitted

    def _of_urls(self, whole: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        rule = self._contract.url_rules.get("get")
        leading = {
            origin_of(str(item["urls"].get("get")))
            for item in whole
            if isinstance(item.get("urls"), dict)
        }
        if rule is not None and rule.documented and leading == {origin_of(rule.documented)}:
            yield {"urls": "documented"}

    def _without_secrets(self, value: Any) -> Any:
        """A value in which texts with a token, a prompt or another sent text are redacted."""
        if isinstance(value, str):
            return (
                REDACTED if any(secret in value for secret in self._secrets) else value[:MAX_TEXT]
            )
        if isinstance(value, Mapping):
            return {name: self._without_secrets(part) for name, part in value.items()}
        return [self._without_secrets(part) for part in value] if isinstance(value, list) else value


def _merged(value: Mapping[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(value)
    for name, inner in part.items():
        before = merged.get(name)
        if isinstance(before, Mapping) and isinstance(inner, Mapping):
            merged[name] = _merged(before, inner)
        elif isinstance(before, list) and name in ("omit", "null"):
            merged[name] = [*before, *inner]
        else:
            merged[name] = inner
    return merged


def _compared(
    predictions: list[dict[str, Any]], templates: Mapping[str, Mapping[str, Any]]
) -> tuple[set[str], set[str]]:
    """Names in the contract's examples of the same statuses: absent ones, and present ones."""
    absent: set[str] = set()
    there: set[str] = set()
    for prediction in predictions:
        template = templates.get(str(prediction.get("status")), {})
        for name, sample in template.items():
            (there if name in prediction else absent).add(name)
            inner = prediction.get(name)
            if isinstance(sample, Mapping) and isinstance(inner, Mapping) and name != "input":
                absent.update(f"{name}.{part}" for part in sample if part not in inner)
                there.update(f"{name}.{part}" for part in sample if part in inner)
    return absent, there


def _error_text(exchange: GatewayExchange) -> str | None:
    """The sentence in an error of either dialect; None if there is none."""
    try:
        value = exchange.value()
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    text = (
        value["error"].get("message")
        if isinstance(value.get("error"), dict)
        else value.get("detail")
    )
    return text[:MAX_TEXT] if isinstance(text, str) else None


def _digits(text: str) -> int | None:
    match = re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.(\d{1,9}))?(?:Z|[+-]\d\d:\d\d)", text)
    return len(match[1] or "") if match else None


def _seconds(nanoseconds: int) -> float:
    return max(0.0, round(nanoseconds / SECOND, 3))

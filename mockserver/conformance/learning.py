"""What a gateway was seen to do, as a scenario for the double. No secret and no prompt goes into it."""

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

MAX_LIVES = 1000  # predictions that are learnt from
MAX_SCRIPT = 1000  # exchanges of an operation whose faults are learnt
MAX_TEXT = 1000  # characters of a text that is learnt
SHORTEST = 0.001  # seconds that a status lasts which was told
REDACTED = "redacted"

_TIMES = ("created_at", "started_at", "completed_at")
_NATURAL = frozenset({400, 405, 413, 415, 416, 422})  # what the request itself explains
_HEADER = re.compile(r"(x-[a-z0-9-]{1,60}|ratelimit-[a-z]{1,20})")
_HEADER_VALUE = re.compile(r"[!-~]([ -~]{0,198}[!-~])?")


class _LearntLife:
    """One prediction: each status that was told, with the time, and what was told last."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []
        self.last: dict[str, Any] = {}
        self.cancelled = False
        self.from_birth = False  # what was told first is what it was as it was created

    def step(self, status: str, nanoseconds: int) -> dict[str, Any]:
        """A status of the lifecycle. One that was told has lasted, however coarse the timestamps are."""
        least = SHORTEST if status in dict(self.told) else 0.0
        return {"status": status, "seconds": max(least, _seconds(nanoseconds))}


class Learner:
    """Watches exchanges with a gateway, and makes a scenario of them. `origin` is the gateway's own."""

    def __init__(self, contract: Contract, origin: str) -> None:
        self._contract = contract
        self._origin = origin
        self._lives: dict[str, _LearntLife] = {}
        self._scripts: dict[str, list[dict[str, Any] | None]] = {}
        self._predictions: list[dict[str, Any]] = []
        self._created: list[dict[str, Any]] = []  # those of them that answered a create
        self._secrets: set[str] = set()
        self._create_statuses: Counter[int] = Counter()
        self._dialects: Counter[str] = Counter()
        self._headers: dict[str, set[str]] = {}
        self._answers = 0
        self._waits: list[str] = []
        self._effective = False

    def __call__(self, seen: GatewayExchange) -> None:
        """Take one exchange; one that was not answered has the status 0."""
        operation = seen.operation
        if len(seen.token) >= MIN_SECRET:
            self._secrets.add(seen.token)
        self._keep_inputs_secret(seen)
        if operation.role == "deliver" or seen.method != operation.method or operation.public:
            return
        prediction = seen.prediction() if operation.role in ("create", "get", "cancel") else None
        self._take_script(seen)
        if not seen.status:
            return
        self._take_headers(seen)
        self._take_dialect(seen)
        if prediction is not None and not seen.must_refuse:
            self._take_prediction(seen, prediction)

    def _keep_inputs_secret(self, seen: GatewayExchange) -> None:
        given = seen.sent.get("input") if isinstance(seen.sent, dict) else None
        if isinstance(given, dict) and len(self._secrets) < MAX_LIVES:
            texts = [
                value
                for name, value in given.items()
                if isinstance(value, str) and len(value) >= MIN_SECRET
            ]
            self._secrets.update(text[:MAX_TEXT] for text in texts)

    def _take_script(self, seen: GatewayExchange) -> None:
        script = self._scripts.setdefault(seen.operation.family, [])
        if len(script) < MAX_SCRIPT:
            script.append(self._fault(seen))

    def _fault(self, seen: GatewayExchange) -> dict[str, Any] | None:
        """What went wrong in an exchange that its request does not explain; None if nothing did."""
        if not seen.status:
            return {"disconnect": "close"}
        if (
            seen.status < 400
            or seen.status in _NATURAL
            or (seen.must_refuse and not is_inconclusive(seen.status))
        ):
            return None
        named = seen.path.rstrip("/").split("/")
        if (
            seen.status == 404
            and not any(part in self._lives for part in named)
            and seen.operation.role != "create"
        ):
            return None  # nobody has told of it
        fault: dict[str, Any] = {"status": seen.status}
        retry_after = seen.header("retry-after")
        if re.fullmatch(r"\d{1,5}", retry_after):
            fault["retry_after"] = int(retry_after)
        text = _error_text(seen)
        if text is not None:
            fault["detail"] = text
        elif seen.size:
            fault["page"] = "html"
        else:
            fault["page"] = "empty"
        return fault

    def _take_headers(self, seen: GatewayExchange) -> None:
        self._answers += 1
        for name in {name for name, _ in seen.headers}:
            if _HEADER.fullmatch(name) and (self._answers == 1 or name in self._headers):
                self._headers.setdefault(name, set()).add(seen.header(name))
        missing = self._headers.keys() - {name for name, _ in seen.headers}
        for name in missing:
            del self._headers[name]

    def _take_dialect(self, seen: GatewayExchange) -> None:
        if seen.status < 400:
            return
        try:
            value = seen.value()
        except ValueError:
            return
        if isinstance(value, dict):
            self._dialects["gateway" if isinstance(value.get("error"), dict) else "upstream"] += 1

    def _take_prediction(self, seen: GatewayExchange, prediction: dict[str, Any]) -> None:
        identifier, status = str(prediction.get("id")), str(prediction["status"])
        role = seen.operation.role
        if role == "create":
            self._create_statuses[seen.status] += 1
            given = seen.sent.get("input") if isinstance(seen.sent, dict) else None
            echoed = prediction.get("input")
            if (
                isinstance(given, dict)
                and isinstance(echoed, dict)
                and echoed.keys() - given.keys()
            ):
                self._effective = True
            if seen.sent_headers.get("prefer", "").startswith("wait"):
                self._waits.append(
                    "recorded" if status == "processing" and prediction.get("output") else status
                )
        if identifier not in self._lives and len(self._lives) >= MAX_LIVES:
            return
        life = self._lives.setdefault(identifier, _LearntLife())
        life.cancelled = life.cancelled or role == "cancel"
        if not life.told and role == "create":
            life.from_birth = not seen.sent_headers.get("prefer", "").startswith("wait")
        if not life.told or life.told[-1][0] != status:
            life.told.append((status, seen.at))
        life.last = prediction
        if len(self._predictions) < 10 * MAX_LIVES:
            self._predictions.append(prediction)
            if role == "create":
                self._created.append(prediction)

    def scenario(self, name: str = "learnt") -> dict[str, Any]:
        """The scenario, as JSON values. What the double cannot play is left out."""
        catalogue = Catalogue(self._contract)
        learnt: dict[str, Any] = {"name": name}
        for part in self._parts():
            candidate = _merged(learnt, part)
            try:
                catalogue.parse(candidate)
            except ScenarioError:
                continue
            learnt = candidate
        return dict(self._without_secrets(learnt))

    def write(self, path: Path) -> None:
        """Write the scenario as YAML. Raises MockServerError."""
        told = yaml.safe_dump(self.scenario(), sort_keys=False, allow_unicode=True, width=110)
        when = timestamp(wall_time() // SECOND * SECOND)
        head = f"# Learnt from {self._origin} at {when}, of {len(self._lives)} predictions.\n"
        write_file(path, (head + told).encode())

    def _parts(self) -> Iterator[dict[str, Any]]:
        """What has been learnt, part by part, the surest first."""
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
        """The statuses of a prediction that nobody cancelled, and how long each lasted; of one that ended, if any."""
        lives = [life for life in self._lives.values() if life.told and not life.cancelled]
        ended = [life for life in lives if life.told[-1][0] in TERMINAL]
        if not lives:
            return []
        if not ended:
            return self._open_lifecycle(max(lives, key=lambda life: len(life.told)))
        usual = Counter(life.told[-1][0] for life in ended).most_common(1)[0][0]
        life = next(life for life in ended if life.told[-1][0] == usual)
        last: dict[str, Any] = {"status": usual}
        if usual == "failed" and isinstance(life.last.get("error"), str):
            last["error"] = self._without_secrets(life.last["error"][:MAX_TEXT]) or REDACTED
        if life.from_birth and life.told[0][0] == usual:
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

    def _open_lifecycle(self, life: _LearntLife) -> list[dict[str, Any]]:
        """The statuses as they were told, with the times of the reads; the last one lasts."""
        steps = [life.step(status, later - at) for (status, at), (_, later) in pairwise(life.told)]
        return [*steps, {"status": life.told[-1][0]}]

    def _of_bodies(self) -> Iterator[dict[str, Any]]:
        """Legal variety in predictions."""
        whole = [each for each in self._predictions if each.get("data_removed") is not True]
        known = self._contract.prediction_schema["properties"]
        extra: dict[str, Any] = {}
        for each in whole:
            extra.update(
                {
                    name: value
                    for name, value in each.items()
                    if name not in known and name not in extra
                }
            )
        for name, value in list(extra.items())[:50]:
            yield {"body": {"extra": {name: self._without_secrets(value)}}}
        for name in self._omitted(whole):
            yield {"body": {"omit": [name]}}
        filled = {name for each in whole for name, value in each.items() if value is not None}
        templates = self._contract.templates
        empty = {
            name
            for each in whole
            for name, shown in templates.get(str(each["status"]), {}).items()
            if shown is not None and name in each and each[name] is None
        }
        for name in sorted(empty - filled):
            yield {"body": {"null": [name]}}
        digits = {
            _digits(each[name])
            for each in whole
            for name in _TIMES
            if isinstance(each.get(name), str)
        }
        if len(digits) == 1 and digits != {3} and None not in digits:
            yield {"body": {"fraction": digits.pop()}}
        if self._effective:
            yield {"body": {"input": "effective"}}
        yield from self._of_urls(whole)

    def _omitted(self, whole: list[dict[str, Any]]) -> list[str]:
        """Names that reads never have; nor do creates, unless the contract requires them there."""
        templates = self._contract.templates
        # What never started lacks more than others, and says nothing of them.
        whole = [
            each
            for each in whole
            if each["status"] not in ("canceled", "aborted") or "started_at" in each
        ]
        reads = [each for each in whole if not any(each is created for created in self._created)]
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
            origin_of(str(each["urls"].get("get")))
            for each in whole
            if isinstance(each.get("urls"), dict)
        }
        if rule is not None and rule.documented and leading == {origin_of(rule.documented)}:
            yield {"urls": "documented"}

    def _without_secrets(self, value: Any) -> Any:
        """A value in which whatever holds a token, a prompt or another text that was sent is left out."""
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
    told: list[dict[str, Any]], templates: Mapping[str, Mapping[str, Any]]
) -> tuple[set[str], set[str]]:
    """Names that the contract's examples of the same statuses have: those that were absent, and those there."""
    absent: set[str] = set()
    there: set[str] = set()
    for each in told:
        template = templates.get(str(each.get("status")), {})
        for name, shown in template.items():
            (there if name in each else absent).add(name)
            inner = each.get(name)
            if isinstance(shown, Mapping) and isinstance(inner, Mapping) and name != "input":
                absent.update(f"{name}.{part}" for part in shown if part not in inner)
                there.update(f"{name}.{part}" for part in shown if part in inner)
    return absent, there


def _error_text(seen: GatewayExchange) -> str | None:
    """The sentence of an error in one of the API's shapes; None if it has none."""
    try:
        value = seen.value()
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    told = (
        value["error"].get("message")
        if isinstance(value.get("error"), dict)
        else value.get("detail")
    )
    return told[:MAX_TEXT] if isinstance(told, str) else None


def _digits(text: str) -> int | None:
    found = re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.(\d{1,9}))?(?:Z|[+-]\d\d:\d\d)", text)
    return len(found[1] or "") if found else None


def _seconds(nanoseconds: int) -> float:
    return max(0.0, round(nanoseconds / SECOND, 3))

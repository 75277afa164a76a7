"""One answer of a gateway, held against the contract. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any
from urllib.parse import quote, urlsplit

import jsonschema_rs

from mockserver.backend.journal import Departure
from mockserver.conformance.exchange import GatewayExchange
from mockserver.conformance.rules import GATEWAY_RULES
from mockserver.conformance.schemas import shape_of
from mockserver.contract.contract import Contract
from mockserver.contract.violations import violation_of
from mockserver.json_text import pointer_to, shorten
from mockserver.redaction import MIN_SECRET

MAX_DEPARTURES = 20  # that are told of one answer

_SEVERITY = {rule.code: rule.severity for rule in GATEWAY_RULES}


def judge(contract: Contract, seen: GatewayExchange, origin: str) -> list[Departure]:
    """Everything in an answer that the contract does not allow. `origin` is the gateway's own."""
    return list(islice(_Judge(contract, seen, origin).departures(), MAX_DEPARTURES))


def departure(
    seen: GatewayExchange,
    rule: str,
    pointer: str,
    message: str,
    contract: str = "",
    *,
    warning: bool = False,
) -> Departure:
    """A departure in an exchange; `contract` is the place that says otherwise, the operation if left out."""
    place = contract or pointer_to(("paths", seen.operation.path, seen.operation.method.lower()))
    return Departure(
        rule,
        "warning" if warning else _SEVERITY[rule],
        seen.operation.operation_id,
        pointer,
        message,
        place,
    )


def is_inconclusive(status: int) -> bool:
    """Whether an answer says nothing of what was asked for: come back later, or the gateway is at fault."""
    return status == 429 or status >= 500


def origin_of(url: str) -> str | None:
    """Scheme, host and port of a URL; None if it has none."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return None
    return f"{parts.scheme}://{parts.hostname}:{port}" if parts.hostname and port else None


class _Judge:
    """The departures of one answer, rule by rule."""

    def __init__(self, contract: Contract, seen: GatewayExchange, origin: str) -> None:
        self._contract = contract
        self._seen = seen
        self._origin = origin
        operation = seen.operation
        self._place = pointer_to(("paths", operation.path, operation.method.lower(), "responses"))

    def departures(self) -> Iterator[Departure]:
        yield from self._token()
        seen = self._seen
        content = seen.operation.responses.get(seen.status)
        if content is None:
            if not is_inconclusive(seen.status):
                listed = ", ".join(map(str, seen.operation.responses))
                yield departure(
                    seen,
                    "MC701",
                    "",
                    f"answered {seen.status}; the contract lists {listed}",
                    self._place,
                )
            return
        if seen.must_refuse and 200 <= seen.status < 300:
            yield departure(
                seen, "MC705", "", f"answered {seen.status} to what the contract forbids"
            )
            return
        if content and seen.method != "HEAD":
            yield from self._body(content)

    def _token(self) -> Iterator[Departure]:
        seen, token = self._seen, self._seen.token
        if len(token) < MIN_SECRET:
            return
        spelt = {token, quote(token), quote(token, safe="")}
        for name, value in seen.headers:
            if any(each in value for each in spelt):
                yield departure(
                    seen, "MC709", f"{name[:60]}:", "the token that was sent stands in this header"
                )
                return
        if any(each.encode() in seen.body for each in spelt):
            yield departure(seen, "MC709", "", "the token that was sent stands in the body")

    def _body(self, content: Mapping[str, jsonschema_rs.Validator | None]) -> Iterator[Departure]:
        seen = self._seen
        place = f"{self._place}/{seen.status}"
        listed = ", ".join(content)
        shape = "MC705" if seen.must_refuse else "MC702"
        if seen.unreadable and seen.size:
            yield departure(seen, shape, "", f"the body is {seen.unreadable}", place)
            return
        if not seen.size and seen.whole:
            yield departure(seen, shape, "", f"the body is empty; the contract has {listed}", place)
            return
        media_type = seen.media_type
        if media_type not in content:
            said = (
                f"{shorten(media_type)} is declared" if media_type else "no media type is declared"
            )
            yield departure(
                seen, "MC703", "Content-Type:", f"{said}; the contract has {listed}", place
            )
            media_type = next((each for each in content if "json" in each), "")
        validator = content.get(media_type)
        if validator is None or not seen.whole:
            return
        try:
            value = seen.value()
        except ValueError as reason:
            if seen.media_type in content:
                yield departure(seen, shape, "", f"the body is {reason}", place)
            return
        yield from self._value(validator, media_type, self._relevant(value), shape)

    def _relevant(self, value: Any) -> Any:
        """A value without what the contract does not speak of: predictions of models that it does not have."""
        if (
            self._seen.operation.role != "list"
            or not isinstance(value, dict)
            or not isinstance(value.get("results"), list)
        ):
            return value
        models = self._contract.models
        known = [
            each
            for each in value["results"]
            if not isinstance(each, dict)
            or not isinstance(each.get("model"), str)
            or each["model"] in models
        ]
        return {**value, "results": known}

    def _value(
        self, validator: jsonschema_rs.Validator, media_type: str, value: Any, shape: str
    ) -> Iterator[Departure]:
        seen = self._seen
        echoed = list(self._echo(value))
        yield from echoed
        errors = list(islice(validator.iter_errors(value), MAX_DEPARTURES))
        wrong_anyway = {
            tuple(error.instance_path) for error in errors if "then" not in error.schema_path
        }
        for error in errors:
            told = violation_of(error)
            rule = self._rule_of(error, told.pointer, shape)
            if rule == "MC706" and any(told.pointer.startswith(each.pointer) for each in echoed):
                continue
            if "then" in error.schema_path and tuple(error.instance_path) in wrong_anyway:
                continue  # wrong in every status, and told so
            message = f"{told.description}; sent {told.sent}, allowed: {told.allowed}"
            yield departure(seen, rule, told.pointer, message, self._keyword(error))
        if not errors:
            for pointer in shape_of(
                self._contract, seen.operation.operation_id, seen.status, media_type
            ).unknown(value):
                said = "the contract does not know this property"
                yield departure(
                    seen, "MC702", pointer, said, f"{self._place}/{seen.status}", warning=True
                )
        yield from self._urls(value)

    def _rule_of(self, error: jsonschema_rs.ValidationError, pointer: str, shape: str) -> str:
        """The rule that a value breaks which does not fit its schema."""
        role = self._seen.operation.role
        if self._seen.status >= 300 or role not in ("create", "get", "cancel", "list"):
            return shape
        path = pointer.split("/")[3 if role == "list" else 1 :]
        if (path == ["status"] and error.kind.name == "enum") or "then" in error.schema_path:
            return "MC704"
        return "MC706" if role == "create" and path[:1] in (["input"], ["model"]) else shape

    def _keyword(self, error: jsonschema_rs.ValidationError) -> str:
        path = list(error.schema_path)
        if path and path[0] in self._contract.document:
            return pointer_to(path)
        return f"{self._place}/{self._seen.status}"

    def _echo(self, value: Any) -> Iterator[Departure]:
        """Where the answer to a create does not tell what was asked for."""
        seen = self._seen
        if (
            seen.operation.role != "create"
            or seen.status >= 300
            or not isinstance(value, dict)
            or seen.must_refuse
        ):
            return
        asked = self._contract.model_asked(seen.operation, seen.sent)
        if asked is None:
            return
        if value.get("model") != asked.model:
            yield departure(
                seen, "MC706", "/model", f"{shorten(value.get('model'))}; {asked.model} was asked"
            )
        given = seen.sent.get("input") if isinstance(seen.sent, dict) else None
        echoed = value.get("input")
        if value.get("data_removed") is True or not isinstance(given, dict):
            return
        if not isinstance(echoed, dict):
            yield departure(
                seen, "MC706", "/input", f"{shorten(echoed)}; {shorten(given)} was sent"
            )
            return
        for name, sent in given.items():
            if name in asked.images or name not in asked.known:
                continue  # a gateway may store pictures, and drop what it does not know
            if name not in echoed or not _same(echoed[name], sent):
                got = shorten(echoed[name]) if name in echoed else "nothing"
                said = f"{got} comes back; {shorten(sent)} was sent"
                yield departure(seen, "MC706", pointer_to(("input", name)), said)

    def _urls(self, value: Any) -> Iterator[Departure]:
        urls = value.get("urls") if isinstance(value, dict) else None
        if not isinstance(urls, dict) or self._seen.operation.role not in (
            "create",
            "get",
            "cancel",
        ):
            return
        for name, url in islice(urls.items(), MAX_DEPARTURES):
            where = origin_of(url) if isinstance(url, str) else None
            if where is not None and where != self._origin:
                said = f"leads to {shorten(where)}, not to {self._origin}"
                yield departure(self._seen, "MC708", pointer_to(("urls", name)), said)


def _same(one: object, other: object) -> bool:
    """Whether two JSON values are the same; true is not 1."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)

"""Judges one response of a gateway by the contract. Pure."""

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

MAX_DEPARTURES = 20  # for one response

_SEVERITY = {rule.code: rule.severity for rule in GATEWAY_RULES}


def judge(contract: Contract, exchange: GatewayExchange, origin: str) -> list[Departure]:
    """Everything in a response that the contract does not allow. `origin` is the gateway's."""
    return list(islice(_Judge(contract, exchange, origin).departures(), MAX_DEPARTURES))


def departure(
    exchange: GatewayExchange,
    rule: str,
    pointer: str,
    message: str,
    contract: str = "",
    *,
    warning: bool = False,
) -> Departure:
    """A departure in an exchange. `contract` is what it departs from, or the operation."""
    place = contract or pointer_to(
        ("paths", exchange.operation.path, exchange.operation.method.lower())
    )
    return Departure(
        rule,
        "warning" if warning else _SEVERITY[rule],
        exchange.operation.operation_id,
        pointer,
        message,
        place,
    )


def is_inconclusive(status: int) -> bool:
    """Whether a status shows nothing about the request: try again later, or a gateway error."""
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
    """The departures of one response, rule by rule."""

    def __init__(self, contract: Contract, exchange: GatewayExchange, origin: str) -> None:
        self._contract = contract
        self._exchange = exchange
        self._origin = origin
        operation = exchange.operation
        self._place = pointer_to(("paths", operation.path, operation.method.lower(), "responses"))

    def departures(self) -> Iterator[Departure]:
        yield from self._token()
        exchange = self._exchange
        content = exchange.operation.responses.get(exchange.status)
        if content is None:
            if not is_inconclusive(exchange.status):
                listed = ", ".join(map(str, exchange.operation.responses))
                yield departure(
                    exchange,
                    "MC701",
                    "",
                    f"answered {exchange.status}; the contract lists {listed}",
                    self._place,
                )
            return
        if exchange.must_refuse and 200 <= exchange.status < 300:
            yield departure(
                exchange, "MC705", "", f"answered {exchange.status} to what the contract forbids"
            )
            return
        if content and exchange.method != "HEAD":
            yield from self._body(content)

    def _token(self) -> Iterator[Departure]:
        exchange, token = self._exchange, self._exchange.token
        if len(token) < MIN_SECRET:
            return
        spellings = {token, quote(token), quote(token, safe="")}
        for name, value in exchange.headers:
            if any(spelling in value for spelling in spellings):
                yield departure(
                    exchange, "MC709", f"{name[:60]}:", "this header has the token of the request"
                )
                return
        if any(spelling.encode() in exchange.body for spelling in spellings):
            yield departure(exchange, "MC709", "", "the body has the token of the request")

    def _body(self, content: Mapping[str, jsonschema_rs.Validator | None]) -> Iterator[Departure]:
        exchange = self._exchange
        place = f"{self._place}/{exchange.status}"
        listed = ", ".join(content)
        shape = "MC705" if exchange.must_refuse else "MC702"
        if exchange.unreadable and exchange.size:
            yield departure(exchange, shape, "", f"the body is {exchange.unreadable}", place)
            return
        if not exchange.size and exchange.whole:
            yield departure(
                exchange, shape, "", f"the body is empty; the contract has {listed}", place
            )
            return
        media_type = exchange.media_type
        if media_type not in content:
            message = (
                f"{shorten(media_type)} is declared" if media_type else "no media type is declared"
            )
            yield departure(
                exchange, "MC703", "Content-Type:", f"{message}; the contract has {listed}", place
            )
            media_type = next((kind for kind in content if "json" in kind), "")
        validator = content.get(media_type)
        if validator is None or not exchange.whole:
            return
        try:
            value = exchange.value()
        except ValueError as reason:
            if exchange.media_type in content:
                yield departure(exchange, shape, "", f"the body is {reason}", place)
            return
        yield from self._value(validator, media_type, self._relevant(value), shape)

    def _relevant(self, value: Any) -> Any:
        """A value without what the contract does not cover: predictions of unknown models."""
        if (
            self._exchange.operation.role != "list"
            or not isinstance(value, dict)
            or not isinstance(value.get("results"), list)
        ):
            return value
        models = self._contract.models
        known = [
            item
            for item in value["results"]
            if not isinstance(item, dict)
            or not isinstance(item.get("model"), str)
            or item["model"] in models
        ]
        return {**value, "results": known}

    def _value(
        self, validator: jsonschema_rs.Validator, media_type: str, value: Any, shape: str
    ) -> Iterator[Departure]:
        exchange = self._exchange
        echoed = list(self._echo(value))
        yield from echoed
        errors = list(islice(validator.iter_errors(value), MAX_DEPARTURES))
        wrong_anyway = {
            tuple(error.instance_path) for error in errors if "then" not in error.schema_path
        }
        for error in errors:
            violation = violation_of(error)
            rule = self._rule_of(error, violation.pointer, shape)
            if rule == "MC706" and any(
                violation.pointer.startswith(echo.pointer) for echo in echoed
            ):
                continue
            if "then" in error.schema_path and tuple(error.instance_path) in wrong_anyway:
                continue  # it is wrong for every status, which is reported already
            message = (
                f"{violation.description}; sent {violation.sent}, allowed: {violation.allowed}"
            )
            yield departure(exchange, rule, violation.pointer, message, self._keyword(error))
        if not errors:
            for pointer in shape_of(
                self._contract, exchange.operation.operation_id, exchange.status, media_type
            ).unknown(value):
                message = "the contract does not know this property"
                yield departure(
                    exchange,
                    "MC702",
                    pointer,
                    message,
                    f"{self._place}/{exchange.status}",
                    warning=True,
                )
        yield from self._urls(value)

    def _rule_of(self, error: jsonschema_rs.ValidationError, pointer: str, shape: str) -> str:
        """The rule that is broken by a value that does not match its schema."""
        role = self._exchange.operation.role
        if self._exchange.status >= 300 or role not in ("create", "get", "cancel", "list"):
            return shape
        path = pointer.split("/")[3 if role == "list" else 1 :]
        if (path == ["status"] and error.kind.name == "enum") or "then" in error.schema_path:
            return "MC704"
        return "MC706" if role == "create" and path[:1] in (["input"], ["model"]) else shape

    def _keyword(self, error: jsonschema_rs.ValidationError) -> str:
        path = list(error.schema_path)
        if path and path[0] in self._contract.document:
            return pointer_to(path)
        return f"{self._place}/{self._exchange.status}"

    def _echo(self, value: Any) -> Iterator[Departure]:
        """Where the response to a create does not repeat the request."""
        exchange = self._exchange
        if (
            exchange.operation.role != "create"
            or exchange.status >= 300
            or not isinstance(value, dict)
            or exchange.must_refuse
        ):
            return
        model = self._contract.model_asked(exchange.operation, exchange.sent)
        if model is None:
            return
        if value.get("model") != model.model:
            yield departure(
                exchange,
                "MC706",
                "/model",
                f"{shorten(value.get('model'))}; {model.model} was requested",
            )
        inputs = exchange.sent.get("input") if isinstance(exchange.sent, dict) else None
        echoed = value.get("input")
        if value.get("data_removed") is True or not isinstance(inputs, dict):
            return
        if not isinstance(echoed, dict):
            yield departure(
                exchange, "MC706", "/input", f"{shorten(echoed)}; {shorten(inputs)} was sent"
            )
            return
        for name, sent in inputs.items():
            if name in model.images or name not in model.known:
                continue  # a gateway may store pictures, and drop unknown inputs
            if name not in echoed or not _same(echoed[name], sent):
                actual = shorten(echoed[name]) if name in echoed else "nothing"
                message = f"{actual} is returned; {shorten(sent)} was sent"
                yield departure(exchange, "MC706", pointer_to(("input", name)), message)

    def _urls(self, value: Any) -> Iterator[Departure]:
        urls = value.get("urls") if isinstance(value, dict) else None
        if not isinstance(urls, dict) or self._exchange.operation.role not in (
            "create",
            "get",
            "cancel",
        ):
            return
        for name, url in islice(urls.items(), MAX_DEPARTURES):
            where = origin_of(url) if isinstance(url, str) else None
            if where is not None and where != self._origin:
                message = f"points to {shorten(where)}, not to {self._origin}"
                yield departure(self._exchange, "MC708", pointer_to(("urls", name)), message)


def _same(one: object, other: object) -> bool:
    """Whether two JSON values are equal; true is not 1."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)

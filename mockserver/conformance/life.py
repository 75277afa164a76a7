"""Judges the lifecycle of a prediction, from response to response. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import msgspec

from mockserver.backend.journal import Departure
from mockserver.clock import MILLISECOND, SECOND, parse_timestamp
from mockserver.conformance.exchange import GatewayExchange
from mockserver.conformance.judge import departure
from mockserver.json_text import pointer_to, shorten
from mockserver.scenarios.timeline import TERMINAL

_ORDER = {"starting": 0, "processing": 1, **dict.fromkeys(TERMINAL, 2)}
_TIMES = ("created_at", "started_at", "completed_at")
_ROUNDING = MILLISECOND  # nanoseconds by which a rounded time may be off
MAX_INPUT = 8 * 1024  # bytes of an input that is remembered; longer ones contain pictures
# Nanoseconds by which predict_time may differ from the time between start and completion.
_PREDICT_TIME_OFF = SECOND


class Life(msgspec.Struct):
    """What the responses about one prediction have shown so far.

    `statuses` are in order, with their times in nanoseconds since the epoch. `cancel_accepted` is
    true if a cancel succeeded while it ran. `picture_input` has the inputs that determine its
    picture, if its create was seen. `input_size` is in bytes of JSON. `changed_at` is when the
    response with the last new status had arrived.
    """

    id: str
    model: Any = None
    input: Any = None
    statuses: tuple[tuple[str, int], ...] = ()
    last: dict[str, Any] = {}
    cancel_accepted: bool = False
    picture_input: dict[str, Any] | None = None
    input_size: int = 0
    changed_at: int = 0

    @property
    def status(self) -> str:
        """The last status; empty before the first response."""
        return self.statuses[-1][0] if self.statuses else ""

    @property
    def ended(self) -> bool:
        """Whether the last status is terminal."""
        return self.status in TERMINAL

    def take(self, exchange: GatewayExchange, value: Mapping[str, Any]) -> list[Departure]:
        """Add the prediction in a response, and return what contradicts the responses before."""
        status = str(value.get("status"))[:40]
        if status != self.status and exchange.at < self.changed_at:
            # The request was sent before the last response arrived: it may show an earlier status.
            return list(_of_times(exchange, value))
        departures = [*self._against_before(exchange, status, value), *_of_times(exchange, value)]
        if self.model is None:
            self.model, self.input_size = (
                value.get("model"),
                len(msgspec.json.encode(value.get("input"))),
            )
            self.input = value.get("input") if self.input_size <= MAX_INPUT else None
        if exchange.operation.role == "cancel" and not self.ended and status in _ORDER:
            self.cancel_accepted = True
        if status != self.status:
            self.statuses = (*self.statuses, (status, exchange.at))[-20:]
            self.changed_at = exchange.at + round(exchange.seconds * SECOND)
        self.last = {
            name: value[name]
            for name in ("output", *_TIMES, "data_removed", "metrics", "error")
            if name in value
        }
        return departures

    def _against_before(
        self, exchange: GatewayExchange, status: str, value: Mapping[str, Any]
    ) -> Iterator[Departure]:
        if self.id and value.get("id") != self.id:
            yield departure(
                exchange,
                "MC706",
                "/id",
                f"{shorten(value.get('id'))}; {shorten(self.id)} was requested",
            )
            return
        if not self.statuses:
            return
        if (
            self.model is not None
            and value.get("model") != self.model
            and value.get("model") is not None
        ):
            yield departure(
                exchange,
                "MC706",
                "/model",
                f"{shorten(value['model'])}; before it was {shorten(self.model)}",
            )
        removed = value.get("data_removed") is True
        if (
            not removed
            and isinstance(value.get("input"), dict)
            and self.input not in (None, value["input"])
        ):
            yield departure(
                exchange,
                "MC706",
                "/input",
                f"{shorten(value['input'])}; before it was {shorten(self.input)}",
            )
        before = self.status
        if self.ended and status != before:
            yield departure(
                exchange, "MC704", "/status", f"{status} after it was {before}, which is terminal"
            )
        elif _ORDER.get(status, 2) < _ORDER.get(before, 0):
            yield departure(exchange, "MC704", "/status", f"{status} after it was {before}")
        elif (
            self.ended
            and not removed
            and _place(value.get("output")) != _place(self.last.get("output"))
        ):
            output, before_it = value.get("output"), self.last.get("output")
            message = f"{shorten(output)} after it was {shorten(before_it)} at the end"
            yield departure(exchange, "MC704", "/output", message)
        elif self.cancel_accepted and not self.ended and status in ("succeeded", "failed"):
            yield departure(
                exchange, "MC704", "/status", f"{status} after a cancel was answered with success"
            )


def _place(output: object) -> object:
    """An output without the parts of a URL in which signatures may differ between reads."""
    if not isinstance(output, str):
        return output
    try:
        return urlsplit(output)._replace(query="", fragment="").geturl()
    except ValueError:
        return output


def _of_times(exchange: GatewayExchange, value: Mapping[str, Any]) -> Iterator[Departure]:
    times = {name: at for name in _TIMES if (at := instant(value.get(name))) is not None}
    names = list(times)
    for earlier, later in pairwise(names):
        if times[later] < times[earlier] - _ROUNDING:
            message = f"{shorten(value[later])} is before {earlier}, {shorten(value[earlier])}"
            yield departure(exchange, "MC704", pointer_to((later,)), message)
            return
    metrics = value.get("metrics")
    took = metrics.get("predict_time") if isinstance(metrics, dict) else None
    if isinstance(took, int | float) and {"started_at", "completed_at"} <= times.keys():
        known = times["completed_at"] - times["started_at"]
        if abs(took * SECOND - known) > max(_PREDICT_TIME_OFF, known / 10):
            message = (
                f"{shorten(took)} s; from started_at to completed_at it is {known / SECOND:.3f} s"
            )
            yield departure(exchange, "MC704", "/metrics/predict_time", message)


def instant(text: object) -> int | None:
    """The nanoseconds since the epoch of a timestamp; None if it is not one."""
    if not isinstance(text, str):
        return None
    try:
        return parse_timestamp(text[:60])
    except ValueError:
        return None

"""A prediction's life as a gateway tells it, from answer to answer. Pure."""

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
_ROUNDING = MILLISECOND  # nanoseconds by which a time that is told coarsely may be off
MAX_INPUT = 8 * 1024  # bytes of an input that is remembered; a longer one holds pictures
_PREDICT_TIME_OFF = (
    SECOND  # nanoseconds between predict_time and the times that it is the difference of
)


class Life(msgspec.Struct):
    """What has been told of one prediction so far.

    `statuses` are those told, in order, each with nanoseconds since the epoch. `cancel_asked` tells
    whether a cancel was answered with success while it ran. `asked` is what was asked of its
    picture, if that was seen; `input_size` is in bytes of JSON. `told_at` is when the answer that
    told the last status was there.
    """

    id: str
    model: Any = None
    input: Any = None
    statuses: tuple[tuple[str, int], ...] = ()
    last: dict[str, Any] = {}
    cancel_asked: bool = False
    asked: dict[str, Any] | None = None
    input_size: int = 0
    told_at: int = 0

    @property
    def status(self) -> str:
        """The status told last."""
        return self.statuses[-1][0] if self.statuses else ""

    @property
    def ended(self) -> bool:
        """Whether it has been told to have ended."""
        return self.status in TERMINAL

    def take(self, seen: GatewayExchange, value: Mapping[str, Any]) -> list[Departure]:
        """Go on with what an exchange told, and say what of it does not follow from what was told before."""
        status = str(value.get("status"))[:40]
        if status != self.status and seen.at < self.told_at:
            return list(
                _of_times(seen, value)
            )  # asked before the last answer was there, it may tell of an earlier time
        found = [*self._against_before(seen, status, value), *_of_times(seen, value)]
        if self.model is None:
            self.model, self.input_size = (
                value.get("model"),
                len(msgspec.json.encode(value.get("input"))),
            )
            self.input = value.get("input") if self.input_size <= MAX_INPUT else None
        if seen.operation.role == "cancel" and not self.ended and status in _ORDER:
            self.cancel_asked = True
        if status != self.status:
            self.statuses = (*self.statuses, (status, seen.at))[-20:]
            self.told_at = seen.at + round(seen.seconds * SECOND)
        self.last = {
            name: value[name]
            for name in ("output", *_TIMES, "data_removed", "metrics", "error")
            if name in value
        }
        return found

    def _against_before(
        self, seen: GatewayExchange, status: str, value: Mapping[str, Any]
    ) -> Iterator[Departure]:
        if self.id and value.get("id") != self.id:
            yield departure(
                seen,
                "MC706",
                "/id",
                f"{shorten(value.get('id'))}; {shorten(self.id)} was asked for",
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
                seen,
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
                seen,
                "MC706",
                "/input",
                f"{shorten(value['input'])}; before it was {shorten(self.input)}",
            )
        before = self.status
        if self.ended and status != before:
            yield departure(
                seen, "MC704", "/status", f"{status} after it was {before}, which is terminal"
            )
        elif _ORDER.get(status, 2) < _ORDER.get(before, 0):
            yield departure(seen, "MC704", "/status", f"{status} after it was {before}")
        elif (
            self.ended
            and not removed
            and _place(value.get("output")) != _place(self.last.get("output"))
        ):
            said = f"{shorten(value.get('output'))} after it was {shorten(self.last.get('output'))} at the end"
            yield departure(seen, "MC704", "/output", said)
        elif self.cancel_asked and not self.ended and status in ("succeeded", "failed"):
            yield departure(
                seen, "MC704", "/status", f"{status} after a cancel was answered with success"
            )


def _place(output: object) -> object:
    """An output without what a signature may change from read to read."""
    if not isinstance(output, str):
        return output
    try:
        return urlsplit(output)._replace(query="", fragment="").geturl()
    except ValueError:
        return output


def _of_times(seen: GatewayExchange, value: Mapping[str, Any]) -> Iterator[Departure]:
    times = {name: at for name in _TIMES if (at := instant(value.get(name))) is not None}
    names = list(times)
    for earlier, later in pairwise(names):
        if times[later] < times[earlier] - _ROUNDING:
            said = f"{shorten(value[later])} is before {earlier}, {shorten(value[earlier])}"
            yield departure(seen, "MC704", pointer_to((later,)), said)
            return
    metrics = value.get("metrics")
    took = metrics.get("predict_time") if isinstance(metrics, dict) else None
    if isinstance(took, int | float) and {"started_at", "completed_at"} <= times.keys():
        known = times["completed_at"] - times["started_at"]
        if abs(took * SECOND - known) > max(_PREDICT_TIME_OFF, known / 10):
            said = (
                f"{shorten(took)} s; from started_at to completed_at it is {known / SECOND:.3f} s"
            )
            yield departure(seen, "MC704", "/metrics/predict_time", said)


def instant(text: object) -> int | None:
    """Nanoseconds since the epoch of a timestamp; None if it is none."""
    if not isinstance(text, str):
        return None
    try:
        return parse_timestamp(text[:60])
    except ValueError:
        return None

"""A scenario as a value: lifecycle, faults, limits, and variations of responses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, TypeVar

import msgspec

from mockserver.contract.api_error import Dialect
from mockserver.contract.operation import Operation
from mockserver.scenarios.timeline import Timeline, build_timeline

T = TypeVar("T")
Urls = Literal["local", "documented", "foreign"]
BODY_FAULTS = frozenset({"cut", "stall", "drip", "body"})


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """A status of a lifecycle and its duration in seconds; for `failed`, also the error.

    `polls` is how many reads it takes to leave the status under autojump.
    """

    status: str
    seconds: float | None = None
    error: str | msgspec.UnsetType | None = msgspec.UNSET
    polls: int = 1


def _timeline(lifecycle: Iterable[Step]) -> Timeline:
    return build_timeline((step.status, step.seconds, step.error, step.polls) for step in lifecycle)


class Share(msgspec.Struct, frozen=True):
    """A lifecycle, and the share of predictions that has it, from 0 to 1."""

    chance: float
    lifecycle: tuple[Step, ...]

    @property
    def timeline(self) -> Timeline:
        """The lifecycle as a timeline."""
        return _timeline(self.lifecycle)


class Limit(msgspec.Struct, frozen=True, omit_defaults=True):
    """How many requests of an operation are accepted; at first `left` of them, or `burst`."""

    per_minute: float
    burst: int = 1
    left: int | None = None
    detail: str | None = None
    header: bool = True


class Fault(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One deliberate failure of one exchange. The scenario schema says what each field means."""

    status: int | None = None
    page: Literal["api", "html", "text", "empty"] = "api"
    title: str | None = None
    detail: str | None = None
    retry_after: int | float | str | None = None
    retry_after_date: float | None = None
    header: bool = True
    disconnect: Literal["close", "reset"] | None = None
    cut: float | None = None
    stall: float | None = None
    drip: float | None = None
    body: Literal["malformed", "empty"] | None = None
    delay: float | None = None
    after: Literal["commit"] | None = None
    chance: float | None = None
    times: int | Literal["always"] = 1

    @property
    def kind(self) -> str:
        """The field that says what the fault does."""
        for name in ("status", "disconnect", "cut", "stall", "drip", "body"):
            if getattr(self, name) is not None:
                return name
        return "delay"

    @property
    def prevents(self) -> bool:
        """Whether the operation never takes place."""
        return self.after is None and (self.status is not None or self.disconnect is not None)


class Body(msgspec.Struct, frozen=True, omit_defaults=True):
    """Legal variety in the predictions that are sent; `fraction` is in digits of a second."""

    input: Literal["sent", "effective"] = "sent"
    extra: dict[str, Any] = {}
    total_time: bool = False
    omit: tuple[str, ...] = ()
    null: tuple[str, ...] = ()
    fraction: int | None = None


USUAL_BODY = Body()


class Stream(msgspec.Struct, frozen=True, omit_defaults=True):
    """Faults among the events of a stream, which are counted from 0."""

    cut_after: int | None = None
    duplicate: tuple[int, ...] = ()
    gap: tuple[int, ...] = ()
    split: bool = False
    retry: float | None = None


class Webhooks(msgspec.Struct, frozen=True, omit_defaults=True):
    """Faults among the webhooks of a prediction; `late` is in seconds of real time."""

    lost: bool = False
    forged: bool = False
    duplicate: bool = False
    out_of_order: bool = False
    late: float = 0
    signature: Literal["valid", "wrong"] = "valid"
    timestamp: Literal["now", "stale"] = "now"


class Scenario(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, dict=True):
    """How the gateway behaves: lifecycle, faults, variations of responses.

    The scenario schema explains each field. `retention` is in seconds.
    """

    name: str = ""
    description: str = ""
    lifecycle: tuple[Step, ...] = ()
    sometimes: tuple[Share, ...] = ()
    retention: float = 3600
    faults: dict[str, tuple[Fault | None, ...]] = {}
    faults_per: Literal["tenant", "prediction"] = "tenant"
    limits: dict[str, Limit] = {}
    body: Body = USUAL_BODY
    headers: dict[str, str] = {}
    charset: Literal["UTF-8"] | None = None
    gzip: bool = False
    chunked: bool = False
    header_names: Literal["lower", "title"] = "lower"
    stream: Stream = Stream()
    webhooks: Webhooks = Webhooks()
    create_status: int | None = None
    urls: Urls | None = None
    errors: Dialect | None = None
    wait: Literal["recorded", "final", "processing"] = "recorded"

    @cached_property
    def timeline(self) -> Timeline:
        """The lifecycle as a timeline."""
        return _timeline(self.lifecycle)

    def timeline_of(self, chance: float) -> Timeline:
        """The timeline of a prediction, by a random number from 0 to 1."""
        for share in self.sometimes:
            if chance < share.chance:
                return share.timeline
            chance -= share.chance
        return self.timeline

    @cached_property
    def changes_headers(self) -> bool:
        """Whether responses have other headers than usual."""
        return bool(
            self.headers
            or self.charset
            or self.limits
            or self.chunked
            or self.header_names != "lower"
        )

    def as_json(self) -> dict[str, Any]:
        """The scenario as plain JSON values, without defaults."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain

    def script(self, operation: Operation) -> tuple[str, Sequence[Fault | None]] | None:
        """The key of an operation's faults, under which they are counted, and the faults."""
        return _entry(self.faults, operation)

    def limit(self, operation: Operation) -> tuple[str, Limit] | None:
        """The key of an operation's limit, under which requests are counted, and the limit."""
        return _entry(self.limits, operation)


def _entry(table: Mapping[str, T], operation: Operation) -> tuple[str, T] | None:
    """The key and value for an operation: its own name comes first, then its family, then `*`."""
    for key in (operation.operation_id, operation.family, "*"):
        if key in table:
            return key, table[key]
    return None


def fault_at(faults: Sequence[Fault | None], number: int) -> Fault | None:
    """The fault of the exchange with this number, from 0."""
    for fault in faults:
        times = 1 if fault is None else fault.times
        if times == "always" or number < times:
            return fault
        number -= times
    return None


def script_length(faults: Sequence[Fault | None]) -> int | None:
    """How many exchanges a list of faults covers; None if it never ends."""
    length = 0
    for fault in faults:
        times = 1 if fault is None else fault.times
        if times == "always":
            return None
        length += times
    return length

"""A prediction's life as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import msgspec

from mockserver.backend.backend import Backend
from mockserver.backend.prediction import Prediction
from mockserver.backend.tenant import TenantState
from mockserver.clock import SECOND
from mockserver.scenarios.scenario import Stream
from mockserver.scenarios.timeline import TERMINAL

GREETING = b": hi\n\n"  # upstream's streams begin with a comment


class ServerSentEvent(msgspec.Struct, frozen=True):
    """One event. `id` is empty for those that upstream sends without one."""

    name: str
    data: str
    id: str = ""

    def encode(self) -> bytes:
        """The event on the wire (WHATWG HTML, 9.2.5)."""
        lines = [f"event: {self.name}"]
        lines += [f"id: {self.id}"] if self.id else []
        lines += [f"data: {line}" for line in self.data.split("\n")]
        return ("\n".join(lines) + "\n\n").encode()


def stream_events(
    backend: Backend, prediction: Prediction, age: int, origin: str
) -> list[ServerSentEvent]:
    """The events of a prediction's life up to an own time of `age`, in nanoseconds."""
    found: list[ServerSentEvent] = []
    second = prediction.created_at // SECOND

    def add(name: str, data: str) -> None:
        found.append(ServerSentEvent(name, data, f"{second}:{len(found)}"))

    for stage, text in backend.log_pieces(prediction, age):
        if text:
            add("logs", text)
        if stage.status == "succeeded":
            add("output", backend.output_url(prediction, origin))
            found.append(ServerSentEvent("done", "{}"))
        elif stage.status == "failed":
            found.append(
                ServerSentEvent(
                    "error", msgspec.json.encode({"detail": backend.error_of(stage) or ""}).decode()
                )
            )
            found.append(ServerSentEvent("done", '{"reason":"error"}'))
        elif stage.status in TERMINAL:
            found.append(ServerSentEvent("done", '{"reason":"canceled"}'))
    return found


def resume_index(events: Sequence[ServerSentEvent], last_id: str | None) -> int:
    """Where a stream goes on behind the event with an id; at the beginning if there is none like it."""
    return next(
        (number + 1 for number, event in enumerate(events) if last_id and event.id == last_id), 0
    )


async def follow(
    backend: Backend,
    tenant: TenantState,
    prediction: Prediction,
    origin: str,
    last_id: str | None,
    faults: Stream,
) -> AsyncGenerator[bytes | None, None]:
    """The events as they happen, encoded; None where a fault breaks the connection off.

    They end with the prediction, or when it is forgotten.
    """
    yield GREETING
    sent = None
    with tenant.activity.follower() as follower:
        while prediction.id in tenant.predictions:
            prediction = tenant.predictions[prediction.id]
            age = prediction.age(tenant.clock.elapsed())
            events = stream_events(backend, prediction, age, origin)
            if sent is None:
                sent = resume_index(events, last_id)
            for number in range(sent, len(events)):
                if number == faults.cut_after and last_id is None:
                    yield None
                    return
                for _ in range((number not in faults.gap) + (number in faults.duplicate)):
                    yield events[number].encode()
            sent = max(sent, len(events))
            if events and events[-1].name == "done":
                return
            await backend.await_next_change(tenant, prediction, follower)

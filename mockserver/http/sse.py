"""A prediction's life as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

import msgspec

from mockserver.backend.backend import Backend
from mockserver.backend.prediction import Prediction, data_removed
from mockserver.backend.tenant import TenantState
from mockserver.clock import SECOND
from mockserver.scenarios.scenario import Stream
from mockserver.scenarios.timeline import TERMINAL

SPLIT = 0.01  # seconds between the parts of an event that is split
GREETING = b": hi\n\n"  # Replicate's streams begin with a comment


class ServerSentEvent(msgspec.Struct, frozen=True):
    """One event. `id` is empty for those that Replicate sends without one."""

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
    backend: Backend, prediction: Prediction, age: int, base_url: str
) -> list[ServerSentEvent]:
    """The events of a prediction's life up to an own time of `age`, in nanoseconds."""
    renderer = backend.renderer
    second = prediction.created_at // SECOND
    events: list[ServerSentEvent] = []

    def add(name: str, data: str) -> None:
        events.append(ServerSentEvent(name, data, f"{second}:{len(events)}"))

    for stage, text in renderer.log_pieces(prediction, age):
        if text:
            add("logs", text)
        if stage.status == "succeeded":
            add("output", renderer.output_url(prediction, base_url))
            events.append(ServerSentEvent("done", "{}"))
        elif stage.status == "failed":
            error = msgspec.json.encode({"detail": renderer.error(stage) or ""}).decode()
            events.append(ServerSentEvent("error", error))
            events.append(ServerSentEvent("done", '{"reason":"error"}'))
        elif stage.status in TERMINAL:
            events.append(ServerSentEvent("done", '{"reason":"canceled"}'))
    return events


def resume_index(events: Sequence[ServerSentEvent], last_id: str | None) -> int:
    """Where a stream goes on after the event with an id; 0 if there is no such event."""
    if not last_id:
        return 0
    ids = [event.id for event in events]
    return ids.index(last_id) + 1 if last_id in ids else 0


async def follow(
    backend: Backend,
    tenant: TenantState,
    prediction: Prediction,
    base_url: str,
    last_id: str | None,
    faults: Stream,
) -> AsyncGenerator[bytes | None, None]:
    """The events as they happen, encoded; None where a fault breaks the connection off.

    They end with the prediction, or when it is forgotten. Once its data have expired, its logs and
    its output are no longer sent.
    """
    yield GREETING
    if faults.retry is not None:
        yield b"retry: %d\n\n" % round(faults.retry * 1000)
    sent = None
    with tenant.activity.follower() as follower:
        while prediction.id in tenant.predictions:
            prediction = tenant.predictions[prediction.id]
            age = prediction.age(tenant.clock.elapsed())
            # All events up to now are made anew on each turn: they are few, and depend on nothing
            # but the prediction and the time.
            events = stream_events(backend, prediction, age, base_url)
            expired = data_removed(prediction, age, tenant.clock.now())
            if sent is None:
                sent = resume_index(events, last_id)

            for number in range(sent, len(events)):
                if number == faults.cut_after and last_id is None:
                    yield None
                    return
                if expired and events[number].name in ("logs", "output"):
                    continue
                for _ in range((number not in faults.gap) + (number in faults.duplicate)):
                    event = events[number].encode()
                    if faults.split:
                        yield event[: len(event) // 2]
                        await asyncio.sleep(SPLIT)
                        event = event[len(event) // 2 :]
                    yield event
            sent = max(sent, len(events))

            if events and events[-1].name == "done":
                return
            await backend.await_next_change(tenant, prediction, follower)

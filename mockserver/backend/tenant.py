"""What the double remembers of one tenant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Literal, NamedTuple

from mockserver.backend.coverage import Coverage
from mockserver.backend.deliveries import Deliveries
from mockserver.backend.files import StoredFile, file_footprint, file_id
from mockserver.backend.followers import Activity
from mockserver.backend.journal import ANONYMOUS, Journal
from mockserver.backend.memory import TENANT, Bounded, Meter, Outgoing, size_of
from mockserver.backend.prediction import (
    Prediction,
    prediction_footprint,
    prediction_id,
    shard_of,
)
from mockserver.backend.rate_limit import Bucket, Quota, take
from mockserver.clock import Clock, Mode
from mockserver.scenarios.scenario import Fault, Limit, Scenario, fault_at, script_length


class FaultCursor(NamedTuple):
    """Which exchanges are counted together, to know what fault is due, and what a limit has left.

    Of a scenario that holds for the whole tenant, all exchanges are (`tenant`), or, with
    `faults_per: prediction`, those about the same prediction (`each_prediction`). Of a scenario
    that a prediction was created with, those about that prediction are (`prediction`). Of a
    scenario that requests name themselves, those that name it are (`request`). `id` is the id of
    the prediction, or the name of the scenario.
    """

    kind: Literal["tenant", "each_prediction", "prediction", "request"]
    id: str = ""

    @property
    def of_tenant(self) -> bool:
        """Whether it is about the scenario of the whole tenant."""
        return self.kind in ("tenant", "each_prediction")


WHOLE_TENANT = FaultCursor("tenant")


class TenantState:
    """The record of one tenant; `activity` is what only lives while the server runs.

    `meter` tells the bytes that it holds. `scenario_suffix` is the part of its name after the last
    plus, which may name a scenario. `chances` is the key of what is left to chance, which other
    tenants may share.
    """

    def __init__(
        self, name: str, clock: Clock, seed: int, meter: Meter, outgoing: Outgoing
    ) -> None:
        self.name = name
        self.clock = clock
        self.activity = Activity(clock)
        self._seed = seed
        self.key = _key_of(seed, name)
        self.chances = self.key
        self.shard = shard_of(name)
        self.scenario_suffix = name.rpartition("+")[2] if "+" in name else ""
        self.scenario: Scenario | None = None

        self.meter = Meter(meter)
        self.meter.add(TENANT + len(name))
        self._scenario_bytes = 0
        self.predictions: Bounded[str, Prediction] = Bounded(prediction_footprint, self.meter)
        self.files: Bounded[str, StoredFile] = Bounded(
            file_footprint, self.meter, on_forget=lambda file: outgoing.let_go(file.content)
        )
        self.journal = Journal(self.meter)
        self.deliveries = Deliveries(self.meter)
        self.coverage = Coverage(self.meter)

        self._created = self._uploaded = 0
        self._fault_progress: dict[FaultCursor, dict[str, int]] = {}
        self._buckets: dict[tuple[FaultCursor, str], Bucket] = {}
        self._last_status_sent: dict[str, str] = {}

    @property
    def handle(self) -> str:
        """What stands for the tenant where its token must not be read."""
        return _handle_of(self.key)

    @property
    def parent(self) -> str | None:
        """The handle of the tenant whose token is this one's without its suffix, if it has one."""
        if "+" not in self.name:
            return None
        return _handle_of(_key_of(self._seed, self.name.rpartition("+")[0]))

    @property
    def secret(self) -> str:
        """What is not to be shown whole: the token, if there is one."""
        return "" if self.name == ANONYMOUS else self.name

    @property
    def evicted(self) -> int:
        """How many predictions and files have been forgotten because of the bounds."""
        return self.predictions.evicted + self.files.evicted

    def next_id(self) -> str:
        """A fresh prediction id; the same ones in the same order for the same seed and name."""
        self._created += 1
        return prediction_id(self.shard, self.key, self._created)

    def next_file_id(self) -> str:
        """A fresh file id; the same ones in the same order for the same seed and name."""
        self._uploaded += 1
        key = blake2b(self.key, digest_size=32, person=b"files").digest()
        return file_id(self.shard, key, self._uploaded)

    def chance(self, purpose: str, number: int) -> float:
        """A number from 0 to 1, the same for the same seed, name, purpose and number."""
        purpose_and_number = f"{purpose}/{number}".encode()
        digest = blake2b(
            purpose_and_number, digest_size=7, key=self.chances, person=b"chances"
        ).digest()
        return int.from_bytes(digest) / 2**56

    def lifecycle_chance(self) -> float:
        """A number from 0 to 1 that decides the lifecycle of the prediction created last."""
        return self.chance("lifecycle", self._created)

    def set_scenario(self, scenario: Scenario | None) -> None:
        """Use a scenario from here on, its faults counted anew; None goes back to the server's."""
        self.scenario = scenario
        held = 0 if scenario is None else size_of(scenario)
        self.meter.add(held - self._scenario_bytes)
        self._scenario_bytes = held

        for cursor in [cursor for cursor in self._fault_progress if cursor.of_tenant]:
            del self._fault_progress[cursor]
        for place in [place for place in self._buckets if place[0].of_tenant]:
            del self._buckets[place]

    def set_clock(self, mode: Mode, *, speed: float | None = None, now: int | None = None) -> None:
        """Change how time passes, from now on or from `now`, in nanoseconds since the epoch."""
        self.clock.change(mode, speed=speed, now=now)
        self.activity.wake()

    def advance(self, nanoseconds: int) -> None:
        """Move time forward, in any mode."""
        self.clock.advance(nanoseconds)
        self.activity.wake()

    def consume_fault(
        self,
        cursor: FaultCursor,
        key: str,
        faults: Sequence[Fault | None],
        can_exhibit: Callable[[Fault], bool],
    ) -> Fault | None:
        """Consume the next fault of a script, which the scenario has under `key`.

        None if there is none, if this exchange cannot exhibit it, or if chance spares it. A script
        that a request asks for by itself, and that has run out, starts anew after one normal
        exchange.
        """
        progress = self._fault_progress.setdefault(cursor, {})
        number = progress.get(key, 0)
        due = fault_at(faults, number)
        if due is not None and not can_exhibit(due):
            return None  # it stays due

        length = script_length(faults)
        over = length is not None and number >= length
        progress[key] = 0 if over and cursor.kind == "request" else number + 1

        if due is None or due.chance is None:
            return due
        purpose = f"{' '.join(filter(None, cursor))}/{key}"
        return due if self.chance(purpose, number) < due.chance else None

    def fault_progress(self) -> dict[str, int]:
        """How many exchanges each script of the tenant's own scenario has had.

        Of scripts that each prediction meets anew, the prediction that had most counts.
        """
        progress: dict[str, int] = {}
        for cursor, counts in self._fault_progress.items():
            if cursor.of_tenant:
                for key, count in counts.items():
                    progress[key] = max(count, progress.get(key, 0))
        return progress

    def take(self, cursor: FaultCursor, key: str, limit: Limit) -> Quota:
        """Take one request out of a limit, which the scenario has under `key`."""
        bucket = self._buckets.get((cursor, key))
        self._buckets[cursor, key], quota = take(limit, bucket, self.clock.now())
        return quota

    def record_status_sent(self, identifier: str, status: str) -> None:
        """Record that a client is sent a prediction's status."""
        self.coverage.status_sent(self._last_status_sent.get(identifier), status)
        if identifier in self.predictions:
            self._last_status_sent[identifier] = status

    def evict_prediction(self) -> None:
        """Forget the oldest prediction, and end what is under way for it."""
        identifier = self.predictions.evict()
        self._fault_progress.pop(FaultCursor("prediction", identifier), None)
        self._fault_progress.pop(FaultCursor("each_prediction", identifier), None)
        self._last_status_sent.pop(identifier, None)
        self.activity.cancel(identifier)

    def close(self) -> None:
        """Forget every prediction, and end all that is under way: the tenant is being forgotten."""
        self.meter.detach()
        self.predictions.clear()
        self.files.clear()
        self.activity.cancel_all()


def _key_of(seed: int, name: str) -> bytes:
    return blake2b(f"{seed}/{name}".encode(), digest_size=32).digest()


def _handle_of(key: bytes) -> str:
    return blake2b(key, digest_size=6, person=b"handle").hexdigest()

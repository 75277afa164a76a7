"""What the double remembers of one tenant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b

from mockserver.backend.coverage import Coverage
from mockserver.backend.deliveries import Deliveries
from mockserver.backend.files import StoredFile, file_id
from mockserver.backend.followers import Activity
from mockserver.backend.journal import ANONYMOUS, Journal
from mockserver.backend.memory import Bounded, Meter, Outgoing, size_of
from mockserver.backend.prediction import Prediction, prediction_id, shard_of
from mockserver.backend.rate_limit import Bucket, Quota, take
from mockserver.clock import Clock, Mode
from mockserver.scenarios.scenario import Fault, Limit, Scenario, fault_at, script_length

TENANT = 9000  # bytes that a tenant takes which has only been named
FILE = 700  # bytes that a file takes beside what was sent
PREDICTION = 600  # bytes that a prediction takes beside its input
TENANT_SCRIPT = (
    "tenant"  # whose faults are counted: those of a scenario that holds for the whole tenant
)
EACH_PREDICTION = (
    "each "  # and an id: whose faults are counted, where each prediction meets the tenant's anew
)


class TenantState:
    """The record of one tenant; `activity` is what only lives while the server runs.

    `meter` tells the bytes that it holds. `scenario_suffix` is the part of its name after the last
    plus, which may name a scenario. What is left to chance is drawn from `chances`, which other
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
        self.predictions: Bounded[str, Prediction] = Bounded(_prediction_footprint, self.meter)
        self.files: Bounded[str, StoredFile] = Bounded(
            _file_footprint, self.meter, on_forget=lambda file: outgoing.let_go(file.content)
        )
        self.journal = Journal(self.meter)
        self.deliveries = Deliveries(self.meter)
        self.coverage = Coverage(self.meter)
        self._created = self._uploaded = 0
        self._fault_progress: dict[str, dict[str, int]] = {}
        self._buckets: dict[tuple[str, str], Bucket] = {}
        self._last_status_sent: dict[str, str] = {}

    @property
    def handle(self) -> str:
        """What stands for the tenant where its token must not be read."""
        return _handle_of(self.key)

    @property
    def parent(self) -> str | None:
        """The handle of the tenant that is named by this one's token without the suffix; None if it has none."""
        return (
            _handle_of(_key_of(self._seed, self.name.rpartition("+")[0]))
            if "+" in self.name
            else None
        )

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
        return file_id(
            self.shard, blake2b(self.key, digest_size=32, person=b"files").digest(), self._uploaded
        )

    def draw(self, what: str, number: int) -> float:
        """A number from 0 to 1, the same for the same seed, name, purpose and number."""
        digest = blake2b(
            f"{what}/{number}".encode(), digest_size=7, key=self.chances, person=b"chances"
        ).digest()
        return int.from_bytes(digest) / 2**56

    def draw_lifecycle(self) -> float:
        """A number from 0 to 1 for the prediction whose id was the last."""
        return self.draw("lifecycle", self._created)

    def set_scenario(self, scenario: Scenario | None) -> None:
        """Use a scenario from here on, its faults counted afresh; None goes back to the server's."""
        self.scenario = scenario
        held = 0 if scenario is None else size_of(scenario)
        self.meter.add(held - self._scenario_bytes)
        self._scenario_bytes = held
        self._fault_progress.pop(TENANT_SCRIPT, None)
        for source in [
            source for source in self._fault_progress if source.startswith(EACH_PREDICTION)
        ]:
            del self._fault_progress[source]
        for place in [place for place in self._buckets if place[0] == TENANT_SCRIPT]:
            del self._buckets[place]

    def set_clock(self, mode: Mode, *, speed: float | None = None, now: int | None = None) -> None:
        """Let time pass in another way, from the present instant or from `now` (nanoseconds since the epoch)."""
        self.clock.change(mode, speed=speed, now=now)
        self.activity.wake()

    def advance(self, nanoseconds: int) -> None:
        """Move time forward, in any mode."""
        self.clock.advance(nanoseconds)
        self.activity.wake()

    def consume_fault(
        self,
        source: str,
        key: str,
        faults: Sequence[Fault | None],
        can_exhibit: Callable[[Fault], bool],
        *,
        repeat: bool,
    ) -> Fault | None:
        """Consume the next fault of a script; None if there is none, or this exchange cannot exhibit it, or is spared.

        `source` keeps scripts of different origin apart. With `repeat`, a script that has run out
        starts anew after one normal exchange.
        """
        progress = self._fault_progress.setdefault(source, {})
        number = progress.get(key, 0)
        due = fault_at(faults, number)
        if due is not None and not can_exhibit(due):
            return None
        length = script_length(faults)
        over = length is not None and number >= length
        progress[key] = 0 if over and repeat else number + 1
        if (
            due is not None
            and due.chance is not None
            and self.draw(f"{source}/{key}", number) >= due.chance
        ):
            return None
        return due

    def fault_progress(self) -> dict[str, int]:
        """How many exchanges each script of the tenant's own scenario has had, with whichever prediction had most."""
        progress: dict[str, int] = {}
        for source, counts in self._fault_progress.items():
            if source == TENANT_SCRIPT or source.startswith(EACH_PREDICTION):
                for key, count in counts.items():
                    progress[key] = max(count, progress.get(key, 0))
        return progress

    def take(self, source: str, key: str, limit: Limit) -> Quota:
        """Take one request out of a limit; `source` keeps limits of different origin apart."""
        self._buckets[source, key], quota = take(
            limit, self._buckets.get((source, key)), self.clock.now()
        )
        return quota

    def record_status_sent(self, identifier: str, status: str) -> None:
        """Note that a client is being told a prediction's status."""
        self.coverage.status_sent(self._last_status_sent.get(identifier), status)
        if identifier in self.predictions:
            self._last_status_sent[identifier] = status

    def evict_prediction(self) -> None:
        """Forget the oldest prediction, and end what is under way for it."""
        identifier = self.predictions.evict()
        self._fault_progress.pop(identifier, None)
        self._fault_progress.pop(EACH_PREDICTION + identifier, None)
        self._last_status_sent.pop(identifier, None)
        self.activity.cancel(identifier)

    def close(self) -> None:
        """Forget every prediction, and end all that is under way: the tenant itself is being forgotten."""
        self.meter.detach()
        self.predictions.clear()
        self.files.clear()
        self.activity.cancel_all()


def _key_of(seed: int, name: str) -> bytes:
    return blake2b(f"{seed}/{name}".encode(), digest_size=32).digest()


def _handle_of(key: bytes) -> str:
    return blake2b(key, digest_size=6, person=b"handle").hexdigest()


def _prediction_footprint(prediction: Prediction) -> int:
    """Bytes held in memory, about."""
    said = prediction.timeline[-1].error
    return PREDICTION + len(prediction.input) + (len(said) if said else 0)


def _file_footprint(file: StoredFile) -> int:
    """Bytes held in memory, about."""
    sent = file.upload
    return FILE + len(sent.content) + len(sent.metadata) + len(sent.name) + len(sent.content_type)

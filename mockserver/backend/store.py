"""Everything that the double remembers, by tenant and within bounds."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

from mockserver.backend.deliveries import Delivery
from mockserver.backend.files import StoredFile
from mockserver.backend.journal import Exchange
from mockserver.backend.memory import Meter, Outgoing
from mockserver.backend.prediction import ID, Prediction
from mockserver.backend.tenant import TenantState
from mockserver.clock import Clock
from mockserver.scenarios.scenario import Scenario


class Changes:
    """Wakes those who watch; costs nothing if nobody does."""

    def __init__(self) -> None:
        self._watchers: set[asyncio.Event] = set()

    def __len__(self) -> int:
        return len(self._watchers)

    def note(self) -> None:
        """Something has changed."""
        for watcher in self._watchers:
            watcher.set()

    @contextmanager
    def watch(self) -> Iterator[asyncio.Event]:
        """An event that is set on each change during a `with` block; the watcher clears it."""
        watcher = asyncio.Event()
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)


MAX_MEMORY = 1024 * 1024 * 1024  # bytes
MAX_IDS = 8  # that are looked for in a path


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is held. Bytes count everything that clients can make the double hold, about.

    Half of `bytes` may be under way: bodies that arrive and leave, webhooks, connections.
    """

    tenants: int = 1000
    predictions_per_tenant: int = 20_000
    files_per_tenant: int = 1000
    bytes_per_tenant: int = 256 * 1024 * 1024
    bytes: int = MAX_MEMORY


class Store:
    """The tenants and what belongs to them.

    What is over the bounds is forgotten, the oldest first, and counted.
    """

    def __init__(
        self, seed: int, new_clock: Callable[[], Clock], bounds: Bounds | None = None
    ) -> None:
        self._seed = seed
        self._new_clock = new_clock
        self._bounds = bounds or Bounds()
        self._most_of_one = min(self._bounds.bytes_per_tenant, self._bounds.bytes // 2)
        self._tenants: OrderedDict[str, TenantState] = OrderedDict()
        self._meter = Meter()
        # Called with each exchange that is recorded.
        self.observers: list[Callable[[TenantState, Exchange], None]] = []
        self.changes = Changes()
        self.underway = Meter(self._meter)
        self.cached = Meter(self._meter)
        self.outgoing = Outgoing(self.underway)
        self.evicted_tenants = 0
        self.evicted_violating = 0  # tenants whose journals had something wrong in them
        self.evicted_predictions = 0

    def tenant(self, name: str) -> TenantState:
        """The tenant of that name, a new one if there is none."""
        tenant = self._tenants.get(name)
        if tenant is None:
            return self._create(name)
        self._tenants.move_to_end(name)
        return tenant

    def find(self, name: str) -> TenantState | None:
        """The tenant of that name, if there is one."""
        return self._tenants.get(name)

    def tenants(self) -> list[TenantState]:
        """All of them."""
        return list(self._tenants.values())

    def owner(self, identifier: str) -> TenantState | None:
        """The tenant that a prediction belongs to."""
        return next(
            (tenant for tenant in self._tenants.values() if identifier in tenant.predictions), None
        )

    def file_owner(self, identifier: str) -> TenantState | None:
        """The tenant that a file belongs to."""
        return next(
            (tenant for tenant in self._tenants.values() if identifier in tenant.files), None
        )

    def find_in_path(self, path: str) -> tuple[TenantState, Prediction] | None:
        """The first prediction whose id is in a path, and its tenant; only a few ids are tried."""
        for match in islice(ID.finditer(path), MAX_IDS):
            identifier = match.group()
            owner = self.owner(identifier)
            if owner is not None:
                return owner, owner.predictions[identifier]
        return None

    def counts(self) -> dict[str, int]:
        """How much is held, and how much has been evicted."""
        return {
            "tenants": len(self._tenants),
            "predictions": sum(len(tenant.predictions) for tenant in self._tenants.values()),
            "bytes": self._meter.bytes,
            "bytes_under_way": self.underway.bytes,
            "max_bytes": self._bounds.bytes,
            "evicted_tenants": self.evicted_tenants,
            "evicted_predictions": self.evicted_predictions,
        }

    def take(self, size: int) -> bool:
        """Count some bytes more under way, if there is room; the oldest tenants give way."""
        if self.underway.bytes + size > self._bounds.bytes // 2:
            return False
        self.underway.add(size)
        while self._meter.bytes > self._bounds.bytes and len(self._tenants) > 1:
            self._evict_tenant()
        return True

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Count some bytes as under way during a `with` block."""
        self.underway.add(size)
        try:
            yield
        finally:
            self.underway.add(-size)

    def set_scenario(self, tenant: TenantState, scenario: Scenario | None) -> None:
        """Use a scenario for a tenant from here on; None goes back to the server's."""
        tenant.set_scenario(scenario)
        if self._knows(tenant):
            self._keep_bounds(tenant)

    def put(self, tenant: TenantState, prediction: Prediction) -> None:
        """Remember a new prediction, unless its tenant was forgotten meanwhile."""
        if self._knows(tenant):
            tenant.predictions.put(prediction.id, prediction)
            self._keep_bounds(tenant)

    def replace(self, tenant: TenantState, prediction: Prediction) -> None:
        """Remember the new state of a prediction, unless it was forgotten meanwhile."""
        if prediction.id in tenant.predictions:
            tenant.predictions.replace(prediction.id, prediction)

    def put_file(self, tenant: TenantState, file: StoredFile) -> None:
        """Remember a file."""
        if self._knows(tenant):
            tenant.files.put(file.id, file)
            bounds = self._bounds
            while len(tenant.files) > 1 and (
                len(tenant.files) > bounds.files_per_tenant
                or tenant.meter.bytes > self._most_of_one
            ):
                tenant.files.evict()
            self._keep_bounds(tenant)

    def record(self, tenant: TenantState, exchange: Exchange) -> None:
        """Record an exchange in its tenant's journal."""
        tenant.journal.record(exchange)
        for observe in self.observers:
            observe(tenant, exchange)
        self.changes.note()
        if self._meter.bytes > self._bounds.bytes:
            self._keep_bounds(tenant)

    def record_delivery(self, tenant: TenantState, delivery: Delivery) -> None:
        """Record an attempt to deliver a webhook."""
        tenant.deliveries.record(delivery)
        self.changes.note()
        self._keep_bounds(tenant)

    def reset(self, name: str) -> TenantState:
        """Forget everything of a tenant; it begins again, with the same ids to come."""
        self.forget(name)
        return self._create(name)

    def forget(self, name: str) -> None:
        """Forget a tenant, and end all that is under way for it."""
        tenant = self._tenants.pop(name, None)
        if tenant is not None:
            tenant.close()

    def _create(self, name: str) -> TenantState:
        tenant = self._tenants[name] = TenantState(
            name, self._new_clock(), self._seed, self._meter, self.outgoing
        )
        while len(self._tenants) > self._bounds.tenants:
            self._evict_tenant()
        return tenant

    def _knows(self, tenant: TenantState) -> bool:
        """Whether a tenant is still there: it may have been reset while a request waited."""
        return self._tenants.get(tenant.name) is tenant

    def _keep_bounds(self, tenant: TenantState) -> None:
        """Evict what is over the bounds, after a tenant has grown."""
        bounds, predictions, meter = self._bounds, tenant.predictions, tenant.meter
        while len(predictions) > bounds.predictions_per_tenant or (
            meter.bytes > self._most_of_one and len(predictions) > 1
        ):
            tenant.evict_prediction()
            self.evicted_predictions += 1
        while self._meter.bytes > bounds.bytes and len(self._tenants) > 1:
            self._evict_tenant()

    def _evict_tenant(self) -> None:
        name, tenant = next(iter(self._tenants.items()))
        journal = tenant.journal
        self.evicted_violating += bool(journal.violating or journal.unmatched or journal.departing)
        self.evicted_tenants += 1
        self.forget(name)

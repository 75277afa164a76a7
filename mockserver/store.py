"""All that the double remembers, by tenant and within bounds."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import Any

from mockserver.clock import Clock
from mockserver.coverage import Coverage
from mockserver.deliveries import Deliveries, Delivery
from mockserver.files import StoredFile
from mockserver.journal import Exchange, Journal
from mockserver.predictions import ID, Prediction, prediction_id
from mockserver.scenarios import Fault, Scenario, fault_at, script_length

ANONYMOUS = "anonymous"
PREDICTION = 500  # bytes that a prediction takes beside its input
MAX_IDS = 8  # ids in a path
TENANT = "tenant"  # whose faults are counted: those of a scenario that holds for the whole tenant


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is remembered. Bytes count what is held, about: predictions, files and journals."""

    tenants: int = 1000
    predictions_per_tenant: int = 20_000
    files_per_tenant: int = 1000
    bytes_per_tenant: int = 256 * 1024 * 1024
    bytes: int = 1024 * 1024 * 1024


class TenantState:
    """Everything that belongs to one tenant.

    `ending` is what stands behind the last plus of its name, `told` the status of each prediction that its clients
    were last told, `met` how far each script of faults has come.
    """

    def __init__(self, name: str, clock: Clock, seed: int) -> None:
        self.name = name
        self.clock = clock
        self.key = blake2b(f"{seed}/{name}".encode(), digest_size=32).digest()
        self.scenario_suffix = name.rpartition("+")[2] if "+" in name else ""
        self.scenario: Scenario | None = None
        self.predictions: OrderedDict[str, Prediction] = OrderedDict()
        self.created = self.uploaded = 0
        self.evicted = 0
        self.bytes = 0
        self.fault_progress: dict[str, dict[str, int]] = {}
        self.last_status_sent: dict[str, str] = {}
        self.journal = Journal()
        self.coverage = Coverage()
        self.deliveries = Deliveries()
        self.files: OrderedDict[str, StoredFile] = OrderedDict()
        self.tasks: dict[str, asyncio.Task[None]] = {}

    def next_id(self) -> str:
        """A fresh prediction id; the same ones in the same order for the same seed and name."""
        self.created += 1
        return prediction_id(self.key, self.created)

    def next_file_id(self) -> str:
        """A fresh file id; the same ones in the same order for the same seed and name."""
        self.uploaded += 1
        return prediction_id(blake2b(self.key, digest_size=32, person=b"files").digest(), self.uploaded)

    def spawn(self, identifier: str, work: Coroutine[Any, Any, None]) -> None:
        """Have some work for a prediction go on in the background, until it is done or the prediction is forgotten."""
        task = self.tasks[identifier] = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(lambda _: self.tasks.pop(identifier, None))

    def set_scenario(self, scenario: Scenario | None) -> None:
        """Have a scenario from here on, its faults counted afresh; None goes back to the server's."""
        self.scenario = scenario
        self.fault_progress.pop(TENANT, None)

    def consume_fault(
        self, who: str, key: str, faults: Sequence[Fault | None], can_exhibit: Callable[[Fault], bool], *, again: bool
    ) -> Fault | None:
        """The fault due in the next exchange of a script, which this is unless the exchange cannot show it.

        `who` keeps scripts of different origin apart. With `again`, a script that has run out starts anew
        after one normal exchange.
        """
        met = self.fault_progress.setdefault(who, {})
        number = met.get(key, 0)
        due = fault_at(faults, number)
        if due is not None and not can_exhibit(due):
            return None
        length = script_length(faults)
        over = length is not None and number >= length
        met[key] = 0 if over and again else number + 1
        return due


class Store:
    """The tenants and their predictions. What is over the bounds goes, oldest first, and is counted."""

    def __init__(self, seed: int, new_clock: Callable[[], Clock], bounds: Bounds | None = None) -> None:
        self._seed = seed
        self._new_clock = new_clock
        self._bounds = bounds or Bounds()
        self._tenants: OrderedDict[str, TenantState] = OrderedDict()
        self._bytes = 0
        self.evicted_tenants = 0
        self.evicted_predictions = 0

    def tenant(self, name: str) -> TenantState:
        """The tenant of that name, new if it has not been here."""
        found = self._tenants.get(name)
        if found is not None:
            self._tenants.move_to_end(name)
            return found
        return self._create(name)

    def tenants(self) -> list[TenantState]:
        """All of them."""
        return list(self._tenants.values())

    def owner(self, identifier: str) -> TenantState | None:
        """The tenant that a prediction belongs to."""
        return next((tenant for tenant in self._tenants.values() if identifier in tenant.predictions), None)

    def find_in_path(self, path: str) -> tuple[TenantState, Prediction] | None:
        """The prediction whose id a path has, and its tenant. Of a path with many ids, the first few are looked for."""
        for found in islice(ID.finditer(path), MAX_IDS):
            owner = self.owner(found.group())
            if owner is not None:
                return owner, owner.predictions[found.group()]
        return None

    def counts(self) -> dict[str, int]:
        """How much is held, and how much has been evicted."""
        return {
            "tenants": len(self._tenants),
            "predictions": sum(len(tenant.predictions) for tenant in self._tenants.values()),
            "bytes": self._bytes,
            "evicted_tenants": self.evicted_tenants,
            "evicted_predictions": self.evicted_predictions,
        }

    def put(self, tenant: TenantState, prediction: Prediction) -> None:
        """Remember a prediction, or what has become of it."""
        if prediction.id in tenant.predictions:
            tenant.predictions[prediction.id] = prediction
            return
        if self._tenants.get(tenant.name) is not tenant:
            return  # reset or evicted while the request was under way
        tenant.predictions[prediction.id] = prediction
        self._adjust_size(tenant, PREDICTION + len(prediction.input))
        self._keep_bounds(tenant)

    def record(self, tenant: TenantState, exchange: Exchange) -> None:
        """Write an exchange down in its tenant's journal."""
        before = tenant.journal.bytes
        tenant.journal.record(exchange)
        if self._tenants.get(tenant.name) is tenant:
            self._adjust_size(tenant, tenant.journal.bytes - before)
            if self._bytes > self._bounds.bytes:
                self._keep_bounds(tenant)

    def record_delivery(self, tenant: TenantState, delivery: Delivery) -> None:
        """Write down an attempt to deliver a webhook."""
        before = tenant.deliveries.bytes
        tenant.deliveries.record(delivery)
        if self._tenants.get(tenant.name) is tenant:
            self._adjust_size(tenant, tenant.deliveries.bytes - before)
            self._keep_bounds(tenant)

    def clear_journal(self, tenant: TenantState) -> None:
        """Forget a tenant's exchanges."""
        self._adjust_size(tenant, -tenant.journal.bytes)
        tenant.journal.clear()

    def put_file(self, tenant: TenantState, file: StoredFile) -> None:
        """Remember a file."""
        if self._tenants.get(tenant.name) is not tenant:
            return
        tenant.files[file.id] = file
        self._adjust_size(tenant, file.footprint)
        bounds = self._bounds
        while len(tenant.files) > 1 and (
            len(tenant.files) > bounds.files_per_tenant or tenant.bytes > bounds.bytes_per_tenant
        ):
            self.drop_file(tenant, next(iter(tenant.files)))
            tenant.evicted += 1
        self._keep_bounds(tenant)

    def drop_file(self, tenant: TenantState, identifier: str) -> None:
        """Forget a file."""
        self._adjust_size(tenant, -tenant.files.pop(identifier).footprint)

    def reset(self, name: str) -> TenantState:
        """Forget everything of a tenant; it begins again, with the same ids to come."""
        self.forget(name)
        return self._create(name)

    def _create(self, name: str) -> TenantState:
        tenant = self._tenants[name] = TenantState(name, self._new_clock(), self._seed)
        while len(self._tenants) > self._bounds.tenants:
            self._evict_tenant()
        return tenant

    def _keep_bounds(self, tenant: TenantState) -> None:
        bounds = self._bounds
        while len(tenant.predictions) > 1 and (
            len(tenant.predictions) > bounds.predictions_per_tenant or tenant.bytes > bounds.bytes_per_tenant
        ):
            identifier, oldest = tenant.predictions.popitem(last=False)
            tenant.fault_progress.pop(identifier, None)
            tenant.last_status_sent.pop(identifier, None)
            if identifier in tenant.tasks:
                tenant.tasks.pop(identifier).cancel()
            self._adjust_size(tenant, -PREDICTION - len(oldest.input))
            tenant.evicted += 1
            self.evicted_predictions += 1
        while self._bytes > bounds.bytes and len(self._tenants) > 1:
            self._evict_tenant()

    def _evict_tenant(self) -> None:
        self.forget(next(iter(self._tenants)))
        self.evicted_tenants += 1

    def forget(self, name: str) -> None:
        """Have no memory of a tenant."""
        gone = self._tenants.pop(name, None)
        if gone is None:
            return
        self._bytes -= gone.bytes
        for task in list(gone.tasks.values()):
            task.cancel()

    def _adjust_size(self, tenant: TenantState, size: int) -> None:
        tenant.bytes += size
        self._bytes += size

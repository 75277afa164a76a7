"""What is remembered, and what goes when it is too much."""

from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mockserver.backend.memory import PREDICTION, TENANT
from mockserver.backend.prediction import Prediction
from mockserver.backend.store import MAX_IDS, Bounds, Store
from mockserver.backend.tenant import WHOLE_TENANT, FaultCursor, TenantState
from mockserver.clock import Clock
from mockserver.scenarios.scenario import Fault
from tests.helpers.exchanges import poll
from tests.helpers.predictions import prediction

BASE = TENANT + len("ann")
BOUNDS = Bounds(
    tenants=3,
    predictions_per_tenant=4,
    bytes_per_tenant=BASE + 3 * PREDICTION + 100,
    bytes=3 * BASE + 7 * PREDICTION + 250,
)
NAMES = st.sampled_from(["ann", "bob", "cid", "dan"])


def store(bounds: Bounds = BOUNDS) -> Store:
    return Store(1, lambda: Clock("frozen"), bounds)


class StoreMachine(RuleBasedStateMachine):
    """The store against a list of what should be there."""

    def __init__(self) -> None:
        super().__init__()
        self.store = store()
        self.recent: list[str] = []
        self.held: dict[str, list[Prediction]] = {}

    def visit(self, name: str) -> TenantState:
        tenant = self.store.tenant(name)
        if name in self.recent:
            self.recent.remove(name)
        self.recent.append(name)
        self.held.setdefault(name, [])
        while len(self.recent) > BOUNDS.tenants:
            self.drop()
        return tenant

    def drop(self) -> None:
        del self.held[self.recent.pop(0)]

    def total(self, predictions: list[Prediction]) -> int:
        return BASE + sum(PREDICTION + len(item.input) for item in predictions)

    @rule(name=NAMES, size=st.integers(0, 120))
    def add(self, name: str, size: int) -> None:
        tenant = self.visit(name)
        new = prediction(tenant, size)
        self.store.put(tenant, new)
        own = self.held[name]
        own.append(new)
        while len(own) > 1 and (
            len(own) > BOUNDS.predictions_per_tenant or self.total(own) > BOUNDS.bytes_per_tenant
        ):
            own.pop(0)
        while sum(map(self.total, self.held.values())) > BOUNDS.bytes and len(self.recent) > 1:
            self.drop()

    @precondition(lambda self: any(self.held.values()))
    @rule(data=st.data())
    def change(self, data: Any) -> None:
        name = data.draw(st.sampled_from([name for name, own in self.held.items() if own]))
        number = data.draw(st.integers(0, len(self.held[name]) - 1))
        changed = msgspec.structs.replace(
            self.held[name][number], time_offset=data.draw(st.integers(0, 9))
        )
        self.store.replace(self.visit(name), changed)
        self.held[name][number] = changed

    @rule(name=NAMES)
    def reset(self, name: str) -> None:
        self.visit(name)
        self.store.reset(name)
        self.held[name] = []

    @rule(name=NAMES)
    def come_by(self, name: str) -> None:
        self.visit(name)

    @invariant()
    def the_store_holds_what_it_should(self) -> None:
        counts = self.store.counts()
        assert counts["tenants"] == len(self.recent)
        assert counts["predictions"] == sum(map(len, self.held.values()))
        assert counts["bytes"] == sum(map(self.total, self.held.values()))
        for name, own in self.held.items():
            for item in own:
                owner = self.store.owner(item.id)
                assert owner is not None
                assert owner.name == name
                assert owner.predictions[item.id] == item


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_one_prediction_is_kept_however_large() -> None:
    full = store()
    tenant = full.tenant("ann")
    full.put(tenant, prediction(tenant, 10_000))
    assert len(tenant.predictions) == 1
    full.put(tenant, prediction(tenant))
    assert len(tenant.predictions) == 1
    assert (tenant.evicted, full.counts()["evicted_predictions"]) == (1, 1)


def test_journals_count_among_what_is_held() -> None:
    full = store()
    for name in ("ann", "bob"):
        tenant = full.tenant(name)
        full.record(tenant, poll(response_body=b"x" * 1000))
    assert full.counts()["bytes"] == sum(BASE + tenant.journal.bytes for tenant in full.tenants())
    full.tenant("ann").journal.clear()
    assert full.counts()["bytes"] == 2 * BASE + full.tenant("bob").journal.bytes
    full.record(full.tenant("ann"), poll(response_body=b"x" * 16_000))
    assert [tenant.name for tenant in full.tenants()] == ["ann"], (
        "the one that came by least of late has gone"
    )
    before = full.tenant("ann")
    full.reset("ann")
    full.record(before, poll(response_body=b"late"))
    assert full.counts()["bytes"] == BASE


def test_a_reset_begins_again_with_the_same_ids() -> None:
    fresh = store()
    ids = [fresh.tenant("ann").next_id() for _ in range(3)]
    assert [fresh.reset("ann").next_id()] == ids[:1]
    assert fresh.tenant("bob").next_id() not in ids


def test_what_is_put_after_a_reset_by_a_request_from_before_it_is_not_kept() -> None:
    fresh = store()
    before = fresh.tenant("ann")
    late = prediction(before)
    fresh.reset("ann")
    fresh.put(before, late)
    assert fresh.owner(late.id) is None
    assert fresh.counts()["predictions"] == 0


def test_a_path_names_the_prediction_whose_id_it_has() -> None:
    full = store()
    tenant = full.tenant("ann")
    known = prediction(tenant)
    full.put(tenant, known)
    strangers = [fresh.id for fresh in map(prediction, [full.tenant("bob")] * MAX_IDS)]
    for path in (
        f"/files/{known.id}/out-0.png",
        f"/stream/a-{known.id}-b",
        "/".join([*strangers[1:], known.id]),
    ):
        assert full.find_in_path(path) == (tenant, known)
    for path in (
        "/files",
        f"/files/{known.id}0",
        f"/{strangers[0]}",
        "/".join([*strangers, known.id]),
    ):
        assert full.find_in_path(path) is None


def test_a_script_is_met_once_or_again_and_again() -> None:
    tenant = store().tenant("ann")
    faults = (Fault(status=429), None, Fault(status=500))
    once = [tenant.consume_fault(WHOLE_TENANT, "k", faults, lambda fault: True) for _ in range(8)]
    assert once == [*faults, None, None, None, None, None]
    request = FaultCursor("request", "flaky")
    again = [tenant.consume_fault(request, "k", faults, lambda fault: True) for _ in range(8)]
    assert again == [*faults, None, *faults, None]


def test_a_fault_that_cannot_be_shown_stays_due() -> None:
    tenant = store().tenant("ann")
    faults = (Fault(status=402), Fault(status=500))

    def take(status: int) -> Fault | None:
        return tenant.consume_fault(WHOLE_TENANT, "*", faults, lambda fault: fault.status == status)

    assert [take(500), take(402), take(402), take(500), take(500)] == [
        None,
        faults[0],
        None,
        faults[1],
        None,
    ]


def test_what_is_evicted_does_not_come_back_when_its_clock_changes() -> None:
    kept = store(Bounds(predictions_per_tenant=1))
    tenant = kept.tenant("ann")
    gone = prediction(tenant)
    kept.put(tenant, gone)
    kept.put(tenant, prediction(tenant))
    for mode in ("real", "autojump", "frozen"):
        tenant.set_clock(mode)
        kept.replace(tenant, msgspec.structs.replace(gone, time_offset=1))
        assert gone.id not in tenant.predictions
        assert kept.counts()["predictions"] == 1

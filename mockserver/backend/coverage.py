"""Which parts of the contract a test suite has met, and which it never has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mockserver.backend.memory import COMBINATION, Meter
from mockserver.contract.contract import Contract
from mockserver.scenarios.timeline import TERMINAL

MAX_COMBINATIONS = 200  # names of one input, which are counted together
FAULT_KINDS = ("status", "disconnect", "cut", "stall", "drip", "body", "delay")


class Coverage:
    """Counts, for one tenant, of everything of the contract that its clients have met."""

    def __init__(self, meter: Meter | None = None) -> None:
        self._meter = Meter(meter)
        self.exchanges: Counter[tuple[str, int]] = Counter()  # by operation and status
        # By operation, and the names in one input.
        self.inputs: Counter[tuple[str, frozenset[str]]] = Counter()
        self.statuses: Counter[str] = Counter()
        self.transitions: Counter[tuple[str, str]] = Counter()
        self.faults: Counter[str] = Counter()

    @classmethod
    def of_all(cls, parts: Iterable[Coverage]) -> Coverage:
        """The counts of several tenants, added up."""
        total = cls()
        for part in parts:
            total.exchanges.update(part.exchanges)
            total.inputs.update(part.inputs)
            total.statuses.update(part.statuses)
            total.transitions.update(part.transitions)
            total.faults.update(part.faults)
        return total

    def record_exchange(self, operation_id: str, status: int) -> None:
        """An operation was answered with a status."""
        self.exchanges[operation_id, status] += 1

    def record_input(self, operation_id: str, names: frozenset[str]) -> None:
        """A create was accepted, with all these names in its input."""
        if (operation_id, names) not in self.inputs:
            self._make_room(operation_id, names)
        self.inputs[operation_id, names] += 1

    def _make_room(self, operation_id: str, names: frozenset[str]) -> None:
        """Count one combination of names more.

        There can be thousands: where there are many, each name is counted by itself.
        """
        self._meter.add(COMBINATION)
        if len(self.inputs) >= MAX_COMBINATIONS:
            combined, self.inputs = self.inputs, Counter()
            for (operation, together), count in combined.items():
                for name in together:
                    self.inputs[operation, frozenset((name,))] += count
            self._meter.add(COMBINATION * (len(self.inputs) + 1) - self._meter.bytes)

    def record_fault(self, kind: str) -> None:
        """A fault was met."""
        self.faults[kind] += 1

    def status_sent(self, before: str | None, status: str) -> None:
        """A client was sent a prediction's status, after another one, or none."""
        self.statuses[status] += 1
        if before and before != status:
            self.transitions[before, status] += 1

    def report(self, contract: Contract) -> dict[str, Any]:
        """For each kind of thing, how often each was met, and which never were."""
        operations = [operation.operation_id for operation in contract.operations]
        inputs = [
            (operation.operation_id, name)
            for operation in contract.of_role("create")
            for name in operation.input
        ]
        statuses = {status for operation in contract.operations for status in operation.responses}
        errors = sorted(status for status in statuses if status >= 400)

        met_operations: Counter[str] = Counter()
        met_inputs: Counter[tuple[str, str]] = Counter()
        met_errors: Counter[int] = Counter()
        for (operation_id, status), count in self.exchanges.items():
            met_operations[operation_id] += count
            if status >= 400:
                met_errors[status] += count
        for (operation_id, names), count in self.inputs.items():
            for name in sorted(names):
                met_inputs[operation_id, name] += count

        return {
            "operations": _part(met_operations, operations, str),
            "inputs": _part(met_inputs, inputs, "/".join),
            "statuses": _part(self.statuses, contract.statuses, str),
            "transitions": _part(self.transitions, _transitions(contract.statuses), " → ".join),
            "errors": _part(met_errors, errors, str),
            "faults": _part(self.faults, FAULT_KINDS, str),
        }


def add_up(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The reports of several servers on the same contract, as one."""
    added = {}
    for kind, first in reports[0].items():
        met: Counter[str] = Counter()
        for report in reports:
            met.update(report[kind]["met"])
        added[kind] = {
            "met": dict(met),
            "never": [name for name in first["never"] if name not in met],
        }
    return added


def _part(met: Counter[Any], universe: Any, name: Any) -> dict[str, Any]:
    return {
        "met": {name(thing): count for thing, count in met.items()},
        "never": [name(thing) for thing in universe if thing not in met],
    }


def _transitions(statuses: list[str]) -> list[tuple[str, str]]:
    """The changes of status that a client can see."""
    ends = [status for status in statuses if status in TERMINAL]
    first = [("starting", status) for status in statuses if status != "starting"]
    return first + [("processing", status) for status in ends if status != "aborted"]

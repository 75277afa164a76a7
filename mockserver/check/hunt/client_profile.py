"""What a hunt learns about the client from its runs: operations it uses, and how long it takes."""

from __future__ import annotations

from itertools import pairwise

from mockserver.check.hunt.harness import Limits
from mockserver.check.hunt.replay import MAX_LINGER
from mockserver.check.model import Case, Run
from mockserver.clock import SECOND
from mockserver.contract.contract import Contract

MIN_TIMEOUT = 1.0  # seconds granted to a client that is known to hang
MAX_POLLING = 0.5  # share of the deadline that the polls of one case may take
WEBHOOKS = "webhooks"  # listed among the used operations if the client receives webhooks


MIN_LINGER = 0.3  # seconds


class ClientProfile:
    """The client's operations and timing. Decides which cases apply to it and how long to wait."""

    def __init__(self, contract: Contract, limits: Limits) -> None:
        self._contract = contract
        self._limits = limits
        self._used_operations: set[str] = set()
        self._slowest_call = 0.0  # seconds, without the start of a process
        self._longest_pause = 0.0  # seconds between two polls
        self.version = ""
        self.hangs = False

    def note_operations(self, run: Run) -> None:
        """Note which operations the client uses, by id and by family."""
        for exchange in run.exchanges:
            operation = run.contract.by_id.get(exchange.operation_id or "")
            self._used_operations.add(str(exchange.operation_id))
            self._used_operations.add(operation.family if operation is not None else "")
            if exchange.arrived_at == "receiver":
                self._used_operations.add(WEBHOOKS)

    def note_timing(self, run: Run) -> None:
        """Note the longest call and pause so far, and the version that the client reports."""
        self.version = self.version or run.outcome.client

        if run.outcome.kind != "hung":
            self._slowest_call = max(self._slowest_call, run.seconds - run.started_after)

        if run.has_no_fault:
            polls = [poll.received_at for _, poll in run.of_role("get")]
            pauses = ((later - sooner) / SECOND for sooner, later in pairwise(polls))
            self._longest_pause = max(self._longest_pause, *pauses, 0.0)

    def is_relevant(self, case: Case) -> bool:
        """Whether a fixed case concerns operations that the client has used."""
        scenario = case.scenario
        concerned = {*scenario.get("faults", {}), *scenario.get("limits", {})}
        if "stream" in scenario:
            concerned |= {operation.operation_id for operation in self._contract.of_role("stream")}
        if "webhooks" in scenario:
            concerned.add(WEBHOOKS)
        if concerned and not concerned & self._used_operations:
            return False

        # A client that pauses between polls must not be made to poll past the deadline.
        polls: int = sum(step.get("polls", 0) for step in scenario.get("lifecycle", ()))
        return polls * self._longest_pause < MAX_POLLING * self._limits.longest

    @property
    def timeout(self) -> float:
        """Seconds that the next run may take. Shorter once the client has hung, to save budget."""
        longest = self._limits.longest
        return min(longest, self.short_timeout) if self.hangs else longest

    @property
    def linger(self) -> float:
        """Seconds in which a client that goes on polling after its call has polled a few times."""
        return min(MAX_LINGER, MIN_LINGER + 2 * self._longest_pause)

    @property
    def short_timeout(self) -> float:
        """Seconds within which every call so far would have ended."""
        return MIN_TIMEOUT + 2 * self._slowest_call

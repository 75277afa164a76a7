"""The findings of a verification, and its report: plain values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from mockserver.backend.journal import Departure
from mockserver.conformance.exchange import GatewayExchange
from mockserver.conformance.rules import BY_CODE
from mockserver.contract.contract import Contract
from mockserver.contract.lines import line_of
from mockserver.redaction import redacted
from mockserver.reporting.rule import Severity

MAX_FINDINGS = 200

_WITH_SEVERAL_KINDS = frozenset({"MC701", "MC704", "MC707"})  # whose pointer says little
_VALUE = re.compile(
    r"""https?://\S+|"[^"]*"|'[^']*'|\b\d+ bytes|\b\d+ x \d+ pixels|\b\d+:\d+\b|\d+\.\d+"""
    r"|\d{4}-\d\d-\d\dT[\d:.]+Z?"
)


class VerifyFinding(msgspec.Struct, frozen=True, kw_only=True):
    """A departure of the gateway, with the first of the `times` exchanges that show it.

    `contract` is the JSON pointer to what the contract says instead, `line` its line in the file.
    """

    rule: str
    title: str
    severity: Severity
    operation: str
    pointer: str
    message: str
    contract: str
    line: int | None
    probe: str
    exchange: dict[str, Any]
    times: int = 1

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Equal for the same departure in different reports."""
        return self.rule, self.operation, re.sub(r"/\d+(?=/|$)", "/#", self.pointer), self._kind

    @property
    def _status_class(self) -> str:
        """The class of the status: a departure in refusals says nothing about successes."""
        return f"{self.exchange['response']['status'] // 100}xx"

    @property
    def _kind(self) -> str:
        """What distinguishes departures at one place: the probe, or the message without values."""
        if self.rule == "MC705" and not self.pointer:
            return self.probe
        # Baselines know departures by these messages, so their wording must not change.
        if self.rule in _WITH_SEVERAL_KINDS:
            return _VALUE.sub("#", self.message)
        if self.rule in ("MC702", "MC703"):
            return (
                self._status_class
                if self.pointer
                else f"{self._status_class} {_VALUE.sub('#', self.message)}"
            )
        return ""


class NotSeen(msgspec.Struct, frozen=True):
    """A part of the plan that was not carried out, and why."""

    what: str
    reason: str


class VerifyReport(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a verification.

    `findings` are errors, `warnings` are not. `accepted` are those that the baseline has, `fixed`
    those that only the baseline has. `spent` is how many predictions were billed, or may have been,
    and `spend_limit` how many were allowed. `unverified` is the reason why it is not `ok` although
    it has no findings. `operations` has for each operation and status whether it `conforms`,
    `departs`, or was `not seen`. `seconds` is wall time.
    """

    ok: bool = True
    unverified: str = ""
    url: str
    contract: str
    spent: int = 0
    spend_limit: int = 0
    findings: list[VerifyFinding] = []
    warnings: list[VerifyFinding] = []
    accepted: list[VerifyFinding] = []
    fixed: list[str] = []
    not_seen: list[NotSeen] = []
    operations: dict[str, dict[str, str]] = {}
    requests: int = 0
    seconds: float = 0.0
    interrupted: bool = False


class Collector:
    """Gathers what exchanges showed, and makes a report of it."""

    def __init__(self, contract: Contract, token: str, accepted: Sequence[VerifyFinding]) -> None:
        self._contract = contract
        self._token = token
        self._baseline = {finding.key: finding for finding in accepted}
        self._findings: dict[tuple[str, str, str, str], VerifyFinding] = {}
        self.operations: dict[str, dict[str, str]] = {}  # as in a report, without `not seen`

    def take(self, probe: str, exchange: GatewayExchange, departures: Sequence[Departure]) -> None:
        """Add one exchange with its departures. `probe` is the title of what was sent."""
        departs = any(departure.severity == "error" for departure in departures)
        statuses = self.operations.setdefault(exchange.operation.operation_id, {})
        if departs or str(exchange.status) not in statuses:
            statuses[str(exchange.status)] = "departs" if departs else "conforms"

        for departure in departures:
            finding = self._finding(probe, exchange, departure)
            known = self._findings.get(finding.key)
            if known is not None:
                self._findings[finding.key] = msgspec.structs.replace(known, times=known.times + 1)
            elif not self._is_full(departure.severity):
                self._findings[finding.key] = finding

    def _is_full(self, severity: Severity) -> bool:
        same = [finding for finding in self._findings.values() if finding.severity == severity]
        return len(same) >= MAX_FINDINGS

    def _finding(
        self, probe: str, exchange: GatewayExchange, departure: Departure
    ) -> VerifyFinding:
        return VerifyFinding(
            rule=departure.rule,
            title=BY_CODE[departure.rule].title,
            severity=departure.severity,
            operation=departure.operation,
            pointer=redacted(departure.pointer[:300], self._token),
            message=redacted(departure.message[:600], self._token),
            contract=departure.contract,
            line=line_of(self._contract, departure.contract),
            probe=probe,
            exchange=exchange.as_json(),
        )

    def report(self, *, unverified: str, interrupted: bool, **facts: Any) -> VerifyReport:
        """The report of everything taken so far.

        `unverified` is why the gateway cannot be called conforming, if so; it counts only where
        nothing else was found. `facts` are the other fields of a report.
        """
        known = self._findings.keys() & self._baseline.keys()
        by_rule = sorted(self._findings.values(), key=lambda finding: finding.rule)
        new = [finding for finding in by_rule if finding.key not in known]
        findings = [finding for finding in new if finding.severity == "error"]
        if findings or interrupted:
            unverified = ""

        return VerifyReport(
            ok=not findings and not unverified,
            unverified=unverified,
            contract=self._contract.name,
            findings=findings,
            warnings=[finding for finding in new if finding.severity == "warning"],
            accepted=[finding for finding in by_rule if finding.key in known],
            fixed=self._fixed(),
            operations=self._all_operations(),
            interrupted=interrupted,
            **facts,
        )

    def _fixed(self) -> list[str]:
        """What the baseline has and was not found, though its operation was judged."""
        return sorted(
            f"{finding.rule} {finding.operation} {finding.pointer}".strip()
            for key, finding in self._baseline.items()
            if key not in self._findings and finding.operation in self.operations
        )

    def _all_operations(self) -> dict[str, dict[str, str]]:
        """The statuses of each operation; `not seen` stands for a success that is missing."""
        operations = dict(self.operations)
        for operation in self._contract.operations:
            statuses = operations.get(operation.operation_id, {})
            if not any(200 <= int(status) < 300 for status in statuses):
                success = (str(status) for status in operation.responses if 200 <= status < 300)
                statuses = {**statuses, next(success, "2xx"): "not seen"}
            operations[operation.operation_id] = statuses
        return operations

"""What a verification found, and its report: plain values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from mockserver.backend.journal import Departure
from mockserver.conformance.exchange import GatewayExchange
from mockserver.conformance.rules import BY_CODE
from mockserver.contract.contract import Contract
from mockserver.contract.lines import line_of
from mockserver.redaction import redacted

MAX_FINDINGS = 200

_OF_SEVERAL_KINDS = frozenset({"MC701", "MC704", "MC707"})  # whose pointer says little
_VALUE = re.compile(
    r"""https?://\S+|"[^"]*"|'[^']*'|\b\d+ bytes|\b\d+ x \d+ pixels|\b\d+:\d+\b|\d+\.\d+|\d{4}-\d\d-\d\dT[\d:.]+Z?"""
)


class VerifyFinding(msgspec.Struct, frozen=True, kw_only=True):
    """A departure of the gateway, with the first exchange that shows it; `times` is how many did.

    `contract` says what the contract has: a JSON pointer into it, and `line` its line in the file.
    """

    rule: str
    title: str
    severity: Literal["error", "warning"]
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
        """What makes it the same finding in another report."""
        return self.rule, self.operation, re.sub(r"/\d+(?=/|$)", "/#", self.pointer), self._kind

    @property
    def _answered(self) -> str:
        """The class of the status: what is wrong with a refusal says nothing of what succeeds."""
        return f"{self.exchange['response']['status'] // 100}xx"

    @property
    def _kind(self) -> str:
        """What tells departures at one place apart: what was forbidden, or the message without its values."""
        if self.rule == "MC705" and not self.pointer:
            return self.probe
        if self.rule in _OF_SEVERAL_KINDS:
            return _VALUE.sub("#", self.message)
        if self.rule in ("MC702", "MC703"):
            return (
                self._answered
                if self.pointer
                else f"{self._answered} {_VALUE.sub('#', self.message)}"
            )
        return ""


class NotSeen(msgspec.Struct, frozen=True):
    """Something that was to be looked at and was not, and why."""

    what: str
    reason: str


class VerifyReport(msgspec.Struct, kw_only=True):
    """The result of a verification.

    `findings` are errors, `warnings` are not; `accepted` are those that the baseline has, `fixed`
    those of it that are gone. `spent` is how many predictions were billed, or may have been, and
    `spend_limit` how many were allowed. `unverified` is why it is not `ok` though nothing departs: nothing
    could be seen. `operations` tells of each operation by status whether it `conforms`, `departs`,
    or was `not seen`. `seconds` is wall time.
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
    """Gathers what exchanges showed into a report."""

    def __init__(
        self,
        contract: Contract,
        report: VerifyReport,
        token: str,
        accepted: Sequence[VerifyFinding],
    ) -> None:
        self._contract = contract
        self._report = report
        self._token = token
        self._baseline = {finding.key: finding for finding in accepted}
        self._found: dict[tuple[str, str, str, str], VerifyFinding] = {}
        self._judged: set[str] = set()

    def take(self, probe: str, seen: GatewayExchange, departures: Sequence[Departure]) -> None:
        """Add one exchange, and what departed in it."""
        self._judged.add(seen.operation.operation_id)
        departs = any(each.severity == "error" for each in departures)
        statuses = self._report.operations.setdefault(seen.operation.operation_id, {})
        if departs or str(seen.status) not in statuses:
            statuses[str(seen.status)] = "departs" if departs else "conforms"
        for each in departures:
            finding = self._finding(probe, seen, each)
            known = self._found.get(finding.key)
            if known is not None:
                self._found[finding.key] = msgspec.structs.replace(known, times=known.times + 1)
            elif (
                sum(other.severity == each.severity for other in self._found.values())
                < MAX_FINDINGS
            ):
                self._found[finding.key] = finding

    def _finding(self, probe: str, seen: GatewayExchange, found: Departure) -> VerifyFinding:
        return VerifyFinding(
            rule=found.rule,
            title=BY_CODE[found.rule].title,
            severity=found.severity,
            operation=found.operation,
            pointer=redacted(found.pointer[:300], self._token),
            message=redacted(found.message[:600], self._token),
            contract=found.contract,
            line=line_of(self._contract, found.contract),
            probe=probe,
            exchange=seen.as_json(),
        )

    def finish(self) -> None:
        """Fill the report in."""
        report = self._report
        for finding in sorted(self._found.values(), key=lambda each: each.rule):
            if finding.key in self._baseline:
                report.accepted.append(finding)
            elif finding.severity == "error":
                report.findings.append(finding)
            else:
                report.warnings.append(finding)
        report.fixed = sorted(
            f"{finding.rule} {finding.operation} {finding.pointer}".strip()
            for key, finding in self._baseline.items()
            if key not in self._found and finding.operation in self._judged
        )
        report.ok = not report.findings
        for operation in self._contract.operations:
            seen = report.operations.setdefault(operation.operation_id, {})
            if not any(200 <= int(status) < 300 for status in seen):
                seen[
                    next((str(each) for each in operation.responses if 200 <= each < 300), "2xx")
                ] = "not seen"

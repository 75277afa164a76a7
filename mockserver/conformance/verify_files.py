"""Report files of a verification: JSON, JUnit XML and HTML; baselines; annotations for GitHub."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from mockserver.conformance.rules import GATEWAY_RULES
from mockserver.conformance.verify_report import VerifyFinding, VerifyReport
from mockserver.conformance.verify_terminal import describe, summary
from mockserver.reporting.baseline import read_baseline_file
from mockserver.reporting.files import choose_format, write_file
from mockserver.reporting.junit import JUnitCase, junit_xml, rule_cases
from mockserver.reporting.old_names import encode_report
from mockserver.reporting.page import card, render_shell, section
from mockserver.reporting.terminal import visible


def write(report: VerifyReport, path: Path) -> None:
    """Write a report in the format that the file's suffix names. Raises MockServerError."""
    write_file(path, format_for(path)(report))


def format_for(path: Path) -> Callable[[VerifyReport], bytes]:
    """The function that formats a report for a file of that suffix. Raises MockServerError."""
    return choose_format(path, _FORMATS)


def read_baseline(path: Path) -> tuple[VerifyFinding, ...]:
    """The findings of a JSON report of `mockserver verify`. Raises MockServerError."""
    return read_baseline_file(path, "verify", _findings_in)


def _findings_in(value: Any) -> tuple[VerifyFinding, ...]:
    report = msgspec.convert(value, VerifyReport)
    return (*report.findings, *report.warnings, *report.accepted)


def github_annotations(report: VerifyReport) -> Iterator[str]:
    """The findings as GitHub's workflow commands, which show them beside the contract's lines."""
    name = _within_workspace(report.contract)
    for finding in (*report.findings, *report.warnings):
        place = f"file={_property(name)},line={finding.line}," if name and finding.line else ""
        title = _property(f"{finding.rule} the gateway {finding.title}")
        message = visible(f"{finding.operation} {finding.pointer}: {finding.message}")
        yield f"::{finding.severity} {place}title={title}::{message.replace('%', '%25')}"


def _within_workspace(name: str) -> str | None:
    try:
        return str(
            Path(name)
            .resolve()
            .relative_to(Path(os.environ.get("GITHUB_WORKSPACE", Path.cwd())).resolve())
        )
    except (OSError, ValueError):
        return None


def _property(text: str) -> str:
    return visible(text).replace("%", "%25").replace(":", "%3A").replace(",", "%2C")


def _as_junit(report: VerifyReport) -> bytes:
    """A test case for each rule, and a skipped one for each thing that was not seen."""
    passed = [*report.warnings, *report.accepted]
    cases = list(rule_cases(GATEWAY_RULES, report.findings, passed, describe))
    if report.unverified:
        cases.append(JUnitCase("the gateway can be verified", error=report.unverified))
    cases += [JUnitCase(missing.what, skipped=missing.reason) for missing in report.not_seen]
    return junit_xml("verify", f"mockserver verify {report.url}", cases, report.seconds)


def _as_html(report: VerifyReport) -> bytes:
    sections = (
        section("Departures", map(_card, report.findings)),
        section("Warnings", map(_card, report.warnings)),
        section("Accepted by the baseline", map(_card, report.accepted)),
    )
    missing = "".join(
        f"<li>{escape(visible(item.what))}: {escape(visible(item.reason))}</li>"
        for item in report.not_seen
    )
    not_seen = f"<h2>Not seen</h2><ul>{missing}</ul>" if missing else ""
    page = render_shell(
        "verify",
        summary(report),
        ok=report.ok,
        header=f"<p><code>mockserver verify {escape(visible(report.url))}</code></p>",
        body=f"<main><table>{''.join(_rows(report))}</table>{''.join(sections)}{not_seen}</main>",
        style=resources.files("mockserver.conformance").joinpath("report.css").read_text(),
    )
    return page.encode()


def _rows(report: VerifyReport) -> Iterator[str]:
    for operation, statuses in report.operations.items():
        items = "".join(
            f'<li class="{judgement.replace(" ", "-")}">{escape(status)} {judgement}</li>'
            for status, judgement in statuses.items()
        )
        yield f"<tr><th><code>{escape(operation)}</code><td><ul>{items}</ul>"


def _card(finding: VerifyFinding) -> str:
    exchange = msgspec.json.format(msgspec.json.encode(finding.exchange)).decode()
    line = f", line {finding.line}" if finding.line else ""
    heading = (
        f"<code>{finding.rule}</code> the gateway {escape(finding.title)} "
        f"<small>{escape(finding.operation)}</small>"
    )
    content = (
        f"<p><code>{escape(visible(finding.pointer))}</code> {escape(visible(finding.message))}</p>"
        f"<p class=rests>Contract: <code>{escape(finding.contract)}</code>{line}. "
        f"Seen {finding.times} times, first with: {escape(visible(finding.probe))}.</p>"
        f"<details><summary>The exchange</summary><pre>{escape(exchange)}</pre></details>"
    )
    return card(finding.severity, heading, content)


_FORMATS: dict[str, Callable[[VerifyReport], bytes]] = {
    ".json": encode_report,
    ".xml": _as_junit,
    ".html": _as_html,
}

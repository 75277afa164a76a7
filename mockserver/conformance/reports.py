"""Report files of a verification: JSON, JUnit XML, a page of HTML; the baseline; annotations for GitHub."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any
from xml.etree import ElementTree

import msgspec

from mockserver.conformance.findings import Finding, Report
from mockserver.conformance.rules import GATEWAY_RULES
from mockserver.conformance.terminal import describe, summary, visible
from mockserver.reporting.baseline import read_baseline_file
from mockserver.reporting.files import choose_format, printable, write_file
from mockserver.reporting.old_names import encode_report


def write(report: Report, path: Path) -> None:
    """Write a report in the format that the file's suffix names. Raises MockServerError."""
    write_file(path, format_for(path)(report))


def format_for(path: Path) -> Callable[[Report], bytes]:
    """The function that formats a report for a file of that suffix. Raises MockServerError."""
    return choose_format(path, _FORMATS)


def read_baseline(path: Path) -> tuple[Finding, ...]:
    """The findings of a JSON report of `mockserver verify`. Raises MockServerError."""
    return read_baseline_file(path, "verify", _findings_in)


def _findings_in(value: Any) -> tuple[Finding, ...]:
    report = msgspec.convert(value, Report)
    return (*report.findings, *report.warnings, *report.accepted)


def github_annotations(report: Report) -> Iterator[str]:
    """The findings as GitHub's workflow commands, which show them beside the contract's lines."""
    name = _within_workspace(report.contract)
    for finding in (*report.findings, *report.warnings):
        kind = "error" if finding.severity == "error" else "warning"
        place = f"file={_property(name)},line={finding.line}," if name and finding.line else ""
        title = _property(f"{finding.rule} the gateway {finding.title}")
        said = visible(f"{finding.operation} {finding.pointer}: {finding.message}")
        yield f"::{kind} {place}title={title}::{said.replace('%', '%25')}"


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


def _as_junit(report: Report) -> bytes:
    """A test case for each rule, and a skipped one for each thing not seen; advice is output, not a failure."""
    cases = len(GATEWAY_RULES) + len(report.not_seen) + bool(report.unverified)
    broken = {finding.rule for finding in report.findings}
    suite = ElementTree.Element(
        "testsuite",
        name=printable(f"mockserver verify {report.url}"),
        tests=str(cases),
        failures=str(len(broken)),
        errors=str(int(bool(report.unverified))),
        skipped=str(len(report.not_seen)),
        time=f"{report.seconds:.3f}",
    )
    for rule in GATEWAY_RULES:
        case = ElementTree.SubElement(
            suite, "testcase", classname="mockserver.verify", name=f"{rule.code} {rule.title}"
        )
        found = [finding for finding in report.findings if finding.rule == rule.code]
        if found:
            failure = ElementTree.SubElement(
                case, "failure", type=rule.code, message=printable(found[0].message)
            )
            failure.text = printable("\n\n".join(map(describe, found)))
        advised = [
            finding for finding in (*report.warnings, *report.accepted) if finding.rule == rule.code
        ]
        if advised:
            ElementTree.SubElement(case, "system-out").text = printable(
                "\n\n".join(map(describe, advised))
            )
    if report.unverified:
        case = ElementTree.SubElement(
            suite, "testcase", classname="mockserver.verify", name="the gateway can be verified"
        )
        ElementTree.SubElement(case, "error", message=printable(report.unverified))
    for missing in report.not_seen:
        case = ElementTree.SubElement(
            suite, "testcase", classname="mockserver.verify", name=printable(missing.what)
        )
        ElementTree.SubElement(case, "skipped", message=printable(missing.reason))
    return (
        b'<?xml version="1.0" encoding="UTF-8"?>\n'
        + ElementTree.tostring(suite, encoding="unicode").encode()
    )


def _as_html(report: Report) -> bytes:
    template = Template(
        resources.files("mockserver.conformance").joinpath("report.html").read_text()
    )
    sections = [
        _section("Departures", report.findings),
        _section("Warnings", report.warnings),
        _section("Accepted by the baseline", report.accepted),
    ]
    missing = "".join(
        f"<li>{escape(visible(each.what))}: {escape(visible(each.reason))}</li>"
        for each in report.not_seen
    )
    page = template.substitute(
        url=escape(visible(report.url)),
        verdict=escape(summary(report)),
        kind="good" if report.ok else "bad",
        rows="".join(_rows(report)),
        sections="".join(sections),
        missing=f"<h2>Not seen</h2><ul>{missing}</ul>" if missing else "",
    )
    return page.encode()


def _rows(report: Report) -> Iterator[str]:
    for operation, statuses in report.operations.items():
        told = "".join(
            f'<li class="{said.replace(" ", "-")}">{escape(status)} {said}</li>'
            for status, said in statuses.items()
        )
        yield f"<tr><th><code>{escape(operation)}</code><td><ul>{told}</ul>"


def _section(title: str, findings: list[Finding]) -> str:
    return f"<h2>{title}</h2>" + "".join(map(_card, findings)) if findings else ""


def _card(finding: Finding) -> str:
    exchange = msgspec.json.format(msgspec.json.encode(finding.exchange)).decode()
    line = f", line {finding.line}" if finding.line else ""
    return (
        f'<article class="{finding.severity}"><h3><code>{finding.rule}</code> the gateway {escape(finding.title)} '
        f"<small>{escape(finding.operation)}</small></h3>"
        f"<p><code>{escape(visible(finding.pointer))}</code> {escape(visible(finding.message))}</p>"
        f"<p class=rests>Contract: <code>{escape(finding.contract)}</code>{line}. Seen {finding.times} times, "
        f"first with: {escape(visible(finding.probe))}.</p>"
        f"<details><summary>The exchange</summary><pre>{escape(exchange)}</pre></details></article>"
    )


_FORMATS: dict[str, Callable[[Report], bytes]] = {
    ".json": encode_report,
    ".xml": _as_junit,
    ".html": _as_html,
}

"""Report files: JSON, JUnit XML, and a page of HTML; and the baseline, which is read from one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import msgspec

from mockserver.check.findings import Finding, Report, describe
from mockserver.check.page import render_page
from mockserver.check.rules import RULES
from mockserver.errors import MockServerError


def write(report: Report, path: Path, command: str) -> None:
    """Write a report in the format that the file's suffix names. Raises MockServerError."""
    render = format_for(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(render(report, command))
    except OSError as reason:
        raise MockServerError(f"cannot write the report {path}: {reason.strerror}") from reason


def format_for(path: Path) -> Callable[[Report, str], bytes]:
    """The function that formats a report for a file of that suffix. Raises MockServerError."""
    if path.suffix not in _FORMATS:
        raise MockServerError(f"--report {path}: the file ends in {', '.join(_FORMATS)}, which says what format it has")
    return _FORMATS[path.suffix]


def read_baseline(path: Path) -> tuple[Finding, ...]:
    """The findings of a JSON report, or of a saved finding. Raises MockServerError."""
    try:
        source = path.read_bytes()
        value = msgspec.json.decode(source)
    except OSError as reason:
        raise MockServerError(f"cannot read the baseline {path}: {reason.strerror}") from reason
    except (msgspec.DecodeError, UnicodeDecodeError) as reason:
        raise MockServerError(f"the baseline {path} is not JSON: {reason}") from reason
    try:
        if isinstance(value, dict) and "rule" in value:
            return (msgspec.convert(value, Finding),)
        report = msgspec.convert(value, Report)
    except msgspec.ValidationError as reason:
        raise MockServerError(f"the baseline {path} is not a JSON report of `mockserver check`: {reason}") from reason
    return (*report.findings, *report.advice, *report.accepted)


def _as_json(report: Report, command: str) -> bytes:
    return msgspec.json.format(msgspec.json.encode(report)) + b"\n"


def _as_junit(report: Report, command: str) -> bytes:
    """A test case for each rule; advice is output, not a failure."""
    rules = [rule for rule in RULES.values() if rule.function is not None]
    suite = ElementTree.Element(
        "testsuite",
        name=f"mockserver check -- {command}",
        tests=str(len(rules)),
        failures=str(len(report.broken_rules)),
        time=f"{report.seconds:.3f}",
    )
    for rule in rules:
        case = ElementTree.SubElement(suite, "testcase", classname="mockserver.check", name=f"{rule.code} {rule.title}")
        broken = [finding for finding in report.findings if finding.rule == rule.code]
        advised = [finding for finding in (*report.advice, *report.accepted) if finding.rule == rule.code]
        if broken:
            said = " ".join(finding.message for finding in broken)
            failure = ElementTree.SubElement(case, "failure", type=rule.code, message=_printable(said))
            failure.text = _printable("\n\n".join(map(describe, broken)))
        if advised:
            ElementTree.SubElement(case, "system-out").text = _printable("\n\n".join(map(describe, advised)))
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suite, encoding="unicode").encode()


def _as_html(report: Report, command: str) -> bytes:
    return render_page(report, command).encode()


def _printable(text: str) -> str:
    """Text without the characters that XML 1.0 does not have."""
    return "".join(letter if letter in "\t\n" or letter >= " " else "\ufffd" for letter in text)


_FORMATS: dict[str, Callable[[Report, str], bytes]] = {".json": _as_json, ".xml": _as_junit, ".html": _as_html}

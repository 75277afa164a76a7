"""Report files: JSON, JUnit XML, HTML and Markdown; and baselines, which are JSON reports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from mockserver.check.report.findings import Finding, Report, describe
from mockserver.check.report.markdown import render_markdown
from mockserver.check.report.page import render_page
from mockserver.check.rules.registry import RULES
from mockserver.errors import MockServerError
from mockserver.reporting.baseline import read_baseline_file
from mockserver.reporting.files import choose_format, write_file
from mockserver.reporting.junit import junit_xml, rule_cases
from mockserver.reporting.old_names import encode_report


def write(report: Report, path: Path) -> None:
    """Write a report in the format that the file's suffix names. Raises MockServerError."""
    write_file(path, format_for(path)(report))


def ensure_writable(path: Path) -> None:
    """Make sure, before a long hunt, that a file can be written. Raises MockServerError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab"):
            pass
        if not path.stat().st_size:
            path.unlink()
    except OSError as reason:
        raise MockServerError(f"cannot write the report {path}: {reason.strerror}") from reason


def format_for(path: Path) -> Callable[[Report], bytes]:
    """The function that formats a report for a file of that suffix. Raises MockServerError."""
    return choose_format(path, _FORMATS)


def read_baseline(path: Path | None, *, may_be_new: bool = False) -> tuple[Finding, ...]:
    """The findings of a JSON report or of a saved finding; empty without a path.

    With `may_be_new` the file is going to be written, and need not exist yet. Raises
    MockServerError.
    """
    if may_be_new and (path is None or path.suffix != ".json"):
        raise MockServerError("--baseline-update needs --baseline FILE.json, the file to write")
    if path is None or (may_be_new and not path.exists()):
        return ()
    return read_baseline_file(path, "check", _findings_in)


def _findings_in(value: Any) -> tuple[Finding, ...]:
    if isinstance(value, dict) and "rule" in value:
        return (msgspec.convert(value, Finding),)
    if not isinstance(value, dict) or not value.keys() >= {"findings", "runs", "seed"}:
        raise msgspec.ValidationError("it has no `findings`, `runs` and `seed`")
    report = msgspec.convert(value, Report)
    return (*report.findings, *report.warnings, *report.accepted)


def update_baseline(report: Report, path: Path) -> int:
    """Write a report as the baseline of later hunts, and return the number of its findings.

    Raises MockServerError.
    """
    write(report, path)
    return len(report.findings) + len(report.warnings) + len(report.accepted)


def _as_junit(report: Report) -> bytes:
    """A test case for each rule that is judged in runs."""
    rules = [rule for rule in RULES.values() if rule.function is not None]
    passed = [*report.warnings, *report.accepted]
    cases = rule_cases(rules, report.findings, passed, describe)
    return junit_xml("check", report.shown_command, cases, report.seconds)


def _as_html(report: Report) -> bytes:
    return render_page(report).encode()


def _as_markdown(report: Report) -> bytes:
    return render_markdown(report).encode()


_FORMATS: dict[str, Callable[[Report], bytes]] = {
    ".json": encode_report,
    ".xml": _as_junit,
    ".html": _as_html,
    ".md": _as_markdown,
}

"""A verification on the terminal: what is being done while it lasts, and its report. What a gateway sent is escaped."""

from __future__ import annotations

import os
import sys

import click

from mockserver.conformance.findings import Finding, Report
from mockserver.conformance.rules import BY_CODE

MAX_BODY = 400  # characters of a body

_COLOURS = {"conforms": "green", "departs": "red", "not seen": "yellow"}
_CLEAR_LINE = "\r\x1b[K"


def visible(text: str) -> str:
    """Text in which nothing moves a cursor, changes colours or turns letters round."""
    return "".join(
        letter
        if letter.isprintable()
        else {"\n": "\\n", "\t": " "}.get(letter, f"\\u{ord(letter):04x}")
        for letter in text
    )


class Progress:
    """What is being done, on standard error, redrawn in place where that is a terminal; silent elsewhere."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def __call__(self, doing: str) -> None:
        """Show it."""
        if self._shown:
            sys.stderr.write(_CLEAR_LINE + visible(doing)[:78])
            sys.stderr.flush()

    def clear(self) -> None:
        """Take it away."""
        if self._shown:
            sys.stderr.write(_CLEAR_LINE)
            sys.stderr.flush()


def summary(report: Report) -> str:
    """A report in one line."""
    count = len(report.findings)
    conforms = (
        "nothing was verified" if report.unverified else "the gateway conforms, as far as seen"
    )
    found = f"{count} {'departure' if count == 1 else 'departures'}" if count else conforms
    count = len(report.warnings)
    warnings = f" · {count} warning{'s' * (count != 1)}" if count else ""
    missing = f" · {len(report.not_seen)} not seen" if report.not_seen else ""
    spent = f"{report.spent} of {report.spend_limit} spent"
    return f"{report.requests} requests · {report.seconds:.1f} s · {spent} · {found}{warnings}{missing}"


def describe(finding: Finding) -> str:
    """A finding as text, for people."""
    request, response = finding.exchange["request"], finding.exchange["response"]
    line = f" (line {finding.line})" if finding.line else ""
    times = f", and {finding.times - 1} times more" if finding.times > 1 else ""
    lines = [
        f"{finding.rule}  the gateway {finding.title}  [{finding.severity}]",
        f"  {finding.operation} {visible(finding.pointer)}".rstrip(),
        f"  {visible(finding.message)}",
        "",
        f"    sent      {request['method']} {visible(request['path'])}  ({visible(finding.probe)}{times})",
    ]
    if request["body"]:
        lines.append(f"              {_short(request['body'])}")
    media_type = visible(response["headers"].get("content-type", ""))
    lines.append(f"    answered  {response['status'] or 'nothing'} {media_type}".rstrip())
    if response["body"]:
        lines.append(f"              {_short(response['body'])}")
    lines += [
        "",
        f"  Contract: {finding.contract}{line}",
        f"  Rests on: {BY_CODE[finding.rule].rests_on}.",
    ]
    return "\n".join(lines)


def _short(body: str) -> str:
    text = visible(body)
    return text if len(text) <= MAX_BODY else f"{text[:MAX_BODY]}…"


def show(report: Report) -> None:
    """Print a report."""
    width = max((len(name) for name in report.operations), default=0)
    for name, statuses in report.operations.items():
        told = ", ".join(
            click.style(f"{status} {said}", fg=_COLOURS[said])
            for status, said in sorted(statuses.items())
        )
        click.echo(f"  {name:<{width}}  {told}")
    for finding in (*report.findings, *report.warnings):
        head, _, rest = describe(finding).partition("\n")
        click.echo()
        click.echo(
            click.style(head, fg="red" if finding.severity == "error" else "yellow", bold=True)
            + "\n"
            + rest
        )
    click.echo()
    for finding in report.accepted:
        click.echo(
            f"accepted by the baseline: {finding.rule} {finding.operation} {visible(finding.pointer)}".rstrip()
        )
    for gone in report.fixed:
        click.echo(f"fixed, so take it out of the baseline: {visible(gone)}")
    for reason in dict.fromkeys(missing.reason for missing in report.not_seen):
        whats = [missing.what for missing in report.not_seen if missing.reason == reason]
        shown = "; ".join(whats[:3]) + (f"; and {len(whats) - 3} more" if len(whats) > 3 else "")
        click.echo(f"not seen, since {visible(reason)}: {visible(shown)}")
    if report.interrupted:
        click.echo(
            "Interrupted: what is shown is what was seen until then; what was running has been cancelled."
        )
    click.secho(summary(report), fg="green" if report.ok else "red", bold=True)

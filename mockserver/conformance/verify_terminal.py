"""A verification on the terminal: its progress, and its report. What a gateway sent is escaped."""

from __future__ import annotations

import click

from mockserver.conformance.rules import BY_CODE
from mockserver.conformance.verify_report import VerifyFinding, VerifyReport
from mockserver.reporting.terminal import (
    ProgressLine,
    count_of_warnings,
    progress_width,
    style_finding,
    visible,
)

MAX_BODY = 400  # characters of a body

_COLORS = {"conforms": "green", "departs": "red", "not seen": "yellow"}


class VerifyProgress(ProgressLine):
    """The current step of a verification on standard error."""

    def __call__(self, doing: str) -> None:
        """Show what is being done."""
        self.draw(visible(doing)[: progress_width()])


def summary(report: VerifyReport) -> str:
    """A report in one line."""
    count = len(report.findings)
    conforms = (
        "nothing was verified" if report.unverified else "the gateway conforms, as far as seen"
    )
    verdict = f"{count} {'departure' if count == 1 else 'departures'}" if count else conforms
    warnings = count_of_warnings(len(report.warnings))
    missing = f" · {len(report.not_seen)} not seen" if report.not_seen else ""
    spent = f"{report.spent} of {report.spend_limit} spent"
    requests = f"{report.requests} requests · {report.seconds:.1f} s"
    return f"{requests} · {spent} · {verdict}{warnings}{missing}"


def describe(finding: VerifyFinding) -> str:
    """A finding as text."""
    request, response = finding.exchange["request"], finding.exchange["response"]
    line = f" (line {finding.line})" if finding.line else ""
    times = f", and {finding.times - 1} times more" if finding.times > 1 else ""
    probe = visible(finding.probe) + times
    lines = [
        f"{finding.rule}  the gateway {finding.title}  [{finding.severity}]",
        f"  {finding.operation} {visible(finding.pointer)}".rstrip(),
        f"  {visible(finding.message)}",
        "",
        f"    sent      {request['method']} {visible(request['path'])}  ({probe})",
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


def show(report: VerifyReport) -> None:
    """Print a report."""
    width = max((len(name) for name in report.operations), default=0)
    for name, statuses in report.operations.items():
        judged = ", ".join(
            click.style(f"{status} {judgement}", fg=_COLORS[judgement])
            for status, judgement in sorted(statuses.items())
        )
        click.echo(f"  {name:<{width}}  {judged}")
    for finding in (*report.findings, *report.warnings):
        click.echo()
        click.echo(style_finding(describe(finding), finding.severity))
    click.echo()
    for finding in report.accepted:
        click.echo(
            f"accepted by the baseline: {finding.rule} {finding.operation} "
            f"{visible(finding.pointer)}".rstrip()
        )
    for gone in report.fixed:
        click.echo(f"fixed; remove from the baseline: {visible(gone)}")
    for reason in dict.fromkeys(missing.reason for missing in report.not_seen):
        whats = [missing.what for missing in report.not_seen if missing.reason == reason]
        more = f"; and {len(whats) - 3} more" if len(whats) > 3 else ""
        click.echo(f"not seen, since {visible(reason)}: {visible('; '.join(whats[:3]) + more)}")
    if report.interrupted:
        click.echo(
            "Interrupted: the report has the results until then; running predictions were canceled."
        )
    click.secho(summary(report), fg="green" if report.ok else "red", bold=True)

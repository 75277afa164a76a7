"""A hunt on the terminal: a progress bar while it runs, and its report."""

from __future__ import annotations

import click

from mockserver.check.progress import Progress
from mockserver.check.report.findings import Finding, Report, describe
from mockserver.check.report.summary import notes_on, verdict_on
from mockserver.reporting.terminal import (
    ProgressLine,
    count_of_warnings,
    progress_width,
    style_finding,
    visible,
)

BAR_WIDTH = 24  # characters
MIN_BAR_WIDTH = 8


class ProgressBar(ProgressLine):
    """The progress of a hunt on standard error."""

    def __call__(self, progress: Progress) -> None:
        """Draw the bar anew."""
        self.draw(progress_line(progress, progress_width()))


def progress_line(progress: Progress, width: int) -> str:
    """Progress as one line of at most `width` characters.

    If it does not fit, the bar shrinks first, then the text is cut.
    """
    left = max(0.0, progress.budget - progress.elapsed)
    broken = ", ".join(progress.broken_rules) or "no rule broken"
    text = (
        f"{progress.runs}/{progress.max_runs} runs · {left:.0f} s left · {broken} · "
        f"{progress.doing}"
    )
    length = max(MIN_BAR_WIDTH, min(BAR_WIDTH, width - len(text) - 1))

    # A hunt ends with its runs or with its budget, whichever is used up first.
    share = max(progress.runs / max(1, progress.max_runs), progress.elapsed / progress.budget)
    filled = round(length * min(1.0, share))
    line = f"{'━' * filled}{'╌' * (length - filled)} {text}"
    return line if len(line) <= width else line[: max(0, width - 1)] + "…"[: max(0, width)]


def show(report: Report) -> None:
    """Print a report."""
    for finding in (*report.findings, *report.warnings):
        click.echo()
        click.echo(_styled(finding, describe(finding, report.replay_of(finding))))

    click.echo()
    for finding in report.accepted:
        click.echo(f"accepted by the baseline: {finding.rule} {finding.title}")
    for note in notes_on(report):
        click.echo(visible(note))

    warnings = count_of_warnings(len(report.warnings))
    click.secho(
        f"{report.runs} runs · {report.seconds:.1f} s · {verdict_on(report)}{warnings}",
        fg="green" if report.ok else "red",
        bold=True,
    )


def _styled(finding: Finding, text: str) -> str:
    """The text of a finding in color, in which nothing that a client sent is a control code."""
    escaped = "\n".join(visible(line) for line in text.split("\n"))
    return style_finding(escaped, finding.severity, mark="  ▶")

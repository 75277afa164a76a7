"""A hunt in a few sentences: the verdict, and notes for every format of the report."""

from __future__ import annotations

from collections import Counter

from mockserver.check.report.findings import MAX_CAUSES, Report


def verdict_on(report: Report) -> str:
    """The number of broken rules, in words."""
    rules, ways = len(report.broken_rules), len(report.findings)
    if not rules:
        return "no rule broken"
    more = f" in {ways} ways" if ways > rules else ""
    return f"{rules} {'rule' if rules == 1 else 'rules'} broken{more}"


def untested_runs(report: Report) -> str:
    """How many runs tested nothing because the client had broken down."""
    return (
        f"In {report.untested} of {report.runs} runs the client sent nothing, because earlier runs "
        "had left it unable to make even the plain call. Its error was: "
        f"{report.client_error}"
    )


def notes_on(report: Report) -> list[str]:
    """What a reader should know beside the findings."""
    notes = []
    if report.fixed:
        notes.append(f"Fixed; remove from the baseline: {', '.join(report.fixed)}.")
    if report.flaky:
        notes.append(f"Seen once but not reproducible, so not reported: {', '.join(report.flaky)}.")
    if report.undecided:
        notes.append(
            f"{report.undecided} of the runs reached the deadline while the client may have been "
            "waiting legitimately; to decide them, use a longer --deadline."
        )
    if report.overloaded:
        notes.append(
            f"The machine was too busy to judge {report.overloaded} of the cases, because the "
            "client got too little processor time; use fewer --jobs."
        )
    if report.unconfirmed:
        notes.append(
            f"Broken once, with no time left to confirm it: {', '.join(report.unconfirmed)}; use a "
            "longer --budget."
        )
    if report.not_looked_for:
        notes.append(f"Ignored: {', '.join(report.not_looked_for)}.")
    if {"MC102", "MC302"} & {finding.rule for finding in report.findings}:
        notes.append(
            "If the client passes on some inputs only, limit the check to them with "
            "--inputs NAME,NAME."
        )
    if report.untested:
        notes.append(untested_runs(report))
    ways = Counter(
        (finding.rule, finding.severity) for finding in (*report.findings, *report.warnings)
    )
    if many := sorted({rule for (rule, _), count in ways.items() if count >= MAX_CAUSES}):
        notes.append(
            f"At most {MAX_CAUSES} ways to break a rule are reported; there may be more of: "
            f"{', '.join(many)}."
        )
    if report.runs < report.max_runs and not report.interrupted:
        faster = (
            "a client that runs as a --worker is faster"
            if report.process_per_call
            else "a client that mostly waits is faster with more --jobs"
        )
        notes.append(
            f"{report.runs} of {report.max_runs} cases ran within the time budget. To run the "
            f"rest, use a longer --budget; {faster}."
        )
    if report.interrupted:
        notes.append("Interrupted: the report has the findings until then.")
    return notes

"""Plays a case again: next to its control case, or as a saved finding has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec

from mockserver.check.drive.processes import WorkerDriver
from mockserver.check.drive.protocol import Driver
from mockserver.check.generate.catalogue import fixed_cases
from mockserver.check.hunt.harness import Harness, Limits
from mockserver.check.hunt.preflight import check_reached, check_worker
from mockserver.check.model import Case, Run, control_case
from mockserver.check.report.findings import Finding
from mockserver.check.rules.evidence import needs_comparison_alone, needs_control, sent_nothing
from mockserver.check.rules.registry import RULES, find_breaches
from mockserver.check.rules.rule import Breach

POLLS_AFTER_END = "MC303"  # also after the call has returned
MAX_LINGER = 2.0  # seconds that a client is watched for such polls
MAX_CONCURRENT_PLAYS = 10  # of a case with concurrent calls, whose interleaving is up to chance


def with_control(run: Run, play: Callable[[Case], Run]) -> Run:
    """The run with the outcomes that its rules compare it with: of its control case, of one call.

    These cases are played only if a rule needs them.
    """
    if sent_nothing(run):
        plain = next(fixed_cases(run.contract, [run.case.model], None))
        run = run.with_control_run(play(plain).outcome)
    elif needs_control(run):
        run = run.with_control_run(play(control_case(run.case)).outcome)

    if needs_comparison_alone(run):
        single_call = msgspec.structs.replace(run.case, concurrent=1)
        run = replace(run, solo_outcome=play(single_call).outcome)
    return run


def tested_nothing(run: Run) -> bool:
    """Whether a call raised before it sent anything, even though the gateway behaved normally."""
    control = run.control_run
    return sent_nothing(run) and control is not None and control.kind != "returned"


def replay(harness: Harness, driver: Driver, finding: Finding, limits: Limits) -> Finding:
    """Play the case of a finding again. Returns the finding as it is now.

    If the rule is no longer broken, its `confirmed` is 0. Raises ClientError if the client cannot
    be run, or is not the worker that it is declared to be; DoubleError if the double broke its
    contract.
    """
    if isinstance(driver, WorkerDriver):
        plain = next(fixed_cases(harness.contract, [finding.case.model], None))
        check_worker(
            plain,
            driver,
            lambda case, driver, idle=None: harness.play(case, driver, limits, idle=idle),
        )

    linger = MAX_LINGER if finding.rule == POLLS_AFTER_END else 0.0
    for _ in range(max_plays(finding.case)):
        run = with_control(
            harness.play(finding.case, driver, limits, patient=True, linger=linger),
            lambda control: harness.play(control, driver, limits, patient=True),
        )
        breaches = find_breaches(run)
        same_cause = breach_of(finding.rule, finding.cause, breaches)
        breach = same_cause or breach_of(finding.rule, (), breaches)
        if breach is not None:
            return Finding.of(breach, run, 1)
        check_reached(run)

    rule = RULES[finding.rule]
    message = f"The rule was not broken this time. It says: {rule.demand}"
    return Finding.of(Breach(rule.code, rule.severity, message), run, 0)


def max_plays(case: Case) -> int:
    """How often a case is played before its rule counts as not broken."""
    return MAX_CONCURRENT_PLAYS if case.concurrent > 1 else 1


def breach_of(rule: str, cause: Sequence[str], breaches: Sequence[Breach]) -> Breach | None:
    """The first breach of a rule whose cause is `cause` or a part of it.

    An empty `cause`, as in older baselines, matches every breach of the rule.
    """
    for breach in breaches:
        if breach.rule == rule and (not cause or set(breach.cause) <= set(cause)):
            return breach
    return None

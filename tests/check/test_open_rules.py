"""Open rules: a finding, an accepted breach or a flake hides no other breach."""

from mockserver.check.hunt.open_rules import MAX_FLAKES, OpenRules
from mockserver.check.report.findings import MAX_CAUSES
from mockserver.check.rules.rule import Breach
from mockserver.reporting.rule import Severity


def breach(*cause: str, severity: Severity = "error", rule: str = "MC101") -> Breach:
    return Breach(rule, severity, "message", cause=cause)


def test_a_reported_cause_and_its_supersets_are_not_looked_for() -> None:
    rules = OpenRules(())
    rules.note_finding(breach("a"))
    assert not rules.accepts(breach("a"))
    assert not rules.accepts(breach("a", "b"))
    assert rules.accepts(breach("b"))
    assert not rules.accepts(breach("a", severity="warning")), "the error covers the warning"
    assert rules.accepts(breach("a", rule="MC102"))


def test_a_rule_is_closed_after_max_causes_but_warnings_do_not_close_errors() -> None:
    rules = OpenRules(())
    for number in range(MAX_CAUSES):
        rules.note_finding(breach(str(number), severity="warning"))
    assert not rules.accepts(breach("more", severity="warning"))
    assert rules.accepts(breach("more"))
    for number in range(MAX_CAUSES):
        rules.note_finding(breach(f"error {number}"))
    assert not rules.accepts(breach("more"))


def test_an_accepted_cause_closes_only_itself() -> None:
    rules = OpenRules(())
    for number in range(MAX_CAUSES):
        rules.note_accepted(breach(str(number)))
    rules.note_accepted(breach("warning", severity="warning"))
    assert not rules.accepts(breach("0"))
    assert rules.accepts(breach("new"))
    assert rules.accepts(breach("warning")), "only the warning was accepted"


def test_an_unconfirmed_cause_closes_only_itself() -> None:
    rules = OpenRules(())
    for _ in range(MAX_FLAKES):
        assert rules.accepts(breach("now and then"))
        rules.note_flake(breach("now and then"))
    assert not rules.accepts(breach("now and then"))
    assert rules.accepts(breach("always"))


def test_ignored_rules_are_not_looked_for() -> None:
    rules = OpenRules(["MC101"])
    assert not rules.includes("MC101")
    assert not rules.accepts(breach("a"))
    assert rules.filter([breach("a"), breach("a", rule="MC102")]) == [breach("a", rule="MC102")]

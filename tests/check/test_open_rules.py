"""What a hunt still looks for: nothing that was found, accepted or not confirmed hides anything else."""

from mockserver.check.hunt.open_rules import MAX_FLAKES, OpenRules
from mockserver.check.report.findings import MAX_CAUSES
from mockserver.check.rules.rule import Breach
from mockserver.reporting.rule import Severity


def breach(*cause: str, severity: Severity = "error", rule: str = "MC101") -> Breach:
    return Breach(rule, severity, "said", cause=cause)


def test_what_was_found_is_not_looked_for_again_nor_is_what_holds_it() -> None:
    rules = OpenRules(())
    rules.note_finding(breach("a"))
    assert not rules.accepts(breach("a"))
    assert not rules.accepts(breach("a", "b"))
    assert rules.accepts(breach("b"))
    assert not rules.accepts(breach("a", severity="warning")), "the error says more"
    assert rules.accepts(breach("a", rule="MC102"))


def test_of_a_rule_so_many_are_enough_but_advice_keeps_no_error_out() -> None:
    rules = OpenRules(())
    for number in range(MAX_CAUSES):
        rules.note_finding(breach(str(number), severity="warning"))
    assert not rules.accepts(breach("more", severity="warning"))
    assert rules.accepts(breach("more"))
    for number in range(MAX_CAUSES):
        rules.note_finding(breach(f"error {number}"))
    assert not rules.accepts(breach("more"))


def test_what_a_baseline_accepts_is_no_more_than_that() -> None:
    rules = OpenRules(())
    for number in range(MAX_CAUSES):
        rules.note_accepted(breach(str(number)))
    rules.note_accepted(breach("warning", severity="warning"))
    assert not rules.accepts(breach("0"))
    assert rules.accepts(breach("new"))
    assert rules.accepts(breach("warning")), "it was advice when it was accepted"


def test_a_way_that_is_not_confirmed_hides_no_other() -> None:
    rules = OpenRules(())
    for _ in range(MAX_FLAKES):
        assert rules.accepts(breach("now and then"))
        rules.note_flake(breach("now and then"))
    assert not rules.accepts(breach("now and then"))
    assert rules.accepts(breach("always"))


def test_what_is_ignored_is_not_looked_for() -> None:
    rules = OpenRules(["MC101"])
    assert not rules.includes("MC101")
    assert not rules.accepts(breach("a"))
    assert rules.filter([breach("a"), breach("a", rule="MC102")]) == [breach("a", rule="MC102")]

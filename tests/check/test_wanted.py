"""What a hunt still looks for: nothing that was found, accepted or not confirmed hides anything else."""

from mockserver.check.hunt.wanted import MAX_FLAKES, OpenRules
from mockserver.check.report.findings import MAX_CAUSES
from mockserver.check.rules.rule import Breach
from mockserver.reporting.rule import Severity


def breach(*cause: str, severity: Severity = "error", rule: str = "MC101") -> Breach:
    return Breach(rule, severity, "said", cause=cause)


def test_what_was_found_is_not_looked_for_again_nor_is_what_holds_it() -> None:
    wanted = OpenRules(())
    wanted.found(breach("a"))
    assert not wanted.accepts(breach("a"))
    assert not wanted.accepts(breach("a", "b"))
    assert wanted.accepts(breach("b"))
    assert not wanted.accepts(breach("a", severity="warning")), "the error says more"
    assert wanted.accepts(breach("a", rule="MC102"))


def test_of_a_rule_so_many_are_enough_but_advice_keeps_no_error_out() -> None:
    wanted = OpenRules(())
    for number in range(MAX_CAUSES):
        wanted.found(breach(str(number), severity="warning"))
    assert not wanted.accepts(breach("more", severity="warning"))
    assert wanted.accepts(breach("more"))
    for number in range(MAX_CAUSES):
        wanted.found(breach(f"error {number}"))
    assert not wanted.accepts(breach("more"))


def test_what_a_baseline_accepts_is_no_more_than_that() -> None:
    wanted = OpenRules(())
    for number in range(MAX_CAUSES):
        wanted.accept(breach(str(number)))
    wanted.accept(breach("warning", severity="warning"))
    assert not wanted.accepts(breach("0"))
    assert wanted.accepts(breach("new"))
    assert wanted.accepts(breach("warning")), "it was advice when it was accepted"


def test_a_way_that_is_not_confirmed_hides_no_other() -> None:
    wanted = OpenRules(())
    for _ in range(MAX_FLAKES):
        assert wanted.accepts(breach("now and then"))
        wanted.note_flake(breach("now and then"))
    assert not wanted.accepts(breach("now and then"))
    assert wanted.accepts(breach("always"))


def test_what_is_ignored_is_not_looked_for() -> None:
    wanted = OpenRules(["MC101"])
    assert not wanted.rule("MC101")
    assert not wanted.accepts(breach("a"))
    assert wanted.filter([breach("a"), breach("a", rule="MC102")]) == [breach("a", rule="MC102")]

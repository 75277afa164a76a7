"""What a hunt still looks for: nothing that was found, accepted or not confirmed hides anything else."""

from mockserver.check.hunt.wanted import MAX_FLAKES, Wanted
from mockserver.check.report.findings import MAX_CAUSES
from mockserver.check.rules.rule import Breach
from mockserver.reporting.rule import Severity


def breach(*cause: str, severity: Severity = "error", rule: str = "MC101") -> Breach:
    return Breach(rule, severity, "said", cause=cause)


def test_what_was_found_is_not_looked_for_again_nor_is_what_holds_it() -> None:
    wanted = Wanted(())
    wanted.found(breach("a"))
    assert not wanted.holds(breach("a"))
    assert not wanted.holds(breach("a", "b"))
    assert wanted.holds(breach("b"))
    assert not wanted.holds(breach("a", severity="advice")), "the error says more"
    assert wanted.holds(breach("a", rule="MC102"))


def test_of_a_rule_so_many_are_enough_but_advice_keeps_no_error_out() -> None:
    wanted = Wanted(())
    for number in range(MAX_CAUSES):
        wanted.found(breach(str(number), severity="advice"))
    assert not wanted.holds(breach("more", severity="advice"))
    assert wanted.holds(breach("more"))
    for number in range(MAX_CAUSES):
        wanted.found(breach(f"error {number}"))
    assert not wanted.holds(breach("more"))


def test_what_a_baseline_accepts_is_no_more_than_that() -> None:
    wanted = Wanted(())
    for number in range(MAX_CAUSES):
        wanted.accept(breach(str(number)))
    wanted.accept(breach("advice", severity="advice"))
    assert not wanted.holds(breach("0"))
    assert wanted.holds(breach("new"))
    assert wanted.holds(breach("advice")), "it was advice when it was accepted"


def test_a_way_that_is_not_confirmed_hides_no_other() -> None:
    wanted = Wanted(())
    for _ in range(MAX_FLAKES):
        assert wanted.holds(breach("now and then"))
        wanted.seen_once(breach("now and then"))
    assert not wanted.holds(breach("now and then"))
    assert wanted.holds(breach("always"))


def test_what_is_ignored_is_not_looked_for() -> None:
    wanted = Wanted(["MC101"])
    assert not wanted.rule("MC101")
    assert not wanted.holds(breach("a"))
    assert wanted.among([breach("a"), breach("a", rule="MC102")]) == [breach("a", rule="MC102")]

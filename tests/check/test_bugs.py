"""The kit finds bugs that were planted, in clients of two languages, and leaves legal clients in peace."""

import shutil
from collections.abc import Iterable
from typing import Any

import pytest

from tests.check.bench import Subject, hunt, node_subjects, python_subjects

pytestmark = pytest.mark.slow

# Found by waiting out a deadline, or after a second of polling: the bench has them, a suite has no time.
SLOW = (
    "sleeps for ever",
    "stalled body",
    "retries creates for ever",
    "never cancels",
    "a timeout for connecting",
    "a timeout for each read",
    "waits for ever for its cancel",
)
NODE = (  # a process for each is dear; the rules are the same
    "text/plain",
    "drops falsy",
    "creates again on 5xx",
    "canceled returns null",
    "does not know aborted",
    "splits logs",
    "throws at an unreadable",
    "repeats 422",
    "token on standard error",
    "follows urls.get",
)
FOR_EACH_RULE = (
    "five polls at most",
    "reads the delay in the header alone",
    "needs a Content-Length",
    "looks headers up in lower case",
    "takes each chunk for an event",
    "returns every output",  # the others are `make test-thorough`'s
    "typo in the path",
    "drops falsy inputs",
    "Token instead of Bearer",
    "creates again on any 5xx",
    "canceled returns nothing",
    "returns urls.get",
    "polls on after success",
    "does not know aborted",
    "splits logs",
    "ignores Retry-After",
    "retries polls for ever",
    "repeats 422",
    "polls without a pause",
    "no retry of polls",
    "token to the file host",
    "follows urls.get",
    "gives up after the wait",
    "plain",
    "no-retry",
)
RUNS = 150  # the fixed cases, and a few that are drawn; `make bench-check` plays 300
LEGAL = ("python: no-retry", "python: asynchronous", "python: streaming")


def without(subjects: Iterable[Subject], words: tuple[str, ...]) -> list[Any]:
    return sorted_out(
        subject
        for subject in subjects
        if subject.rules and not any(word in subject.name for word in words)
    )


def those(subjects: Iterable[Subject], words: tuple[str, ...]) -> list[Any]:
    return sorted_out(
        subject for subject in subjects if any(word in subject.name for word in words)
    )


def sorted_out(subjects: Iterable[Subject]) -> list[Any]:
    """The subjects, those that are not for each run marked as such."""
    first = [
        *(f"python: {name}" for name in FOR_EACH_RULE),
        "node: canceled returns null",
        "node: follows urls.get",
    ]
    return [
        pytest.param(
            subject, id=subject.name, marks=() if subject.name in first else pytest.mark.thorough
        )
        for subject in subjects
    ]


def test_a_bug_for_each_rule_is_played_each_time() -> None:
    subjects = {subject.name: subject for subject in python_subjects()}
    assert all(f"python: {name}" in subjects for name in FOR_EACH_RULE)
    rules = {rule for name in FOR_EACH_RULE for rule in subjects[f"python: {name}"].rules}
    assert {rule for subject in subjects.values() for rule in subject.rules} - rules == {"MC406"}, (
        "takes a deadline"
    )


@pytest.mark.parametrize("subject", without(python_subjects(), SLOW))
def test_a_planted_bug_is_found_and_its_case_fails_again(subject: Subject) -> None:
    result = hunt(subject, budget=60)
    assert result.finding is not None, f"not found in {result.runs} runs"
    assert result.fails_again


@pytest.mark.skipif(not shutil.which("node"), reason="no Node here")
@pytest.mark.parametrize("subject", those(node_subjects(), NODE))
def test_in_another_language_too(subject: Subject) -> None:
    result = hunt(subject, budget=60)
    assert result.finding is not None, f"not found in {result.runs} runs"
    assert result.fails_again


@pytest.mark.parametrize("subject", those(python_subjects(), LEGAL))
def test_a_legal_client_is_cleared(subject: Subject) -> None:
    result = hunt(subject, seed=4711, budget=120, max_runs=RUNS)
    assert result.finding is None, str(result.finding)
    assert result.runs == RUNS

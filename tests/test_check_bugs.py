"""The kit finds bugs that were planted, in clients of two languages, and leaves legal clients in peace."""

import shutil
from collections.abc import Iterable, Iterator

import pytest

from tests.check.bench import Subject, hunt, node_subjects, python_subjects

pytestmark = pytest.mark.slow

# Found by waiting out a deadline, or after a second of polling: the bench has them, a suite has no time.
SLOW = ("sleeps for ever", "stalled body", "retries creates for ever", "never cancels", "without a timeout", "silent")
NODE = ("drops falsy", "creates again on 5xx", "canceled returns null", "token on standard error")  # processes are dear
RUNS = 150  # the fixed cases, and a few that are drawn; `make bench-check` plays 300
LEGAL = ("python: no-retry", "python: asynchronous", "python: streaming")


def name(subject: Subject) -> str:
    return subject.name


def one_for_each_rule(subjects: Iterable[Subject]) -> Iterator[Subject]:
    """The first planted bug that breaks a rule, and no slow one: `make bench-check` hunts them all."""
    seen: set[str] = set()
    for subject in subjects:
        if subject.rules - seen and not any(word in subject.name for word in SLOW):
            seen |= subject.rules
            yield subject


def those(subjects: Iterable[Subject], words: tuple[str, ...]) -> list[Subject]:
    return [subject for subject in subjects if any(word in subject.name for word in words)]


@pytest.mark.parametrize("subject", list(one_for_each_rule(python_subjects())), ids=name)
def test_a_planted_bug_is_found_and_its_case_fails_again(subject: Subject) -> None:
    result = hunt(subject, budget=60)
    assert result.finding is not None, f"not found in {result.runs} runs"
    assert result.fails_again


@pytest.mark.skipif(not shutil.which("node"), reason="no Node here")
@pytest.mark.parametrize("subject", those(node_subjects(), NODE), ids=name)
def test_in_another_language_too(subject: Subject) -> None:
    result = hunt(subject, budget=60)
    assert result.finding is not None, f"not found in {result.runs} runs"
    assert result.fails_again


@pytest.mark.parametrize("subject", those(python_subjects(), LEGAL), ids=name)
def test_a_legal_client_is_cleared(subject: Subject) -> None:
    result = hunt(subject, seed=4711, budget=120, max_runs=RUNS)
    assert result.finding is None, str(result.finding)
    assert result.runs == RUNS

"""Reports as JUnit XML, which CI systems read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, TypeVar
from xml.etree import ElementTree

from mockserver.reporting.rule import RuleFacts

MAX_MESSAGES = 5  # findings whose messages are in a failure's attribute; its text has all


class RuleFinding(Protocol):
    """What the findings of every report have."""

    @property
    def rule(self) -> str:
        """The code of the rule."""

    @property
    def message(self) -> str:
        """What broke it."""


F = TypeVar("F", bound=RuleFinding)


class JUnitCase(NamedTuple):
    """A test case. `failure` is its type, message and text; the others are texts, if not empty."""

    name: str
    failure: tuple[str, str, str] | None = None
    error: str = ""
    skipped: str = ""
    output: str = ""


def rule_cases(
    rules: Iterable[RuleFacts],
    failed: Sequence[F],
    passed: Sequence[F],
    describe: Callable[[F], str],
) -> Iterator[JUnitCase]:
    """A test case for each rule; the findings in `passed` are its output, and do not fail it."""
    for rule in rules:
        broken = [finding for finding in failed if finding.rule == rule.code]
        message = " ".join(finding.message for finding in broken[:MAX_MESSAGES])
        text = "\n\n".join(map(describe, broken))
        yield JUnitCase(
            f"{rule.code} {rule.title}",
            failure=(rule.code, message, text) if broken else None,
            output="\n\n".join(describe(other) for other in passed if other.rule == rule.code),
        )


def junit_xml(command: str, title: str, cases: Iterable[JUnitCase], seconds: float) -> bytes:
    """A test suite of `mockserver COMMAND`. `title` is its whole command, `seconds` wall time."""
    cases = list(cases)
    suite = ElementTree.Element(
        "testsuite",
        name=printable(title),
        tests=str(len(cases)),
        failures=str(sum(case.failure is not None for case in cases)),
        errors=str(sum(bool(case.error) for case in cases)),
        skipped=str(sum(bool(case.skipped) for case in cases)),
        time=f"{seconds:.3f}",
    )
    for case in cases:
        _add_case(suite, f"mockserver.{command}", case)
    content = ElementTree.tostring(suite, encoding="unicode").encode()
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + content


def _add_case(suite: ElementTree.Element, classname: str, case: JUnitCase) -> None:
    element = ElementTree.SubElement(
        suite, "testcase", classname=classname, name=printable(case.name)
    )
    if case.failure is not None:
        kind, message, text = case.failure
        failure = ElementTree.SubElement(element, "failure", type=kind, message=printable(message))
        failure.text = printable(text)
    if case.error:
        ElementTree.SubElement(element, "error", message=printable(case.error))
    if case.skipped:
        ElementTree.SubElement(element, "skipped", message=printable(case.skipped))
    if case.output:
        ElementTree.SubElement(element, "system-out").text = printable(case.output)


def printable(text: str) -> str:
    """Text in which each character that XML 1.0 does not allow is replaced."""
    return "".join(letter if _is_xml(letter) else "\ufffd" for letter in text)


def _is_xml(letter: str) -> bool:
    return (
        letter in "\t\n"
        or " " <= letter <= "\ud7ff"
        or "\ue000" <= letter <= "\ufffd"
        or letter > "\uffff"
    )

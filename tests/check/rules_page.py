"""Writes docs/rules.md from the registry of rules, with what is shown of a client that breaks each: `make rules`.

python -m tests.check.rules_page [--all]
"""

import argparse
import sys
from collections.abc import Iterator

from mockserver import MockServer
from mockserver.check.report.findings import describe
from mockserver.check.webhook_receivers import check_receiver
from mockserver.cli.rules import every_rule
from mockserver.conformance.verify_terminal import describe as describe_departure
from mockserver.reporting.rule import RuleFacts
from tests.check.bench import hunt, python_subjects, shared_subjects
from tests.check.receiver import SECRET, WebhookReceiver
from tests.conformance.bench import SPEND, TOKEN, verified
from tests.conformance.gateways import CONTRACT, PLANTED, Departing, standing
from tests.helpers.pages import ROOT

PAGE = ROOT / "docs" / "rules.md"
MARK = "<!-- What follows is written by `make rules`. -->\n"
WIDTH, LENGTH = 150, 18  # characters, lines
RECEIVERS = {
    "MC601": "one signature only",
    "MC602": "looks at the key's id only",
    "MC603": "verifies nothing",
    "MC604": "ignores the time",
    "MC605": "stumbles over duplicates",
}


def heading(rule: RuleFacts) -> str:
    return f"## {rule.code} {rule.title}"


def section(rule: RuleFacts, shown: str) -> str:
    """The section of a rule; `shown` is what is shown of one who breaks it."""
    warning = (
        "This is a warning: it is printed, and does not fail. "
        if rule.severity == "warning"
        else ""
    )
    text = f"{heading(rule)}\n\n{rule.demand}\n\n{warning}It rests on {rule.rests_on}.\n\n**Breaks it:** {rule.example}\n"
    text += f"\n**Fix:** {rule.fix}\n" if rule.fix else ""
    return text + (f"\n```text\n{shown}\n```\n" if shown else "")


def shown_in(page: str, rule: RuleFacts) -> str:
    """What a page shows of one who breaks a rule."""
    _, _, rest = page.partition(heading(rule) + "\n")
    own = rest.partition("\n## ")[0]
    return own.partition("```text\n")[2].rpartition("\n```")[0]


def written(page: str, shown: dict[str, str]) -> str:
    """A page with the sections of all rules, and what stands above them left as it is."""
    return (
        page.partition(MARK)[0]
        + MARK
        + "\n"
        + "\n".join(section(rule, shown[rule.code]) for rule in every_rule().values())
    )


def trimmed(shown: str) -> str:
    """What a reader needs of it: not what the section has said already, nor the middle of long lines and long lists."""
    lines = [line if len(line) <= WIDTH else line[:WIDTH] + "…" for line in shown.splitlines()]
    lines = [line for line in lines if not line.startswith("  Rests on:")]
    if len(lines) > LENGTH:
        lines = [*lines[: LENGTH // 2], "      […]", *lines[-LENGTH // 3 :]]
    return "\n".join(lines).rstrip()


def example(rule: RuleFacts) -> str:
    """What is shown of one who breaks a rule: of the first planted bug for which it is the only one."""
    if rule.code.startswith("MC6"):
        return "\n".join(_receiver(rule.code))
    if rule.code.startswith("MC7"):
        return _departure(rule.code)
    for subject in (*python_subjects(), *shared_subjects()):
        if subject.rules == {rule.code}:
            finding = hunt(subject, budget=60).finding
            return describe(finding) if finding is not None and finding.rule == rule.code else ""
    return ""


def _receiver(code: str) -> Iterator[str]:
    with WebhookReceiver(RECEIVERS[code]) as receiver:
        for reaction in check_receiver(receiver.url, SECRET, CONTRACT):
            if not reaction.ok and reaction.message.rule == code:
                expected = "2xx" if reaction.message.must_accept else "a refusal"
                yield f"{code}  {reaction.message.description}: {reaction.status}; expected {expected}"


def _departure(code: str) -> str:
    planted = next(each for each in PLANTED if each.rule == code)
    with (
        MockServer() as double,
        standing(Departing(double.url, planted.change, planted.prepare)) as backend,
    ):
        report = verified(backend.url, SPEND)
    found = [*report.findings, *report.warnings]
    return describe_departure(next(each for each in found if each.rule == code))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--all", action="store_true", help="show anew what is shown already (minutes)"
    )
    anew = parser.parse_args().all
    page = PAGE.read_text()
    shown = {}
    for code, rule in every_rule().items():
        kept = "" if anew else shown_in(page, rule)
        print(code, "kept" if kept else "…", file=sys.stderr)
        shown[code] = kept or trimmed(example(rule).replace(TOKEN, "…"))
    PAGE.write_text(written(page, shown))


if __name__ == "__main__":
    main()

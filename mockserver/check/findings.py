"""What a hunt has found, as values: findings with their smallest case, and the report that holds them."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import msgspec

from mockserver.check.cases import Case, Run
from mockserver.check.formatting import Line, ending_of, format_exchanges, lines_of, situation
from mockserver.check.rule import RULES, Breach, Severity
from mockserver.errors import MockServerError
from mockserver.journal import shortened_secret

FOLDER = Path(".mockserver")


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that a client broke, with the smallest case that shows it.

    `call` holds model and input, `scenario` how the gateway behaved, `exchanges` what went over the wire, `outcome`
    how the call ended. `confirmed` counts the runs of this very case that broke the rule.
    """

    rule: str
    title: str
    severity: Severity
    message: str
    rests_on: str
    call: dict[str, Any]
    scenario: dict[str, Any]
    clock: Literal["autojump", "real"] = "autojump"
    client_timeout: float | None = None
    exchanges: tuple[Line, ...] = ()
    outcome: str = ""
    confirmed: int = 1

    @property
    def case(self) -> Case:
        """The case, to be played again."""
        return Case(model=self.call["model"], input=self.call["input"], scenario=self.scenario, clock=self.clock)

    @property
    def file_name(self) -> str:
        """What the finding is saved as: the same name for the same case."""
        return f"{self.rule}-{blake2b(self.case.key, digest_size=2).hexdigest()}.json"

    @classmethod
    def of(cls, breach: Breach, run: Run, confirmed: int) -> Finding:
        """The finding that a run is."""
        rule = RULES[breach.rule]
        return cls(
            rule=breach.rule,
            title=rule.title,
            severity=breach.severity or rule.severity,
            message=breach.message.replace(run.token, shortened_secret(run.token)),
            rests_on=rule.rests_on,
            call={"model": run.case.model, "input": run.case.input},
            scenario=run.case.scenario,
            clock=run.case.clock,
            client_timeout=run.client_timeout,
            exchanges=tuple(lines_of(run, breach.indexes)),
            outcome=ending_of(run),
            confirmed=confirmed,
        )

    def save(self, folder: Path) -> Path:
        """Write the finding down, for `mockserver replay` and `mockserver serve --scenario`."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / self.file_name
            path.write_bytes(msgspec.json.format(msgspec.json.encode(self)) + b"\n")
        except OSError as reason:
            raise MockServerError(f"cannot save a finding in {folder}: {reason.strerror}") from reason
        return path

    @classmethod
    def read(cls, path: Path) -> Finding:
        """A finding that was saved. Raises MockServerError."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except OSError as reason:
            raise MockServerError(f"cannot read {path}: {reason.strerror}") from reason
        except (msgspec.DecodeError, UnicodeDecodeError) as reason:
            raise MockServerError(f"{path} is not a finding of `mockserver check`: {reason}") from reason


class FindingsError(AssertionError):
    """A client broke rules. The message is the report."""


class Report(msgspec.Struct, kw_only=True):
    """What a hunt came to.

    `findings` are errors, `advice` is not. `accepted` are the findings that a baseline knows, `fixed` the rules that
    it knows and that were not broken any more. `flaky` rules were broken once and not again; `undecided` counts runs
    that were still waiting, as they may, when their time was over. `seconds` is wall time.
    """

    findings: list[Finding] = []
    advice: list[Finding] = []
    accepted: list[Finding] = []
    fixed: list[str] = []
    flaky: list[str] = []
    undecided: int = 0
    runs: int = 0
    max_runs: int = 0
    seconds: float = 0
    seed: int = 0
    models: tuple[str, ...] = ()
    interrupted: bool = False

    @property
    def ok(self) -> bool:
        """Whether no rule was broken that is more than advice."""
        return not self.findings

    def raise_for_findings(self) -> None:
        """Raise FindingsError, with everything that was found, if anything was."""
        if not self.ok:
            raise FindingsError("\n\n" + "\n\n".join(map(describe, self.findings)))


def describe(finding: Finding, replay: str = "") -> str:
    """A finding as a person wants to read it."""
    confirmed = {1: "once", 2: "twice"}.get(finding.confirmed, f"{finding.confirmed} times")
    lines = [
        f"{finding.rule}  {finding.title}  [{finding.severity}]",
        f"  {finding.message}",
        f"  Smallest case, confirmed {confirmed}: {situation(finding.scenario, finding.call['input'], finding.clock)}.",
        "",
        *format_exchanges(finding.exchanges),
        f"     client  {finding.outcome}",
        "",
        f"  Rests on: {finding.rests_on}.",
    ]
    return "\n".join([*lines, f"  Replay:   {replay}"] if replay else lines)

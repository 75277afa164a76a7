"""Findings with their smallest cases, and the report of a hunt: plain values."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Literal

import msgspec

from mockserver.check.model import Case, Run
from mockserver.check.report.text import (
    Line,
    describe_case,
    describe_ending,
    exchange_lines,
    format_exchanges,
)
from mockserver.check.rules.registry import RULES
from mockserver.check.rules.rule import Breach
from mockserver.errors import MockServerError
from mockserver.redaction import redacted
from mockserver.reporting.old_names import with_new_names
from mockserver.reporting.rule import Severity
from mockserver.reporting.terminal import print_error, visible

FOLDER = Path(".mockserver")


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that a client broke, with the smallest case that shows it.

    `cause` distinguishes the ways in which a rule was broken. `call` has the model and the input,
    `scenario` the gateway's behavior, `outcome` how the call ended. With `tls` the gateway was
    served over https. `concurrent` is the number of simultaneous calls, `confirmed` the number of
    runs of this case that broke the rule. `words` are what to look for in the exchanges.
    """

    rule: str
    title: str
    severity: Severity
    message: str
    cause: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    rests_on: str
    call: dict[str, Any]
    scenario: dict[str, Any]
    clock: Literal["autojump", "real"] = "autojump"
    client_timeout: float | None = None
    tls: bool = False
    concurrent: int = 1
    exchanges: tuple[Line, ...] = ()
    outcome: str = ""
    confirmed: int = 1

    @property
    def case(self) -> Case:
        """The case, for a replay."""
        return Case(
            model=self.call["model"],
            input=self.call["input"],
            scenario=self.scenario,
            clock=self.clock,
            concurrent=self.concurrent,
        )

    @property
    def breach(self) -> Breach:
        """The breach, without its run."""
        return Breach(self.rule, self.severity, self.message, cause=self.cause)

    @property
    def file_name(self) -> str:
        """The file name for the finding, which depends on its cause and case only."""
        what = self.case.key + " ".join(self.cause).encode()
        return f"{self.rule}-{blake2b(what, digest_size=2).hexdigest()}.json"

    @property
    def fix(self) -> str:
        """What usually fixes such a client; empty for a rule that does not exist any more."""
        return RULES[self.rule].fix if self.rule in RULES else ""

    @classmethod
    def of(cls, breach: Breach, run: Run, confirmed: int) -> Finding:
        """The finding for a breach in a run."""
        rule = RULES[breach.rule]
        return cls(
            rule=breach.rule,
            title=rule.title,
            severity=breach.severity,
            message=redacted(breach.message, run.token),
            cause=breach.cause,
            words=tuple(redacted(word, run.token) for word in breach.words if word),
            rests_on=rule.rests_on,
            call={"model": run.case.model, "input": run.case.input},
            scenario=run.case.scenario,
            clock=run.case.clock,
            client_timeout=run.client_timeout,
            tls=run.tls,
            concurrent=run.case.concurrent,
            exchanges=tuple(exchange_lines(run, breach.indexes)),
            outcome=describe_ending(run),
            confirmed=confirmed,
        )

    def save(self, folder: Path) -> Path:
        """Save the finding, for `mockserver replay` and `mockserver serve --scenario`."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / self.file_name
            path.write_bytes(msgspec.json.format(msgspec.json.encode(self)) + b"\n")
        except OSError as reason:
            raise MockServerError(
                f"cannot save a finding in {folder}: {reason.strerror}"
            ) from reason
        return path

    @classmethod
    def read(cls, path: Path) -> Finding:
        """Read a saved finding. Raises MockServerError."""
        try:
            return msgspec.convert(with_new_names(msgspec.json.decode(path.read_bytes())), cls)
        except OSError as reason:
            raise MockServerError(f"cannot read {path}: {reason.strerror}") from reason
        except (msgspec.DecodeError, UnicodeDecodeError) as reason:
            raise MockServerError(
                f"{path} is not a finding of `mockserver check`: {reason}"
            ) from reason


def folder_problem(folder: Path = FOLDER) -> str | None:
    """Why findings cannot be saved in a folder, if they cannot."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            return None
    except OSError as reason:
        return f"cannot save findings in {folder}: {reason.strerror}"


def save_all(findings: Iterable[Finding], folder: Path) -> None:
    """Save findings; if that fails, print the reason, since the findings are shown anyway."""
    for finding in findings:
        try:
            finding.save(folder)
        except MockServerError as reason:
            print_error(str(reason))
            break


class FindingsError(AssertionError):
    """A client broke rules. The message is the report."""


class Report(msgspec.Struct, kw_only=True):
    """The result of a hunt.

    `findings` are errors, `warnings` are not. `accepted` are the findings that the baseline has,
    `fixed` the rules that only the baseline has. `flaky` rules were broken once, but not when the
    case was repeated; `unconfirmed` ones when no time was left to repeat it; `not_looked_for` were
    ignored. `overloaded` counts the cases that could not be judged because the machine was too
    busy, `undecided` the runs that reached the deadline without breaking a rule. `untested` counts
    the runs in which the client sent nothing, not even for the plain call afterwards;
    `client_error` is its error message then. `seconds` is wall time. With `process_per_call` each
    call started a new process. `command` is the client's command line, `command_line` that of the
    whole check, `flags` are those that a replay needs. `client_version` names the client, if known.
    """

    findings: list[Finding] = []
    warnings: list[Finding] = []
    accepted: list[Finding] = []
    fixed: list[str] = []
    flaky: list[str] = []
    unconfirmed: list[str] = []
    not_looked_for: tuple[str, ...] = ()
    undecided: int = 0
    overloaded: int = 0
    untested: int = 0
    client_error: str = ""
    runs: int = 0
    max_runs: int = 0
    seconds: float = 0
    seed: int = 0
    models: tuple[str, ...] = ()
    interrupted: bool = False
    process_per_call: bool = False
    command: str = ""
    command_line: str = ""
    flags: str = ""
    tool: str = f"mockserver {metadata.version('flux-mockserver')}"
    client_version: str = ""
    contract: str = ""
    date: str = ""

    @property
    def versions(self) -> str:
        """The versions of client, mockserver and contract, and the date."""
        return " · ".join(filter(None, (self.client_version, self.tool, self.contract, self.date)))

    @property
    def shown_command(self) -> str:
        """The command line of the check, without its flags if they are not known."""
        return self.command_line or f"mockserver check -- {self.command}"

    def replay_of(self, finding: Finding) -> str:
        """The command that replays a finding; empty if the client is a function."""
        if not self.command:
            return ""
        flags = f"{self.flags} " if self.flags else ""
        return f"mockserver replay {flags}{FOLDER / finding.file_name} -- {self.command}"

    @property
    def advice(self) -> list[Finding]:
        """The old name of `warnings`."""
        return self.warnings

    @property
    def broken_rules(self) -> list[str]:
        """The codes of the rules that were broken, without warnings, in order."""
        return sorted({finding.rule for finding in self.findings})

    @property
    def ok(self) -> bool:
        """Whether the hunt was not interrupted, and broke no rule except for warnings."""
        return not self.findings and not self.interrupted

    def raise_for_findings(self) -> None:
        """Raise FindingsError if there are findings, KeyboardInterrupt if it was interrupted."""
        if self.findings:
            raise FindingsError("\n\n" + "\n\n".join(map(describe, self.findings)))
        if self.interrupted:
            raise KeyboardInterrupt


def describe(finding: Finding, replay: str = "") -> str:
    """A finding as text. `replay` is the command that replays it."""
    confirmed = {1: "once", 2: "twice"}.get(finding.confirmed, f"{finding.confirmed} times")
    case = describe_case(finding.case)
    lines = [
        f"{finding.rule}  {finding.title}  [{finding.severity}]",
        f"  {finding.message}",
        f"  Smallest case, confirmed {confirmed}: {case}.",
        "",
        *format_exchanges(finding.exchanges),
        f"     client  {finding.outcome}",
        "",
        f"  Rests on: {finding.rests_on}.",
    ]
    lines += [f"  Replay:   {replay}"] if replay else []
    return "\n".join(map(visible, lines))  # a line break of a client's begins no line of ours


MAX_CAUSES = 5  # of one rule that are reported

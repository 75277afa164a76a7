"""One operation of the contract: its requests, its responses, and what the double does for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from itertools import islice
from typing import Any, NamedTuple

import jsonschema_rs
import msgspec

from mockserver.contract.violations import (
    MAX_VIOLATIONS,
    Violation,
    in_order,
    violation_of,
    violations_of,
)


class Role(NamedTuple):
    """What the double does for an operation: its `x-mock-role`.

    `family` is the name of all operations of the role in scenarios; without one, each has its
    operationId. `commits` says whether the operation creates or changes something, so that its
    response can be lost after that.
    """

    name: str
    family: str | None = None
    commits: bool = False


ROLES = {
    role.name: role
    for role in (
        Role("create", family="createPrediction", commits=True),
        Role("get", family="getPrediction"),
        Role("cancel", family="cancelPrediction", commits=True),
        Role("list", family="listPredictions"),
        Role("stream"),
        Role("deliver"),
        Role("view"),
        Role("model"),
        Role("list-versions"),
        Role("version"),
        Role("webhook-secret"),
        Role("upload", commits=True),
        Role("list-files"),
        Role("get-file"),
        Role("delete-file", commits=True),
        Role("download"),
    )
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A path, query or header parameter; `key` is its name in a parsed request."""

    name: str
    key: str
    where: str
    required: bool
    convert: Callable[[str], Any]
    validator: jsonschema_rs.Validator

    def check(self, text: str | None) -> list[Violation]:
        """The violations of the parameter's value; None stands for a missing one."""
        pointer = {"query": f"?{self.name}", "path": f"{{{self.name}}}"}.get(
            self.where, f"{self.name}:"
        )
        if text is None:
            if not self.required:
                return []
            message, allowed = f"{self.name} is required", f"a value for {self.name}"
            return [Violation(pointer, "required", self.name, message, "nothing", allowed)]

        value = self.convert(text)
        if self.validator.is_valid(value):
            return []
        return [
            violation_of(error, pointer, self.name) for error in self.validator.iter_errors(value)
        ]


@dataclass(frozen=True)
class Operation:
    """One method and path of the contract.

    `responses` holds the validators of bodies, by status and media type (None without a schema).
    `optional` are the names of the parameters, as bytes, if all are optional headers; else None.
    `model`, `input`, `defaults`, `picture` and `logs` are set for the role `create`, unless the
    body of a request names the model; so are `known`, the names of the inputs, and `images`, the
    names of those that are pictures.
    """

    operation_id: str
    method: str
    path: str
    role: str | None
    document: Mapping[str, Any]
    parameters: tuple[Parameter, ...]
    body: Mapping[str, jsonschema_rs.Validator] | None
    body_required: bool
    responses: Mapping[int, Mapping[str, jsonschema_rs.Validator | None]]
    public: bool
    max_body: int
    optional: frozenset[bytes] | None = None
    images: frozenset[str] = frozenset()
    known: frozenset[str] = frozenset()
    model: str | None = None
    input: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    picture: Mapping[str, Any] = field(default_factory=dict)
    logs: Mapping[str, str] = field(default_factory=dict)

    @property
    def family(self) -> str:
        """Its name in scenarios, where every model's create is a `createPrediction`."""
        role = ROLES.get(self.role or "")
        return self.operation_id if role is None or role.family is None else role.family

    @property
    def commits(self) -> bool:
        """Whether it creates or changes something."""
        return self.role in ROLES and ROLES[self.role].commits

    @cached_property
    def version(self) -> str:
        """The id of its model's only version: 64 hexadecimal digits, a hash of the inputs."""
        return sha256(msgspec.json.encode([self.model, self.input])).hexdigest()

    @cached_property
    def success(self) -> int:
        """The status that the contract lists first for success."""
        return next(status for status in self.responses if 200 <= status < 300)

    @cached_property
    def has_body(self) -> bool:
        """Whether a successful response has a body that is sent in one piece."""
        return (
            self.role != "stream" and self.method != "HEAD" and bool(self.responses[self.success])
        )

    def ends_like(self, path: str) -> bool:
        """Whether a path is the operation's own without a part of its beginning."""
        pieces = self.path.split("/")[1:]
        patterns = ["[^/]+" if "{" in piece else re.escape(piece) for piece in pieces]
        return any(
            "{" not in pieces[skipped] and re.fullmatch("/" + "/".join(patterns[skipped:]), path)
            for skipped in range(1, len(pieces))
        )

    def check_body(self, media_type: str, value: object, *, vast: bool = False) -> list[Violation]:
        """The violations of a request's decoded body; only the first, if the body is vast."""
        assert self.body is not None
        validator = self.body[media_type]
        if validator.is_valid(value):
            return []
        if vast:
            try:
                validator.validate(value)
            except jsonschema_rs.ValidationError as error:
                first = next(violations_of(error, self.input))
                return [msgspec.structs.replace(first, fatal=True)]
        return _reported(
            violation
            for error in validator.iter_errors(value)
            for violation in violations_of(error, self.input)
        )

    def check_response(self, status: int, media_type: str, value: object) -> list[Violation]:
        """What a response has that the contract does not allow; pointers lead into its body."""
        content = self.responses.get(status)
        if content is None:
            listed = ", ".join(map(str, self.responses))
            message = f"{self.operation_id} has no response {status}"
            return [Violation("", "status", "status", message, str(status), listed)]
        if not content:
            return []
        if media_type not in content:
            media_type = media_type.partition(";")[0]
            if media_type not in content:
                listed, header = ", ".join(content), "Content-Type"
                message = f"{self.operation_id} answers {status} with {listed}, not {media_type}"
                return [Violation(f"{header}:", "media_type", header, message, media_type, listed)]

        validator = content[media_type]
        if validator is None or validator.is_valid(value):
            return []
        return [
            violation_of(error) for error in islice(validator.iter_errors(value), MAX_VIOLATIONS)
        ]


def _reported(violations: Iterator[Violation]) -> list[Violation]:
    """As many violations as are reported of one request, among them a fatal one if there is any."""
    reported = list(islice(violations, MAX_VIOLATIONS))
    if len(reported) == MAX_VIOLATIONS and not any(violation.fatal for violation in reported):
        reported += islice((violation for violation in violations if violation.fatal), 1)
    return in_order(reported)

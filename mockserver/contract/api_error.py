"""The API's errors, in its two dialects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from mockserver.contract.violations import Violation

Dialect = Literal["replicate", "new-api"]
# Accepted for one release in flags, scenarios and the names of a contract's examples.
FORMER_DIALECTS: dict[str, Dialect] = {"upstream": "replicate", "gateway": "new-api"}


class ApiError(Exception):
    """The API refuses a request.

    `detail` and `title` replace those of the contract's example for `status`; `hint` is appended to
    the former. `example` is the suffix of that example's name, where the contract has one for this
    reason.
    """

    def __init__(
        self,
        status: int,
        detail: str | None = None,
        *,
        title: str | None = None,
        hint: str | None = None,
        example: str | None = None,
        violations: Sequence[Violation] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, detail or hint)
        self.status = status
        self.detail = detail
        self.title = title
        self.hint = hint
        self.example = example
        self.violations = violations
        self.headers = dict(headers or {})


def validation_error(violations: Sequence[Violation]) -> ApiError:
    """A 422 that lists every violation, one per line, as Replicate does."""
    lines = [
        f"{violation.field}: {violation.description}".removeprefix(": ") for violation in violations
    ]
    return ApiError(422, "".join(f"- {line}\n" for line in lines), violations=violations)


def error_body(template: Mapping[str, Any], dialect: Dialect, reason: ApiError) -> dict[str, Any]:
    """The body of an error: the contract's example, with the details of this request."""
    if dialect == "new-api":
        error = dict(template["error"])
        error["message"] = _sentence(error["message"], reason)
        if reason.violations:
            error["param"] = reason.violations[0].field
            error["metadata"] = {
                "invalid_fields": [v.as_invalid_field() for v in reason.violations]
            }
        return {**template, "error": error}

    body = {**template, "detail": _sentence(template["detail"], reason)}
    if reason.title is not None:
        body["title"] = reason.title
    if reason.violations:
        body["invalid_fields"] = [violation.as_invalid_field() for violation in reason.violations]
    return body


def _sentence(default: str, reason: ApiError) -> str:
    detail = reason.detail or default
    if not reason.hint:
        return detail
    stop = "" if detail.endswith((".", "!", "?")) else "."
    return f"{detail}{stop} {reason.hint}"

"""A request held against the contract."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from mockserver.backend.backend import Backend
from mockserver.contract.api_error import ApiError, validation_error
from mockserver.contract.operation import Operation
from mockserver.contract.violations import MAX_VIOLATIONS, Violation
from mockserver.http.request import ReceivedRequest
from mockserver.json_text import MAX_SHOWN, cut, shorten

MAX_COMMAS = 10_000  # in a body; it may have as many violations, and each takes its time


class ValidatedRequest(msgspec.Struct, frozen=True):
    """What the contract says of a request: its violations, and its refusal, if it is refused."""

    violations: Sequence[Violation] = ()
    refusal: ApiError | None = None


VALID = ValidatedRequest()


class _Refused(Exception):
    """Ends a validation: the error to send, and the violations that are its reason."""

    def __init__(self, error: ApiError, *violations: Violation) -> None:
        self.error = error
        self.violations = violations


def without_one_host() -> ValidatedRequest:
    """A request that does not say which server it is for (RFC 9112, 3.2)."""
    message = "A request has one Host header."
    violation = Violation("Host:", "host", "Host", message, "none or several", "one")
    return ValidatedRequest((violation,), ApiError(400, hint=message))


def with_several_authorizations() -> ValidatedRequest:
    """A request that may name several tenants."""
    message = "A request has at most one Authorization header."
    violation = Violation(
        "Authorization:", "authorization", "Authorization", message, "several", "at most one"
    )
    return ValidatedRequest((violation,), ApiError(400, hint=message))


def validate(backend: Backend, operation: Operation, request: ReceivedRequest) -> ValidatedRequest:
    """Hold a request against its operation. What is tolerated is a violation, but no refusal."""
    violations: list[Violation] = []
    try:
        if not operation.public:
            violations += _check_token(backend, request)
        if request.body.size > operation.max_body:
            raise _too_large(operation, request)
        violations += _check_parameters(operation, request)
        if operation.body is not None:
            violations += _check_body(backend, operation, request)
    except _Refused as refused:
        return ValidatedRequest((*violations, *refused.violations), refused.error)

    if not violations:
        return VALID
    fatal = [violation for violation in violations if violation.fatal or backend.options.strict]
    return ValidatedRequest(violations, validation_error(fatal) if fatal else None)


def _check_token(backend: Backend, request: ReceivedRequest) -> Sequence[Violation]:
    """What is wrong with the authorization but tolerated. Raises _Refused (401)."""
    authorization = request.headers.get(b"authorization")
    if authorization is None and not backend.options.require_auth:
        return ()
    scheme = (authorization or b"").partition(b" ")[0]
    if request.token is not None and scheme.lower() == b"bearer":
        return ()

    allowed = "Authorization: Bearer <token>"
    message = "The scheme must be Bearer, followed by a token"
    if authorization is None:
        message = "Authorization is required"
    # Replicate still accepts the scheme `Token`.
    tolerated = request.token is not None and not backend.options.strict
    violation = Violation(
        "Authorization:",
        "authorization",
        "Authorization",
        message,
        "nothing" if authorization is None else shorten(scheme.decode("latin-1")),
        allowed,
        fatal=not tolerated,
    )
    if tolerated:
        return (violation,)
    example = "missing" if authorization is None else None
    raise _Refused(ApiError(401, hint=f"Send {allowed}.", example=example), violation)


def _too_large(operation: Operation, request: ReceivedRequest) -> _Refused:
    size, limit = request.body.size, operation.max_body
    message = f"It has {size} bytes; at most {limit} are accepted."
    violation = Violation("", "body_too_large", "", message, f"{size} bytes", f"{limit}")
    return _Refused(ApiError(413, hint=message), violation)


def _check_parameters(operation: Operation, request: ReceivedRequest) -> Sequence[Violation]:
    """What is wrong with the parameters. Raises _Refused (404) for those of the path."""
    if (
        operation.optional is not None
        and operation.optional.isdisjoint(request.headers)
        and not request.query
    ):
        return ()

    violations: list[Violation] = []
    for parameter in operation.parameters:
        if parameter.where == "header":
            text = request.header(parameter.key.encode())
        elif parameter.where == "path":
            text = request.path_params.get(parameter.key)
        else:
            text = request.query_params.get(parameter.key)
        if text is not None or parameter.required:
            violations += parameter.check(text)
    if request.query_params:
        violations += _unknown_parameters(operation, request)

    for violation in violations:
        if violation.pointer.startswith("{"):
            hint = f"{violation.field}: {violation.description}."
            raise _Refused(ApiError(404, hint=hint), *violations)
    return violations


def _unknown_parameters(operation: Operation, request: ReceivedRequest) -> Sequence[Violation]:
    known = {parameter.name for parameter in operation.parameters}
    unknown = [name for name in request.query_params if name not in known]
    violations = []
    for name in unknown[:MAX_VIOLATIONS]:
        message = f"Query parameter {shorten(name)} is not known"
        field, value = cut(name, MAX_SHOWN), shorten(request.query_params[name])
        violations.append(
            Violation(f"?{field}", "unknown_parameter", field, message, value, "none", fatal=False)
        )
    return violations


def _check_body(
    backend: Backend, operation: Operation, request: ReceivedRequest
) -> Sequence[Violation]:
    """What is wrong with the body. Raises _Refused (400, 415, 422)."""
    assert operation.body is not None
    content = request.body.content
    if not content:
        if not operation.body_required:
            return ()
        accepted = " or ".join(operation.body)
        message = f"The body is empty; send {accepted}."
        violation = Violation("", "empty_body", "", message, "nothing", accepted)
        raise _Refused(ApiError(400, hint=message), violation)

    media_type = _check_media_type(operation.body, request)
    if "json" not in media_type:
        return ()
    try:
        value = request.body.json()
    except ValueError as reason:
        message = f"The request body is {reason}."
        size = f"{request.body.size} bytes"
        violation = Violation("", "invalid_json", "", message, size, "valid JSON")
        raise _Refused(ApiError(400, message), violation) from reason

    vast = len(content) > MAX_COMMAS and content.count(b",") > MAX_COMMAS
    violations = operation.check_body(media_type, value, vast=vast)
    model = operation
    if operation.role == "create" and operation.model is None:  # the body names the model
        if any(violation.pointer in ("", "/version", "/input") for violation in violations):
            return violations
        model = _model_of_version(backend, operation, value)
        violations += model.check_body(media_type, {"input": value["input"]}, vast=vast)
    has_input = not violations or all(
        violation.pointer not in ("", "/input") for violation in violations
    )
    if model.images and has_input:
        violations += backend.check_images(model, value["input"])
    return violations


def _check_media_type(accepted: Collection[str], request: ReceivedRequest) -> str:
    """The media type of a body. Raises _Refused (415)."""
    media_type = request.header(b"content-type") or ""
    if media_type in accepted:
        return media_type
    media_type = media_type.partition(";")[0].strip().lower()
    if media_type in accepted:
        return media_type
    allowed = " or ".join(accepted)
    sent = shorten(media_type) if media_type else "without a Content-Type"
    message = f"Send the body as {allowed}; it was sent {sent}."
    violation = Violation("Content-Type:", "media_type", "Content-Type", message, sent, allowed)
    raise _Refused(ApiError(415, hint=message), violation)


def _model_of_version(backend: Backend, operation: Operation, value: Any) -> Operation:
    """The operation of the model that a create by version names. Raises _Refused (422)."""
    model = backend.contract.model_asked(operation, value)
    if model is not None:
        return model
    known = ", ".join(backend.contract.models)
    message = "The specified version does not exist"
    sent = shorten(value["version"])
    violation = Violation("/version", "version", "version", message, sent, known)
    error = ApiError(422, hint=f"The contract's models are {known}.", example="version")
    raise _Refused(error, violation)

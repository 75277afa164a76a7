"""A request held against the contract."""

from __future__ import annotations

from mockserver.backend.backend import Backend
from mockserver.contract.api_error import ApiError, validation_error
from mockserver.contract.operation import Operation
from mockserver.contract.violations import MAX_VIOLATIONS, Violation
from mockserver.http.request import Request
from mockserver.json_text import MAX_SHOWN, cut, read_json, shorten

MAX_COMMAS = 10_000  # commas in a body, which may have as many faults; each takes its time


def validate(backend: Backend, operation: Operation, request: Request) -> None:
    """Hold the request against the contract. Raises ApiError; leaves what is tolerated in `violations`."""
    noted: list[Violation] = []
    if not operation.public and not request.headers.get(b"authorization", b"").startswith(
        b"Bearer "
    ):
        noted = request.violations = _check_token(backend, request)
    if request.body_size > operation.max_body:
        said = f"It has {request.body_size} bytes; at most {operation.max_body} are taken."
        raise _refused(
            request,
            413,
            "body_too_large",
            "",
            said,
            f"{request.body_size} bytes",
            f"{operation.max_body}",
        )
    found = noted + _check_parameters(operation, request)
    if found:
        request.violations = found
        if any(violation.pointer.startswith("{") for violation in found):
            raise ApiError(404, hint=f"{found[0].field}: {found[0].description}.")
    if operation.body is not None:
        found += _check_body(backend, operation, request)
    if not found:
        return
    request.violations = found
    fatal = [violation for violation in found if violation.fatal or backend.options.strict]
    if fatal:
        raise validation_error(fatal)


def no_single_host(request: Request) -> ApiError:
    """The refusal of a request of which nobody can say which server it is for (RFC 9112, 3.2)."""
    said = "A request has one Host header."
    return _refused(request, 400, "host", "Host:", said, "none or several", "one")


def _check_token(backend: Backend, request: Request) -> list[Violation]:
    """What is wrong with the authorisation but tolerated. Raises ApiError (401) for what is not."""
    sent = request.header(b"authorization")
    if sent is None and not backend.options.require_auth:
        return []
    scheme = (sent or "").partition(" ")[0]
    if request.token is not None and scheme.lower() == "bearer":
        return []
    right = "Authorization: Bearer <token>"
    said = (
        "Authorization is required"
        if sent is None
        else "The scheme must be Bearer, followed by a token"
    )
    shown = "nothing" if sent is None else shorten(scheme)
    tolerated = (
        request.token is not None and not backend.options.strict
    )  # `Token`, which upstream still takes
    fault = Violation(
        "Authorization:", "authorization", "Authorization", said, shown, right, fatal=not tolerated
    )
    if tolerated:
        return [fault]
    request.violations = [fault]
    raise ApiError(401, hint=f"Send {right}.", example="missing" if sent is None else None)


def _check_parameters(operation: Operation, request: Request) -> list[Violation]:
    if (
        operation.optional is not None
        and operation.optional.isdisjoint(request.headers)
        and not request.query
    ):
        return []
    query = request.query_params
    found: list[Violation] = []
    for parameter in operation.parameters:
        if parameter.where == "header":
            text = request.header(parameter.key.encode())
        else:
            text = (request.path_params if parameter.where == "path" else query).get(parameter.key)
        if text is not None or parameter.required:
            found += parameter.check(text)
    if not query:
        return found
    known = {parameter.name for parameter in operation.parameters}
    for name in [name for name in query if name not in known][:MAX_VIOLATIONS]:
        said = f"Query parameter {shorten(name)} is not known"
        shown = cut(name, MAX_SHOWN)
        found.append(
            Violation(
                f"?{shown}",
                "unknown_parameter",
                shown,
                said,
                shorten(query[name]),
                "none",
                fatal=False,
            )
        )
    return found


def _check_body(backend: Backend, operation: Operation, request: Request) -> list[Violation]:
    assert operation.body is not None
    if not request.body:
        if operation.body_required:
            taken = " or ".join(operation.body)
            raise _refused(
                request,
                400,
                "empty_body",
                "",
                f"The body is empty; send {taken}.",
                "nothing",
                taken,
            )
        return []
    media_type = request.header(b"content-type") or ""
    if media_type not in operation.body:
        media_type = media_type.partition(";")[0].strip().lower()
        if media_type not in operation.body:
            taken = " or ".join(operation.body)
            said = shorten(media_type) if media_type else "without a Content-Type"
            hint = f"Send the body as {taken}; it came {said}."
            raise _refused(request, 415, "media_type", "Content-Type:", hint, said, taken)
    if "json" not in media_type:
        request.value = request.body
        return []
    try:
        request.value = read_json(request.body)
    except ValueError as reason:
        said = f"The request body is {reason}."
        broken = Violation("", "invalid_json", "", said, f"{request.body_size} bytes", "valid JSON")
        request.violations = [*request.violations, broken]
        raise ApiError(400, said) from reason
    vast = request.body.count(b",") > MAX_COMMAS
    found = operation.check_body(media_type, request.value, vast=vast)
    model = operation
    if operation.role == "create" and operation.model is None:
        if any(violation.pointer in ("", "/version", "/input") for violation in found):
            return found
        model = _model_of_version(backend, operation, request)
        found += model.check_body(media_type, {"input": request.value["input"]}, vast=vast)
    if model.images and not any(violation.pointer in ("", "/input") for violation in found):
        found += backend.check_images(model, request.value["input"])
    return found


def _model_of_version(backend: Backend, operation: Operation, request: Request) -> Operation:
    """The model that a create by version is about. Raises ApiError (422)."""
    model = backend.contract.model_asked(operation, request.value)
    if model is None:
        known = ", ".join(backend.contract.models)
        sent = shorten(request.value["version"])
        fault = Violation(
            "/version", "version", "version", "The specified version does not exist", sent, known
        )
        request.violations = [*request.violations, fault]
        raise ApiError(422, hint=f"The contract's models are {known}.", example="version")
    return model


def _refused(
    request: Request, status: int, kind: str, pointer: str, said: str, sent: str, allowed: str
) -> ApiError:
    """A refusal of a request as a whole, which is also written down as a violation."""
    request.violations = [
        *request.violations,
        Violation(pointer, kind, pointer.rstrip(":"), said, sent, allowed),
    ]
    return ApiError(status, hint=said)

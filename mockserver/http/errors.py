"""Errors as the API sends them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from mockserver.contract.api_error import ApiError, Dialect, error_body
from mockserver.contract.contract import Contract
from mockserver.contract.operation import Operation
from mockserver.contract.violations import Violation
from mockserver.http.channel import CLOSE, JSON, NO_RESPONSE, Response
from mockserver.http.handlers.context import Handled
from mockserver.http.request import ReceivedRequest
from mockserver.redaction import redacted
from mockserver.reporting.terminal import print_error


def error_response(
    contract: Contract,
    operation: Operation | None,
    error: ApiError,
    dialect: Dialect,
    request: ReceivedRequest | None = None,
) -> Handled:
    """An error in the contract's words; the token of the request, if repeated, is shown in part.

    Clients log errors, and an error may quote what was sent.
    """
    media_type, template = contract.error_template(operation, error.status, dialect, error.example)
    value = error_body(template, dialect, error)
    if request is not None and request.token:
        value = redacted(value, request.token)
    headers = tuple((name.encode(), text.encode()) for name, text in error.headers.items())
    unread = request is not None and request.body.refusal is error
    if error.status == 413 or unread:  # the connection is of no use while a body is on its way
        headers = (*headers, CLOSE)
    return Handled(Response(error.status, msgspec.json.encode(value), media_type, headers), value)


def unmatched(
    contract: Contract, operations: Mapping[str, Operation], request: ReceivedRequest
) -> ApiError:
    """Why no operation of the contract matches; `operations` are those of the path, by method."""
    if not operations:
        return ApiError(404, hint=contract.explain_unknown(request.method, request.path))
    methods = [
        f"{method} ({operation.document.get('summary', 'no summary')})"
        for method, operation in operations.items()
    ]
    return ApiError(
        405,
        f'Method "{request.method}" not allowed.',
        hint=f"Allowed: {', '.join(methods)}.",
        headers={"Allow": ", ".join(operations)},
    )


def checked(operation: Operation, request: ReceivedRequest, handled: Handled) -> Handled:
    """The response, if the contract allows it; else an error of the double in its place."""
    response = handled.response
    if response.status == NO_RESPONSE:
        return handled
    violations = operation.check_response(response.status, response.content_type, handled.value)
    if not violations:
        return handled
    return _invalid_response(operation, request, response.status, violations[0])


def _invalid_response(
    operation: Operation, request: ReceivedRequest, status: int, violation: Violation
) -> Handled:
    """What stands in for a response that would break the contract."""
    message = redacted(
        f"{operation.operation_id} {status} at {violation.pointer or '/'}: "
        f"{violation.description}; sent {violation.sent}, allowed: {violation.allowed}",
        request.token or "",
    )
    print_error(f"refused to send a response that breaks the contract: {message}")
    value = {
        "title": "Internal server error",
        "detail": f"The double was about to break its contract. {message}",
        "status": 500,
    }
    return Handled(Response(500, msgspec.json.encode(value), JSON), value)

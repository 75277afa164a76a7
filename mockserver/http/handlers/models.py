"""Models and their versions; and the contract's examples, for operations without a role."""

from __future__ import annotations

import msgspec

from mockserver.contract.api_error import ApiError
from mockserver.contract.model_info import describe_model, describe_version
from mockserver.contract.operation import Operation
from mockserver.http.channel import Response
from mockserver.http.handlers.context import Context, json_response
from mockserver.json_text import shorten


async def model(context: Context) -> Response:
    """What is known of a model."""
    return json_response(context, describe_model(context.backend.contract, _model_in_path(context)))


async def list_versions(context: Context) -> Response:
    """The versions of a model, of which there is one."""
    found = describe_version(context.backend.contract, _model_in_path(context))
    return json_response(
        context, {"previous": None, "next": None, "results": [found] if found else []}
    )


async def version(context: Context) -> Response:
    """The version of a model."""
    found = describe_version(context.backend.contract, _model_in_path(context))
    asked = context.request.path_params["version_id"]
    if found is None or found["id"] != asked:
        raise ApiError(404, hint=f"The model has no version {shorten(asked)}.")
    return json_response(context, found)


def _model_in_path(context: Context) -> Operation:
    """The create of the model that a path names. Raises ApiError (404)."""
    known, asked = context.backend.contract.models, context.request.path_params
    operation = known.get(f"{asked['model_owner']}/{asked['model_name']}")
    if operation is None:
        raise ApiError(404, hint=f"The contract's models are {', '.join(known)}.")
    return operation


async def example(context: Context) -> Response:
    """The contract's example, for an operation without a role."""
    found = context.backend.contract.example(context.operation)
    assert found is not None  # the contract was refused otherwise
    status, media_type, value = found
    body = msgspec.json.encode(value) if "json" in media_type else str(value or "").encode()
    return Response(status, body, media_type, value=value if "json" in media_type else None)

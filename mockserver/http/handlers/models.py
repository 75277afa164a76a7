"""Models and their versions; and the contract's examples, for operations without a role."""

from __future__ import annotations

import msgspec

from mockserver.contract.api_error import ApiError
from mockserver.contract.model_info import describe_model, describe_version
from mockserver.contract.operation import Operation
from mockserver.http.channel import Response
from mockserver.http.handlers.context import Context, Handled, json_response
from mockserver.json_text import shorten


async def model(context: Context) -> Handled:
    """Describe a model."""
    return json_response(context, describe_model(context.backend.contract, _model_in_path(context)))


async def list_versions(context: Context) -> Handled:
    """The versions of a model, of which there is one."""
    described = describe_version(context.backend.contract, _model_in_path(context))
    results = [described] if described else []
    return json_response(context, {"previous": None, "next": None, "results": results})


async def version(context: Context) -> Handled:
    """The version of a model."""
    described = describe_version(context.backend.contract, _model_in_path(context))
    identifier = context.request.path_params["version_id"]
    if described is None or described["id"] != identifier:
        raise ApiError(404, hint=f"The model has no version {shorten(identifier)}.")
    return json_response(context, described)


def _model_in_path(context: Context) -> Operation:
    """The create of the model that a path names. Raises ApiError (404)."""
    known, path = context.backend.contract.models, context.request.path_params
    operation = known.get(f"{path['model_owner']}/{path['model_name']}")
    if operation is None:
        raise ApiError(404, hint=f"The contract's models are {', '.join(known)}.")
    return operation


async def send_example(context: Context) -> Handled:
    """The contract's example, for an operation without a role."""
    example = context.backend.contract.example(context.operation)
    assert example is not None  # the contract was refused otherwise
    status, media_type, value = example
    if "json" in media_type:
        return Handled(Response(status, msgspec.json.encode(value), media_type), value)
    return Handled(Response(status, str(value or "").encode(), media_type))

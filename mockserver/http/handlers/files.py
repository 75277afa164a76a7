"""Files: uploaded, listed, read, deleted, downloaded."""

from __future__ import annotations

from hmac import compare_digest

from mockserver.backend.files import StoredFile, signature_of
from mockserver.backend.journal import ANONYMOUS
from mockserver.clock import MILLISECOND, SECOND
from mockserver.contract.api_error import ApiError
from mockserver.http.channel import Response
from mockserver.http.handlers.context import Context, Handled, json_response
from mockserver.http.uploads import read_upload
from mockserver.http.webhooks import secret_of


async def store_file(context: Context) -> Handled:
    """Store a file."""
    body = context.request.body.content
    with context.backend.store.holding(2 * len(body)):  # as a form, and as what is read from it
        upload = await read_upload(context.request.header(b"content-type") or "", body)
    tenant = context.tenant
    now = tenant.clock.now() // MILLISECOND * MILLISECOND
    file = StoredFile(tenant.next_file_id(), upload, now)
    context.backend.store.put_file(tenant, file)
    return json_response(context, file.as_json(_file_url(context, file)), committed=True)


async def list_files(context: Context) -> Handled:
    """The files, newest first."""
    now = context.tenant.clock.now()
    files = [file for file in reversed(context.tenant.files.values()) if not file.expired(now)]
    results = [file.as_json(_file_url(context, file)) for file in files]
    return json_response(context, {"previous": None, "next": None, "results": results})


async def get_file(context: Context) -> Handled:
    """Describe a file."""
    file = context.backend.find_file(context.tenant, context.request.path_params["file_id"])
    return json_response(context, file.as_json(_file_url(context, file)))


async def delete_file(context: Context) -> Handled:
    """Delete a file."""
    file = context.backend.find_file(context.tenant, context.request.path_params["file_id"])
    context.tenant.files.remove(file.id)
    return Handled(Response(context.operation.success), committed=True)


async def download(context: Context) -> Handled:
    """A file's content, as an attachment: a browser must not show what somebody uploaded."""
    if context.request.token is None and context.tenant.name != ANONYMOUS:
        _check_signature(context)
    file = context.backend.find_file(context.tenant, context.request.path_params["file_id"])
    headers = ((b"content-disposition", b"attachment"), (b"x-content-type-options", b"nosniff"))
    media_type = "application/octet-stream"
    return Handled(
        Response(context.operation.success, file.content, media_type, headers, kept=True)
    )


def _check_signature(context: Context) -> None:
    """Make sure that the URL is signed, and has not expired. Raises ApiError (404)."""
    owner, expiry, signature = (
        context.request.query_params.get(name, "") for name in ("owner", "expiry", "signature")
    )
    file_id = context.request.path_params["file_id"]
    expected = signature_of(secret_of(context.tenant), owner, file_id, expiry)
    if not compare_digest(signature.encode(), expected.encode()):
        raise ApiError(
            404, hint="Send the token that uploaded it, or a URL with a valid signature."
        )
    if context.tenant.clock.now() >= int(expiry) * SECOND:
        raise ApiError(404, hint="The URL has expired.")


def _file_url(context: Context, file: StoredFile) -> str:
    (reader,) = context.backend.contract.of_role("get-file")
    return context.request.base_url + reader.path.replace("{file_id}", file.id)

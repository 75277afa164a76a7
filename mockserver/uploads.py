"""The multipart form by which a client uploads a file."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from mockserver.errors import ApiError, validation_error
from mockserver.violations import Violation, read_json, shorten


class _InMemory(MultiPartParser):
    spool_max_size = 1 << 30  # what a client sends never reaches the file system


async def read_upload(content_type: str, body: bytes) -> tuple[str, str, bytes, bytes]:
    """Name, content type, content and metadata (JSON) of an upload. Raises ApiError (400, 422)."""

    async def stream() -> AsyncIterator[bytes]:
        yield body

    try:
        headers = Headers({"content-type": content_type})
        form = await _InMemory(headers, stream(), max_files=2, max_fields=1000).parse()  # type: ignore[arg-type]
    except (MultiPartException, LookupError, ValueError) as reason:
        missing = "the boundary is missing" if isinstance(reason, KeyError) else str(reason)
        raise _not_a_form(getattr(reason, "message", missing)) from reason
    try:
        content, metadata = form.get("content"), form.get("metadata", "{}")
        if not isinstance(content, UploadFile):
            said, shown = "content is required, as a file", "nothing" if content is None else "a field"
            raise validation_error([Violation("/content", "required", "content", said, shown, "a file")])
        kind = content.content_type or "application/octet-stream"
        name = content.filename or "file"
        (name + kind).encode()
        return name, kind, await content.read(), await _metadata(metadata)
    except UnicodeEncodeError as reason:
        raise _not_a_form(str(reason)) from reason
    finally:
        await form.close()


def _not_a_form(reason: str) -> ApiError:
    return ApiError(400, f"The body is not valid multipart/form-data: {reason}")


async def _metadata(sent: str | UploadFile) -> bytes:
    """Metadata may come as a field or, as some clients send it, as a file of JSON."""
    text = await sent.read() if isinstance(sent, UploadFile) else sent.encode()
    try:
        value = read_json(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        shown = shorten(text.decode("utf-8", "replace"))
        said = "metadata must be a JSON object"
        raise validation_error([Violation("/metadata", "invalid_type", "metadata", said, shown, "a JSON object")])
    return msgspec.json.encode(value)

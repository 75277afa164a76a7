"""The multipart form by which a client uploads a file."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from email.message import Message
from typing import Any, TypeVar

import msgspec
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from mockserver.backend.files import Upload
from mockserver.contract.api_error import ApiError, validation_error
from mockserver.contract.violations import Violation
from mockserver.json_text import read_json, shorten

MAX_METADATA = 8 * 1024  # bytes: a list shows those of a thousand files
MAX_NAME = 1024  # characters of a file's name, of its content type, and of the form's
LARGE = 64 * 1024  # bytes of a form that takes long enough to be read off the event loop
T = TypeVar("T")
# The parser logs what is wrong with a form; the client is sent that anyway.
for _name in ("python_multipart", "multipart"):
    logging.getLogger(_name).addHandler(logging.NullHandler())


class _InMemory(MultiPartParser):
    spool_max_size = 1 << 30  # bytes: what a client sends never reaches the file system
    max_file_size = spool_max_size  # as older Starlettes call it


async def read_upload(content_type: str, body: bytes) -> Upload:
    """The file in a form. Raises ApiError (400, 422)."""
    if len(body) <= LARGE:
        return _read(content_type, body)
    return await asyncio.to_thread(_read, content_type, body)


def _read(content_type: str, body: bytes) -> Upload:
    async def stream() -> AsyncIterator[bytes]:
        yield body

    if len(content_type) > MAX_NAME:  # reading its parameters takes the square of its length
        raise _not_a_form(f"its Content-Type has more than {MAX_NAME} characters")
    # Python's email package, which reads the Content-Type here and in the parser, raises various
    # errors for parameters in the form of RFC 2231: of unknown charsets, or out of order.
    try:
        if not _is_whole(content_type, body):  # the parser would not close the last part's file
            raise _not_a_form("it ends before its closing boundary")
        headers = Headers({"content-type": content_type})
        form = _result_of(_InMemory(headers, stream(), max_files=2, max_fields=1000).parse())  # type: ignore[arg-type]
    except (MultiPartException, LookupError, TypeError, ValueError) as reason:
        missing = "the boundary is missing" if isinstance(reason, KeyError) else str(reason)
        raise _not_a_form(getattr(reason, "message", missing)) from reason
    try:
        return _upload_in(form)
    except UnicodeEncodeError as reason:
        raise _not_a_form(str(reason)) from reason
    finally:
        _result_of(form.close())


def _is_whole(content_type: str, body: bytes) -> bool:
    message = Message()
    message["content-type"] = content_type
    boundary = message.get_boundary()
    return boundary is None or b"--" + boundary.encode("latin-1", "replace") + b"--" in body


def _result_of(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits: all that it reads is in memory."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise RuntimeError("the form was not in memory")


def _upload_in(form: FormData) -> Upload:
    content, metadata = form.get("content"), form.get("metadata", "{}")
    if not isinstance(content, UploadFile):
        message, sent = (
            "content is required, as a file",
            "nothing" if content is None else "a field",
        )
        violation = Violation("/content", "required", "content", message, sent, "a file")
        raise validation_error([violation])

    media_type = content.content_type or "application/octet-stream"
    name = content.filename or "file"
    (name + media_type).encode()  # raises UnicodeEncodeError for what is no text
    if max(len(name), len(media_type)) > MAX_NAME:
        raise _not_a_form(
            f"a file's name, and its content type, have at most {MAX_NAME} characters"
        )
    return Upload.of(name, media_type, content.file.read(), _metadata(metadata))


def _not_a_form(reason: str) -> ApiError:
    return ApiError(400, f"The body is not valid multipart/form-data: {reason}")


def _metadata(part: str | UploadFile) -> bytes:
    """Metadata as JSON. Some clients send it as a field, others as a file."""
    text = part.file.read(MAX_METADATA + 1) if isinstance(part, UploadFile) else part.encode()
    if len(text) > MAX_METADATA:
        raise _wrong_metadata(
            f"metadata has at most {MAX_METADATA} bytes", "more", f"{MAX_METADATA} bytes"
        )
    try:
        value = read_json(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise _wrong_metadata(
            "metadata must be a JSON object", shorten(text.decode("utf-8", "replace")), "an object"
        )
    return msgspec.json.encode(value)


def _wrong_metadata(message: str, sent: str, allowed: str) -> ApiError:
    violation = Violation("/metadata", "invalid_type", "metadata", message, sent, allowed)
    return validation_error([violation])

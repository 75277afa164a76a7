"""Files that clients upload, to be used as input."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from hashlib import md5, sha256
from typing import Any

import msgspec
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from mockserver.clock import SECOND, timestamp
from mockserver.errors import ApiError, validation_error
from mockserver.violations import Violation, read_json, shorten

LIFETIME = 24 * 3600 * SECOND  # nanoseconds


class StoredFile(msgspec.Struct, frozen=True, gc=False):
    """A file as it was uploaded; `created_at` is in nanoseconds since the epoch, `metadata` is JSON."""

    id: str
    name: str
    content_type: str
    content: bytes
    metadata: bytes
    created_at: int

    @property
    def etag(self) -> str:
        """A tag of the content."""
        return md5(self.content, usedforsecurity=False).hexdigest()

    @property
    def footprint(self) -> int:
        """Bytes that the file holds on to, about."""
        return len(self.content) + len(self.metadata) + len(self.name)

    def expired(self, now: int) -> bool:
        """Whether the file is gone at an instant of its tenant, in nanoseconds since the epoch."""
        return now - self.created_at >= LIFETIME

    def as_json(self, url: str) -> dict[str, Any]:
        """The file as the API tells of it, reachable at `url`."""
        return {
            "id": self.id,
            "name": self.name,
            "content_type": self.content_type,
            "size": len(self.content),
            "etag": self.etag,
            "checksums": {"sha256": sha256(self.content).hexdigest(), "md5": self.etag},
            "metadata": msgspec.json.decode(self.metadata),
            "created_at": timestamp(self.created_at),
            "expires_at": timestamp(self.created_at + LIFETIME),
            "urls": {"get": url},
        }


class _InMemory(MultiPartParser):
    spool_max_size = 1 << 30  # what a client sends never reaches the file system


async def read_upload(headers: Mapping[str, str], body: bytes) -> tuple[str, str, bytes, bytes]:
    """Name, content type, content and metadata (JSON) of an upload. Raises Refusal (400, 422)."""

    async def stream() -> AsyncIterator[bytes]:
        yield body

    try:
        form = await _InMemory(Headers(dict(headers)), stream(), max_files=2, max_fields=1000).parse()  # type: ignore[arg-type]
    except (MultiPartException, KeyError, UnicodeError, LookupError) as reason:
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

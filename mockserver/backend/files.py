"""Files that clients have uploaded, for use as input."""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from hashlib import blake2b, md5, sha256
from typing import Any
from uuid import UUID

import msgspec

from mockserver.backend.memory import FILE
from mockserver.clock import SECOND, timestamp

LIFETIME = 24 * 3600 * SECOND  # nanoseconds


def file_id(shard: str, key: bytes, number: int) -> str:
    """The `number`th id under `key`: a UUID in base64, as at Replicate, after the shard."""
    digest = blake2b(number.to_bytes(8, "big"), digest_size=16, key=key).digest()
    return b64encode((shard + str(UUID(bytes=digest, version=4))[len(shard) :]).encode()).decode()


def signature_of(secret: str, owner: str, identifier: str, expiry: str) -> str:
    """The signature of a URL that downloads a file.

    `secret` is the one that `GET …/webhooks/default/secret` returns, `expiry` in seconds.
    """
    signed = f"{owner} {identifier} {expiry}".encode()
    key = b64decode(secret.removeprefix("whsec_"))
    return b64encode(hmac.new(key, signed, sha256).digest()).decode()


class Upload(msgspec.Struct, frozen=True, gc=False):
    """What a client sent of a file; `metadata` is JSON."""

    name: str
    content_type: str
    content: bytes
    metadata: bytes
    md5: str
    sha256: str

    @classmethod
    def of(cls, name: str, content_type: str, content: bytes, metadata: bytes = b"{}") -> Upload:
        """An upload with its checksums: they are computed once, since files are listed often."""
        etag = md5(content, usedforsecurity=False).hexdigest()
        return cls(name, content_type, content, metadata, etag, sha256(content).hexdigest())


class StoredFile(msgspec.Struct, frozen=True, gc=False):
    """A file of a tenant; `created_at` is in nanoseconds since the epoch."""

    id: str
    upload: Upload
    created_at: int

    @property
    def content(self) -> bytes:
        """What it holds."""
        return self.upload.content

    def expired(self, now: int) -> bool:
        """Whether the file is gone at an instant of its tenant, in nanoseconds since the epoch."""
        return now - self.created_at >= LIFETIME

    def as_json(self, url: str) -> dict[str, Any]:
        """The file as the API describes it, reachable at `url`."""
        upload = self.upload
        return {
            "id": self.id,
            "name": upload.name,
            "content_type": upload.content_type,
            "size": len(upload.content),
            "etag": upload.md5,
            "checksums": {"sha256": upload.sha256, "md5": upload.md5},
            "metadata": msgspec.json.decode(upload.metadata),
            "created_at": timestamp(self.created_at),
            "expires_at": timestamp(self.created_at + LIFETIME),
            "urls": {"get": url},
        }


def file_footprint(file: StoredFile) -> int:
    """Bytes that a file of a tenant holds."""
    upload = file.upload
    texts = len(upload.metadata) + len(upload.name) + len(upload.content_type)
    return FILE + len(upload.content) + texts

"""Files that clients have uploaded, to be used as input."""

from __future__ import annotations

from hashlib import md5, sha256
from typing import Any

import msgspec

from mockserver.clock import SECOND, timestamp

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

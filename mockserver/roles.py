"""What an operation of the contract can have the double do: its `x-mock-role`."""

from __future__ import annotations

from typing import NamedTuple


class Role(NamedTuple):
    """One role.

    `handler` is the name of its function in `mockserver.api`. `family` is the name by which scenarios know all
    operations of the role; where there is none, each goes by its operationId. `commits` tells whether it creates or
    changes something, so that its response can be lost after that.
    """

    name: str
    handler: str
    family: str | None = None
    commits: bool = False


ROLES = {
    role.name: role
    for role in (
        Role("create", "create", family="createPrediction", commits=True),
        Role("get", "get", family="getPrediction"),
        Role("cancel", "cancel", family="cancelPrediction", commits=True),
        Role("list", "list_page", family="listPredictions"),
        Role("stream", "stream"),
        Role("deliver", "picture"),
        Role("view", "view"),
        Role("model", "model"),
        Role("list-versions", "list_versions"),
        Role("version", "version"),
        Role("webhook-secret", "webhook_secret"),
        Role("upload", "upload", commits=True),
        Role("list-files", "list_files"),
        Role("get-file", "get_file"),
        Role("delete-file", "delete_file", commits=True),
        Role("download", "download"),
    )
}

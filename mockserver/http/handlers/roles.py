"""The handler of each role that an operation of the contract can have."""

from __future__ import annotations

from mockserver.http.handlers import files, models, pictures, predictions
from mockserver.http.handlers.context import Handler

HANDLERS: dict[str | None, Handler] = {
    "create": predictions.create,
    "get": predictions.get,
    "cancel": predictions.cancel,
    "list": predictions.list_page,
    "stream": predictions.stream,
    "view": predictions.view,
    "webhook-secret": predictions.webhook_secret,
    "deliver": pictures.picture,
    "model": models.model,
    "list-versions": models.list_versions,
    "version": models.version,
    "upload": files.store_file,
    "list-files": files.list_files,
    "get-file": files.get_file,
    "delete-file": files.delete_file,
    "download": files.download,
    None: models.send_example,
}

"""The process: the double as a running server."""

from mockserver.server.mock_server import MockServer

__all__ = ["MockServer"]

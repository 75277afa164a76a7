"""The `mockserver` command."""

from mockserver.cli.entry import main

__all__ = ["main"]

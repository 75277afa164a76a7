"""The `mockserver` command."""

from __future__ import annotations

import errno
import os
import signal
import sys
from contextlib import suppress
from typing import Any

import click

from mockserver.cli import INTERRUPTED, exit_at_once
from mockserver.cli.check import check
from mockserver.cli.check_webhook import check_webhook
from mockserver.cli.proxy import proxy
from mockserver.cli.replay import replay
from mockserver.cli.rules import explain, rules
from mockserver.cli.run import run
from mockserver.cli.scenarios import scenarios
from mockserver.cli.serve import serve
from mockserver.cli.shards import shards
from mockserver.cli.verdict import verdict
from mockserver.cli.verify import verify
from mockserver.errors import MockServerError
from mockserver.reporting.terminal import print_error


class _Commands(click.Group):
    """Commands that report an error of the user's in one line, and exit with 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            # From here on a command may have something to clean up.
            if signal.getsignal(signal.SIGINT) is exit_at_once:
                signal.signal(signal.SIGINT, signal.default_int_handler)
            return super().invoke(ctx)
        except MockServerError as reason:
            print_error(str(reason))
            sys.exit(2)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command; report an output that cannot be written, and exit with 2 then."""
        try:
            try:
                return super().main(*args, **extra)
            finally:
                if sys.stdout is not None:
                    sys.stdout.flush()
        except OSError as reason:
            _discard_output()
            if reason.errno != errno.EPIPE:  # a closed pipe is usual, as with `| head`
                print_error(f"cannot write: {reason.strerror}")
            sys.exit(2)


def _discard_output() -> None:
    """Send standard output nowhere: Python would try again at exit, and report that it failed."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="flux-mockserver", prog_name="mockserver")
def main() -> None:
    """A local test double of the Replicate-style FLUX gateway.

    It answers as the gateway does, costs nothing, does not wait, and is the same on every run.
    """


for command in (
    serve,
    run,
    verdict,
    scenarios,
    check,
    replay,
    check_webhook,
    rules,
    explain,
    verify,
    proxy,
    shards,
):
    main.add_command(command)

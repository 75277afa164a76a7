"""What a server prints once it answers, beside what it is."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING

from mockserver.client import PREFIX
from mockserver.reporting.terminal import print_line

if TYPE_CHECKING:
    from mockserver.server.tls import Authority


def print_certificate(authority: Authority | None) -> None:
    """Say which file clients have to trust."""
    from mockserver.server.tls import CA_VARIABLES

    if authority:
        print_line(f"certificate for {', '.join(CA_VARIABLES)}: {authority.file}")


def print_network_warning(listeners: Sequence[socket.socket], admin_token: str | None) -> None:
    """Warn if other machines can reach the server.

    What counts is the address that is bound: `0`, `0.0.0.0` and `::0` all are every address.
    """
    for listener in listeners:
        address = str(listener.getsockname()[0])
        ip = ip_address(address.partition("%")[0])
        if ip.is_loopback:
            continue
        scope = f"all addresses ({address})" if ip.is_unspecified else address
        advice = "" if admin_token else f"; protect {PREFIX} with --admin-token SECRET"
        print_line(f"listening on {scope}: others on the network can reach it{advice}")

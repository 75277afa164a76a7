"""One POST to an address that a user or a client chose, with a deadline for all of it."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

OWN_ADDRESS = "not sent: the URL leads to this server itself"


def post(
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    seconds: float,
    *,
    own_port: int | None = None,
) -> tuple[int | None, str | None]:
    """The status of a receiver's response within some seconds of real time, or why there is none.

    Nothing is sent to `own_port` of this machine, where this server listens itself. Redirects are
    not followed, and the body of the response is not read.
    """
    overdue = threading.Event()
    try:
        parts = urlsplit(url)
        kind = _SecureConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(parts.netloc.rpartition("@")[2], timeout=seconds)
        # The connection's own timeout is for each read: a receiver that sends a byte a second would
        # never reach it.
        timer = threading.Timer(seconds, _hang_up, (connection, overdue))
        timer.start()
        try:
            connection.connect()
            if overdue.is_set():  # the time was over before there was a socket to close
                raise TimeoutError
            if own_port is not None and _leads_to(own_port, connection.sock):
                return None, OWN_ADDRESS
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("POST", target, body, dict(headers))
            return connection.getresponse().status, None
        finally:
            timer.cancel()
            connection.close()
    except (OSError, HTTPException, ValueError) as reason:
        if overdue.is_set() or isinstance(reason, TimeoutError):
            return None, f"no answer within {seconds:g} s"
        return None, str(reason) or type(reason).__name__


def _leads_to(own_port: int, connected: socket.socket) -> bool:
    """Whether a socket is connected to that port of this machine.

    The URL does not tell: a host has many spellings, and a name may resolve to any address.
    """
    host, port = connected.getpeername()[:2]
    if port != own_port:
        return False
    address = ip_address(host)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback or host == connected.getsockname()[0]


class _SecureConnection(HTTPSConnection):
    """One whose socket can be closed during the handshake, so that the deadline holds there too."""

    def connect(self) -> None:
        HTTPConnection.connect(self)
        context = ssl.create_default_context()
        self.sock = context.wrap_socket(
            self.sock, server_hostname=self.host, do_handshake_on_connect=False
        )
        self.sock.do_handshake()


def _hang_up(connection: HTTPConnection, overdue: threading.Event) -> None:
    overdue.set()
    if connection.sock is not None:
        with suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)

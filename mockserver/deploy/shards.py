"""Configurations for many doubles behind a load balancer, each with a part of the tenants.

They are made of the files in `templates/`, in which `@word` is replaced. Text between `@if tls` and
`@end` is for load balancers with TLS, text between `@if plain` and `@end` for the others.
"""

from __future__ import annotations

import re
import shlex
import string
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from textwrap import indent
from typing import Literal, NamedTuple

from mockserver.contract.contract import Contract
from mockserver.errors import MockServerError

Format = Literal["haproxy", "kubernetes", "compose"]
NAME = "mockserver"  # of doubles in containers, followed by a number
PORT = 3589  # of each of them
SEED = 1  # the same for all, so that a tenant is the same on any double
DRAIN = 30  # seconds
MAX_SERVERS = 1000  # as many as there are shards
# The path of the certificate within a container.
CERTIFICATE = {"kubernetes": "/etc/haproxy-tls/tls.pem", "compose": "/etc/haproxy-tls/tls.pem"}
_SERVER = re.compile(r"([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]):(\d{1,5})", re.ASCII)
_LISTEN = re.compile(r"([A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.]+\]|\*):(\d{1,5})", re.ASCII)
_POD = re.compile(r"([a-z][a-z0-9-]*)-(\d+)", re.ASCII)
_SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*", re.ASCII)
_WORD = re.compile(r"[\w./:@+-]+", re.ASCII)  # needs no quotes in any of the files


class Server(NamedTuple):
    """Where a double listens."""

    host: str
    port: int

    @property
    def name(self) -> str:
        """Its name in the load balancer."""
        return f"{self.host.strip('[]')}:{self.port}"


@dataclass(frozen=True)
class Deployment:
    """What a configuration is made for.

    `image` is the container image of the doubles, in formats that start containers. `public_url` is
    the address that clients use, `tls_cert` a file with a certificate and its key.
    """

    format: Format
    servers: str
    listen: str = f":{PORT}"
    tls_cert: str | None = None
    public_url: str | None = None
    image: str = NAME


class _Template(string.Template):
    delimiter = "@"


def configuration(deployment: Deployment, contract: Contract) -> str:
    """A configuration as text. Raises MockServerError."""
    for flag, value in (("--tls-cert", deployment.tls_cert), ("--image", deployment.image)):
        if value is not None and not _WORD.fullmatch(value):
            raise MockServerError(
                f"{flag} {value[:100]!r}: only letters, digits and ./:@+-_ are allowed"
            )
    if deployment.tls_cert and not deployment.public_url and deployment.format != "haproxy":
        raise MockServerError(
            "--tls-cert needs --public-url https://NAME too: the doubles speak http, and cannot "
            "know that their clients speak https"
        )

    servers = read_servers(deployment.servers, deployment.format)
    balancer = _balancer(deployment, servers, contract)
    if deployment.format == "haproxy":
        return balancer

    host, port = read_address(deployment.listen, _LISTEN, "--listen")
    if deployment.format == "kubernetes" and host:
        raise MockServerError(
            f"--listen {deployment.listen}: in Kubernetes it is only a port, such as :{PORT}"
        )
    command = _serve(deployment, "0.0.0.0", servers[0].port)  # noqa: S104 - within its container
    # Docker Compose replaces $VARIABLES, unless the dollar sign is doubled.
    escaped = balancer.replace("$", "$$") if deployment.format == "compose" else balancer
    return _filled(
        f"{deployment.format}.yaml",
        tls=bool(deployment.tls_cert),
        name=servers[0].host.rpartition("-")[0],
        count=len(servers),
        port=port,
        published=f"{host}:{port}:{port}" if host else f"{port}:{port}",
        server_port=servers[0].port,
        image=deployment.image,
        command=", ".join(f'"{word}"' for word in command),
        grace=DRAIN + 15,
        scheme="https" if deployment.tls_cert else "http",
        tls_cert=deployment.tls_cert,
        certificate=CERTIFICATE[deployment.format],
        doubles="\n".join(f"  {server.host}: *double" for server in servers),
        balancer=indent(escaped, "      " if deployment.format == "compose" else "    ").strip(),
    )


def read_servers(text: str, form: Format) -> list[Server]:
    """The doubles of `--servers`: HOST:PORT of each, or their number in formats that name them.

    Raises MockServerError.
    """
    if form != "haproxy" and text.isdecimal() and len(text) <= 4:
        text = ",".join(f"{NAME}-{number}:{PORT}" for number in range(int(text)))
    servers = [
        Server(*read_address(part.strip(), _SERVER, "--servers"))
        for part in text.split(",")
        if part.strip()
    ]
    if not 0 < len(servers) <= MAX_SERVERS:
        raise MockServerError(f"--servers: 1 to {MAX_SERVERS} of them are possible")
    if twice := [server for server in servers if servers.count(server) > 1]:
        raise MockServerError(f"--servers: {twice[0].name} stands there twice")
    if form != "haproxy":
        _check_started(servers, form)
    return servers


def read_address(text: str, pattern: re.Pattern[str], flag: str) -> tuple[str, int]:
    """Host and port. Raises MockServerError."""
    match = pattern.fullmatch(text)
    if not match or not 0 < int(match[2]) < 65536:
        expected = (
            f"[HOST]:PORT such as :{PORT}"
            if pattern is _LISTEN
            else f"HOST:PORT such as 127.0.0.1:{PORT}"
        )
        raise MockServerError(f"{flag} {text[:100]!r}: {expected} is needed")
    return match[1], int(match[2])


def _check_started(servers: Sequence[Server], form: Format) -> None:
    """Raise MockServerError unless one description of a container fits them all."""
    if len({server.port for server in servers}) > 1:
        raise MockServerError(f"--servers: under --format {form} all have one port")
    if form == "compose":
        if wrong := [server.host for server in servers if not _SERVICE.fullmatch(server.host)]:
            raise MockServerError(
                f"--servers: {wrong[0]} is not the name of a service; give names, or their number"
            )
        return

    pods = [_POD.fullmatch(server.host) for server in servers]
    expected = [f"{pods[0][1]}-{number}" if pods[0] else "" for number in range(len(servers))]
    if [server.host for server in servers] != expected:
        raise MockServerError(
            "--servers: the pods of a StatefulSet are called NAME-0, NAME-1 and so on; "
            f"give their number, or {NAME}-0:{PORT},{NAME}-1:{PORT}"
        )


def _serve(deployment: Deployment, host: str, port: int | str) -> list[str]:
    """The command that starts a double."""
    public = deployment.public_url
    if public is None and deployment.format == "kubernetes":
        public = f"http://{NAME}-balancer{deployment.listen}"
    public = public or ("https://NAME" if deployment.tls_cert else None)
    address = ["--host", host, "--port", str(port)]
    return [
        *("mockserver", "serve", *address, "--seed", str(SEED), "--drain", str(DRAIN)),
        *(["--public-url", public] if public else []),
    ]


def _balancer(deployment: Deployment, servers: Sequence[Server], contract: Contract) -> str:
    form = deployment.format
    listen = (
        deployment.listen
        if form == "haproxy"
        else f":{read_address(deployment.listen, _LISTEN, '--listen')[1]}"
    )
    read_address(listen, _LISTEN, "--listen")
    return _filled(
        "haproxy.cfg",
        tls=bool(deployment.tls_cert),
        count=len(servers),
        serve=shlex.join(_serve(deployment, "HOST", "PORT")),
        listen=listen,
        certificate=CERTIFICATE.get(form, deployment.tls_cert),
        of_prediction=_patterns(contract, "prediction_id"),
        of_file=_patterns(contract, "file_id"),
        servers="\n".join(
            f"    server {_label(server, form)} {_address(server, form)}" for server in servers
        ),
    )


def _label(server: Server, form: Format) -> str:
    return server.name if form == "haproxy" else server.host


def _address(server: Server, form: Format) -> str:
    if form == "kubernetes":
        # The full name: HAProxy's resolver does not append the system's search domains.
        service = server.host.rpartition("-")[0]
        return f'"{server.host}.{service}.${{NAMESPACE}}.svc.cluster.local:{server.port}"'
    return f"{server.host}:{server.port}"


def _patterns(contract: Contract, parameter: str) -> str:
    return " ".join(f"'{pattern}'" for pattern in public_paths(contract, parameter))


def public_paths(contract: Contract, parameter: str) -> list[str]:
    """Regular expressions of the paths that need no token, and have an id that names the shard."""
    paths = {
        operation.path
        for operation in contract.operations
        if operation.public and f"{{{parameter}}}" in operation.path
    }
    return sorted(f"^{'[^/]+'.join(map(re.escape, re.split(r'{[^}]+}', path)))}$" for path in paths)


def _filled(template: str, *, tls: bool, **values: object) -> str:
    text = resources.files("mockserver.deploy").joinpath("templates", template).read_text()
    for word, kept in (("tls", tls), ("plain", not tls)):
        text = re.sub(
            rf"^ *@if {word}\n(.*?)^ *@end\n", r"\1" if kept else "", text, flags=re.M | re.S
        )
    return _Template(text).substitute(values)

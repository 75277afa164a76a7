"""Options that several commands take, and the command class that shows them in groups."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from mockserver.clock import MODES
from mockserver.contract.api_error import FORMER_DIALECTS, Dialect
from mockserver.errors import MockServerError
from mockserver.scenarios.scenario import Urls

DEFAULT_PORT = 3589
PREFIX = "MOCKSERVER_"  # of the environment variables that set options
F = TypeVar("F", bound=Callable[..., Any])
Decorator = Callable[[Callable[..., None]], Callable[..., None]]

# Headings of the help.
NETWORK = "Network"
BEHAVIOR = "Behavior"
GATEWAY = "Gateway"
LIMITS = "Access and limits"
OUTPUT = "Output"


class Option(click.Option):
    """An option under a heading of the help; `old_flag` is a former name, which still works."""

    def __init__(
        self,
        *names: Any,
        group: str = "Options",
        old_flag: str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(*names, **settings)
        self.group = group
        self._old_flags = [] if old_flag is None else [old_flag]

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Have the parser know the old flag too, which no help shows."""
        visible = self.opts
        self.opts = [*visible, *self._old_flags]
        try:
            super().add_to_parser(parser, ctx)
        finally:
            self.opts = visible

    def get_help_extra(self, ctx: click.Context) -> Any:
        """What follows the text: not the range of a number, which an error names in time."""
        extra = super().get_help_extra(ctx)
        extra.pop("range", None)
        return extra


class Command(click.Command):
    """A command whose help has its options in groups, and says once how to set them otherwise."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each group under its heading, in the order in which the command declares them."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                groups.setdefault(getattr(parameter, "group", "Options"), []).append(record)

        for heading, records in groups.items():
            with formatter.section(heading):
                formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write how the environment sets options."""
        super().format_epilog(ctx, formatter)
        visible = [
            parameter
            for parameter in self.params
            if isinstance(parameter, click.Option) and not parameter.hidden
        ]
        settable = [parameter for parameter in visible if parameter.envvar]
        if not settable:
            return

        flag = settable[0].opts[0]
        text = f"Each option can be set in the environment, as {_variable(flag)} for {flag}"
        if others := [parameter.opts[0] for parameter in visible if not parameter.envvar]:
            text += f" (but not {', '.join(others)})"
        formatter.write_paragraph()
        formatter.write_text(text + ".")


def option(
    flag: str,
    *names: str,
    group: str,
    environment: bool = True,
    old_flag: str | None = None,
    **settings: Any,
) -> Callable[[F], F]:
    """A flag that an environment variable can set too: --ready-file is MOCKSERVER_READY_FILE."""
    has_default = settings.get("default") is not None and not settings.get("is_flag")
    settings.setdefault("show_default", has_default)
    settings.setdefault("cls", Option)
    if environment:
        flags = [flag] if old_flag is None else [flag, old_flag]
        settings.setdefault("envvar", [_variable(name) for name in flags])
    return click.option(flag, *names, group=group, old_flag=old_flag, **settings)


def _variable(flag: str) -> str:
    return PREFIX + flag.removeprefix("--").replace("-", "_").upper()


def apply_all(options: Sequence[Decorator]) -> Decorator:
    """One decorator of several, which the help shows in their order."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        for decorator in reversed(options):
            function = decorator(function)
        return function

    return decorate


def command_argument(function: Callable[..., None]) -> Callable[..., None]:
    """The words after `--`: the client to run."""
    return click.argument(
        "command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD..."
    )(function)


def _bytes_of(context: click.Context, parameter: click.Parameter, text: str) -> int:
    match = re.fullmatch(r"(\d{1,15})([KMG]?)(?:i?B)?", text, re.IGNORECASE)
    if match is None:
        raise click.BadParameter(f"{text!r} is not a size such as 512M")
    return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2].upper()]


def _default_max_memory() -> str:
    from mockserver.server.memory_limit import default_max_memory

    return str(default_max_memory())


_PATH_PREFIX = re.compile(r"/|(/[\w.~-]+)+/?", re.ASCII)
_URL = re.compile(r"https?://([\w.-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?(/[\w./~-]*)?", re.ASCII)


def _checked_url(context: click.Context, parameter: click.Parameter, url: str | None) -> str | None:
    if url is None:
        return None
    if not _URL.fullmatch(url.rstrip("/")):
        raise MockServerError(
            f"{parameter.opts[0]} {url}: an address such as https://double.example:8443 is needed"
        )
    return url.rstrip("/")


def _checked_prefix(
    context: click.Context, parameter: click.Parameter, prefix: str | None
) -> str | None:
    if prefix and not _PATH_PREFIX.fullmatch(prefix):
        raise MockServerError(f"{parameter.opts[0]} {prefix}: a path such as / or /v1 is needed")
    return prefix


def contract_option(group: str, purpose: str = "use", *, environment: bool = True) -> Decorator:
    """The contract."""
    return option(
        "--contract",
        group=group,
        environment=environment,
        type=click.Path(path_type=Path),
        metavar="FILE",
        help=f"OpenAPI 3.1 file to {purpose}, instead of the shipped contract.",
    )


def public_url_option(text: str, *, environment: bool = True) -> Decorator:
    """The address that clients use, where that is not the one listened on."""
    return option(
        "--public-url",
        group=NETWORK,
        environment=environment,
        metavar="URL",
        callback=_checked_url,
        help=text,
    )


admin_token_option = option(
    "--admin-token",
    group=LIMITS,
    metavar="SECRET",
    help="Require this secret, in X-Mock-Admin-Token, for /__admin.",
)
allow_empty_option = option(
    "--allow-empty",
    group=OUTPUT,
    environment=False,
    is_flag=True,
    help="Do not fail if no request was received.",
)
host_option = option(
    "--host",
    group=NETWORK,
    default="127.0.0.1",
    metavar="ADDRESS",
    help="Address to listen on.",
)
ready_file_option = option(
    "--ready-file",
    group=OUTPUT,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="JSON file to write once requests are served: url, port, pid and, with TLS, ca_file.",
)
har_option = option(
    "--har",
    group=OUTPUT,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="At exit, write all exchanges to this HTTP Archive, with secrets redacted.",
)
learn_option = option(
    "--learn",
    group=OUTPUT,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="At exit, write what the gateway did to this file, as a scenario for `serve`.",
)


class _DialectChoice(click.Choice):  # type: ignore[type-arg]  # not generic before click 8.2
    """The dialects of errors; their former names are accepted too, but not shown."""

    def convert(self, value: Any, param: Any, ctx: click.Context | None) -> Any:
        return super().convert(FORMER_DIALECTS.get(value, value), param, ctx)


tls_options = apply_all(
    (
        option(
            "--tls",
            group=NETWORK,
            is_flag=True,
            help="Serve https, with a certificate made for this run.",
        ),
        option(
            "--tls-name",
            "tls_names",
            group=NETWORK,
            metavar="NAME",
            multiple=True,
            help="Another host name for the certificate; repeatable.",
        ),
    )
)

# What a double does; `serve` and `run` take these.
serving_options = apply_all(
    (
        contract_option(BEHAVIOR, "serve"),
        option(
            "--scenario",
            group=BEHAVIOR,
            default="succeeded",
            metavar="NAME|FILE",
            help="How the gateway behaves; `mockserver scenarios` lists the names.",
        ),
        option(
            "--clock",
            group=BEHAVIOR,
            default="autojump",
            type=click.Choice(MODES),
            help="How time passes for predictions.",
        ),
        option(
            "--speed",
            group=BEHAVIOR,
            default=1.0,
            type=click.FloatRange(0, min_open=True),
            metavar="FACTOR",
            help="How much faster than real time the clock `real` runs.",
        ),
        option(
            "--seed",
            group=BEHAVIOR,
            default=lambda: secrets.randbelow(2**31),
            show_default=False,
            type=click.IntRange(0),
            metavar="N",
            help="Seed of ids, logs and pictures; random, and printed, if left out.",
        ),
        option(
            "--urls",
            group=BEHAVIOR,
            default="local",
            type=click.Choice(get_args(Urls)),
            help="Where urls.* in predictions point.",
        ),
        option(
            "--errors",
            group=BEHAVIOR,
            default="replicate",
            type=_DialectChoice(get_args(Dialect)),
            help="Dialect of error bodies.",
        ),
        option(
            "--require-auth",
            group=BEHAVIOR,
            is_flag=True,
            help="Refuse requests without a bearer token (401).",
        ),
        option(
            "--strict",
            group=BEHAVIOR,
            is_flag=True,
            help="Refuse unknown request fields (422) instead of only reporting them.",
        ),
        tls_options,
        option(
            "--also-at",
            group=NETWORK,
            metavar="PREFIX",
            callback=_checked_prefix,
            help="Serve the API under this prefix too; / serves it at /v1.",
        ),
        option(
            "--files",
            "files_origin",
            group=NETWORK,
            old_flag="--files-origin",
            default="same",
            type=click.Choice(("same", "separate")),
            help="Serve output files from the API's own origin or a separate one.",
        ),
        public_url_option("Base of the URLs in responses; that of the request if left out."),
        option(
            "--cors",
            group=NETWORK,
            metavar="ORIGIN",
            multiple=True,
            help="Allow browsers' requests from this origin, or *; repeatable.",
        ),
        option(
            "--webhook-allow",
            group=LIMITS,
            metavar="HOST",
            multiple=True,
            help="Send webhooks to this host too, not only to this machine; repeatable.",
        ),
        option(
            "--max-memory",
            group=LIMITS,
            default=_default_max_memory,
            show_default="1G, or half of what the process is allowed",
            metavar="SIZE",
            callback=_bytes_of,
            help="Approximate limit of the data kept for clients; the oldest is evicted.",
        ),
        admin_token_option,
    )
)

# How a gateway is reached; `run --proxy` and `proxy` take these.
gateway_ca_option = option(
    "--gateway-ca",
    group=GATEWAY,
    old_flag="--upstream-ca",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="CA certificate to verify the gateway with.",
)
insecure_option = option(
    "--insecure",
    group=GATEWAY,
    environment=False,
    is_flag=True,
    help="Allow plain http to a gateway on another machine.",
)
proxying_options = apply_all(
    (
        option(
            "--max-creates",
            group=GATEWAY,
            type=click.IntRange(0),
            metavar="N",
            help="Forward at most N creates; refuse the rest with 402.",
        ),
        option(
            "--rewrite-urls",
            group=GATEWAY,
            is_flag=True,
            help="Make urls.* in predictions point to the proxy.",
        ),
        gateway_ca_option,
        insecure_option,
    )
)


def base_path_option(group: str) -> Decorator:
    """What is added to the base URL that a client under test gets."""

    def without_slash(context: click.Context, parameter: click.Parameter, path: str) -> str:
        return (_checked_prefix(context, parameter, path) or "").rstrip("/")

    return option(
        "--base-path",
        group=group,
        default="",
        metavar="PATH",
        callback=without_slash,
        show_default=False,
        help="Append this to the client's base URL, as /v1 for clients that need it.",
    )


def color_option(function: Callable[..., None]) -> Callable[..., None]:
    """Whether output is colored: click strips colors unless the context says otherwise."""

    def choose(context: click.Context, parameter: click.Parameter, choice: str) -> None:
        context.color = {"always": True, "never": False}.get(choice, _color_of_environment())

    return option(
        "--color",
        group=OUTPUT,
        default="auto",
        type=click.Choice(("auto", "always", "never")),
        callback=choose,
        expose_value=False,
        help="Color the output; auto respects the terminal, NO_COLOR and FORCE_COLOR.",
    )(function)


def _color_of_environment() -> bool | None:
    """What NO_COLOR and FORCE_COLOR say, in this order as in Python itself; None without them."""
    if os.environ.get("NO_COLOR"):
        return False
    return True if os.environ.get("FORCE_COLOR") else None

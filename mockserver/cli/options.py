"""Options that several commands take."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click

from mockserver.clock import MODES
from mockserver.contract.api_error import FORMER_DIALECTS, Dialect
from mockserver.errors import MockServerError
from mockserver.scenarios.scenario import Urls

DEFAULT_PORT = 3589


def option(
    flag: str, *names: str, **settings: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A flag that an environment variable can set too: --ready-file is MOCKSERVER_READY_FILE."""
    variable = "MOCKSERVER_" + flag.removeprefix("--").replace("-", "_").upper()
    settings.setdefault(
        "show_default", settings.get("default") is not None and not settings.get("is_flag")
    )
    return click.option(flag, *names, envvar=variable, show_envvar=True, **settings)


def command_argument(function: Callable[..., None]) -> Callable[..., None]:
    """The words after `--`: the client to run."""
    return click.argument(
        "command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD..."
    )(function)


class _DialectChoice(click.Choice):  # type: ignore[type-arg]  # not generic before click 8.2
    """The dialects of errors; their former names are accepted too, but not shown."""

    def convert(self, value: Any, param: Any, ctx: click.Context | None) -> Any:
        return super().convert(FORMER_DIALECTS.get(value, value), param, ctx)


# What `serve` and `run` have in common.
SERVING = (
    option(
        "--contract",
        type=click.Path(path_type=Path),
        help="OpenAPI 3.1 file to serve; the shipped one if left out.",
    ),
    option(
        "--scenario",
        default="succeeded",
        help="How the gateway behaves: a scenario's name, or a file with one.",
    ),
    option(
        "--clock",
        default="autojump",
        type=click.Choice(MODES),
        help="How time passes for predictions.",
    ),
    option(
        "--speed",
        default=1.0,
        type=click.FloatRange(0, min_open=True),
        help="With --clock real: how many times faster.",
    ),
    option(
        "--seed",
        type=click.IntRange(0),
        help="Fixes ids, logs and pictures; drawn and printed if left out.",
    ),
    option("--require-auth", is_flag=True, help="Refuse requests without a bearer token (401)."),
    option("--strict", is_flag=True, help="Refuse unknown request fields too (422)."),
    option(
        "--urls",
        default="local",
        type=click.Choice(get_args(Urls)),
        help="Where urls.* in predictions point.",
    ),
    option(
        "--errors",
        default="replicate",
        type=_DialectChoice(get_args(Dialect)),
        help="The dialect of error bodies.",
    ),
    option("--tls", is_flag=True, help="Speak https, with a certificate made for this run."),
    option(
        "--tls-name",
        "tls_names",
        metavar="NAME",
        multiple=True,
        help="With --tls: a name that the certificate is for too; may be given again.",
    ),
    option(
        "--also-at",
        metavar="PREFIX",
        help="Answer the API's paths under this prefix too, instead of /replicate: with /, at /v1.",
    ),
    option(
        "--files-origin",
        default="same",
        type=click.Choice(("same", "separate")),
        help="Whether pictures come from the API's address or from a host of their own.",
    ),
    option(
        "--public-url",
        metavar="URL",
        help="Address in URLs handed out; the one the client used if left out.",
    ),
    option(
        "--webhook-allow",
        metavar="HOST",
        multiple=True,
        help="Let webhooks go to this host too, not only to this machine; may be given again.",
    ),
    option(
        "--max-memory",
        default="1G",
        metavar="SIZE",
        callback=lambda context, parameter, text: _bytes_of(text),
        help="Bytes held for clients at most, about; K, M and G are known. What is over is forgotten, or refused.",
    ),
    option(
        "--cors",
        metavar="ORIGIN",
        multiple=True,
        help="Let pages of this origin (or *) call the API from a browser; may be given again.",
    ),
    option(
        "--admin-token",
        metavar="SECRET",
        help="Answer /__admin only to those who send it as X-Mock-Admin-Token.",
    ),
)


def serving_options(function: Callable[..., None]) -> Callable[..., None]:
    """The flags that say how the double behaves."""
    for each in reversed(SERVING):
        function = each(function)
    return function


def server_settings(behavior: dict[str, Any]) -> dict[str, Any]:
    """Flags as the server takes them."""
    seed = behavior["seed"]
    return behavior | {
        "seed": secrets.randbelow(2**31) if seed is None else seed,
        "also_at": _checked_prefix("--also-at", behavior["also_at"]),
        "public_url": checked_url(behavior["public_url"]),
        "webhook_allow": tuple(name.lower() for name in behavior["webhook_allow"]),
    }


def _bytes_of(text: str) -> int:
    found = re.fullmatch(r"(\d{1,15})([KMG]?)(?:i?B)?", text, re.IGNORECASE)
    if found is None:
        raise click.BadParameter(f"{text!r} is no size such as 512M")
    return int(found[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[found[2].upper()]


_PREFIX = re.compile(r"/|(/[\w.~-]+)+/?", re.ASCII)
_ORIGIN = re.compile(r"https?://([\w.-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?(/[\w./~-]*)?", re.ASCII)


def checked_url(url: str | None) -> str | None:
    """The origin that `--public-url` names. Raises MockServerError."""
    if url is None:
        return None
    if not _ORIGIN.fullmatch(url.rstrip("/")):
        raise MockServerError(
            f"--public-url {url}: an address such as https://double.example:8443 is needed"
        )
    return url.rstrip("/")


def _checked_prefix(flag: str, prefix: str | None) -> str | None:
    if prefix is not None and not _PREFIX.fullmatch(prefix):
        raise MockServerError(f"{flag} {prefix}: a path such as / or /v1 is needed")
    return prefix


def base_path_option(function: Callable[..., None]) -> Callable[..., None]:
    """What is added to the base URL that a client under test is given."""

    def checked(context: click.Context, parameter: click.Parameter, path: str) -> str:
        return (_checked_prefix("--base-path", path) or "").rstrip("/") if path else ""

    return option(
        "--base-path",
        default="",
        metavar="PATH",
        callback=checked,
        show_default=False,
        help="What the base URL that CMD is given ends in after /replicate: /v1 for clients that want it.",
    )(function)


def learn_option(function: Callable[..., None]) -> Callable[..., None]:
    """The file that a scenario goes to."""
    said = "At the end, write what the gateway did as a scenario for `mockserver serve --scenario FILE`."
    return option("--learn", type=click.Path(path_type=Path), help=said)(function)


def har_option(function: Callable[..., None]) -> Callable[..., None]:
    """The file that all exchanges go to in the end."""
    said = "At the end, write all exchanges to this HTTP Archive (HAR 1.2), secrets in part."
    return option("--har", type=click.Path(path_type=Path), help=said)(function)


def color_option(function: Callable[..., None]) -> Callable[..., None]:
    """Whether output is coloured: click strips colours unless the context says otherwise."""

    def choose(context: click.Context, parameter: click.Parameter, choice: str) -> None:
        context.color = {"always": True, "never": False}.get(choice, _color_of_environment())

    return option(
        "--color",
        default="auto",
        type=click.Choice(("auto", "always", "never")),
        callback=choose,
        expose_value=False,
        help="Whether to colour; auto: on a terminal, unless NO_COLOR or FORCE_COLOR say otherwise.",
    )(function)


def _color_of_environment() -> bool | None:
    """What NO_COLOR and FORCE_COLOR ask for, the former first, as in Python itself; None if neither does."""
    if os.environ.get("NO_COLOR"):
        return False
    return True if os.environ.get("FORCE_COLOR") else None

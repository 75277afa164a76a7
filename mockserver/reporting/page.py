"""The frame of a report as one self-contained page of HTML."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256
from html import escape
from importlib import resources
from string import Template

from mockserver.reporting.rule import Severity


def render_shell(
    command: str,
    verdict: str,
    *,
    ok: bool,
    header: str,
    body: str,
    style: str,
    script: str = "",
) -> str:
    """The page of a report of `mockserver COMMAND`.

    `header` and `body` are HTML, `style` is CSS beside the frame's own. `script` is the only one
    that the page's policy lets run. The verdict is escaped here.
    """
    template = Template(resources.files("mockserver.reporting").joinpath("page.html").read_text())
    digest = b64encode(sha256(script.encode()).digest()).decode()
    return template.substitute(
        command=command,
        verdict=escape(verdict),
        kind="good" if ok else "bad",
        header=header,
        body=body,
        style=style,
        script_policy=f"; script-src 'sha256-{digest}'" if script else "",
        script=f"<script>{script}</script>\n" if script else "",
    )


def section(title: str, cards: Iterable[str]) -> str:
    """A heading with the cards below it; nothing if there are none."""
    content = "".join(cards)
    return f"<h2>{title}</h2>{content}" if content else ""


def card(severity: Severity, heading: str, content: str, anchor: str = "") -> str:
    """The card of one finding. `heading` and `content` are HTML, `anchor` is an escaped id."""
    name = f' id="{anchor}"' if anchor else ""
    return f'<article{name} class="{severity}"><h3>{heading}</h3>{content}</article>'

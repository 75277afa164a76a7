"""The pages of the documentation, and the blocks of code in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
SITE_PAGES = sorted((ROOT / "docs").glob("*.md"))
DEVELOPER_PAGES = [ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md"]
PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", *DEVELOPER_PAGES, *SITE_PAGES]
PAGES = [page for page in PAGES if page.exists()]
DOCUMENTATION = "\n\n".join(page.read_text() for page in PAGES)

_FENCE = re.compile(
    r"^(?:<!-- (?P<key>not run|tested by|same as|exits): (?P<value>[^\n]*?) -->\n)?"
    r'```(?P<language>[a-z]*)(?: title="(?P<title>[^"\n]+)")?\n(?P<text>.*?)^```$',
    re.M | re.S,
)


class Block(NamedTuple):
    """A block of code, with the options from the comment above it."""

    page: Path
    line: int
    language: str
    title: str
    text: str
    not_run: str = ""
    tested_by: str = ""
    same_as: str = ""
    exits: int = 0

    @property
    def place(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    text = page.read_text()
    blocks = []

    for match in _FENCE.finditer(text):
        options = {match["key"]: match["value"]} if match["key"] else {}
        blocks.append(
            Block(
                page,
                text.count("\n", 0, match.start("language")) + 1,
                match["language"],
                match["title"] or "",
                match["text"],
                options.get("not run", ""),
                options.get("tested by", ""),
                options.get("same as", ""),
                int(options.get("exits", 0)),
            )
        )

    return blocks


def table_of(heading: str) -> str:
    """The rows of the only table, on any page, whose header row starts with `heading`."""
    (table,) = re.findall(rf"^{re.escape(heading)}.*\n((?:\|.*\n)+)", DOCUMENTATION, re.M)
    return str(table)

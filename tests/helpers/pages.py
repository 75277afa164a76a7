"""The pages of the documentation, and the blocks of code in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
DOCUMENTATION = "\n\n".join(page.read_text() for page in PAGES)

_FENCE = re.compile(
    r"^(?:<!-- (?P<key>not run|tested by|same as|exits): (?P<value>[^\n]*?) -->\n)?"
    r'```(?P<language>[a-z]*)(?: title="(?P<title>[^"\n]+)")?\n(?P<text>.*?)^```$',
    re.M | re.S,
)


class Block(NamedTuple):
    """A block of code, and what the comment above it says of how it is tested."""

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
    found = []
    for match in _FENCE.finditer(text):
        marked = {match["key"]: match["value"]} if match["key"] else {}
        found.append(
            Block(
                page,
                text.count("\n", 0, match.start("language")) + 1,
                match["language"],
                match["title"] or "",
                match["text"],
                marked.get("not run", ""),
                marked.get("tested by", ""),
                marked.get("same as", ""),
                int(marked.get("exits", 0)),
            )
        )
    return found


def table_of(heading: str) -> str:
    """The rows of the one table whose head begins with this, on whichever page it stands."""
    (table,) = re.findall(rf"^{re.escape(heading)}.*\n((?:\|.*\n)+)", DOCUMENTATION, re.M)
    return str(table)

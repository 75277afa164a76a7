"""MkDocs hooks: add the pages and files from outside docs/, and complete the navigation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
PAGES = {
    "contracts/README.md": "contract.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "README.zh-CN.md": "zh-CN.md",
    "bench/README.md": "benchmarks.md",
    "bench/benchmark.md": "bench-peers.md",
    "bench/growth.md": "bench-growth.md",
    "bench/kit.md": "bench-kit.md",
    "bench/performance.md": "bench-performance.md",
    "bench/shards.md": "bench-shards.md",
}
FILES = (
    "Dockerfile",
    "compose.yaml",
    "bench/benchmark.svg",
    "bench/growth.svg",
    "contracts/openapi.yaml",
    "contracts/admin.yaml",
    "examples",
    "LICENSE",
    "SECURITY.md",
)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Drop missing pages from the navigation, and append pages that are not listed."""
    existing = {path.name for path in (ROOT / "docs").glob("*.md")} | set(PAGES.values())
    listed: set[str] = set()
    nav: list[Any] = []

    for entry in config.nav or []:
        ((title, pages),) = entry.items()
        if isinstance(pages, str):
            listed.add(pages)
            nav.append(entry)
        else:
            listed.update(map(_file, pages))
            nav.append({title: [page for page in pages if _file(page) in existing]})

    unlisted = {name for name in existing - listed if not name.startswith("bench-")}
    config.nav = nav + ([{"More": sorted(unlisted)}] if unlisted else [])
    return config


def _file(page: str | dict[str, str]) -> str:
    """The file of an entry in the navigation, which may have a title."""
    return page if isinstance(page, str) else next(iter(page.values()))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and files from outside docs/."""
    for source, name in PAGES.items():
        files.append(File.generated(config, name, content=(ROOT / source).read_text()))
    for source in FILES:
        path = ROOT / source
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            name = _published(str(file.relative_to(ROOT)))
            files.append(File.generated(config, name, content=file.read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite links to files outside docs/ to where the site publishes them."""
    by_name = {name: source for source, name in PAGES.items()}
    folder = (ROOT / by_name.get(page.file.src_uri, f"docs/{page.file.src_uri}")).parent

    def lead(match: re.Match[str]) -> str:
        path, mark, anchor = match[1].partition("#")
        target = (folder / path).resolve()
        if "://" in path or not path or not target.is_relative_to(ROOT) or not target.exists():
            return match[0]  # left for MkDocs to judge
        return f"]({_published(str(target.relative_to(ROOT)))}{mark}{anchor})"

    markdown = re.sub(
        r'(?<=<swagger-ui src=")\.\./([^"]+)', lambda match: _published(match[1]), markdown
    )
    return re.sub(r"\]\(([^)\s]+)\)", lead, markdown)


def _published(source: str) -> str:
    if source == "README.md":
        return "index.md"
    if source.startswith("docs/"):
        return source.removeprefix("docs/")
    return PAGES.get(source) or f"files/{source.removesuffix('.md')}" + (
        ".txt" if source.endswith(".md") else ""
    )

"""The documentation as a site: it builds without a warning, and asks no other host when it is read."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.pages import PAGES, ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return folder


def test_every_page_is_there_and_in_the_navigation(site: Path) -> None:
    first = (site / "index.html").read_text()
    for page in PAGES[1:]:
        assert (site / page.name).with_suffix(".html").exists()
        assert page.name == "index.md" or f'href="{page.stem}.html"' in first


def test_reading_it_asks_no_other_host(site: Path) -> None:
    for page in site.rglob("*.html"):
        fetched = re.findall(r"<(?:script|img|iframe|link|source)\b[^>]*?(?:src|href)=\"?([^\s\">]+)", page.read_text())
        assert fetched
        assert [url for url in fetched if re.match(r"(https?:)?//", url)] == []
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(https?:)?//|@import", sheet.read_text())

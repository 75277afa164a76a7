"""The documentation site builds without warnings and makes no requests to other hosts."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.sync_api import Page, expect

from mockserver.contract.contract import METHODS
from tests.helpers.pages import ROOT, SITE_PAGES

pytestmark = [pytest.mark.slow, pytest.mark.thorough]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--site-dir",
        str(folder),
    ]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    completed = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return folder


def test_every_page_is_built_and_in_the_navigation(site: Path) -> None:
    home = (site / "index.html").read_text()
    for page in SITE_PAGES:
        assert (site / page.name).with_suffix(".html").exists()
        assert page.name == "index.md" or f'href="{page.stem}.html"' in home


FETCHED = re.compile(
    r"<(?:script|img|iframe|source|video)\b[^>]*\bsrc=[\"']?((?:https?:)?//[^\"'\s>]+)"
    r"|<link\b(?![^>]*rel=[\"']?(?:canonical|next|prev))[^>]*\bhref=[\"']?((?:https?:)?//[^\"'\s>]+)"
    r"|(?:url\(|@import )[\"']?((?:https?:)?//[^\"')]+)",
)


def test_no_page_and_no_stylesheet_loads_from_another_host(site: Path) -> None:
    files = [
        file
        for file in site.rglob("*")
        if file.suffix in (".html", ".css") and "files" not in file.parts
    ]
    assert len(files) > len(SITE_PAGES)
    for file in files:
        assert FETCHED.findall(file.read_text()) == [], file.relative_to(site)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def reader(browser: Any, address: str) -> Iterator[Page]:
    """A browser page; a request to another host fails the test."""
    page: Page = browser.new_page()
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    yield page
    page.close()
    assert requested
    assert [url for url in requested if not url.startswith((address, "data:", "blob:"))] == []


def test_browsing_makes_no_request_to_another_host(reader: Page, address: str) -> None:
    for name in ("index.html", "kit.html"):
        reader.goto(address + name, wait_until="networkidle")
        expect(reader.locator("h1")).to_be_visible()


def test_the_reference_lists_every_operation_of_both_apis(reader: Page, address: str) -> None:
    reader.goto(address + "reference.html", wait_until="networkidle")
    for frame, contract in zip(reader.frames[1:], ("openapi.yaml", "admin.yaml"), strict=True):
        document = yaml.safe_load((ROOT / "contracts" / contract).read_text())
        items = [*document["paths"].values(), *document.get("webhooks", {}).values()]
        methods = [method for item in items for method in item if method in METHODS]
        expect(frame.locator(".opblock")).to_have_count(len(methods))

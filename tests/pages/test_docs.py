"""The documentation matches the product: every code block runs, and every flag, scenario, rule and request is listed.

New pages under docs/ are picked up without touching this file. The blocks of a page run in order, in one directory, next
to a fresh double. A comment on the line above a block changes how it is tested:

    <!-- not run: why -->
    <!-- exits: 1 -->
    <!-- tested by: tests/test_x.py -->
    <!-- same as: README.md -->
"""

import json
import re
from importlib import metadata
from pathlib import Path

import click
import pytest

from mockserver import MockServer
from mockserver.admin.api import Admin
from mockserver.backend.backend import Options
from mockserver.cli.check import check
from mockserver.cli.entry import main
from mockserver.cli.rules import every_rule
from mockserver.cli.serve import serve
from mockserver.scenarios.catalogue import Catalogue
from mockserver.server.app import App
from tests.check import rules_page
from tests.helpers.documents import CONTRACT
from tests.helpers.page_runner import PageRunner
from tests.helpers.pages import (
    DEVELOPER_PAGES,
    DOCUMENTATION,
    PAGES,
    ROOT,
    blocks_of,
    table_of,
)
from tests.helpers.share import first

pytestmark = pytest.mark.slow

README = (ROOT / "README.md").read_text()
CATALOGUE = Catalogue(CONTRACT)
by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@pytest.mark.parametrize("page", first(1, PAGES), ids=lambda page: page.name)
def test_every_block_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    with MockServer(seed=1) as server:
        runner = PageRunner(server, tmp_path)
        for block in blocks_of(page):
            runner.run(block)


@by_page
def test_every_block_of_a_page_is_recognized(page: Path) -> None:
    assert len(blocks_of(page)) * 2 == len(re.findall("^```", page.read_text(), re.M))


@by_page
def test_every_link_of_a_page_has_a_target(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        assert "://" not in path, f"{page.name}: {target}"
        linked = page if not path else page.parent / path
        assert linked.exists(), f"{page.name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(), re.M)
            assert anchor in map(_anchor, headings), f"{page.name}: {target}"


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\s-]", "", heading).strip().lower().replace(" ", "-")


@pytest.mark.parametrize("page", DEVELOPER_PAGES, ids=lambda page: page.name)
def test_every_file_that_a_developer_page_names_exists(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    words = [word for code in re.findall(r"`([^`]+)`", text) for word in code.split()]
    paths = [word for word in words if re.fullmatch(r"\.?[\w.-]+(/[\w.-]*)+", word)]
    assert len(paths) > 10

    for path in paths:
        assert (ROOT / path).exists() or path == ".venv/bin/python", f"{page.name}: {path}"


@by_page
def test_every_command_in_a_sentence_exists_with_its_flags(page: Path) -> None:
    for line in re.findall(
        r"`mockserver (?!listening)([a-z-]+[^`]*)`",
        re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S),
    ):
        name, *words = line.split()
        command = main.commands.get(name)
        assert command is not None, f"{page.name}: mockserver {line}"
        flags = {flag for parameter in command.params for flag in parameter.opts} | {"--help"}
        for word in words[: words.index("--")] if "--" in words else words:
            assert not word.startswith("--") or word.partition("=")[0] in flags, (
                f"{page.name}: mockserver {line}"
            )


def test_every_page_is_linked_from_the_readme_or_the_home_page() -> None:
    linked = README + (ROOT / "docs" / "index.md").read_text()
    for page in PAGES[1:]:
        assert f"{page.name})" in linked or page.name == "index.md", (
            f"link {page.name} from docs/index.md"
        )


def test_every_scenario_is_in_the_table_in_order() -> None:
    rows = re.findall(
        r"^\| `([a-z-]+)` \| ([^|]+?)(?:\. The default)? \|$",
        table_of("| name | what happens |"),
        re.M,
    )
    assert [name for name, _ in rows] == [scenario.name for scenario in CATALOGUE]
    described = dict(rows)
    for scenario in CATALOGUE:
        assert described[scenario.name].replace("`", "") == scenario.description.rstrip(
            "."
        ).replace("`", "")


@pytest.mark.parametrize("command", [serve, check], ids=lambda command: command.name)
def test_every_flag_is_in_the_table_of_its_command(command: click.Command) -> None:
    table = table_of(f"| flag of `{command.name}` |")
    for parameter in command.params:
        assert isinstance(parameter, click.Argument) or f"`{parameter.opts[0]}" in table, (
            parameter.opts[0]
        )


def test_every_rule_is_in_the_table_in_order() -> None:
    rows = re.findall(r"^\| `(MC\d+)` \| (\(warning\))?", table_of("| rule | the client … |"), re.M)
    assert [code for code, _ in rows] == list(every_rule())
    assert {code for code, warning in rows if warning} == {
        rule.code for rule in every_rule().values() if rule.severity == "warning"
    }


def test_every_rule_has_a_generated_section_with_an_example() -> None:
    page = rules_page.PAGE.read_text()
    shown = {code: rules_page.shown_in(page, rule) for code, rule in every_rule().items()}
    assert page == rules_page.written(page, shown), "docs/rules.md is not what `make rules` writes"
    for code, example in shown.items():
        assert example.startswith(code) or not example, code


def test_every_request_of_the_admin_api_is_in_the_table() -> None:
    documented = set(re.findall(r"/__admin/[a-z/{}_.]*", table_of("| request |")))
    served = {route.path for route in Admin(App(CONTRACT, CATALOGUE, Options()).backend).routes()}
    assert {
        path for path in served if path.startswith("/__admin/") and "{path" not in path
    } == documented | {"/__admin/"}


def test_the_documented_client_versions_are_those_tested() -> None:
    packages = json.loads((ROOT / "tests" / "clients" / "package.json").read_text())["dependencies"]
    assert f"| PyPI `replicate` | {metadata.version('replicate')} |" in DOCUMENTATION
    assert f"| npm `replicate` | {packages['replicate']} |" in DOCUMENTATION
    assert f"| {packages['@ai-sdk/replicate']} with {packages['ai']} |" in DOCUMENTATION


def test_every_documented_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"`make ([a-z-]+)", DOCUMENTATION)) <= targets

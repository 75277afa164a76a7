"""What `--help` shows: every option under a heading, lines that fit, and how to set options otherwise."""

from __future__ import annotations

from typing import Any

import click
import pytest
from click.testing import CliRunner

from mockserver.cli.entry import main
from mockserver.cli.options import Command, Option

COMMANDS = [pytest.param(command, id=str(command.name)) for command in main.commands.values()]
GROUPED = ["serve", "run", "proxy", "verify", "verdict", "check", "replay", "shards"]


def help_of(*words: str) -> str:
    result = CliRunner().invoke(main, [*words, "--help"], terminal_width=80)
    assert result.exit_code == 0
    return result.output


def options_of(command: click.Command) -> list[click.Option]:
    return [
        parameter
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.hidden
    ]


def test_the_summary_of_every_command_is_whole_and_fits_80_columns() -> None:
    text = help_of()
    assert max(map(len, text.splitlines())) <= 80
    assert "..." not in text.partition("Commands:")[2]
    for name, command in main.commands.items():
        assert f"  {name} " in text
        assert command.help is not None
        assert command.help.partition(".")[0] in text


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_fits_80_columns(command: click.Command) -> None:
    assert max(map(len, help_of(str(command.name)).splitlines())) <= 80


@pytest.mark.parametrize("name", GROUPED)
def test_every_option_stands_under_a_heading_of_its_own_and_alone_is_help(name: str) -> None:
    command: Any = main.commands[name]
    assert isinstance(command, Command)
    sections = help_of(name).split("\n\n")
    (general,) = (section for section in sections if section.startswith("Options:\n"))
    assert general.splitlines()[1:] == ["  -h, --help  Show this message and exit."]
    for option in options_of(command):
        assert isinstance(option, Option)
        (section,) = (text for text in sections if text.startswith(f"{option.group}:\n"))
        assert f"  {option.opts[0]} " in section
        assert option.help


@pytest.mark.parametrize("command", COMMANDS)
def test_variables_of_the_environment_are_told_once_at_the_end(command: click.Command) -> None:
    body, _, last = help_of(str(command.name)).rstrip().rpartition("\n\n")
    settable = [option for option in options_of(command) if option.envvar]
    assert ("Each option can be set in the environment, as MOCKSERVER_" in last) == bool(settable)
    assert "env var" not in body
    assert "MOCKSERVER_" not in body.replace("MOCKSERVER_URL", "")
    exceptions = [option.opts[0] for option in options_of(command) if not option.envvar]
    assert not settable or all(flag in last for flag in exceptions)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_variable_of_an_option_is_named_after_it(command: click.Command) -> None:
    for option in options_of(command):
        if option.envvar and option.name != "token":
            variable = "MOCKSERVER_" + option.opts[0][2:].upper().replace("-", "_")
            assert option.envvar[0] == variable


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        (("serve", "--files-origin", "both"), {}),
        (("serve",), {"MOCKSERVER_FILES_ORIGIN": "both"}),
        (("serve",), {"MOCKSERVER_FILES": "both"}),
        (("serve", "--files", "both"), {}),
    ],
)
def test_an_option_that_was_renamed_is_taken_by_its_old_name_too(
    words: tuple[str, ...], variables: dict[str, str]
) -> None:
    result = CliRunner().invoke(main, words, env=variables)
    assert result.exit_code == 2
    assert "'both' is not one of 'same', 'separate'" in result.output
    assert "--files-origin" not in help_of("serve")


def test_files_may_be_said_to_come_from_the_same_origin_in_the_former_words() -> None:
    words = ["replay", "--files", "same-origin", "/nowhere.json", "--", "client"]
    result = CliRunner().invoke(main, words)
    assert (result.exit_code, "/nowhere.json" in result.output) == (2, True)
    assert "same-origin" not in help_of("replay")
    refused = CliRunner().invoke(
        main, ["replay", "--files", "both", "/nowhere.json", "--", "client"]
    )
    assert "'both' is not one of 'separate', 'same'" in refused.output

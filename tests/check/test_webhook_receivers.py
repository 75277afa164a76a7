"""Webhook receivers are sent what they must take and what they must refuse."""

import asyncio
import socket

import pytest
from click.testing import CliRunner

from mockserver.check.webhook_receivers import check_receiver
from mockserver.cli.entry import main
from mockserver.errors import MockServerError
from tests.check.receiver import SECRET, WebhookReceiver
from tests.helpers.documents import CONTRACT

pytestmark = pytest.mark.slow

BUGS = {
    "refuses": {"MC601"},
    "verifies nothing": {"MC602", "MC603", "MC604"},
    "ignores the time": {"MC604"},
    "signs the body alone": {"MC601"},
    "verifies what it parsed": {"MC601"},
    "decodes as ASCII": {"MC601"},
    "one signature only": {"MC601"},
    "looks at the key's id only": {"MC602", "MC603"},
    "stumbles over duplicates": {"MC605"},
}


def broken(receiver: WebhookReceiver) -> set[str]:
    return {
        reaction.message.rule
        for reaction in check_receiver(receiver.url, SECRET, CONTRACT)
        if not reaction.ok
    }


@pytest.mark.parametrize("variant", ["", "stores the picture"])
def test_a_right_receiver_is_cleared(variant: str) -> None:
    with WebhookReceiver(variant) as receiver:
        assert broken(receiver) == set()


@pytest.mark.parametrize("bug", BUGS)
def test_a_wrong_one_is_told_what_it_does(bug: str) -> None:
    with WebhookReceiver(bug) as receiver:
        assert broken(receiver) == BUGS[bug]


def test_the_command_says_so_and_exits_with_it() -> None:
    with WebhookReceiver("ignores the time") as receiver:
        result = CliRunner().invoke(main, ["check-webhook", receiver.url, "--secret", SECRET])
    assert result.exit_code == 1
    assert "FAIL  MC604  a webhook signed an hour ago: 200; expected a refusal\n" in result.output
    assert (
        "pass  MC601  a genuine webhook of a prediction that is succeeded: 200\n" in result.output
    )
    with WebhookReceiver() as receiver:
        result = CliRunner().invoke(main, ["check-webhook", receiver.url, "--secret", SECRET])
    assert (result.exit_code, result.output.splitlines()[-1]) == (0, "no rule broken")


def test_the_caller_may_have_an_event_loop_of_its_own() -> None:
    async def check() -> set[str]:
        with WebhookReceiver() as receiver:
            return broken(receiver)

    assert asyncio.run(check()) == set()


def test_no_receiver_is_no_verdict() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/hook"
    with pytest.raises(MockServerError, match="no receiver answers at"):
        list(check_receiver(url, SECRET, CONTRACT))
    with pytest.raises(MockServerError, match="not the address of a receiver"):
        list(check_receiver("localhost:8000", SECRET, CONTRACT))
    with pytest.raises(MockServerError, match="--secret"):
        list(check_receiver(url, "whsec_!", CONTRACT))

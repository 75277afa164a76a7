"""A line for each request."""

from mockserver.cli.request_log import log_line
from mockserver.contract.violations import Violation
from tests.helpers.exchanges import TOKEN, create, exchange, faulty, poll

UNKNOWN = Violation(
    "/input/sead",
    "unknown",
    "input",
    "Additional property sead is not allowed",
    "1",
    "seed, perhaps",
)


def test_it_says_what_was_asked_and_answered_and_by_whom_in_part() -> None:
    assert log_line(TOKEN, poll("succeeded")).split() == [
        *(
            "200",
            "GET",
            "/replicate/v1/predictions/w44zs9cet5rmc0cqzp49gpkhf8",
            "succeeded",
            "[kit-01…]",
        )
    ]
    assert log_line("anonymous", poll()).endswith("processing  [anonymous]")


def test_it_says_which_fault_was_met_and_what_was_violated() -> None:
    assert log_line(TOKEN, faulty({"disconnect": "reset"})).endswith("fault: disconnect reset")
    assert log_line(TOKEN, faulty({"disconnect": "reset"})).startswith("---  POST ")
    violating = log_line(TOKEN, create(violations=(UNKNOWN,)))
    assert violating.endswith("violation: /input/sead Additional property sead is not allowed")
    assert log_line(TOKEN, poll(operation=None, status=404)).endswith(
        "violation: not in the contract"
    )


def test_what_a_client_chose_makes_no_second_line_and_no_secret_readable() -> None:
    line = log_line(TOKEN, exchange("GET", f"/x\n{TOKEN}\x1b[31m"))
    assert "\n" not in line
    assert "\x1b" not in line
    assert TOKEN not in line

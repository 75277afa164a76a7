"""`mockserver run`: a command against a double of its own, and its exit code."""

import os
import pty
import select
import shlex
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.helpers.command import COMMAND, run
from tests.helpers.share import first

pytestmark = pytest.mark.slow

CLIENT = """
import json, os, sys, urllib.error, urllib.request

def ask(path, value=None, token=os.environ["REPLICATE_API_TOKEN"], kind="application/json"):
    body = None if value is None else value if isinstance(value, bytes) else json.dumps(value).encode()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    headers |= {"Content-Type": kind} if body is not None else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(os.environ["REPLICATE_BASE_URL"] + path, body, headers)) as found:
            return json.load(found)
    except urllib.error.HTTPError as error:
        error.close()

CREATE = "/v1/models/black-forest-labs/flux-kontext-max/predictions"
GOOD = {"input": {"prompt": "p"}}
"""


def client(body: str, *flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a client, whose errors are swallowed, under `mockserver run`."""
    return run(
        "run", *flags, "--", sys.executable, "-c", CLIENT + textwrap.dedent(body), **environment
    )


def test_a_client_that_keeps_to_the_contract_passes_with_its_output() -> None:
    ended = client('print(ask(CREATE, GOOD)["status"]); print(sys.stdin.read() == "")')
    assert (ended.returncode, ended.stdout) == (0, "starting\nTrue\n")
    assert ended.stderr == "mockserver: 1 exchange, 1 tenant: ok\n"


def test_what_was_judged_is_one_line_and_none_with_quiet() -> None:
    body = 'ask(CREATE, GOOD); ask(CREATE, GOOD, token="another-tenant")'
    assert client(body).stderr == "mockserver: 2 exchanges, 2 tenants: ok\n"
    assert client(body, "--quiet").stderr == ""
    failed = client(body + "; sys.exit(3)")
    assert (failed.returncode, failed.stderr) == (3, "")


@pytest.mark.parametrize("flags", [(), ("--quiet",)])
def test_webhooks_that_were_not_delivered_are_one_line(flags: tuple[str, ...]) -> None:
    body = """
        hook = {**GOOD, "webhook": "http://127.0.0.1:1/", "webhook_events_filter": ["completed"]}
        created = [ask(CREATE, hook) for _ in range(2)]
        for one in created:
            while ask("/v1/predictions/" + one["id"])["status"] != "succeeded":
                pass
        for _ in range(2000):
            request = urllib.request.Request(
                os.environ["MOCKSERVER_URL"] + "/__admin/verdict",
                headers={"Authorization": "Bearer " + os.environ["REPLICATE_API_TOKEN"]},
            )
            if len(json.load(urllib.request.urlopen(request))["undelivered_webhooks"]) == 2:
                break
    """
    ended = client(body, *flags)
    assert ended.returncode == 0
    lines = ended.stderr.splitlines()
    assert lines[0].startswith("mockserver: 2 webhooks not delivered: ")
    assert "completed of " in lines[0]
    assert lines[0].endswith("; and 1 more")
    assert len(lines) == (1 if flags else 2)


@pytest.mark.parametrize(
    "wrong",
    first(
        2,
        [
            'ask(CREATE, {"input": {}})',
            'ask(CREATE, {"input": {"prompt": "p", "sede": 1}})',
            'ask(CREATE, {"input": {}}, token="of-its-own")',
            'ask(CREATE, {"input": {}}, token=None)',
            'ask(CREATE, b"{")',
            'ask(CREATE, b"")',
            'ask(CREATE, b"x", kind="text/plain")',
            'ask("/v1/prediction")',
            "ask(CREATE)",
            """
        from urllib.request import Request, urlopen
        try: urlopen(Request(os.environ["REPLICATE_BASE_URL"] + "/v1/predictions", headers={"Authorization": "Basic x"}))
        except urllib.error.HTTPError as error: error.close()
        """,
        ],
    ),
)
def test_whatever_the_contract_does_not_allow_fails_it_though_the_client_swallowed_it(
    wrong: str,
) -> None:
    ended = client(f"ask(CREATE, GOOD)\n{textwrap.dedent(wrong)}")
    assert ended.returncode == 1
    assert ended.stderr.startswith(
        "mockserver: the client sent what the contract does not allow (1):\n  - "
    )
    assert "of-its-own" not in ended.stderr, "a tenant is shown in part"


def test_what_was_sent_is_judged_though_the_command_is_gone_before_it_is_read() -> None:
    ended = client(
        """
        import socket
        from urllib.parse import urlsplit
        def send(value):
            body = json.dumps(value).encode()
            head = f"POST /replicate{CREATE} HTTP/1.1\\r\\nHost: x\\r\\nContent-Type: application/json\\r\\n"
            connection = socket.create_connection(urlsplit(os.environ["REPLICATE_BASE_URL"]).netloc.split(":"))
            connection.sendall(head.encode() + b"Content-Length: %d\\r\\n\\r\\n" % len(body) + body)
            return connection
        sent = [send(GOOD) for _ in range(40)] + [send({"input": {}})]
        os._exit(0)
        """
    )
    assert ended.returncode == 1
    assert "at /input" in ended.stderr


@pytest.mark.parametrize("scenario", first(1, ["outage", "unauthorized", "out-of-credit"]))
def test_what_is_wrong_with_a_request_that_a_fault_answers_is_seen_too(scenario: str) -> None:
    ended = client('ask(CREATE, {"input": {"prompt": "p", "sede": 1}})', "--scenario", scenario)
    assert (ended.returncode, "at /input/sede: " in ended.stderr) == (1, True)
    assert client("ask(CREATE, GOOD)", "--scenario", scenario).returncode == 0


@pytest.mark.thorough
def test_an_archive_that_cannot_be_written_hides_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    har = str(tmp_path / "file" / "run.har")
    wrong = client("ask(CREATE, {})", "--har", har)
    assert (wrong.returncode, "at /input" in wrong.stderr, har in wrong.stderr) == (1, True, True)
    assert client("ask(CREATE, GOOD); sys.exit(5)", "--har", har).returncode == 5
    assert client("ask(CREATE, GOOD)", "--har", har).returncode == 2


def test_the_command_s_own_exit_code_stands() -> None:
    assert client("ask(CREATE, GOOD); sys.exit(7)").returncode == 7
    assert client('ask("/nowhere"); sys.exit(7)').returncode == 7
    assert client("ask(CREATE, GOOD); os.kill(os.getpid(), 9)").returncode == 128 + 9


def test_a_command_that_asks_nothing_is_not_green() -> None:
    ended = client("")
    assert ended.returncode == 2
    assert "no request reached the double" in ended.stderr
    assert client("", "--allow-empty").returncode == 0


@pytest.mark.parametrize(
    "sent", first(1, ["b'nonsense'", "b'GET / HTTP/1.1\\r\\nx: ' + 70_000 * b'x'"])
)
def test_what_is_no_request_is_not_green(sent: str) -> None:
    ended = client(
        f"""
        import socket
        from urllib.parse import urlsplit
        ask(CREATE, GOOD)
        with socket.create_connection(urlsplit(os.environ["REPLICATE_BASE_URL"]).netloc.split(":")) as connection:
            connection.sendall({sent})
            connection.recv(100)
        """
    )
    assert ended.returncode == 1
    assert "refused as no HTTP, or for a head that is too large: 1" in ended.stderr


def test_requests_of_tenants_that_were_reset_have_been_made(tmp_path: Path) -> None:
    (tmp_path / "test_client.py").write_text(
        """
import httpx
def test_it(mockserver):
    token = {"Authorization": f"Bearer {mockserver.token}"}
    assert httpx.get(f"{mockserver.base_url}/v1/predictions", headers=token).status_code == 200
"""
    )
    suite = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    ended = run("run", "--", *suite, str(tmp_path))
    assert ended.returncode == 0, ended.stdout
    assert ended.stderr == "mockserver: 1 request of tenants that were reset since: ok\n"


def test_a_command_that_is_missing_or_cannot_be_run() -> None:
    missing = run("run", "--", "/nowhere/npm", "test")
    assert (missing.returncode, missing.stderr) == (
        127,
        "mockserver: there is no command /nowhere/npm\n",
    )
    assert run("run", "--", "/").returncode == 126


def test_a_double_that_cannot_start_is_2_and_the_command_does_not_run(tmp_path: Path) -> None:
    ended = run("run", "--contract", "/nowhere.yaml", "--", "touch", str(tmp_path / "ran"))
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert not (tmp_path / "ran").exists()


def test_the_environment_is_the_double_s_but_for_a_token_that_is_there() -> None:
    show = 'print(*(os.environ[name] for name in ("REPLICATE_API_BASE_URL", "MOCKSERVER_URL", "REPLICATE_API_TOKEN")))'
    api, url, token = client(show, "--allow-empty").stdout.split()
    assert (api, token) == (url + "/replicate", "mockserver-run")
    assert client(show, "--allow-empty", REPLICATE_API_TOKEN="mine").stdout.split()[2] == "mine"


def test_over_https_every_variable_that_clients_read_names_the_certificate() -> None:
    show = "print(*(os.environ.get(name) for name in {}))".format(
        ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"]
    )
    files = client(show, "--tls", "--allow-empty").stdout.split()
    assert len(files) == 4
    assert {Path(file).name for file in files} == {"ca.pem"}
    assert "/ca.pem" not in client(show, "--allow-empty").stdout


def test_flags_of_serve_say_how_it_behaves() -> None:
    asked = 'print([ask(CREATE, GOOD)["status"], ask(CREATE, GOOD)["output"][:5]])'
    ended = client(asked, "--scenario", "immediate", "--tls")
    assert (ended.returncode, ended.stdout) == (0, "['succeeded', 'https']\n")


STUBBORN = "trap '' TERM INT; sleep 300 & echo $! ; wait; while true; do sleep 300; done"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_ends_the_command_and_all_that_it_started(number: signal.Signals) -> None:
    command = [*COMMAND, "run", "--", "bash", "-c", STUBBORN]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as process:
        assert process.stdout is not None
        sleeper = int(process.stdout.readline())
        process.send_signal(number)
        process.send_signal(number)
        assert process.wait(timeout=20) == 128 + number
    assert not running(sleeper)


def running(pid: int) -> bool:
    """Whether a process is there, and not merely waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_ctrl_z_stops_the_command_and_run_and_fg_brings_both_back() -> None:
    """In a shell with job control, on a terminal of its own."""
    shell, terminal = pty.fork()
    if shell == 0:
        os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])

    def read_until(text: str) -> str:
        output = ""
        while text not in output:
            assert select.select([terminal], [], [], 20)[0], f"waited for {text!r}; got {output!r}"
            output += os.read(terminal, 4096).decode()
        return output

    source = "print('be' + 'gan', flush=True); print('read ' + input().upper(), flush=True)"
    command = shlex.join([*COMMAND, "run", "--allow-empty", "--", sys.executable, "-c", source])
    try:
        os.write(terminal, f"{command}; echo code $?\n".encode())
        read_until("began")
        os.write(terminal, b"\x1a")
        read_until("Stopped")
        os.write(terminal, b"fg\n")
        read_until("run --allow-empty")
        os.write(terminal, b"a line\n")
        read_until("read A LINE")
        os.write(terminal, b"echo af''ter\n")
        read_until("after")
    finally:
        os.kill(shell, signal.SIGKILL)
        os.close(terminal)
        os.waitpid(shell, 0)

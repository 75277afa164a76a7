"""`mockserver serve` and `mockserver verdict`, as a shell runs them."""

import json
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from mockserver.contract.contract import Contract
from tests.helpers.command import COMMAND, invoke, run, serving

pytestmark = pytest.mark.slow

NEVER_IMPORTED = ("PIL", "hypothesis", "schemathesis", "pytest", "httpx", "requests")


def a_prediction(url: str, model: str = "flux-kontext-max", **settings: Any) -> httpx.Response:
    path = f"/replicate/v1/models/black-forest-labs/{model}/predictions"
    return httpx.post(url + path, json={"input": {"prompt": "p"}}, **settings)


def test_it_answers_as_soon_as_it_says_that_it_listens() -> None:
    with serving() as (_, url):
        assert a_prediction(url).json()["status"] == "starting"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_cleanly_when_told_to(number: signal.Signals, tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    with serving("--ready-file", str(ready)) as (process, url):
        with httpx.Client() as client:  # an idle connection does not hold it up
            client.get(url + "/openapi.json")
            process.send_signal(number)
            output, errors = process.communicate(timeout=20)
        assert (process.returncode, errors) == (0, "")
        assert "Traceback" not in output
        assert not ready.exists()


def test_it_ends_cleanly_while_a_client_waits() -> None:
    with serving("--clock", "frozen") as (process, url):
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as waiting:
            body = b'{"input":{"prompt":"p"}}'
            path = b"/replicate/v1/models/black-forest-labs/flux-kontext-max/predictions"
            head = (
                b"POST %b HTTP/1.1" % path,
                b"Host: x",
                b"Prefer: wait",
                b"Content-Type: application/json",
            )
            waiting.sendall(b"\r\n".join((*head, b"Content-Length: %d" % len(body), b"", body)))
            while not httpx.get(url + "/__admin/predictions").json()["predictions"]:
                pass
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=20)
        assert (process.returncode, errors) == (0, "")


@pytest.mark.parametrize("dialect", ["new-api", "gateway"])  # the former name is accepted too
def test_errors_are_told_in_the_dialect_asked_for(dialect: str) -> None:
    with serving("--errors", dialect) as (_, url):
        assert "error" in httpx.get(url + "/replicate/v1/nowhere").json()


def test_the_ready_file_says_where_it_is(tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    with serving("--ready-file", str(ready)) as (process, url):
        facts = json.loads(ready.read_text())
        assert facts == {"url": url, "port": int(url.rpartition(":")[2]), "pid": process.pid}


def test_a_port_in_use_is_one_clear_line_and_exit_2() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = run("serve", "--port", port)
    assert ended.returncode == 2
    assert ended.stderr == (
        f"mockserver: cannot listen on 127.0.0.1:{port}: Address already in use; "
        "choose another --port, or 0 for a free one\n"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("openapi: 3.0.0", "an OpenAPI 3.1 document is needed"),
        ("{", "not YAML"),
        ("openapi: 2025-99-99", "an OpenAPI 3.1 document is needed"),
        ("&a [*a]", "not YAML: it holds itself, by an alias"),
        (
            "openapi: 3.1.0\ninfo: {title: t, version: v}\npaths: {/a: {get: {operationId: a, responses: {'200': null}}}}",
            "at /paths/~1a/get/responses/200: null is not of type",
        ),
        ("openapi: 3.1.0\npaths: {}", "at /paths: {} has less than 1 property"),
        (
            "openapi: 3.1.0\npaths: {/a: {get: {responses: {}}}}",
            'at /paths/~1a/get: "operationId" is a required',
        ),
    ],
)
def test_an_invalid_contract_is_one_clear_line_and_exit_2(
    tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "contract.yaml"
    file.write_text(text)
    ended = invoke("serve", "--contract", str(file))
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith(f"mockserver: contract {file}")
    assert said in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--contract", "/nowhere.yaml"], "contract /nowhere.yaml: No such file or directory"),
        (["--scenario", "nfsw"], "did you mean nsfw?"),
        (["--public-url", "double.example"], "--public-url double.example"),
        (["--clock", "fast"], "autojump"),
        (["--speed", "0"], "--speed"),
        (["--speed", "nan"], "speed nan"),
        (["--speed", "inf"], "speed inf"),
        (["--public-url", "http://["], "--public-url http://["),
        (["--public-url", "http://a b"], "--public-url http://a b"),
        (["--public-url", "http://x:abc"], "--public-url http://x:abc"),
        (["--port", "0", "--ready-file", "/"], "the ready file / exists and is not a regular file"),
        (["--host", "\u00e9.."], "cannot listen on"),
        (["--port", "70000"], "--port"),
    ],
)
def test_a_wrong_flag_is_explained_and_exits_with_2(arguments: list[str], said: str) -> None:
    ended = invoke("serve", *arguments)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_each_flag_is_an_environment_variable_too(tmp_path: Path) -> None:
    with serving(
        MOCKSERVER_STRICT="1",
        MOCKSERVER_REQUIRE_AUTH="1",
        MOCKSERVER_SEED="7",
        MOCKSERVER_SCENARIO="failed",
        MOCKSERVER_CLOCK="frozen",
        MOCKSERVER_PUBLIC_URL="https://double.example/",
    ) as (process, url):
        assert process.stdout is not None
        assert process.stdout.readline().startswith(
            "seed 7 · clock frozen · scenario failed · contract "
        )
        assert httpx.get(url + "/replicate/v1/predictions").status_code == 401
        told = a_prediction(url, headers={"Authorization": "Bearer t"}).json()
        assert told["urls"]["get"].startswith("https://double.example/replicate/v1/predictions/")
        assert told["created_at"] == "2025-01-01T00:00:00.000Z"


def test_it_says_where_clients_and_people_find_it() -> None:
    with serving() as (process, url):
        assert process.stdout is not None
        lines = [process.stdout.readline().strip() for _ in range(3)][1:]
    assert lines == [
        f"base URL for clients: {url}/replicate (PyPI replicate), {url}/replicate/v1 (npm replicate)",
        f"inspector: {url}/__admin/",
    ]


@pytest.mark.parametrize("more", [(), ("--admin-token", "s3cret")])
def test_it_says_that_others_on_the_network_reach_it(more: tuple[str, ...]) -> None:
    with serving("--host", "0.0.0.0", *more) as (process, _):
        assert process.stdout is not None
        warned = [process.stdout.readline() for _ in range(4)][-1]
    assert warned.startswith(
        "listening on all addresses (0.0.0.0): others on the network can reach it"
    )
    assert ("--admin-token" in warned) == (not more)


@pytest.mark.parametrize("host", ["0", "0.0", "::0"])
def test_the_address_that_is_bound_says_who_reaches_it_not_its_spelling(host: str) -> None:
    if ":" in host and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    process = subprocess.Popen(
        [*COMMAND, "serve", "--port", "0", "--host", host], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(5)]
        process.kill()
    assert lines[-1].startswith("listening on all addresses (")


def test_an_empty_host_is_refused() -> None:
    ended = invoke("serve", "--port", "0", "--host", "")
    assert ended.returncode == 2
    assert ended.stderr.startswith("mockserver: --host is empty")


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_localhost_is_both_addresses_that_clients_take_it_for() -> None:
    with serving("--host", "localhost") as (_, url):
        port = url.rpartition(":")[2]
        for host in ("127.0.0.1", "[::1]", "localhost"):
            assert httpx.get(f"http://{host}:{port}/openapi.json").status_code == 200


@pytest.mark.parametrize("flag", ["--log", "--verbose"])
def test_each_request_can_be_logged(flag: str) -> None:
    with serving(flag) as (process, url):
        assert process.stdout is not None
        for _ in range(3):
            process.stdout.readline()
        a_prediction(url, headers={"Authorization": "Bearer my-secret-token"})
        assert httpx.get(url + "/replicate/v1/models/x%0ay").json()["status"] == 404
        logged = [process.stdout.readline().rstrip("\n") for _ in range(2)]
    create = "/replicate/v1/models/black-forest-labs/flux-kontext-max/predictions"
    assert logged[0] == f"200  POST    {create}  starting  [my-se…]"
    assert logged[1].startswith(
        "404  GET     /replicate/v1/models/x\\ny  [anonymous]  violation: not in the contract"
    )


def test_without_the_flag_nothing_is_logged() -> None:
    with serving() as (process, url):
        a_prediction(url)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=20)
    assert "POST" not in output


def test_a_port_that_docker_or_kubernetes_has_set_for_a_service_is_none() -> None:
    said = run("serve", "--contract", "/nowhere.yaml", MOCKSERVER_PORT="tcp://10.0.0.7:3589").stderr
    assert said.startswith("mockserver: contract /nowhere.yaml"), "the port was no trouble"
    assert "not a valid integer" in run("serve", "--port", "tcp://10.0.0.7:3589").stderr


@pytest.mark.parametrize("name", ["/nope.yaml", "nope.json", "scenarios/nope"])
def test_a_scenario_file_that_is_not_there_is_told_as_such(name: str) -> None:
    ended = invoke("serve", "--scenario", name)
    assert (ended.returncode, ended.stderr) == (
        2,
        f"mockserver: scenario file {name}: no such file\n",
    )


def test_a_finding_that_is_served_is_named(tmp_path: Path) -> None:
    finding = tmp_path / "MC201-3913.json"
    finding.write_text(json.dumps({"rule": "MC201", "scenario": {"create_status": 201}}))
    with serving("--scenario", str(finding)) as (process, url):
        assert process.stdout is not None
        assert " · scenario mc201-3913 · " in process.stdout.readline()
        assert a_prediction(url).status_code == 201


def test_without_a_seed_one_is_drawn_and_printed_and_gives_the_same_run_again() -> None:
    with serving() as (process, url):
        assert process.stdout is not None
        seed = process.stdout.readline().split()[1]
        first = a_prediction(url).json()["id"]
    with serving("--seed", seed) as (_, url):
        assert a_prediction(url).json()["id"] == first
    with serving("--seed", str(int(seed) + 1)) as (_, url):
        assert a_prediction(url).json()["id"] != first


def test_under_the_real_clock_time_passes_by_itself_as_fast_as_asked() -> None:
    with serving("--clock", "real", "--speed", "100000") as (_, url):
        told = a_prediction(url).json()
        while told["status"] != "succeeded":
            told = httpx.get(told["urls"]["get"]).json()
        assert told["metrics"]["predict_time"] == 3.5


def test_a_third_model_is_a_path_item_and_no_line_of_python(tmp_path: Path) -> None:
    contract = yaml.safe_load(Contract.load().source)
    contract["paths"]["/replicate/v1/models/acme/tiny-1/predictions"] = {
        "post": {
            "operationId": "createTiny",
            "x-mock-role": "create",
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {
                            "type": "object",
                            "properties": {
                                "input": {
                                    "type": "object",
                                    "required": ["prompt"],
                                    "properties": {
                                        "prompt": {"type": "string"},
                                        "steps": {"type": "integer", "default": 4, "maximum": 8},
                                        "aspect_ratio": {"type": "string", "default": "2:3"},
                                        "output_format": {
                                            "enum": ["webp", "png"],
                                            "default": "webp",
                                        },
                                    },
                                }
                            },
                            "required": ["input"],
                        }
                    }
                },
            },
            "responses": {
                "200": {
                    "description": "Created.",
                    "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/Prediction"}}
                    },
                },
                "422": {"$ref": "#/components/responses/InvalidInput"},
            },
        }
    }
    file = tmp_path / "three.yaml"
    file.write_text(yaml.safe_dump(contract))
    with serving("--contract", str(file)) as (_, url):
        path = url + "/replicate/v1/models/acme/tiny-1/predictions"
        told = httpx.post(path, json={"input": {"prompt": "p"}}).json()
        assert told["model"] == "acme/tiny-1"
        assert told["input"] == {"prompt": "p"}
        refused = httpx.post(path, json={"input": {"prompt": "p", "steps": 9}})
        assert refused.json()["invalid_fields"][0]["pointer"] == "/input/steps"
        for _ in range(2):
            told = httpx.get(told["urls"]["get"]).json()
        picture = httpx.get(told["output"])
        assert (picture.status_code, picture.headers["content-type"]) == (200, "image/webp")
        assert a_prediction(url).status_code == 200


def test_an_operation_without_a_role_answers_its_example(tmp_path: Path) -> None:
    file = tmp_path / "plain.yaml"
    file.write_text(
        """
        openapi: 3.1.0
        info: {title: t, version: '1'}
        paths:
          /hello/{name}:
            parameters: [{name: name, in: path, required: true, schema: {type: string, maxLength: 5}}]
            get:
              operationId: hello
              responses:
                '200': {description: d, content: {application/json: {example: {hello: world}}}}
        """
    )
    with serving("--contract", str(file)) as (_, url):
        assert httpx.get(url + "/hello/you").json() == {"hello": "world"}
        assert httpx.get(url + "/hello/everybody").status_code == 404
        assert httpx.get(url + "/other").status_code == 404


def test_what_is_not_needed_to_serve_is_not_imported_before_it_is(tmp_path: Path) -> None:
    script = tmp_path / "serve.py"
    script.write_text(
        "import atexit, sys\n"
        "from mockserver.cli import main\n"
        f"atexit.register(lambda: print([name for name in {NEVER_IMPORTED!r} if name in sys.modules]))\n"
        "main(['serve', '--port', '0', '--ready-file', sys.argv[1]])\n"
    )
    ready = tmp_path / "ready.json"
    with subprocess.Popen(
        [sys.executable, str(script), str(ready)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        assert a_prediction(url).status_code == 200
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=20)
    assert output.splitlines()[-1] == "[]"


class TestVerdict:
    def test_a_suite_without_a_fault_is_ok(self) -> None:
        with serving() as (_, url):
            a_prediction(url, headers={"Authorization": "Bearer ci-1"})
            ended = run("verdict", "--url", url, "--token", "ci-1")
        assert ended.returncode == 0
        assert "1 exchanges" in ended.stdout
        result, _, table = ended.stdout.partition("\nverdict: ok\n")
        assert result
        assert "  operations     1 of 19\n" in table, "the coverage comes after the result"
        assert "\x1b" not in ended.stdout

    def test_violations_and_unmatched_paths_fail_it(self) -> None:
        with serving() as (_, url):
            path = "/replicate/v1/models/black-forest-labs/flux-kontext-max/predictions"
            httpx.post(url + path, json={"input": {"prompt": 1}})
            httpx.get(url + "/replicate/v1/prediction")
            ended = invoke("verdict", MOCKSERVER_URL=url)
            assert ended.returncode == 1
            assert (
                "at /input/prompt: Invalid type. Expected: string, given: integer" in ended.stdout
            )
            assert "the nearest is GET /replicate/v1/predictions" in ended.stdout
            assert "\nverdict: failed\n" in ended.stdout
            (link,) = re.findall(r"look at it: (.+)", ended.stdout)
            (tenant,) = httpx.get(url + "/__admin/tenants").json()["tenants"]
            assert link == f"{url}/__admin/#tenant={tenant['handle']}&show=violations"
            assert invoke("verdict", "--url", url, "--fail-on", "unused-faults").returncode == 0

    def test_faults_never_met_fail_it_if_asked(self) -> None:
        with serving("--scenario", "rate-limited") as (_, url):
            ended = invoke("verdict", "--url", url, "--fail-on", "unused-faults", "--token", "ci-1")
            assert ended.returncode == 1
            assert "createPrediction: fault 0" in ended.stdout
            assert a_prediction(url).status_code == 429
            assert invoke("verdict", "--url", url, "--fail-on", "unused-faults").returncode == 0

    def test_every_tenant_is_judged_and_told_in_part_unless_one_is_named(self) -> None:
        with serving() as (_, url):
            a_prediction(url, headers={"Authorization": "Bearer right-token"})
            httpx.get(url + "/nowhere", headers={"Authorization": "Bearer wrong-token"})
            every = invoke("verdict", "--url", url.removeprefix("http://"), "--quiet")
            assert every.returncode == 1
            assert "tenants judged: rig…, wro…\n" in every.stdout
            assert "token" not in every.stdout
            assert invoke("verdict", "--url", url, "--token", "right-token").returncode == 0
            one = invoke("verdict", "--url", url, "--token", "wrong-token")
            assert one.returncode == 1
            assert one.stdout.count("look at it: ") == every.stdout.count("look at it: ") == 1
            assert "&show=unmatched" in one.stdout

    def test_a_suite_that_asked_nothing_is_not_green(self) -> None:
        with serving() as (_, url):
            for arguments in ((), ("--token", "ci-1")):
                ended = invoke("verdict", "--url", url, *arguments)
                assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
                assert "no request has reached" in ended.stderr
                assert invoke("verdict", "--url", url, *arguments, "--allow-empty").returncode == 0

    def test_no_server_and_a_wrong_word_are_one_line_and_exit_2(self) -> None:
        for arguments in (["--url", "http://127.0.0.1:1"], ["--fail-on", "everything"]):
            ended = invoke("verdict", *arguments)
            assert ended.returncode == 2
            assert ended.stderr.count("\n") == 1

    def test_an_admin_token_keeps_others_from_steering(self) -> None:
        with serving("--admin-token", "s3cret-value") as (_, url):
            assert invoke("verdict", "--url", url).returncode == 2
            assert (
                invoke(
                    "verdict", "--url", url, "--admin-token", "s3cret-value", "--allow-empty"
                ).returncode
                == 0
            )
            assert a_prediction(url).status_code == 200


class TestDrain:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_after_sigterm_it_says_so_and_serves_on_until_a_second_signal(
        self, number: signal.Signals
    ) -> None:
        with serving("--drain", "600") as (process, url):
            process.terminate()
            while (health := httpx.get(url + "/__admin/health")).status_code == 200:
                pass
            assert (health.status_code, health.json()["status"]) == (503, "draining")
            told = a_prediction(url).json()
            for status in ("processing", "succeeded"):
                assert httpx.get(told["urls"]["get"]).json()["status"] == status
            assert "mockserver_draining 1\n" in httpx.get(url + "/__admin/metrics").text
            process.send_signal(number)
            _, errors = process.communicate(timeout=20)
            assert (process.returncode, errors) == (0, "")

    def test_it_ends_by_itself_when_its_time_is_over(self) -> None:
        with serving("--drain", "0.3") as (process, _):
            began = time.monotonic()
            process.terminate()
            assert process.wait(timeout=20) == 0
            assert time.monotonic() - began >= 0.3

    def test_ctrl_c_does_not_drain(self) -> None:
        with serving("--drain", "600") as (process, _):
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=20) == 0

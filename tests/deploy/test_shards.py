"""`mockserver shards`: what it writes is whole, is taken by those who read it, and is refused where it could not be right."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from mockserver.admin.prometheus import as_text
from mockserver.backend.metrics import Metrics
from mockserver.backend.store import Store
from mockserver.cli.entry import main
from mockserver.cli.serve import serve
from mockserver.clock import Clock
from mockserver.deploy.shards import DRAIN, Deployment, configuration, public_paths, read_servers
from tests.helpers.cluster import HAPROXY, with_haproxy
from tests.helpers.documents import CONTRACT

TWO = "10.0.0.5:3589,[fd00::6]:3590"
TLS = {"tls_cert": "tls.pem", "public_url": "https://double.example"}


def written(form: Any, servers: str = "2", **settings: Any) -> str:
    return configuration(Deployment(form, servers, **settings), CONTRACT)


def haproxy_of(form: Any, **settings: Any) -> str:
    """The load balancer's configuration, wherever it stands."""
    if form == "haproxy":
        return written(form, TWO, **settings)
    documents = list(yaml.safe_load_all(written(form, **settings)))
    if form == "compose":
        content: str = documents[0]["configs"]["haproxy"]["content"]
        assert not re.search(r"(?<!\$)(\$\$)*\$(?!\$)", content), (
            "a dollar alone would be Compose's"
        )
        return content.replace("$$", "$")
    (found,) = (each["data"]["haproxy.cfg"] for each in documents if each["kind"] == "ConfigMap")
    return str(found)


FORMS = ("haproxy", "compose", "kubernetes")


@with_haproxy
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_haproxy_takes_it(form: str, tls: bool, tmp_path: Path) -> None:
    text = haproxy_of(form, **(TLS if tls else {}))
    certificate = re.search(r"ssl crt (\S+)", text)
    assert bool(certificate) == tls
    if certificate:
        import trustme

        file = tmp_path / "tls.pem"
        trustme.CA().issue_cert("double.example").private_key_and_cert_chain_pem.write_to_path(
            str(file)
        )
        text = text.replace(certificate[1], str(file))
    file = tmp_path / "haproxy.cfg"
    file.write_text(text)
    command = [str(HAPROXY), "-c", "-f", str(file)]
    checked = subprocess.run(command, capture_output=True, text=True, env={"NAMESPACE": "default"})
    assert checked.returncode == 0, checked.stderr
    for line in re.findall(r"^\[WARNING\].*", checked.stderr, re.M):
        assert "could not resolve address 'mockserver-" in line, "names there are none of here"


@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_left_to_fill_in(form: str) -> None:
    for settings in ({}, TLS):
        text = written(form, "2" if form != "haproxy" else TWO, **settings)
        assert "@" not in text
        assert "None" not in text.replace("clusterIP: None ", "")


@pytest.mark.parametrize("form", FORMS)
def test_the_load_balancer_is_the_same_in_all_of_them(form: str) -> None:
    def rules(text: str) -> list[str]:
        return [line for line in text.splitlines() if not re.match(r" +(server|bind) |#", line)]

    assert rules(haproxy_of(form)) == rules(haproxy_of("haproxy"))


@pytest.mark.parametrize("form", FORMS)
def test_most_lines_say_what_they_are_for(form: str) -> None:
    lines = haproxy_of(form).splitlines()
    assert sum("#" in line for line in lines) > len(lines) / 3


def test_the_doubles_are_those_that_were_named() -> None:
    servers = re.findall(r"^    server (\S+) (\S+)$", written("haproxy", TWO), re.M)
    assert servers == [("10.0.0.5:3589", "10.0.0.5:3589"), ("fd00::6:3590", "[fd00::6]:3590")]


def test_paths_without_a_token_are_the_contract_s() -> None:
    patterns = [re.compile(pattern) for pattern in public_paths(CONTRACT, "prediction_id")]
    identifier = "0" * 26
    for path in (
        f"/p/{identifier}",
        f"/v1/files/bcwr-{identifier}",
        f"/xezq/{identifier}/output.jpg",
    ):
        assert any(pattern.match(path) for pattern in patterns)
    for path in (
        f"/replicate/v1/predictions/{identifier}",
        f"/p/{identifier}/more",
        "/xezq/x/outputXjpg",
        "/__admin/",
    ):
        assert not any(pattern.match(path) for pattern in patterns)

    (download,) = public_paths(CONTRACT, "file_id")
    assert re.match(download, "/replicate/v1/files/MTky/download")
    assert all(
        f"'{pattern}'" in written("haproxy", TWO)
        for pattern in (*public_paths(CONTRACT, "prediction_id"), download)
    )


def started_by(command: list[str]) -> dict[str, Any]:
    """What `mockserver serve` makes of a command of a container."""
    assert command[:2] == ["mockserver", "serve"]
    return serve.make_context("serve", command[2:]).params


def test_compose_starts_as_many_doubles_as_asked_all_alike() -> None:
    document = yaml.safe_load(written("compose", "3", public_url="http://double.example"))
    services = document["services"]
    assert list(services) == ["balancer", "mockserver-0", "mockserver-1", "mockserver-2"]
    assert services["mockserver-0"] == services["mockserver-2"]
    settings = started_by(services["mockserver-0"]["entrypoint"])
    assert (settings["host"], settings["port"], settings["seed"]) == ("0.0.0.0", 3589, 1)
    assert (settings["drain"], settings["public_url"]) == (DRAIN, "http://double.example")
    assert int(services["mockserver-0"]["stop_grace_period"].rstrip("s")) > DRAIN
    assert services["balancer"]["ports"] == ["3589:3589"]
    for name in list(services)[1:]:
        assert f"server {name} {name}:3589" in document["configs"]["haproxy"]["content"]


def test_compose_takes_names_a_port_and_a_certificate_as_asked() -> None:
    text = written(
        "compose", "red:8000,blue:8000", listen="127.0.0.1:443", image="registry/double:1", **TLS
    )
    services = yaml.safe_load(text)["services"]
    assert list(services) == ["balancer", "red", "blue"]
    assert services["red"]["image"] == "registry/double:1"
    assert started_by(services["red"]["entrypoint"])["port"] == 8000
    assert services["balancer"]["ports"] == ["127.0.0.1:443:443"]
    assert services["balancer"]["volumes"] == ["tls.pem:/etc/haproxy-tls/tls.pem:ro"]
    assert "bind :443 ssl crt /etc/haproxy-tls/tls.pem" in haproxy_of(
        "compose", listen=":443", **TLS
    )


def test_kubernetes_has_a_stateful_set_a_headless_service_and_the_load_balancer() -> None:
    documents = list(yaml.safe_load_all(written("kubernetes", "3", listen=":80")))
    kinds = {(each["kind"], each["metadata"]["name"]): each for each in documents}
    doubles, headless = kinds["StatefulSet", "mockserver"], kinds["Service", "mockserver"]
    balancer, front = (
        kinds["Deployment", "mockserver-balancer"],
        kinds["Service", "mockserver-balancer"],
    )
    assert headless["spec"]["clusterIP"] == "None"
    assert headless["spec"]["publishNotReadyAddresses"] is True
    assert (doubles["spec"]["serviceName"], doubles["spec"]["replicas"]) == ("mockserver", 3)
    for service, set_ in ((headless, doubles), (front, balancer)):
        labels = set_["spec"]["template"]["metadata"]["labels"]
        assert service["spec"]["selector"] == labels == set_["spec"]["selector"]["matchLabels"]
    pod = doubles["spec"]["template"]["spec"]
    settings = started_by(pod["containers"][0]["command"])
    assert settings["public_url"] == "http://mockserver-balancer:80"
    assert pod["terminationGracePeriodSeconds"] > settings["drain"] == DRAIN
    assert front["spec"]["ports"][0]["port"] == 80
    container = balancer["spec"]["template"]["spec"]["containers"][0]
    assert {variable["name"] for variable in container["env"]} >= set(
        re.findall(r"\$\{(\w+)", haproxy_of("kubernetes"))
    )
    for number in range(3):
        name = f"mockserver-{number}"
        assert (
            f'server {name} "{name}.mockserver.${{NAMESPACE}}.svc.cluster.local:3589"'
            in kinds["ConfigMap", "mockserver-balancer"]["data"]["haproxy.cfg"]
        )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--servers", "3"], "--servers '3': HOST:PORT such as 127.0.0.1:3589 is needed"),
        (["--servers", ""], "1 to 1000"),
        (["--servers", "a:1,a:1"], "a:1 stands there twice"),
        (["--servers", "a:0"], "--servers 'a:0': HOST:PORT"),
        (["--servers", "a:1\n    server evil"], "HOST:PORT"),
        (["--servers", "a b:1"], "HOST:PORT"),
        (
            ["--servers", "a:1", "--listen", "3589"],
            "--listen '3589': [HOST]:PORT such as :3589 is needed",
        ),
        (["--servers", "a:1", "--listen", ":99999"], "--listen ':99999'"),
        (["--servers", "a:1", "--tls-cert", "my file.pem"], "--tls-cert 'my file.pem'"),
        (["--servers", "0", "--format", "compose"], "1 to 1000"),
        (["--servers", "a:1,b:2", "--format", "compose"], "all have one port"),
        (["--servers", "[::1]:1", "--format", "compose"], "not the name of a service"),
        (["--servers", "a-0:1,b-1:1", "--format", "kubernetes"], "NAME-0, NAME-1"),
        (["--servers", "a-1:1,a-2:1", "--format", "kubernetes"], "NAME-0, NAME-1"),
        (
            ["--servers", "2", "--format", "kubernetes", "--listen", "1.2.3.4:1"],
            "in Kubernetes it is only a port",
        ),
        (
            ["--servers", "2", "--format", "compose", "--tls-cert", "a.pem"],
            "--tls-cert needs --public-url",
        ),
        (["--servers", "2", "--format", "compose", "--image", 'a", "b'], "--image"),
        (
            ["--servers", "2", "--format", "compose", "--public-url", "double"],
            "--public-url double",
        ),
    ],
)
def test_what_could_not_be_right_is_refused_in_a_line(arguments: list[str], said: str) -> None:
    ended = shards(*arguments)
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert said in ended.stderr
    assert ended.stderr.count("\n") == 1


def shards(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["shards", *arguments])


def test_the_command_prints_what_is_written() -> None:
    ended = shards("--servers", TWO, "--listen", "127.0.0.1:80")
    assert (ended.exit_code, ended.stdout) == (0, written("haproxy", TWO, listen="127.0.0.1:80"))
    assert "    bind 127.0.0.1:80\n" in ended.stdout


def test_doubles_that_are_only_counted_are_named() -> None:
    assert [server.name for server in read_servers("2", "kubernetes")] == [
        "mockserver-0:3589",
        "mockserver-1:3589",
    ]


PAGE = (Path(__file__).parent.parent.parent / "docs" / "shards.md").read_text()


def test_the_page_s_commands_for_containers_write_what_they_name() -> None:
    (block,) = re.findall(
        r"^<!-- tested by: tests/deploy/test_shards.py -->\n```sh\n(.*?)^```$", PAGE, re.M | re.S
    )
    for line in block.splitlines():
        command, _, file = line.partition(" > ")
        ended = CliRunner().invoke(main, command.split()[1:])
        assert (ended.exit_code, file.endswith(".yaml")) == (0, True)


def test_every_flag_and_every_metric_is_on_the_page() -> None:
    table = PAGE.partition("| flag of `shards` |")[2].partition("\n\n")[0]
    for parameter in main.commands["shards"].params:
        assert f"`{parameter.opts[0]}" in table
    told = set(re.findall(r"`(mockserver_\w+)`", PAGE))
    text = as_text(Metrics(), Store(0, Clock).counts(), version="1", draining=False, cpu_seconds=0)
    assert told == set(re.findall(r"# TYPE (\w+)", text))

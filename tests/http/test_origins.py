"""TLS with a certificate of its own, and hosts beside the API's."""

import io
import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from replicate.client import Client
from replicate.helpers import FileOutput

from mockserver import MockServer
from tests.helpers.command import serving
from tests.helpers.documents import KONTEXT
from tests.helpers.node import node, with_node


def finished(client: httpx.Client) -> dict[str, Any]:
    received = client.post(
        KONTEXT, json={"input": {"prompt": "p"}}, headers={"Prefer": "wait"}
    ).json()
    assert received["output"]
    return received  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def secure() -> Iterator[MockServer]:
    with MockServer(tls=True) as server:
        yield server


class TestTls:
    def test_it_is_trusted_by_its_own_authority_and_by_nobody_else(
        self, secure: MockServer
    ) -> None:
        assert secure.ca_file is not None
        trusting = ssl.create_default_context(cafile=secure.ca_file)
        with httpx.Client(base_url=secure.url, verify=trusting) as client:
            received = finished(client)
            for url in (*received["urls"].values(), received["output"]):
                assert url.startswith(f"https://127.0.0.1:{secure.port}/")
            assert client.get(received["output"]).headers["content-type"] == "image/png"
            assert client.get(f"https://localhost:{secure.port}/openapi.json").status_code == 200
        with pytest.raises(httpx.ConnectError, match="certificate"):
            httpx.get(secure.url)

    def test_a_handshake_that_has_not_ended_does_not_keep_it_from_stopping(self) -> None:
        with MockServer(tls=True) as server:
            raw = socket.create_connection(("127.0.0.1", server.port))
            raw.sendall(b"\x16\x03\x01")
            assert server.tenant().verdict()["exchanges"] == 0, "it has taken the connection by now"
        raw.close()

    def test_a_tenant_is_steered_over_it(self, secure: MockServer) -> None:
        tenant = secure.tenant(scenario="nsfw")
        assert tenant.scenario()["name"] == "nsfw"

    def test_the_official_python_client_wraps_its_output_as_a_file(
        self, secure: MockServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(secure.ca_file))
        tenant = secure.tenant()
        client = Client(api_token=tenant.token, base_url=tenant.base_url)
        output: Any = client.run("black-forest-labs/flux-kontext-max", input={"prompt": "p"})
        assert isinstance(output, FileOutput)
        assert Image.open(io.BytesIO(output.read())).size == (1024, 1024)
        client._client.close()
        output._client._client.close()

    @pytest.mark.slow
    @with_node
    def test_so_does_the_npm_client(self, secure: MockServer) -> None:
        tenant = secure.tenant()
        received = node(tenant, "replicate.mjs", "file", NODE_EXTRA_CA_CERTS=str(secure.ca_file))
        assert received["size"] > 10_000
        assert received["url"] == tenant.predictions()[0]["output"]

    @pytest.mark.slow
    def test_serve_says_where_the_certificate_is_and_removes_it_at_the_end(
        self, tmp_path: Path
    ) -> None:
        ready = tmp_path / "ready.json"
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "mockserver",
                "serve",
                "--port",
                "0",
                "--tls",
                "--ready-file",
                str(ready),
            ],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ,
        )
        with process:
            try:
                assert process.stdout is not None
                url = process.stdout.readline().split()[-1]
                assert url.startswith("https://127.0.0.1:")
                facts = json.loads(ready.read_text())
                assert facts["url"] == url
                assert facts["ca_file"] in process.stdout.readline() + process.stdout.readline()
                with httpx.Client(
                    verify=ssl.create_default_context(cafile=facts["ca_file"])
                ) as client:
                    assert client.get(url + "/__admin/health").status_code == 200
                process.terminate()
                process.communicate(timeout=20)
            finally:
                process.kill()
        assert process.returncode == 0
        assert not Path(facts["ca_file"]).exists()

    def test_foreign_urls_are_https_too(self) -> None:
        with MockServer(tls=True, urls="foreign") as server:
            trusting = ssl.create_default_context(cafile=server.ca_file)
            client = httpx.Client(base_url=server.url, verify=trusting)
            url = finished(client)["urls"]["get"]
            assert url.startswith("https://")
            assert client.get(url).status_code == 401
            client.close()


class TestSeparateFileHost:
    def test_pictures_come_from_a_host_of_their_own_which_notes_who_sends_it_a_token(self) -> None:
        with (
            MockServer(files_origin="separate") as server,
            httpx.Client(base_url=server.url) as client,
        ):
            tenant = server.tenant()
            client.headers["Authorization"] = f"Bearer {tenant.token}"
            received = finished(client)
            assert not received["output"].startswith(server.url)
            assert client.get(received["output"]).headers["content-type"] == "image/png"
            assert httpx.head(received["output"]).status_code == 200
            at_files = [item for item in tenant.requests() if item["arrived_at"] == "files"]
            assert ["authorization" in item["request"]["headers"] for item in at_files] == [
                True,
                False,
            ]
            assert tenant.verdict()["ok"]

    def test_it_has_nothing_but_pictures(self) -> None:
        with (
            MockServer(files_origin="separate") as server,
            httpx.Client(base_url=server.url) as client,
        ):
            files = httpx.URL(finished(client)["output"])
            for path in ("/replicate/v1/predictions", "/__admin/health", "/openapi.json"):
                assert client.get(files.copy_with(path=path)).status_code == 404

    def test_the_page_for_people_shows_them_all_the_same(self) -> None:
        with (
            MockServer(files_origin="separate") as server,
            httpx.Client(base_url=server.url) as client,
        ):
            received = finished(client)
            page = client.get(received["urls"]["web"])
            origin = received["output"].rpartition("/xezq")[0]
            assert f"img-src {origin};" in page.headers["content-security-policy"]

    @pytest.mark.slow
    def test_serve_has_a_flag_for_it(self) -> None:
        with (
            serving("--files-origin", "separate") as (_, url),
            httpx.Client(base_url=url) as client,
        ):
            assert not finished(client)["output"].startswith(url)


def test_the_address_to_hand_out_holds_in_the_admin_api_too() -> None:
    with MockServer(public_url="https://double.example:8443") as server:
        tenant = server.tenant()
        with httpx.Client(
            base_url=server.url, headers={"Authorization": f"Bearer {tenant.token}"}
        ) as client:
            client.post(KONTEXT, json={"input": {"prompt": "p"}})
        (result,) = tenant.predictions()
        assert result["urls"]["get"].startswith("https://double.example:8443/replicate/")

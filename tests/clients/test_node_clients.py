"""The official npm clients run unmodified: they are told a base URL and a token, and nothing else."""

import json

import httpx
import pytest

from mockserver import Tenant
from tests.helpers.node import node, with_node
from tests.helpers.receiver import Receiver

pytestmark = [with_node, pytest.mark.slow]


class TestReplicate:
    def test_run_waits_and_returns_the_picture(self, tenant: Tenant) -> None:
        output = node(tenant, "replicate.mjs", "run")["output"]
        assert output == tenant.predictions()[0]["output"]
        assert tenant.requests()[0]["request"]["headers"]["prefer"] == "wait"
        assert tenant.verdict()["ok"]

    def test_run_polls(self, tenant: Tenant) -> None:
        told = node(tenant, "replicate.mjs", "poll")
        assert told["seen"] == ["starting", "processing", "succeeded"]
        assert told["output"].endswith("/output.png")

    def test_run_polls_where_a_wait_runs_out(self, tenant: Tenant) -> None:
        tenant.use("slow")
        assert node(tenant, "replicate.mjs", "run")["output"].endswith("/output.png")

    def test_a_failure_is_told(self, tenant: Tenant) -> None:
        tenant.use("nsfw")
        assert "flagged as sensitive" in node(tenant, "replicate.mjs", "failed")["error"]

    def test_stream_takes_the_output_for_a_file(self, tenant: Tenant) -> None:
        seen = node(tenant, "replicate.mjs", "stream")["seen"]
        assert [name for name, _ in seen] == ["logs", "logs", "output", "done"]
        assert seen[2][1] == {}  # a FileOutput, which has no properties of its own

    def test_cancel_list_and_model(self, tenant: Tenant) -> None:
        assert node(tenant, "replicate.mjs", "cancel") == {"status": "canceled"}
        assert node(tenant, "replicate.mjs", "list") == {"count": 4}
        assert node(tenant, "replicate.mjs", "model") == {
            "name": "black-forest-labs/flux-kontext-max"
        }
        assert tenant.verdict()["ok"]

    def test_files_are_uploaded_listed_deleted_and_used(self, tenant: Tenant) -> None:
        told = node(tenant, "replicate.mjs", "files", PICTURE="a picture")
        assert told == {"metadata": {"customer": 7}, "listed": 1}
        node(tenant, "replicate.mjs", "buffer")
        (prediction,) = tenant.predictions()
        assert prediction["input"]["input_image"].startswith(tenant.base_url + "/v1/files/")
        assert tenant.verdict()["ok"]

    def test_our_webhooks_are_genuine_to_its_own_check(
        self, tenant: Tenant, receiver: Receiver
    ) -> None:
        httpx.post(
            tenant.base_url + "/v1/models/black-forest-labs/flux-kontext-max/predictions",
            json={"input": {"prompt": "p"}, "webhook": receiver.url},
            headers={"Authorization": f"Bearer {tenant.token}"},
        )
        headers, body = receiver.came.get(timeout=20)
        signed = {name: headers[name] for name in headers if name.startswith("webhook-")}
        told = node(
            tenant,
            "replicate.mjs",
            "webhook",
            DELIVERY=json.dumps({"headers": signed, "body": body.decode()}),
        )
        assert told == {"genuine": True, "tampered": False}


class TestAiSdk:
    @pytest.mark.parametrize(
        ("model", "kind"), [("flux-1.1-pro-ultra", "image/jpeg"), ("flux-kontext-max", "image/png")]
    )
    def test_it_generates_an_image(self, tenant: Tenant, model: str, kind: str) -> None:
        told = node(tenant, "ai.mjs", f"black-forest-labs/{model}")
        assert told["type"] == kind
        assert told["size"] > 10_000
        # It always sends num_outputs, which neither model has: answered, and written down.
        assert {fault["pointer"] for fault in tenant.verdict()["violations"]} == {
            "/input/num_outputs"
        }

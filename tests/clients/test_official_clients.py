"""The official clients run unmodified: they are told a base URL and a token, and nothing else."""

import asyncio
import io
from collections.abc import Iterator

import httpx
import pytest
from PIL import Image
from replicate.client import Client
from replicate.exceptions import ModelError, ReplicateError

from mockserver import Tenant

MODELS = ("black-forest-labs/flux-1.1-pro-ultra", "black-forest-labs/flux-kontext-max")


@pytest.fixture
def client(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setenv("REPLICATE_POLL_INTERVAL", "0")
    client = Client(api_token=tenant.token, base_url=tenant.base_url)
    yield client
    client._client.close()


@pytest.mark.parametrize("model", MODELS)
def test_run_returns_the_picture(client: Client, tenant: Tenant, model: str) -> None:
    output = client.run(model, input={"prompt": "a lighthouse", "aspect_ratio": "3:2"})
    assert isinstance(output, str)
    picture = Image.open(io.BytesIO(httpx.get(output).content))
    assert picture.width / picture.height == pytest.approx(1.5, rel=0.01)
    assert tenant.verdict()["ok"]


@pytest.mark.parametrize("model", MODELS)
def test_run_polls_where_a_wait_runs_out(client: Client, tenant: Tenant, model: str) -> None:
    tenant.use("slow")
    assert client.run(model, input={"prompt": "a lighthouse"})
    methods = [exchange["request"]["method"] for exchange in tenant.requests()]
    assert methods[0] == "POST"
    assert "GET" in methods


def test_the_asynchronous_run_does_the_same(client: Client, tenant: Tenant) -> None:
    async def run() -> object:
        output = await client.async_run(MODELS[0], input={"prompt": "p"})
        await client._async_client.aclose()
        return output

    assert asyncio.run(run()) == tenant.predictions()[0]["output"]


def test_create_can_wait(client: Client, tenant: Tenant) -> None:
    prediction = client.models.predictions.create(MODELS[1], input={"prompt": "p"}, wait=10)
    assert (prediction.status, prediction.output is None) == ("processing", False), (
        "as Replicate shows it"
    )
    prediction.wait()
    assert prediction.status == "succeeded"
    assert tenant.requests()[0]["request"]["headers"]["prefer"] == "wait=10"
    prediction = client.models.predictions.create(MODELS[1], input={"prompt": "p"})
    prediction.wait()
    assert prediction.status == "succeeded"


def test_a_failed_prediction_raises_its_error(client: Client, tenant: Tenant) -> None:
    tenant.use("nsfw")
    with pytest.raises(ModelError, match="E005"):
        client.run(MODELS[0], input={"prompt": "p"})


def test_an_invalid_input_raises_with_the_reason(client: Client) -> None:
    with pytest.raises(ReplicateError, match="output_format must be one of the following"):
        client.run(MODELS[1], input={"prompt": "p", "output_format": "gif"})


def test_create_reload_cancel_and_list(client: Client, tenant: Tenant) -> None:
    prediction = client.models.predictions.create(MODELS[1], input={"prompt": "p"})
    told = [str(prediction.status)]
    for move in (prediction.reload, prediction.cancel):
        move()
        told.append(str(prediction.status))
    assert told == ["starting", "processing", "canceled"]
    assert [each.id for each in client.predictions.list().results] == [prediction.id]
    assert tenant.verdict()["ok"]

"""The clients of docs/findings.md that are Python packages, unmodified, as workers: python worker.py NAME."""

import base64
import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

Make = Callable[[dict[str, Any]], Any]


def replicate_beta() -> Make:
    """`replicate` 2."""
    from replicate import Replicate

    def make(call: dict[str, Any]) -> Any:
        client = Replicate(bearer_token=call["token"], base_url=f"{call['base_url']}/v1")
        try:
            return client.run(call["model"], input=call["input"])
        finally:
            client.close()

    return make


def as_it_came(data: bytes) -> bytes:
    """A picture's bytes, which can be compared, where the client makes an image of them, or raises."""
    if not data.startswith((b"\xff\xd8", b"\x89PNG")):
        raise ValueError("cannot identify image file")
    return data


def huggingface_hub() -> Make:
    """`huggingface_hub`: its base URL is a constant, and so is which model is whose."""
    import huggingface_hub.inference._client as inference
    from huggingface_hub import InferenceClient
    from huggingface_hub.hf_api import InferenceProviderMapping
    from huggingface_hub.inference._providers import PROVIDERS
    from huggingface_hub.inference._providers._common import HARDCODED_MODEL_INFERENCE_MAPPING

    inference._bytes_to_image = as_it_came
    helper = PROVIDERS["replicate"]["text-to-image"]

    def make(call: dict[str, Any]) -> Any:
        helper.base_url = call["base_url"]
        HARDCODED_MODEL_INFERENCE_MAPPING["replicate"][call["model"]] = InferenceProviderMapping(
            provider="replicate",
            hf_model_id=call["model"],
            providerId=call["model"],
            status="live",
            task="text-to-image",
        )
        prompt, rest = (
            call["input"]["prompt"],
            {name: v for name, v in call["input"].items() if name != "prompt"},
        )
        client = InferenceClient(provider="replicate", api_key=call["token"])
        return client.text_to_image(prompt, model=call["model"], extra_body=rest)

    return make


def langchain_community() -> Make:
    """`langchain-community`, which calls the module-level client of `replicate` 1."""
    import replicate
    from langchain_community.llms import Replicate

    def make(call: dict[str, Any]) -> Any:
        os.environ["REPLICATE_API_TOKEN"] = call["token"]
        client = replicate.Client(api_token=call["token"], base_url=call["base_url"])
        for name in ("models", "predictions", "run"):
            setattr(replicate, name, getattr(client, name))
        rest = {name: value for name, value in call["input"].items() if name != "prompt"}
        return Replicate(model=call["model"], prompt_key="prompt", model_kwargs=rest).invoke(
            call["input"]["prompt"]
        )

    return make


def litellm() -> Make:
    """`litellm`, which has a model of Replicate complete a message. Its base URL is a constant, and led to the double."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = (
        "True"  # or it asks GitHub for prices when it is imported
    )
    import httpx
    from litellm import completion
    from litellm.llms.replicate.chat.handler import get_httpx_client

    def make(call: dict[str, Any]) -> Any:
        def lead(request: httpx.Request) -> None:
            request.url = httpx.URL(
                str(request.url).replace("https://api.replicate.com", call["base_url"])
            )
            request.headers["Host"] = request.url.netloc.decode()

        get_httpx_client({"timeout": 600.0}).client.event_hooks = {"request": [lead]}
        rest = {name: value for name, value in call["input"].items() if name != "prompt"}
        message = {"role": "user", "content": call["input"]["prompt"]}
        answer = completion(f"replicate/{call['model']}", [message], api_key=call["token"], **rest)
        return answer.choices[0].message.content

    return make


# What `pipecat-replicate` would have otherwise: it sends defaults of its own where its settings say nothing.
DEFAULTS = {
    "black-forest-labs/flux-1.1-pro-ultra": {"aspect_ratio": "1:1", "output_format": "jpg"},
    "black-forest-labs/flux-kontext-max": {
        "aspect_ratio": "match_input_image",
        "output_format": "png",
    },
}


def pipecat_replicate(defaults: Mapping[str, dict[str, str]]) -> Make:
    """`pipecat-replicate`, with settings for each model."""
    import asyncio

    import aiohttp
    from pipecat.frames.frames import ErrorFrame
    from pipecat_replicate import ReplicateImageGenService as Service

    async def make_frames(call: dict[str, Any]) -> list[Any]:
        settings = Service.Settings.from_mapping(
            {"model": call["model"], **defaults.get(call["model"], {}), **call["input"]}
        )
        prompt = settings.extra.pop("prompt")
        async with aiohttp.ClientSession() as session:
            service = Service(
                aiohttp_session=session,
                api_token=call["token"],
                base_url=f"{call['base_url']}/v1",
                settings=settings,
            )
            return [frame async for frame in service.run_image_gen(prompt)]

    def make(call: dict[str, Any]) -> Any:
        frame = asyncio.run(make_frames(call))[0]
        if isinstance(frame, ErrorFrame):
            raise RuntimeError(frame.error)
        return frame

    return make


CLIENTS = {
    "replicate-2": replicate_beta,
    "huggingface_hub": huggingface_hub,
    "langchain-community": langchain_community,
    "litellm": litellm,
    "pipecat-replicate": lambda: pipecat_replicate({}),
    "pipecat-replicate-settings": lambda: pipecat_replicate(DEFAULTS),
}


def main() -> None:
    """Take a line for each call."""
    make = CLIENTS[sys.argv[1]]()
    for line in sys.stdin:
        try:
            output = make(json.loads(line))
            if isinstance(output, bytes):
                output = "data:image/jpeg;base64," + base64.b64encode(output).decode()
            reply = {"output": getattr(output, "url", output)}
        except Exception as reason:
            reply = {"error": f"{type(reason).__name__}: {reason}"}
        print(json.dumps(reply, default=str), flush=True)


if __name__ == "__main__":
    main()

"""The clients of docs/findings.md that are Python packages, unmodified, as workers: python worker.py NAME."""

import base64
import json
import os
import sys
from collections.abc import Callable
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
        prompt, rest = call["input"]["prompt"], {name: v for name, v in call["input"].items() if name != "prompt"}
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
        return Replicate(model=call["model"], prompt_key="prompt", model_kwargs=rest).invoke(call["input"]["prompt"])

    return make


CLIENTS = {
    "replicate-2": replicate_beta,
    "huggingface_hub": huggingface_hub,
    "langchain-community": langchain_community,
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

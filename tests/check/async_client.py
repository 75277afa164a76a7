"""Another client, built differently: asynchronous, on httpx, one that gives up at the first trouble. It is legal."""

import asyncio

import httpx

from mockserver.check.drive.protocol import Call


async def call_once(call: Call) -> str:
    """The output's URL."""
    headers = {"AUTHORIZATION": f"Bearer {call.token}"}
    async with httpx.AsyncClient(base_url=call.base_url, headers=headers) as client:
        response = await client.post(
            f"/v1/models/{call.model}/predictions", json={"input": dict(call.input)}
        )
        prediction = response.raise_for_status().json()
        while prediction["status"] in ("starting", "processing"):
            await asyncio.sleep(0.004)
            response = await client.get(f"/v1/predictions/{prediction['id']}")
            prediction = response.raise_for_status().json()
        if prediction["status"] != "succeeded" or prediction["output"] is None:
            raise RuntimeError(f"prediction {prediction['status']}")
        return str(prediction["output"])

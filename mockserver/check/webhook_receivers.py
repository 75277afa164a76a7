"""Checks that webhook receivers accept valid webhooks, and reject forged and stale ones."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import msgspec

from mockserver.backend.backend import Backend
from mockserver.check.rules.receivers import accepts
from mockserver.clock import SECOND, wall_time
from mockserver.contract.contract import Contract
from mockserver.errors import MockServerError
from mockserver.http.post import post
from mockserver.http.webhooks import sign
from mockserver.server.mock_server import MockServer

TIMEOUT = 5.0  # seconds for a response, as on Replicate
STALE = 3600  # seconds between a stale timestamp and now, in either direction
NUMBER = 987654321.5  # a placeholder for a number in another spelling
DUPLICATES = "MC605"
FORGED = "whsec_" + "Zm9yZ2VkZm9yZ2VkZm9yZ2VkZm9yZ2Vk"


class Message(msgspec.Struct, frozen=True):
    """One webhook, the rule that it is sent for, and whether a receiver must accept it.

    A `plain` one is like those that the gateway usually sends.
    """

    rule: str
    description: str
    must_accept: bool
    headers: dict[str, str]
    body: bytes
    plain: bool = False


class Reaction(msgspec.Struct, frozen=True):
    """The status of a receiver's response to a message, or the reason why it has none."""

    message: Message
    status: int | None
    reason: str

    @property
    def ok(self) -> bool:
        """Whether a response accepted what it must accept, and rejected what it must reject."""
        return self.status is not None and accepts(self.status) == self.message.must_accept


def messages(contract: Contract, secret: str, now: int, picture_url: str) -> Iterator[Message]:
    """The webhooks for a receiver, in order.

    `now` is in seconds since the epoch. `picture_url` must be the URL of a picture.
    """
    predictions = {
        status: {**prediction, "output": picture_url} if prediction.get("output") else prediction
        for status, prediction in contract.templates.items()
    }
    bodies = {status: msgspec.json.encode(prediction) for status, prediction in predictions.items()}
    done = bodies["succeeded"]
    other = msgspec.json.encode({**predictions["succeeded"], "output": f"{picture_url}?other"})

    def signed(key: str, identifier: str, at: int, body: bytes) -> dict[str, str]:
        return {
            "content-type": "application/json",
            "webhook-id": identifier,
            "webhook-timestamp": str(at),
            "webhook-signature": sign(key, identifier, at, body),
        }

    for number, (status, body) in enumerate(bodies.items()):
        headers = signed(secret, f"msg_{number}", now, body)
        yield Message(
            "MC601",
            f"a genuine webhook of a prediction that is {status}",
            True,
            headers,
            body,
            plain=True,
        )
    for name, body in _other_spellings(predictions["succeeded"]).items():
        headers = signed(secret, f"msg_{name}", now, body)
        description = f"a genuine webhook whose JSON has {name.replace('_', ' ')}"
        yield Message("MC601", description, True, headers, body)
    two = signed(secret, "msg_two", now, done)
    two["webhook-signature"] = f"{sign(FORGED, 'msg_two', now, done)} {two['webhook-signature']}"
    yield Message(
        "MC601",
        "a genuine webhook with two signatures, of which the second is valid",
        True,
        two,
        done,
    )

    genuine = signed(secret, "msg_genuine", now, done)
    yield Message(
        "MC602",
        "a webhook signed with another key",
        False,
        signed(FORGED, "msg_forged", now, done),
        done,
    )
    unsigned = {name: value for name, value in genuine.items() if name != "webhook-signature"}
    yield Message("MC602", "a webhook without a signature", False, unsigned, done)
    yield Message(
        "MC602",
        "a webhook with an empty signature",
        False,
        {**genuine, "webhook-signature": ""},
        done,
    )
    odd = {**genuine, "webhook-signature": "v1,?"}
    yield Message("MC602", "a webhook whose signature is not base64", False, odd, done)
    yield Message("MC603", "a webhook whose body was changed", False, genuine, other)
    yield Message(
        "MC603",
        "a webhook whose id was changed",
        False,
        {**genuine, "webhook-id": "msg_other"},
        done,
    )
    earlier = {**genuine, "webhook-timestamp": str(now - 1)}
    yield Message("MC603", "a webhook whose timestamp was changed", False, earlier, done)
    yield Message(
        "MC604",
        "a webhook signed an hour ago",
        False,
        signed(secret, "msg_stale", now - STALE, done),
        done,
    )
    yield Message(
        "MC604",
        "a webhook signed with a time an hour ahead",
        False,
        signed(secret, "msg_ahead", now + STALE, done),
        done,
    )
    again = signed(secret, "msg_twice", now, done)
    yield Message("MC605", "a webhook, the first time", True, again, done)
    yield Message("MC605", "the same webhook again", True, again, done)
    late = bodies.get("processing", done)
    yield Message(
        "MC605",
        "a webhook that arrives after the last one",
        True,
        signed(secret, "msg_late", now, late),
        late,
    )


def _other_spellings(prediction: dict[str, Any]) -> dict[str, bytes]:
    """A prediction as valid JSON in unusual spellings, by what is unusual.

    A receiver that verifies its own encoding of the parsed JSON, instead of the received bytes,
    rejects them.
    """
    escaped = json.dumps({**prediction, "input": {"prompt": "a <cat> & a dog"}})
    for character in "<>&":
        escaped = escaped.replace(character, f"\\u{ord(character):04x}")
    numbers = json.dumps({**prediction, "metrics": {"predict_time": NUMBER}})
    letters = {**prediction, "input": {"prompt": "灯塔 über dem Meer"}}
    return {
        "blanks": json.dumps(prediction, indent=2, separators=(" , ", " : ")).encode(),
        "escapes": escaped.encode(),
        "numbers_with_zeros_at_the_end": numbers.replace(str(NUMBER), "3.50").encode(),
        "letters_beyond_ASCII": json.dumps(letters, ensure_ascii=False).encode(),
    }


@contextmanager
def _served_picture(contract: Contract) -> Iterator[str]:
    """The URL of a picture that is served for the time of the `with` block."""

    def create(backend: Backend) -> str:
        model = next(iter(contract.models.values()))
        scenario = backend.catalogue.parse({"lifecycle": [{"status": "succeeded"}]})
        tenant = backend.store.tenant("check-webhook")
        prediction = backend.create(
            tenant, model, {model.picture["prompt"]: "a cat"}, scenario, None
        )
        return backend.renderer.output_url(prediction, server.url)

    with MockServer(contract=contract) as server:
        yield server.call_in_loop(create)


def check_receiver(url: str, secret: str, contract: Contract) -> Iterator[Reaction]:
    """Send every message to a receiver, one by one. Raises MockServerError if none is there."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise MockServerError(
            f"{url} is not the address of a receiver, such as http://127.0.0.1:8000/webhooks"
        )
    try:
        b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError as reason:
        raise MockServerError(
            "--secret: a key is whsec_ and base64, as in GET …/webhooks/default/secret"
        ) from reason
    refuses_genuine = False
    with _served_picture(contract) as picture_url:
        to_send = messages(contract, secret, wall_time() // SECOND, picture_url)
        for number, message in enumerate(to_send):
            if refuses_genuine and message.rule == DUPLICATES:
                continue  # it would reject them for the same reason

            status, why = post(url, message.headers, message.body, TIMEOUT)
            reaction = Reaction(message, status, why or "")
            if number == 0 and reaction.status is None:
                raise MockServerError(
                    f"no receiver answers at {url}: {reaction.reason}; is it running?"
                )
            refuses_genuine |= message.plain and not reaction.ok
            yield reaction

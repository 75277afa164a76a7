"""Checks webhook receivers: each must accept genuine webhooks, and refuse forged, tampered and stale ones."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import msgspec

from mockserver.backend.backend import Backend
from mockserver.check.rules.receivers import takes
from mockserver.clock import SECOND, wall_time
from mockserver.contract.contract import Contract
from mockserver.errors import MockServerError
from mockserver.http.post import post
from mockserver.http.webhooks import sign
from mockserver.server.mock_server import MockServer

TIMEOUT = 5.0  # seconds that a receiver is given, as upstream does
STALE = 3600  # seconds by which a timestamp lies in the past, or in the future
NUMBER = 987654321.5  # stands where another spelling of a number is to be filled in
DUPLICATES = "MC605"
FORGED = "whsec_" + "Zm9yZ2VkZm9yZ2VkZm9yZ2VkZm9yZ2Vk"


class Message(msgspec.Struct, frozen=True):
    """One webhook that is sent: for which rule, what it is, and whether a receiver must accept it.

    A `plain` one is as the gateway usually sends it.
    """

    rule: str
    description: str
    must_accept: bool
    headers: dict[str, str]
    body: bytes
    plain: bool = False


class Reaction(msgspec.Struct, frozen=True):
    """A receiver's reaction to a message: the status of its response, or the reason why there is no response."""

    message: Message
    status: int | None
    reason: str

    @property
    def ok(self) -> bool:
        """Whether the message was accepted if it must be, and refused if not. No response is neither."""
        return self.status is not None and takes(self.status) == self.message.must_accept


def messages(contract: Contract, secret: str, now: int, picture_url: str) -> Iterator[Message]:
    """The webhooks that are sent to a receiver, in order.

    `now` is in seconds since the epoch; a picture can be fetched from `picture_url`.
    """
    predictions = {
        status: {**prediction, "output": picture_url} if prediction.get("output") else prediction
        for status, prediction in contract.templates.items()
    }
    bodies = {status: msgspec.json.encode(each) for status, each in predictions.items()}
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
    """A prediction as JSON that is as legal as any, by what is unusual in it.

    A receiver that verifies what it parsed and wrote again, instead of the bytes that came, takes
    none of them.
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
    """The URL of a picture that is served meanwhile: a receiver may well store it."""

    def create(backend: Backend) -> str:
        model = next(iter(contract.models.values()))
        scenario = backend.catalogue.parse({"lifecycle": [{"status": "succeeded"}]})
        tenant = backend.store.tenant("check-webhook")
        prediction = backend.create(
            tenant, model, {model.picture["prompt"]: "a cat"}, scenario, None
        )
        return backend.output_url(prediction, server.url)

    with MockServer(contract=contract) as server:
        yield server.call_in_loop(create)


def check_receiver(url: str, secret: str, contract: Contract) -> Iterator[Reaction]:
    """Send every message to a receiver, one after another. Raises MockServerError if there is none."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise MockServerError(
            f"{url} is not the address of a receiver, such as http://127.0.0.1:8000/webhooks"
        )
    try:
        b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError as reason:
        raise MockServerError(
            "--secret: a key is whsec_ and base64, as GET …/webhooks/default/secret tells it"
        ) from reason
    refuses_genuine = False
    with _served_picture(contract) as picture_url:
        to_send = messages(contract, secret, wall_time() // SECOND, picture_url)
        for number, message in enumerate(to_send):
            if refuses_genuine and message.rule == DUPLICATES:
                continue  # it would refuse them for the same reason

            status, why = post(url, message.headers, message.body, TIMEOUT)
            reaction = Reaction(message, status, why or "")
            if number == 0 and reaction.status is None:
                raise MockServerError(
                    f"no receiver answers at {url}: {reaction.reason}; is it running?"
                )
            refuses_genuine |= message.plain and not reaction.ok
            yield reaction

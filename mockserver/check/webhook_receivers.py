"""Checks webhook receivers: each must accept genuine webhooks, and refuse forged, tampered and stale ones."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from urllib.parse import urlsplit

import msgspec

from mockserver.check.rules.receivers import takes
from mockserver.clock import SECOND, wall_time
from mockserver.contract.contract import Contract
from mockserver.errors import MockServerError
from mockserver.http.post import post
from mockserver.http.webhooks import sign

TIMEOUT = 5.0  # seconds that a receiver is given, as upstream does
STALE = 3600  # seconds by which a timestamp lies in the past, or in the future
FORGED = "whsec_" + "Zm9yZ2VkZm9yZ2VkZm9yZ2VkZm9yZ2Vk"


class Message(msgspec.Struct, frozen=True):
    """One webhook that is sent: for which rule, what it is, and whether a receiver must accept or refuse it."""

    rule: str
    description: str
    must_accept: bool
    headers: dict[str, str]
    body: bytes


class Reaction(msgspec.Struct, frozen=True):
    """A receiver's reaction to a message: the status of its response, or the reason why there is no response."""

    message: Message
    status: int | None
    reason: str

    @property
    def ok(self) -> bool:
        """Whether the message was accepted if it must be, and refused if not. No response is neither."""
        return self.status is not None and takes(self.status) == self.message.must_accept


def messages(contract: Contract, secret: str, now: int) -> Iterator[Message]:
    """The webhooks that are sent to a receiver, in order. `now` is in seconds since the epoch."""
    bodies = {status: msgspec.json.encode(shown) for status, shown in contract.templates.items()}
    done = bodies["succeeded"]
    other = msgspec.json.encode(
        {**contract.templates["succeeded"], "output": "https://evil.example/picture.jpg"}
    )

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
            "MC601", f"a genuine webhook of a prediction that is {status}", True, headers, body
        )
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
    for number, message in enumerate(messages(contract, secret, wall_time() // SECOND)):
        status, why = post(url, message.headers, message.body, TIMEOUT)
        reaction = Reaction(message, status, why or "")
        if number == 0 and reaction.status is None:
            raise MockServerError(
                f"no receiver answers at {url}: {reaction.reason}; is it running?"
            )
        yield reaction

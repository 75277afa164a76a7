"""Webhook receivers, checked from the other side: the genuine is taken, the rest is refused."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from urllib.parse import urlsplit

import msgspec

from mockserver.clock import SECOND, wall_time
from mockserver.contract import Contract
from mockserver.errors import MockServerError
from mockserver.http_post import post
from mockserver.webhooks import sign

TIMEOUT = 5.0  # seconds that a receiver is given, as upstream does
STALE = 3600  # seconds
FORGED = "whsec_" + "Zm9yZ2VkZm9yZ2VkZm9yZ2VkZm9yZ2Vk"


class Message(msgspec.Struct, frozen=True):
    """One webhook that is sent: under which rule, in words, and whether a receiver is to take it."""

    rule: str
    what: str
    taken: bool
    headers: dict[str, str]
    body: bytes


class Answered(msgspec.Struct, frozen=True):
    """How a receiver took a message: its status, or why there is none."""

    message: Message
    status: int | None
    reason: str

    @property
    def ok(self) -> bool:
        """Whether that is as it should be."""
        accepted = self.status is not None and 200 <= self.status < 300
        return accepted == self.message.taken and (self.message.taken or self.status is not None)


def messages(contract: Contract, secret: str, now: int) -> Iterator[Message]:
    """What is sent to a receiver, in order. `now` is in seconds since the epoch."""
    bodies = {status: msgspec.json.encode(shown) for status, shown in contract.templates.items()}
    done = bodies["succeeded"]
    other = msgspec.json.encode({**contract.templates["succeeded"], "output": "https://evil.example/picture.jpg"})

    def signed(key: str, identifier: str, at: int, body: bytes) -> dict[str, str]:
        return {
            "content-type": "application/json",
            "webhook-id": identifier,
            "webhook-timestamp": str(at),
            "webhook-signature": sign(key, identifier, at, body),
        }

    for number, (status, body) in enumerate(bodies.items()):
        headers = signed(secret, f"msg_{number}", now, body)
        yield Message("MC601", f"a genuine one of a prediction that is {status}", True, headers, body)
    two = signed(secret, "msg_two", now, done)
    two["webhook-signature"] = f"{sign(FORGED, 'msg_two', now, done)} {two['webhook-signature']}"
    yield Message("MC601", "a genuine one with two signatures, the second one good", True, two, done)

    genuine = signed(secret, "msg_genuine", now, done)
    yield Message("MC602", "one signed with another key", False, signed(FORGED, "msg_forged", now, done), done)
    unsigned = {name: value for name, value in genuine.items() if name != "webhook-signature"}
    yield Message("MC602", "one without a signature", False, unsigned, done)
    yield Message("MC602", "one with an empty signature", False, {**genuine, "webhook-signature": ""}, done)
    odd = {**genuine, "webhook-signature": "v1,?"}
    yield Message("MC602", "one with a signature that is no base64", False, odd, done)
    yield Message("MC603", "one whose body was changed", False, genuine, other)
    yield Message("MC603", "one whose id was changed", False, {**genuine, "webhook-id": "msg_other"}, done)
    earlier = {**genuine, "webhook-timestamp": str(now - 1)}
    yield Message("MC603", "one whose timestamp was changed", False, earlier, done)
    yield Message("MC604", "one signed an hour ago", False, signed(secret, "msg_stale", now - STALE, done), done)
    yield Message("MC604", "one signed for an hour ahead", False, signed(secret, "msg_ahead", now + STALE, done), done)
    again = signed(secret, "msg_twice", now, done)
    yield Message("MC605", "one for the first time", True, again, done)
    yield Message("MC605", "the same one again", True, again, done)
    late = bodies.get("processing", done)
    yield Message("MC605", "one that comes after the end", True, signed(secret, "msg_late", now, late), late)


def check_receiver(url: str, secret: str, contract: Contract) -> Iterator[Answered]:
    """Send every message to a receiver, one after another. Raises MockServerError if there is none."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise MockServerError(f"{url} is not the address of a receiver, such as http://127.0.0.1:8000/webhooks")
    try:
        b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError as reason:
        raise MockServerError(
            "--secret: a key is whsec_ and base64, as GET …/webhooks/default/secret tells it"
        ) from reason
    for number, message in enumerate(messages(contract, secret, wall_time() // SECOND)):
        status, why = post(url, message.headers, message.body, TIMEOUT)
        answered = Answered(message, status, why or "")
        if number == 0 and answered.status is None:
            raise MockServerError(f"no receiver answers at {url}: {answered.reason}; is it running?")
        yield answered

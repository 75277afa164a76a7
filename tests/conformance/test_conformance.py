"""The parts of the gateway's side that need no gateway: bounds, addresses, schemas, lines."""

import gzip
import zlib

import pytest

from mockserver.clock import SECOND, wall_time
from mockserver.conformance.exchange import BodyReader, GatewayExchange
from mockserver.conformance.gateway import Gateway, retry_after
from mockserver.conformance.judge import origin_of
from mockserver.conformance.life import Life
from mockserver.conformance.schemas import shape_of
from mockserver.errors import MockServerError
from mockserver.reporting.terminal import visible
from tests.helpers.documents import CONTRACT


@pytest.mark.parametrize("encoding", ["", "identity", "gzip", "deflate"])
def test_a_body_is_read_in_pieces_whatever_its_encoding(encoding: str) -> None:
    body = b"0123456789" * 50
    sent = {"gzip": gzip.compress(body), "deflate": zlib.compress(body)}.get(encoding, body)
    reader = BodyReader(encoding)
    for at in range(0, len(sent), 7):
        reader.feed(sent[at : at + 7])
    assert (reader.body, reader.whole, reader.size) == (body, True, len(sent))


def test_a_little_that_stands_for_much_is_cut_short() -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    reader = BodyReader("gzip", 1000)
    reader.feed(bomb)
    assert (len(reader.body), reader.whole) == (1000, False)
    plain = BodyReader("", 1000)
    plain.feed(b"x" * 5000)
    assert (len(plain.body), plain.whole, plain.size) == (1000, False, 5000)


def test_a_body_that_cannot_be_decoded_is_not_whole() -> None:
    for encoding, sent in (("br", b"abc"), ("gzip", b"no gzip")):
        reader = BodyReader(encoding)
        reader.feed(sent)
        assert not reader.whole


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:1", "http://localhost:1/prefix", "http://[::1]:1", "https://a.example"],
)
def test_an_address_with_tls_or_of_this_machine_is_taken(url: str) -> None:
    assert Gateway(url + "/").url == url


def test_an_address_without_tls_needs_to_be_asked_for() -> None:
    for url in ("http://a.example", "http://10.0.0.1", "http://127.0.0.1.example"):
        with pytest.raises(MockServerError, match="--insecure"):
            Gateway(url)
        assert Gateway(url, insecure=True).url == url


@pytest.mark.parametrize(
    ("gateway", "url", "fetched"),
    [
        ("https://a.example", "https://a.example/x.jpg", True),
        ("https://a.example", "https://8.8.8.8/x.jpg", True),
        ("https://a.example", "http://8.8.8.8/x.jpg", False),
        ("https://a.example", "https://127.0.0.1/x.jpg", False),
        ("https://a.example", "https://169.254.169.254/latest", False),
        ("https://a.example", "https://[::1]/x.jpg", False),
        ("https://a.example", "https://10.0.0.8/x.jpg", False),
        ("https://a.example", "file:///etc/passwd", False),
        ("https://a.example", "gopher://8.8.8.8/", False),
        ("https://a.example", "https://[", False),
        ("http://127.0.0.1:1", "http://127.0.0.1:2/x.jpg", True),
        ("http://127.0.0.1:1", "http://10.0.0.8/x.jpg", False),
    ],
)
def test_a_gateway_cannot_have_just_anything_fetched(gateway: str, url: str, fetched: bool) -> None:
    assert (Gateway(gateway).may_fetch(url) is None) == fetched


def test_retry_after_is_read_in_all_its_forms() -> None:
    assert retry_after({"retry-after": "7"}, None) == 7
    assert retry_after({}, {"retry_after": 2.5}) == 2.5
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, None) == 0
    for unreadable in ("soon", "-1", "9" * 500):
        assert retry_after({"retry-after": unreadable}, None) is None
    assert retry_after({}, {"retry_after": True}) is None
    assert wall_time() > SECOND


def test_origins_are_compared_with_their_ports() -> None:
    assert origin_of("https://a.example/x") == "https://a.example:443"
    assert origin_of("nonsense") is None
    assert origin_of("http://a:x/") is None


def test_unknown_properties_are_found_through_references_and_combinations() -> None:
    operation = CONTRACT.of_role("create")[0]
    told = {**CONTRACT.templates["succeeded"], "extra": 1}
    told["urls"] = {**told["urls"], "more": "x"}
    told["input"] = {"anything": 1}
    assert sorted(
        shape_of(CONTRACT, operation.operation_id, 200, "application/json").unknown(told)
    ) == [
        "/extra",
        "/urls/more",
    ]


def test_text_of_others_is_shown_without_its_controls() -> None:
    assert visible("a\x1b[2Jb\n\u202e") == "a\\u001b[2Jb\\n\\u202e"


def test_an_answer_asked_for_before_the_last_one_was_there_may_tell_of_an_earlier_time() -> None:
    reader = CONTRACT.reader
    assert reader is not None

    def told(life: Life, status: str, asked: int, seconds: float) -> list[str]:
        seen = GatewayExchange(
            operation=reader, method="GET", path="/", token="", at=asked * SECOND, seconds=seconds
        )
        return [found.rule for found in life.take(seen, {"id": life.id, "status": status})]

    life = Life("x")
    assert told(life, "processing", 1, 1) == []
    assert told(life, "succeeded", 4, 1) == []
    assert told(life, "processing", 3, 5) == [], (
        "it was on its way from the third second to the eighth"
    )
    assert life.ended
    assert told(life, "processing", 6, 1) == ["MC704"]

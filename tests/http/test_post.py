"""One POST, and its deadline."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from mockserver.http.post import post

DEADLINE = 0.2  # seconds
PATIENCE = 10  # seconds after which what a test waits for is not coming


@contextmanager
def answering(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """A receiver that does as it likes with its one connection."""

    def serve(listener: socket.socket) -> None:
        line, _ = listener.accept()
        with line:
            line.recv(65536)
            talk(line)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/hook?a=b"
        thread.join(PATIENCE)
        assert not thread.is_alive(), "it is still being listened to"


def endlessly(piece: bytes) -> Callable[[socket.socket], None]:
    """Send a piece again and again, until the other side hangs up."""

    def talk(line: socket.socket) -> None:
        left = threading.Event()
        try:
            while not left.wait(0.01):
                line.sendall(piece)
        except OSError:
            left.set()

    return talk


def test_the_status_is_told() -> None:
    with answering(lambda line: line.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")) as url:
        assert post(url, {}, b"{}", PATIENCE) == (204, None)


def test_a_redirect_is_an_answer() -> None:
    moved = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    with answering(lambda line: line.sendall(moved)) as url:
        assert post(url, {}, b"{}", PATIENCE) == (302, None)


@pytest.mark.parametrize(
    "piece", [b"HTTP/1.1 100 Continue\r\n\r\n", b"H"], ids=["100 Continue", "a letter at a time"]
)
def test_the_deadline_is_for_the_whole_attempt(piece: bytes) -> None:
    with answering(endlessly(piece)) as url:
        assert post(url, {}, b"{}", DEADLINE) == (None, f"no answer within {DEADLINE:g} s")


def test_a_handshake_that_takes_for_ever_is_given_up() -> None:
    """A record of TLS that has been announced, and comes a byte at a time."""

    def talk(line: socket.socket) -> None:
        with suppress(OSError):
            line.sendall(b"\x16\x03\x03\x3f\xff")
        endlessly(b"x")(line)

    with answering(talk) as url:
        assert post(url.replace("http:", "https:"), {}, b"{}", DEADLINE) == (
            None,
            f"no answer within {DEADLINE:g} s",
        )


def test_a_receiver_that_is_silent_is_given_up() -> None:
    def listen(line: socket.socket) -> None:
        while line.recv(65536):
            pass

    with answering(listen) as url:
        assert post(url, {}, b"{}", DEADLINE) == (None, f"no answer within {DEADLINE:g} s")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "http://[::1", "ftp:", "http://"])
def test_what_cannot_be_reached_is_told(url: str) -> None:
    status, reason = post(url, {}, b"{}", DEADLINE)
    assert status is None
    assert reason

"""A connection to a double without a network beneath."""

import asyncio

import uvicorn
from uvicorn.server import ServerState

from mockserver.backend.backend import Options
from mockserver.http.connection import HttpConnection, InFlight, count_in_flight
from mockserver.scenarios.catalogue import Catalogue
from mockserver.server.app import App
from tests.helpers.documents import CONTRACT

CATALOGUE = Catalogue(CONTRACT)
TURNS = 20  # of the loop, more than any answer takes that waits for nothing


class NoSocket:
    """What a wire has in the place of a socket."""

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", 80

    def getpeername(self) -> tuple[str, int]:
        return "127.0.0.1", 50000

    def setsockopt(self, *_: object) -> None:
        """Options make no difference."""


class Wire(asyncio.Transport):
    """What was sent on a connection, and whether it was closed."""

    def __init__(self) -> None:
        super().__init__({"socket": NoSocket()})
        self.pieces: list[bytes] = []
        self.ended = asyncio.Event()
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.pieces.append(bytes(data))

    @property
    def sent(self) -> bytes:
        """All of it."""
        return b"".join(self.pieces)

    @property
    def closed(self) -> bool:
        return self.ended.is_set()

    def close(self) -> None:
        self.ended.set()

    def abort(self) -> None:
        self.ended.set()

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def get_write_buffer_size(self) -> int:
        return 0

    def resume_reading(self) -> None:
        self.reading = True


def new_app(**options: object) -> App:
    """A double whose time stands still."""
    usual = {"clock": "frozen", "scenario": CATALOGUE.named("succeeded")}
    return App(CONTRACT, CATALOGUE, Options(**{**usual, **options}))  # type: ignore[arg-type]


def connect(app: App) -> tuple[HttpConnection, Wire]:
    """A new connection to a double."""
    config = uvicorn.Config(
        count_in_flight(app, InFlight()),
        interface="asgi3",
        ws="none",
        lifespan="off",
        log_config=None,
        proxy_headers=False,
    )
    connection, wire = (
        HttpConnection(
            set(),
            app.backend.store.underway,
            app.backend.metrics.unreadable,
            config=config,
            server_state=ServerState(),
            app_state={},
        ),
        Wire(),
    )
    connection.connection_made(wire)
    return connection, wire


async def settled() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)

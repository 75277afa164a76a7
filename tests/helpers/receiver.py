"""A webhook receiver on loopback, for tests."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from typing import Any


class Receiver:
    """A webhook receiver on loopback, which answers as it is told and remembers what came."""

    def __init__(self) -> None:
        self.came: Queue[tuple[dict[str, str], bytes]] = Queue()
        self.responses: list[int] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.came.put(
                    ({name.lower(): value for name, value in self.headers.items()}, body)
                )
                self.send_response(outer.responses.pop(0) if outer.responses else 200)
                self.send_header("Location", outer.url + "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def next(self) -> dict[str, Any]:
        """The next prediction told of."""
        return json.loads(self.came.get(timeout=20)[1])  # type: ignore[no-any-return]

    def so_far(self) -> list[tuple[dict[str, str], bytes]]:
        """All that came and has not been taken, without waiting."""
        return [self.came.get_nowait() for _ in range(self.came.qsize())]

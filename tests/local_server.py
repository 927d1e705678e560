"""A real HTTP server on a free local port that answers as a test tells it to, and keeps what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[dict[str, Any]], tuple[int, Any]]  # request body -> status, and JSON value or raw text


class LocalServer:
    """`url` is the base URL for a client; `requests` holds (path, body, headers by lower-case name)."""

    def __init__(self, answer: Answer):
        self.requests: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append((self.path, body, {k.lower(): v for k, v in self.headers.items()}))
                status, value = answer(body)
                kind = "text/html" if isinstance(value, str) else "application/json"
                data = (value if isinstance(value, str) else json.dumps(value)).encode()
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: Any) -> None:
                """Keep quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def serve(answer: Answer) -> Iterator[LocalServer]:
    """Run a LocalServer for the length of a `with` block."""
    server = LocalServer(answer)
    server.start()
    try:
        yield server
    finally:
        server.stop()

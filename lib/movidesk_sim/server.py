"""The HTTP server of the simulator: connections stay open, and nothing of a request is logged but by the application."""
from __future__ import annotations

import io
import socket
from typing import Any

from flask import Response
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler


class Handler(WSGIRequestHandler):
    """Keeps connections open, which werkzeug's own does not, and logs nothing: that would show the token."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes

    def run_wsgi(self) -> None:
        length = self.headers.get("Content-Length")
        if length is None and self.command == "POST":  # IIS does so too
            self.answer(Response("Content-Length: missing", 411, {"Connection": "close"}))
            return
        environ = self.make_environ()
        environ["wsgi.input"] = io.BytesIO(self.rfile.read(int(length or 0)))
        self.answer(Response.from_app(self.server.app, environ))

    def answer(self, response: Response) -> None:
        body = response.get_data()
        self.send_response(response.status_code)
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log(self, type: str, message: str, *args: Any) -> None:
        pass


class CannotListen(Exception):
    """The address cannot be listened at; the text names it, and says why."""


class Server(ThreadedWSGIServer):
    """Knows its open connections: closing must end the idle ones too, or they would go on being answered."""

    daemon_threads = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.connections: set[socket.socket] = set()

    def server_bind(self) -> None:
        """Raises CannotListen; of an OSError werkzeug would speak itself, and exit."""
        try:
            super().server_bind()
        except OSError as error:
            raise CannotListen(f"{self.host}:{self.port}: {error.strerror}") from error

    def process_request(self, connection: socket.socket, address: Any) -> None:
        self.connections.add(connection)
        super().process_request(connection, address)

    def shutdown_request(self, connection: socket.socket) -> None:
        self.connections.discard(connection)
        super().shutdown_request(connection)

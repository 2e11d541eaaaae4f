"""Metrics over HTTP: GET /metrics for Prometheus, with a token unless it asks from this machine."""

from __future__ import annotations

import logging
import threading
import time
from hmac import compare_digest

from flask import Flask, Response, request

from movidesk.config import Config
from movidesk.context import Context
from movidesk.metrics import collector
from movidesk.web.server import REFUSED

log = logging.getLogger("movidesk.web.metrics")

PATH = "/metrics"
FRESH = 1.0   # seconds for which who asks meanwhile gets the same text: however many ask, they cost no more than one
WAITING = 2   # requests that may wait for a journal that another program has locked

TEXTS = {400: "Bad request.\n", 401: "Wrong or missing token: Authorization: Bearer TOKEN.\n", 404: f"The path is {PATH}.\n",
         405: "Only GET and HEAD.\n", 500: "The PBX failed: see its log.\n"}


class Refused(Exception):
    """The request is answered with this status."""

    def __init__(self, status: int):
        super().__init__(status)
        self.status = status


def create_app(context: Context) -> Flask:
    """The application with /metrics."""
    app = Flask(__name__, static_folder=None)
    latest = _Latest(context)

    @app.before_request
    def serve() -> Response:
        if REFUSED in request.environ:
            raise Refused(400)
        _authenticate(context.config)
        if request.method not in ("GET", "HEAD"):
            raise Refused(405)
        if request.path != PATH:
            raise Refused(404)
        return _finish(Response(latest.text(), content_type=collector.TEXT))

    app.register_error_handler(Exception, _refuse)
    return app


class _Latest:
    """The last text, and when it was made. One thread makes it; others wait for that."""

    def __init__(self, context: Context):
        self._context, self._lock = context, threading.Lock()
        self._text, self._made = b"", 0.0

    def text(self) -> bytes:
        with self._lock:
            if not self._text or time.monotonic() - self._made >= FRESH:
                self._text = collector.text(self._context)
                self._made = time.monotonic()
            return self._text


def _authenticate(config: Config) -> None:
    """Raises Refused unless the request has the token, if there is one; compared in constant time."""
    token = config["metrics", "token"]
    scheme, _, given = request.headers.get("Authorization", "").strip().partition(" ")
    if token and not (scheme.lower() == "bearer"
                      and compare_digest(given.strip().encode("utf-8", "surrogateescape"), token.reveal().encode())):
        raise Refused(401)


def _refuse(error: Exception) -> Response:
    """The answer to a failed request. It does not repeat any part of the request."""
    if isinstance(error, Refused):
        log.warning("%s: %d %s", request.remote_addr, error.status, TEXTS[error.status].strip())
    else:
        log.error("a request of %s failed", request.remote_addr, exc_info=error)
        error = Refused(500)
    headers = {401: {"WWW-Authenticate": "Bearer"}, 405: {"Allow": "GET, HEAD"}}.get(error.status)
    return _finish(Response(TEXTS[error.status], error.status, headers, content_type="text/plain"))


def _finish(response: Response) -> Response:
    response.headers.update({"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"})
    return response

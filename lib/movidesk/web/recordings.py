"""Recordings over HTTP: GET and HEAD of signed links, with byte ranges.

Every invalid link gets the same 403, whatever is wrong with it: expired, changed, for another file, with another secret, or
without a signature. Meant for loopback, behind nginx or Apache, which add TLS.
"""

from __future__ import annotations

import io
import logging
import os
import re
import stat
import time
from collections.abc import Callable
from urllib.parse import parse_qs, unquote

from flask import Flask, Response, request
from werkzeug.wsgi import wrap_file

from movidesk.config import Config
from movidesk.config.options import Secret
from movidesk.recordings import signatures
from movidesk.web.server import REFUSED

log = logging.getLogger("movidesk.web.recordings")

TYPES = {".wav": "audio/wav", ".mp3": "audio/mpeg", ".opus": "audio/ogg", ".ogg": "audio/ogg", ".gsm": "audio/x-gsm"}
TEXTS = {403: "This link is not valid.\n", 404: "This recording is no longer here.\n", 400: "Bad request.\n",
         405: "Only GET and HEAD.\n", 416: "The recording is shorter.\n", 500: "The PBX failed: see its log.\n"}


class Refused(Exception):
    """The request is answered with this status."""

    def __init__(self, status: int, **headers: str):
        super().__init__(status)
        self.status, self.headers = status, headers


class _File(io.FileIO):
    """A file whose size was already sent to the client: if it becomes shorter, an OSError ends the connection."""

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        if size and not data:
            log.error("a recording became shorter while it was sent")
            raise OSError
        return data


def open_file(folder: str, name: str) -> io.FileIO:
    """Open a regular file of this folder: no links, folders or devices. Raises Refused(404)."""
    try:
        # NONBLOCK: opening a FIFO must not wait for a writer.
        place = os.open(os.path.join(folder, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        log.warning("%r: %s", name, error.strerror)
        raise Refused(404) from None
    if not stat.S_ISREG(os.fstat(place).st_mode):
        os.close(place)
        raise Refused(404)
    return _File(place)


def part(wanted: str, size: int) -> tuple[int, int] | None:
    """The first and the last byte of a Range header; None for the whole file (RFC 9110, 14.2).

    A header that is not a single byte range is ignored. A range that begins behind the end raises Refused(416).
    """
    found = re.fullmatch(r"bytes=([0-9]{0,18})-([0-9]{0,18})", wanted.replace(" ", ""), re.ASCII)
    if not found or found.group(0) == "bytes=-":
        return None
    first, last = found.groups()
    if not first:
        begin, end = max(0, size - int(last)), size - 1
    else:
        begin, end = int(first), min(int(last), size - 1) if last else size - 1
        if last and int(last) < begin:
            return None
    if begin >= size:
        raise Refused(416, **{"Content-Range": f"bytes */{size}"})
    return begin, end


def create_app(config: Config, clock: Callable[[], float] = time.time) -> Flask:
    """The application for [recordings] folder. The last part of any path is the file's name, so there are no Flask routes."""
    folder, secret = config["recordings", "folder"], config["recordings", "secret"]
    app = Flask(__name__, static_folder=None)

    @app.before_request
    def serve() -> Response:
        if REFUSED in request.environ:
            raise Refused(400)
        if request.method not in ("GET", "HEAD"):
            raise Refused(405, Allow="GET, HEAD")
        return _send(open_file(folder, _name(secret, clock())))

    app.register_error_handler(Exception, _refuse)
    return app


def _name(secret: Secret, now: float) -> str:
    """The name of the file for this link. Raises Refused(403) if the link is not valid."""
    path, _, query = request.environ["REQUEST_URI"].partition("?")
    name = unquote(path.rpartition("/")[2], errors="surrogateescape")
    fields = parse_qs(query, max_num_fields=16) if query.count("&") < 16 else {}
    expires, given = (fields.get(key, [""])[0] for key in ("expires", "signature"))
    allowed = signatures.is_allowed(name, expires, given, secret, now)
    if not allowed or "/" in name or "\0" in name or name in ("", ".", ".."):
        raise Refused(403)
    return name


def _send(file: io.FileIO) -> Response:
    """Send the file, or the requested range of it.

    This does not use werkzeug's send_file. That would answer 416 to a Range header that is not a single byte range, instead of
    sending the whole file, and would block a worker while a slow player reads a range.
    """
    size = os.fstat(file.fileno()).st_size
    try:
        # We send no validator (ETag), so a request with If-Range gets the whole file.
        span = None if "If-Range" in request.headers else part(request.headers.get("Range", ""), size)
    except Refused:
        file.close()
        raise
    begin, end = span or (0, size - 1)
    file.seek(begin)
    path = request.environ["REQUEST_URI"].partition("?")[0]
    headers = {"Content-Length": str(end - begin + 1), "Accept-Ranges": "bytes", "Content-Type": TYPES.get(
        os.path.splitext(path)[1].lower(), "application/octet-stream")}
    if span:
        headers["Content-Range"] = f"bytes {begin}-{end}/{size}"
    # wrap_file: waitress reads the file as fast as the player does, up to Content-Length, and closes it.
    return _finish(Response(wrap_file(request.environ, file), 206 if span else 200, headers, direct_passthrough=True))


def _refuse(error: Exception) -> Response:
    """The answer to a failed request. It does not repeat any part of the request."""
    if not isinstance(error, Refused):
        log.error("a request of %s failed", request.remote_addr, exc_info=error)
        error = Refused(500)
    return _finish(Response(TEXTS[error.status], error.status, error.headers, content_type="text/plain"))


def _finish(response: Response) -> Response:
    response.headers.update({"X-Content-Type-Options": "nosniff", "Cache-Control": "private",
                             "Referrer-Policy": "no-referrer"})
    # Without the query, which gives access to the recording.
    log.info("%s %s %r %d", request.remote_addr, request.method if request.method in ("GET", "HEAD") else "?",
             re.split("[?&=]|%3[Ff]", request.environ["REQUEST_URI"])[0][:200], response.status_code)
    return response

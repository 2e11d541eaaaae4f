"""Recordings over HTTP: GET and HEAD of signed links, one file each, in parts where the player wants parts.

Whoever has no valid link gets one and the same 403, whatever is wrong: expired, altered, of another file, of another
secret, or of none. Meant to stand on loopback behind nginx or Apache, which add TLS; for that a small server of the
standard library is enough, with limits on connections and their time.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import time
from http.server import BaseHTTPRequestHandler
from typing import BinaryIO
from urllib.parse import parse_qs, unquote

from movidesk import recordings
from movidesk.config import Config
from movidesk.listener import Listener

log = logging.getLogger("movidesk.publish")

MAX_CONNECTIONS = 64      # at once; one more is closed
REQUEST_SECONDS = 10.0    # for the whole request
ANSWER_SECONDS = 300.0    # for the whole answer; a player that wants more asks for the next part
CHUNK = 65536             # bytes

TYPES = {".wav": "audio/wav", ".mp3": "audio/mpeg", ".opus": "audio/ogg", ".ogg": "audio/ogg", ".gsm": "audio/x-gsm"}
TEXTS = {403: "This link is not valid.\n", 404: "This recording is no longer here.\n", 400: "Bad request.\n",
         405: "Only GET and HEAD.\n", 416: "The recording is shorter.\n"}


class Refused(Exception):
    """The request is answered with this status."""

    def __init__(self, status: int, **headers: str):
        super().__init__(status)
        self.status, self.headers = status, headers


def open_file(folder: str, name: str) -> BinaryIO:
    """Open a plain file of this very folder: no links, no folders, no devices. Raises Refused(404)."""
    try:
        # NONBLOCK: to open a FIFO must not wait for its writer.
        place = os.open(os.path.join(folder, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        log.warning("%r: %s", name, error.strerror)
        raise Refused(404) from None
    if not stat.S_ISREG(os.fstat(place).st_mode):
        os.close(place)
        raise Refused(404)
    return os.fdopen(place, "rb")


def part(wanted: str, size: int) -> tuple[int, int] | None:
    """The first and the last byte that a Range header asks for, None for the whole file (RFC 9110, 14.2).

    What is no single range of bytes is as if it were not there; one that begins behind the end raises Refused(416).
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
        raise Refused(416, **{"Content-Range": "bytes */%d" % size})
    return begin, end


class _Request(BaseHTTPRequestHandler):
    timeout = REQUEST_SECONDS
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "movidesk", ""
    requestline, path, command = "", "", ""

    def setup(self) -> None:
        super().setup()
        self._limit = self.server.cut_after(self.connection, REQUEST_SECONDS)

    def finish(self) -> None:
        self._limit.cancel()
        try:
            super().finish()
        except OSError as error:
            log.info("closing a connection: %s", error)

    def do_GET(self) -> None:
        self._limit.cancel()
        self._limit = self.server.cut_after(self.connection, ANSWER_SECONDS)
        try:
            with open_file(self.server.folder, self._name()) as file:
                self._send(file)
        except Refused as refused:
            self._answer(refused.status, **refused.headers)

    do_HEAD = do_GET

    def _name(self) -> str:
        """The file that this link may have. Raises Refused(403)."""
        path, _, query = self.path.partition("?")
        name = unquote(path.rpartition("/")[2], errors="surrogateescape")
        fields = parse_qs(query, max_num_fields=16) if query.count("&") < 16 else {}
        expires, given = (fields.get(key, [""])[0] for key in ("expires", "signature"))
        allowed = recordings.is_allowed(name, expires, given, self.server.secret, self.server.clock())
        if not allowed or "/" in name or "\0" in name or name in ("", ".", ".."):
            raise Refused(403)
        return name

    def _send(self, file: BinaryIO) -> None:
        size = os.fstat(file.fileno()).st_size
        # We name no version of a file that If-Range could mean: it gets the whole.
        span = None if "If-Range" in self.headers else part(self.headers.get("Range", ""), size)
        begin, end = span or (0, size - 1)
        headers = {"Content-Range": "bytes %d-%d/%d" % (begin, end, size)} if span else {}
        self._head(206 if span else 200, end - begin + 1, Accept_Ranges="bytes", Content_Type=TYPES.get(
            os.path.splitext(self.path.partition("?")[0])[1].lower(), "application/octet-stream"), **headers)
        if self.command == "HEAD":
            return
        file.seek(begin)
        left = end - begin + 1
        while left > 0:
            data = file.read(min(CHUNK, left))
            if not data:
                return
            self.wfile.write(data)
            left -= len(data)

    def _answer(self, status: int, **headers: str) -> None:
        body = TEXTS.get(status, TEXTS[400]).encode()
        self._head(status, len(body), Content_Type="text/plain", **headers)
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: int, length: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(length))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "private")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

    def send_error(self, code, message=None, explain=None) -> None:
        """What the base class finds wrong with a request, without repeating any of it."""
        self.close_connection = True
        self._answer(405 if code == 501 else 400, **({"Allow": "GET, HEAD"} if code == 501 else {}))

    def log_request(self, code="-", size="-") -> None:
        # Without the query: it is the key to the recording.
        log.info("%s %s %r %s", self.client_address[0], self.command if self.command in ("GET", "HEAD") else "?",
                 re.split("[?&=]|%3[Ff]", self.path)[0][:200], int(code))

    def log_message(self, format: str, *args) -> None:
        log.info("%s: " + format, self.client_address[0], *args)


class Publisher(Listener):
    """Serves the recordings of a configuration, as [recordings] publish says; raises OSError where the port is taken."""

    def __init__(self, config: Config, clock=time.time):
        self.folder, self.secret = config["recordings", "folder"], config["recordings", "secret"]
        self.clock = clock
        super().__init__("[recordings] publish", config["recordings", "publish"], _Request, MAX_CONNECTIONS)

    def handle_error(self, request, client_address) -> None:
        import sys

        if isinstance(sys.exc_info()[1], OSError):  # the player has gone away
            log.info("%s: %s", client_address[0], sys.exc_info()[1])
        else:
            log.exception("a request of %s failed", client_address[0])

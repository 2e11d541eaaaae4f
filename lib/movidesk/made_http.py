"""Where Movidesk asks for made calls, by HTTP. Off by default; made.py decides what is done.

    GET  /call?source=5252&destination=4733990777   the call's id as text      (POST: form or JSON, {"call_id": ...})
    GET  /monitor?source=5250&call=ID               5250 listens to that call, where [made_calls] monitor = yes
"""

from __future__ import annotations

import base64
import json
import logging
import re
from hmac import compare_digest
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qsl

from movidesk.journal import JournalError
from movidesk.listener import Listener
from movidesk.made import Dialler, Refused

log = logging.getLogger("movidesk.made")

MAX_CONNECTIONS = 32   # one more is closed
READ_SECONDS = 10.0    # for a whole request
MAX_BODY = 8192        # bytes


class _Request(BaseHTTPRequestHandler):
    """One request on a connection; answered with one line of text, or JSON to a POST."""

    protocol_version = "HTTP/1.1"
    timeout = READ_SECONDS
    params: dict[str, str] = {}

    def setup(self) -> None:
        super().setup()
        self._too_late = self.server.cut_after(self.connection, READ_SECONDS)

    def finish(self) -> None:
        self._too_late.cancel()
        super().finish()

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_GET

    def _serve(self) -> None:
        try:
            self.params = self._read_params()
            self._too_late.cancel()
            self._reply(200, self._done())
        except Refused as refusal:
            self._reply(refusal.status, refusal.text)
        except JournalError as error:
            log.error("%s", error)
            self._reply(503, "the PBX cannot note the call: see its log")
        except OSError:
            raise  # the client is gone
        except Exception:  # the edge: whoever asks must be told that there is no call
            log.exception("a made call failed")
            self._reply(500, "the PBX failed: see its log")

    def _done(self) -> str:
        """Do what is asked for; the call's id."""
        self._authenticate()
        dialler, given = self.server.dialler, lambda name: self.params.get(name, "").strip()
        path = self.path.partition("?")[0]
        if path == "/call":
            return dialler.call(given("source"), given("destination"))
        if path == "/monitor":
            return dialler.monitor(given("source"), given("call"))
        raise Refused(404, "there is /call, and /monitor")

    def _read_params(self) -> dict[str, str]:
        params = dict(parse_qsl(self.path.partition("?")[2]))
        try:
            body = self._read_body().decode()
            if body.lstrip().startswith("{"):
                params.update((name, str(value)) for name, value in json.loads(body).items())
            else:
                params.update(parse_qsl(body))
            "".join(params.values()).encode()  # JSON can hold halves of characters, which are no text
        except (ValueError, RecursionError):
            raise Refused(400, "the body is neither a form nor a JSON object") from None
        return params

    def _read_body(self) -> bytes:
        """The body, of either kind of length. Raises ValueError where it is malformed."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body, size = b"", -1
            while size:
                size = _length(self.rfile.readline(32).split(b";")[0], 16, MAX_BODY - len(body))
                body += self.rfile.read(size)
                self.rfile.readline(8)
            return body
        return self.rfile.read(_length(self.headers.get("Content-Length") or "0", 10, MAX_BODY))

    def _authenticate(self) -> None:
        """Raises Refused unless the request bears the secret that is configured; compared in constant time."""
        config = self.server.config
        auth = config["made_calls", "auth"]
        scheme, _, credentials = self.headers.get("Authorization", "").strip().rpartition(" ")
        if auth == "login":
            try:
                given = base64.b64decode(credentials, validate=True) if scheme.lower() == "basic" else b""
            except ValueError:
                given = b""
            wanted = "%s:%s" % (config["made_calls", "user"], config["made_calls", "password"].reveal())
        elif auth == "token":
            given = (self.params.get("token") or credentials).encode("utf-8", "surrogateescape")
            wanted = config["made_calls", "token"].reveal()
        else:
            return
        if not compare_digest(given, wanted.encode()):
            raise Refused(401, "wrong or missing %s" % ("login" if auth == "login" else "token"))

    def _reply(self, status: int, text: str) -> None:
        self._log(status, text)
        if self.command == "POST":
            kind, body = "application/json", json.dumps({"call_id" if status == 200 else "error": text})
        else:
            kind, body = "text/plain; charset=utf-8", text
        self.close_connection = True
        self.send_response_only(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(body.encode())), "Connection": "close",
                   "Cache-Control": "no-store"}
        if status == 401 and self.server.config["made_calls", "auth"] == "login":
            headers["WWW-Authenticate"] = 'Basic realm="movidesk"'
        if status == 429:
            headers["Retry-After"] = "60"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body.encode())

    def send_error(self, code, message=None, explain=None) -> None:
        """http.server's answer to what is no request, or of another method."""
        self.close_connection = True
        self._reply(int(code), "not understood: GET or POST /call")

    def _log(self, status: int, text: str) -> None:
        """One line for each request: no query, no secret, no whole number."""
        # In a mangled request anything may stand anywhere, also the secret: what is no plain word is not repeated.
        command = self.command if self.command in ("GET", "POST") else "?"
        path = getattr(self, "path", "").partition("?")[0]
        path = path if re.fullmatch("/[A-Za-z/._]{0,40}", path) else "?"
        source, destination = self.params.get("source", "")[:20], self.params.get("destination", "")
        log.log(logging.INFO if status == 200 else logging.WARNING, "%s %s %r from %r to ...%r: %d %s",
                self.client_address[0], command, path, source, destination.strip()[-3:], status, text)

    def log_message(self, format, *args) -> None:
        pass  # it would show the query: `_log` writes our lines


def _length(text, base: int, most: int) -> int:
    """A length as it stands in the request. Raises ValueError where it is none, Refused where it is too large."""
    size = int(text, base)
    if size < 0:
        raise ValueError("a negative length")
    if size > most:
        raise Refused(413, "the body has more than %d bytes" % MAX_BODY)
    return size


class Server(Listener):
    """Listens at [made_calls] listen. Raises OSError, which names the setting, where the port is taken."""

    def __init__(self, desk, dialler: Dialler | None = None):
        self.config = desk.config
        self.dialler = dialler or Dialler(desk)
        super().__init__("[made_calls] listen", self.config["made_calls", "listen"], _Request, MAX_CONNECTIONS)

    def handle_error(self, request, client_address) -> None:
        log.info("a request from %s broke off", client_address[0])

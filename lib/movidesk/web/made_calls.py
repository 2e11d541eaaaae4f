"""HTTP requests of Movidesk for made calls. Off by default; made_calls/dialler.py handles them.

    GET  /call?source=5252&destination=4733990777   the call's id as text      (POST: form or JSON, {"call_id": ...})
    GET  /monitor?source=5250&call=ID               5250 listens to that call, if [made_calls] monitor = yes
"""

from __future__ import annotations

import base64
import json
import logging
import re
import threading
from collections.abc import Callable
from hmac import compare_digest
from urllib.parse import parse_qsl

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from movidesk.config import Config
from movidesk.journal import JournalError
from movidesk.made_calls.dialler import Dialler, Refused
from movidesk.web.server import MAX_BODY, REFUSED

log = logging.getLogger("movidesk.web.made_calls")

MAX_CALLS = 32  # simultaneous requests: each blocks a worker until the agent picks up; any more are rejected

TEXTS = {404: "the paths are /call and /monitor", 413: f"the body has more than {MAX_BODY} bytes"}


def create_app(config: Config, dialler: Dialler) -> Flask:
    """The application with /call and /monitor. Each answer is one line of text, or JSON for a POST."""
    app = Flask(__name__, static_folder=None)
    app.url_map.merge_slashes = False  # no redirects
    places = threading.BoundedSemaphore(MAX_CALLS)

    @app.before_request
    def admit() -> None:
        """Check method and login first, even for unknown paths, so that strangers cannot find out which paths exist."""
        g.params = {}
        if REFUSED in request.environ:
            raise _refused(request.environ[REFUSED])
        if request.method not in ("GET", "POST"):  # Flask would treat a HEAD as a GET, and dial
            raise _refused(501)
        g.params = _read_params()
        _authenticate(config, g.params)

    def answer(action: Callable[..., str], *names: str) -> Response:
        if not places.acquire(blocking=False):
            raise Refused(503, f"{MAX_CALLS} calls are being set up: try again later")
        try:
            return _reply(200, action(*(g.params.get(name, "").strip() for name in names)))
        finally:
            places.release()

    app.add_url_rule("/call", "call", lambda: answer(dialler.call, "source", "destination"), methods=("GET", "POST"))
    app.add_url_rule("/monitor", "monitor", lambda: answer(dialler.monitor, "source", "call"), methods=("GET", "POST"))
    app.register_error_handler(Exception, _answer_error)
    if config["made_calls", "auth"] == "login":
        app.after_request(_ask_for_login)
    return app


def _refused(status: int) -> Refused:
    return Refused(status, TEXTS.get(status, "invalid request: use GET or POST /call"))


def _answer_error(error: Exception) -> Response:
    if isinstance(error, HTTPException):  # Flask finds no such path
        error = _refused(404)
    if isinstance(error, Refused):
        return _reply(error.status, error.text)
    if isinstance(error, JournalError):
        log.error("%s", error)
        return _reply(503, "the PBX cannot record the call: see its log")
    log.error("a made call failed", exc_info=error)  # the client must learn that there is no call
    return _reply(500, "the PBX failed: see its log")


def _ask_for_login(response: Response) -> Response:
    if response.status_code == 401:
        response.headers["WWW-Authenticate"] = 'Basic realm="movidesk"'
    return response


def _read_params() -> dict[str, str]:
    params = dict(parse_qsl(request.environ["QUERY_STRING"]))
    try:
        body = request.get_data().decode()
        if body.lstrip().startswith("{"):
            params.update((name, str(value)) for name, value in json.loads(body).items())
        else:
            params.update(parse_qsl(body))
        "".join(params.values()).encode()  # JSON may contain lone surrogates, which are not valid text
    except (ValueError, RecursionError):
        raise Refused(400, "the body is neither a form nor a JSON object") from None
    return params


def _authenticate(config: Config, params: dict[str, str]) -> None:
    """Raises Refused unless the request has the configured secret; compared in constant time."""
    auth = config["made_calls", "auth"]
    scheme, _, credentials = request.headers.get("Authorization", "").strip().rpartition(" ")
    if auth == "login":
        try:
            given = base64.b64decode(credentials, validate=True) if scheme.lower() == "basic" else b""
        except ValueError:
            given = b""
        wanted = f"{config['made_calls', 'user']}:{config['made_calls', 'password'].reveal()}"
    elif auth == "token":
        given = (params.get("token") or credentials).encode("utf-8", "surrogateescape")
        wanted = config["made_calls", "token"].reveal()
    else:
        return
    if not compare_digest(given, wanted.encode()):
        raise Refused(401, f"wrong or missing {'login' if auth == 'login' else 'token'}")


def _reply(status: int, text: str) -> Response:
    """Return the answer and log it, without query, secret and complete number."""
    # In a malformed request the secret may be anywhere, so only plain words are logged.
    command = request.method if request.method in ("GET", "POST") else "?"
    path = request.environ["REQUEST_URI"].partition("?")[0]
    path = path if re.fullmatch("/[A-Za-z/._]{0,40}", path) else "?"
    source, destination = g.params.get("source", "")[:20], g.params.get("destination", "")
    log.log(logging.INFO if status == 200 else logging.WARNING, "%s %s %r from %r to ...%r: %d %s",
            request.remote_addr, command, path, source, destination.strip()[-3:], status, text)
    headers = {"Cache-Control": "no-store", **({"Retry-After": "60"} if status == 429 else {})}
    if request.method == "POST":
        body = json.dumps({"call_id" if status == 200 else "error": text})
        return Response(body, status, headers, content_type="application/json")
    return Response(text, status, headers, content_type="text/plain; charset=utf-8")

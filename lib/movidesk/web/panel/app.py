"""The panel over HTTP. Everything is read; only the login and the logout are sent.

    GET  /             the page                     GET   /events?lang=pt   what changes, as server-sent events
    GET  /login        asks for the password        POST  /search           calls with a number, as JSON; a number never is in an
    POST /login, /logout                                                    address, where logs and histories would keep it
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import threading
import time
from collections.abc import Callable

from flask import Flask, Response, render_template, request
from werkzeug.exceptions import HTTPException

import movidesk
from movidesk.config import Config
from movidesk.journal import JournalError
from movidesk.messages import in_language
from movidesk.web.panel import texts
from movidesk.web.panel.board import MAX_VIEWERS, Board, TooManyViewers
from movidesk.web.panel.login import Login
from movidesk.web.panel.sections import Maker
from movidesk.web.panel.source import Source
from movidesk.web.server import REFUSED

log = logging.getLogger("movidesk.web.panel")

SEARCHES = 4  # at once: in a large journal each takes a fifth of a second
WAITING = MAX_VIEWERS + SEARCHES  # requests that may block at the same time (server.Web.listen)

ASSETS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "assets")
TYPES = {"panel.js": "text/javascript; charset=utf-8", "panel.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml"}
#: What strangers may have: the page that asks for the password, and what it is made of.
PUBLIC = ("login", "asset")

HEADERS = {
    "Content-Security-Policy":
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()", "Cache-Control": "no-store",
    "Vary": "Accept-Language, Cookie",
}


class Panel:
    """The application (`app`), and the reader of the journal, which `board.start()` begins."""

    def __init__(self, config: Config, clock: Callable[[], float] = time.time):
        self._config, self._clock = config, clock
        self._login, self._maker = Login(config), Maker(config)
        self._searching = threading.BoundedSemaphore(SEARCHES)
        self._assets = {name: _read(name) for name in TYPES}
        #: Of the files that a page is made of: a page of another version loads itself again.
        self._version = hashlib.sha256(b"".join([*self._assets.values(), _read("panel.html"), movidesk.__version__.encode()])
                                       ).hexdigest()[:12]
        self.board = Board(config, self._maker, self._version, clock)
        self.app = self._create()

    def close(self) -> None:
        """End the streams and the reader."""
        self.board.close()

    def _create(self) -> Flask:
        app = Flask(__name__, static_folder=None, template_folder=ASSETS)
        app.url_map.merge_slashes = False
        for name in "panel.html", "login.html":
            app.jinja_env.get_template(name)  # it stays: after an upgrade the file is that of another version
        app.before_request(self._admit)
        app.after_request(_finish)
        app.register_error_handler(Exception, _refuse)
        app.add_url_rule("/", "page", self._page)
        app.add_url_rule("/<any('panel.js', 'panel.css', 'icon.svg'):name>", "asset", self._asset)
        app.add_url_rule("/events", "events", self._events)
        app.add_url_rule("/search", "search", self._search, methods=["POST"])
        app.add_url_rule("/login", "login", self._log_in, methods=["GET", "POST"])
        app.add_url_rule("/logout", "logout", self._log_out, methods=["POST"])
        return app

    def _admit(self) -> Response | None:
        if REFUSED in request.environ:
            return _text(400, "invalid request")
        if request.endpoint in PUBLIC:
            return None
        if self._login.user(request) is not None:
            return None
        if not self._login.has_password:
            return _text(403, "the panel is open to this machine alone, or to whom the web server in front has logged in: see "
                              "docs/panel.md")
        if request.endpoint == "page":
            return Response(status=303, headers={"Location": "login"})
        return _text(401, "not logged in")

    def _page(self) -> Response:
        log.info("%s opened the panel%s", self._login.client(request), _named(self._login.user(request)))
        language = _language()
        with in_language(language):
            words = texts.all_texts()
        page = render_template("panel.html", language=texts.TAGS[language], t=words,
                               pbx=self._config["pbx", "name"], has_login=self._login.has_password,
                               data={"texts": words, "version": self._version})
        return self._renewed(Response(page, content_type="text/html; charset=utf-8"))

    def _asset(self, name: str) -> Response:
        return Response(self._assets[name], content_type=TYPES[name])

    def _events(self) -> Response:
        try:
            viewer = self.board.enter(_language(), request.environ.get("waitress.client_disconnected", lambda: False))
        except TooManyViewers:
            log.warning("the panel has %d viewers; one more was refused: %s", MAX_VIEWERS, self._login.client(request))
            return _text(503, "too many viewers", {"Retry-After": "30"})
        if request.method == "HEAD":  # the page asks why it gets no stream
            viewer.close()
            return Response(content_type="text/event-stream")
        # nginx would hold small messages back.
        return self._renewed(Response(viewer, headers={"X-Accel-Buffering": "no"}, content_type="text/event-stream"))

    def _search(self) -> Response:
        if not self._searching.acquire(blocking=False):
            return _text(503, f"{SEARCHES} searches are under way: try again")
        source = Source(self._config)
        try:
            with source.opened() as journal:
                found = self._maker.search(journal, request.form.get("number", "")[:64], self._clock())
        finally:
            source.close()
            self._searching.release()
        return Response(json.dumps(found), content_type="application/json")

    def _log_in(self) -> Response:
        if not self._login.has_password:
            return Response(status=303, headers={"Location": "./"})
        wrong, wait = False, 0
        if request.method == "POST":
            address = self._login.client(request)
            wait = math.ceil(self._login.attempts.attempt(address))
            if not wait and self._login.is_password(request.form.get("password", "")):
                self._login.attempts.worked(address)
                response = Response(status=303, headers={"Location": "./"})
                self._login.set_cookie(request, response)
                return response
            wrong = not wait
            log.warning("panel: %s", f"too many logins from {address}: not tried" if wait else f"failed login from {address}")
        language = _language()
        with in_language(language):
            page = render_template("login.html", language=texts.TAGS[language], t=texts.of_login(), wrong=wrong, wait=wait)
        headers = {"Retry-After": str(wait)} if wait else {}
        return Response(page, 429 if wait else 403 if wrong else 200, headers, content_type="text/html; charset=utf-8")

    def _log_out(self) -> Response:
        response = Response(status=303, headers={"Location": "login"})
        response.delete_cookie(self._login.cookie, path=None)
        return response

    def _renewed(self, response: Response) -> Response:
        self._login.set_cookie(request, response)
        return response


def _read(name: str) -> bytes:
    with open(os.path.join(ASSETS, name), "rb") as file:
        return file.read()


def _language() -> str:
    """The language of this request: en, pt or es."""
    wanted = request.args.get("lang", "")
    if wanted in texts.TAGS:
        return wanted
    return request.accept_languages.best_match(list(texts.TAGS), default="en") or "en"


def _named(user: str | None) -> str:
    return f" as {user[:64]!r}" if user else ""


def _text(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    return Response(text + "\n", status, headers, content_type="text/plain; charset=utf-8")


def _refuse(error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return _text(error.code or 400, error.name, {"Allow": "GET, HEAD, POST"} if error.code == 405 else None)
    if isinstance(error, JournalError):
        return _text(503, str(error))
    log.error("a request of %s failed", request.remote_addr, exc_info=error)
    return _text(500, "the panel failed: see the log of movidesk serve")


def _finish(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers[name] = value
    return response

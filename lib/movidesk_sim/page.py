"""The page of Movidesk's people: what it shows, and the buttons on it.

Its scripts ask for the state some times a second, and change it by POST. A page of another site cannot: see movidesk_sim.guard.
"""
from __future__ import annotations

import re
import secrets
from contextlib import AbstractContextManager
from typing import Any, Callable

from flask import Blueprint, Response, jsonify, render_template, request
from werkzeug.exceptions import HTTPException

import movidesk
from movidesk_sim import texts
from movidesk_sim.faults import Faults
from movidesk_sim.guard import Refused, check_request
from movidesk_sim.links import Looks
from movidesk_sim.made_calls import CallUrl, make_call
from movidesk_sim.model import Movidesk
from movidesk_sim.view import view

UNTIL_CHANGED = 1_000_000  # requests that a mode lasts
HOUR = re.compile(r"([01]\d|2[0-3]):[0-5]\d|24:00", re.ASCII)
# Recordings are played from where they are.
POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; media-src http: https:; "
          "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
          "require-trusted-types-for 'script'; trusted-types 'none'")
HEADERS = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
           "Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin",
           "Cache-Control": "no-cache"}


class Page:
    """The page's requests, on a model that is only touched under `lock`."""

    def __init__(self, model: Movidesk, faults: Faults, lock: AbstractContextManager,
                 call_url: Callable[[], CallUrl | None]) -> None:
        self.model, self.faults, self.lock, self.call_url = model, faults, lock, call_url
        self.looks = Looks()
        self.run, self._serial = secrets.token_hex(8), 0

    def show(self) -> Response:
        language = texts.best([name for name, _ in request.accept_languages])
        markup = render_template("page.html", language=language, version=movidesk.__version__,
                                 texts=texts.translations(language), can_call=self.call_url() is not None,
                                 _=texts.catalog(language).gettext)
        return Response(markup, headers={"Content-Language": language, "Vary": "Accept-Language"})

    def state(self) -> dict[str, Any]:
        with self.lock:
            return self._view()

    def agent(self, extension: str) -> dict[str, Any]:
        """{"online", "telephony"}: true or false; what is not given stays."""
        online, telephony = _flags("online", "telephony")
        with self.lock:
            agent = self.model.agents[extension]
            agent.online = agent.online if online is None else online
            agent.telephony = agent.telephony if telephony is None else telephony
            return self._view()

    def mode(self) -> dict[str, Any]:
        """{"mode": one of MODES or "", "once": for the next request only}."""
        body = _body()
        with self.lock:
            self.faults.set_mode(_text(body, "mode"), 1 if body.get("once") is True else UNTIL_CHANGED)
            return self._view()

    def group(self, queue_id: int) -> dict[str, Any]:
        """{"opens", "closes"}: both HH:MM. {"holiday"}: whether today is one."""
        body = _body()
        hours = [_text(body, name) for name in ("opens", "closes") if name in body]
        if len(hours) == 1 or not all(HOUR.fullmatch(hour) for hour in hours):
            raise Refused(400, f"opens, closes: not two hours: {' '.join(hours)!r}")
        holiday, = _flags("holiday")
        with self.lock:
            group = self.model.groups[queue_id]
            group.opens, group.closes = hours or (group.opens, group.closes)
            today = group.today(self.model.clock())
            if holiday is not None:
                group.holidays = [day for day in group.holidays if day != today] + [today] * holiday
            return self._view()

    def call(self) -> dict[str, Any]:
        """{"extension", "number"}: what make_call() returns, once the agent's phone was answered or not."""
        body, pbx = _body(), self.call_url()
        if pbx is None:
            raise Refused(409, "this simulator has no address at which to ask for calls")
        return make_call(self.model, self.lock, source=_text(body, "extension"), destination=_text(body, "number"), url=pbx.url,
                         method=pbx.method, auth=pbx.auth)  # without the lock: it may take a minute

    def _view(self) -> dict[str, Any]:
        """The state; of two with the same `run`, that with the greater `serial` is the newer one."""
        self._serial += 1
        return {"run": self.run, "serial": self._serial, **view(self.model, self.faults, self.looks.at)}


def create_page(model: Movidesk, faults: Faults, lock: AbstractContextManager, host: str = "127.0.0.1",
                call_url: Callable[[], CallUrl | None] = lambda: None) -> Blueprint:
    """The page at /, its files under /static/, its state and its buttons under /page/.

    host: the name or address at which the simulator listens. call_url: where "Call this customer" asks the PBX for a call;
    None: the page has no such button.
    """
    page = Page(model, faults, lock, call_url)
    blueprint = Blueprint("page", __name__, template_folder="templates", static_folder="static", static_url_path="/static")
    blueprint.before_request(lambda: check_request(host))
    blueprint.get("/")(page.show)
    blueprint.get("/page/state")(page.state)
    blueprint.post("/page/agents/<extension>")(page.agent)
    blueprint.post("/page/mode")(page.mode)
    blueprint.post("/page/groups/<int:queue_id>")(page.group)
    blueprint.post("/page/call")(page.call)
    blueprint.after_request(_finish)
    blueprint.register_error_handler(Refused, lambda error: (jsonify(error=str(error)), error.status))
    blueprint.register_error_handler(KeyError, lambda error: (jsonify(error="no such thing"), 404))
    blueprint.register_error_handler(ValueError, lambda error: (jsonify(error=str(error)), 400))
    return blueprint


def _body() -> dict[str, Any]:
    try:
        body = request.get_json()
    except HTTPException:
        raise Refused(400, "not JSON") from None
    if not isinstance(body, dict):
        raise Refused(400, "not an object")
    return body


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise Refused(400, f"{name}: not a text")
    return value


def _flags(*names: str) -> list[bool | None]:
    """These fields of the body, None for those it does not have."""
    body = _body()
    found = [body.get(name) for name in names]
    if not all(value is None or isinstance(value, bool) for value in found):
        raise Refused(400, f"{', '.join(names)}: true or false")
    return found


def _finish(response: Response) -> Response:
    response.headers.update(HEADERS)
    return response

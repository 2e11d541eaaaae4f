"""What Movidesk does when an agent clicks on a number: it calls the URL that an admin has given it."""
from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import requests

from movidesk_sim.documents import MAX_ID
from movidesk_sim.model import Movidesk

TIMEOUT = 60.0  # seconds for the PBX's answer; Movidesk's own is not known


@dataclass(frozen=True)
class CallUrl:
    """What an admin has entered in Movidesk so that agents can call customers: see make_call()."""

    url: str
    method: str = "GET"
    auth: dict[str, str] = field(default_factory=dict, repr=False)


def make_call(model: Movidesk, lock: AbstractContextManager, *, source: str, destination: str, url: str,
              method: str = "GET", auth: dict[str, str] | None = None) -> dict[str, Any]:
    """Ask the PBX for a call; where it returns an id there is a ticket, to which setMadeCallLink adds the recording.

    url: with the placeholders {call.source.number} and {call.destination.number}. A POST bears the numbers as JSON
    too. auth: {} for none, {"user", "password"} for login, {"token"}. Returns status, text, and call_id ("" for none).
    """
    for name, value in (("source", source), ("destination", destination)):
        url = url.replace(f"{{call.{name}.number}}", requests.utils.quote(value, safe=""))
    auth = auth or {}
    headers = {"Authorization": "Bearer " + auth["token"]} if "token" in auth else {}
    login = (auth["user"], auth["password"]) if "user" in auth else None
    body = {"source": source, "destination": destination} if method == "POST" else None
    try:
        answer = requests.request(method, url, json=body, headers=headers, auth=login, timeout=TIMEOUT)
    except requests.RequestException as error:
        return {"status": 0, "text": type(error).__name__, "call_id": ""}
    call_id = _call_id(method, answer) if answer.status_code == 200 else ""
    with lock:
        if 0 < len(call_id) <= MAX_ID:
            model.made(call_id, source, destination)
        elif answer.status_code == 200:
            model.problem(f"made call: {method} was answered without a call id")
    return {"status": answer.status_code, "text": answer.text, "call_id": call_id}


def _call_id(method: str, answer: requests.Response) -> str:
    """A GET is answered with the id as text, of one word, a POST with JSON; '' where it is neither."""
    if method == "GET":
        return answer.text if len(answer.text.split()) == 1 else ""
    try:
        return str(answer.json()["call_id"])
    except (ValueError, TypeError, KeyError):
        return ""

"""Keeps pages of other sites out, of what the simulator shows and of what changes it.

A browser sends a POST of another site with that site's origin, and JSON only after it has asked. The name under which we are
asked must be one of this machine's: else a site could give a name of its own our address (DNS rebinding).
"""
from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from flask import request


class Refused(Exception):
    """The request is answered with this status and text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def check_request(host: str) -> None:
    """Raise Refused unless the request is meant for us and, if it changes something, comes from our page or from no page."""
    asked = urlsplit("//" + request.host).hostname or ""
    if asked not in ("localhost", host) and not _is_address(asked):
        raise Refused(421, f"not known as {asked!r}: ask for the simulator by an address, or start it with --host {asked}")
    if request.method in ("GET", "HEAD"):
        return
    origin = request.headers.get("Origin", request.host_url.rstrip("/"))
    if origin != request.host_url.rstrip("/") or request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
        raise Refused(403, "this request comes from another site")
    if request.mimetype != "application/json":
        raise Refused(415, "only JSON")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True

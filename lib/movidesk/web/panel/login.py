"""Who may look at the panel: whoever typed its password, or whom a web server in front has logged in.

A login is a signed cookie, so it outlives a restart of the service. It is signed with the password: a new password ends all
logins. It is renewed while it is used, so a wall screen stays logged in, and ends after SESSION_SECONDS without use.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from hmac import compare_digest

from flask import Request, Response
from itsdangerous import BadSignature, TimestampSigner

from movidesk.config import Config

COOKIE = "movidesk_panel_"  # and a mark of the PBX: browsers share cookies among the ports of a host
SESSION_SECONDS = 30 * 86400
ROUNDS = 200_000  # of PBKDF2: whoever has a cookie cannot try many passwords against it

#: Logins that may fail at once, and the seconds until one more may be tried: of one address, and of all together.
OF_ONE, OF_ALL = (5, 10.0), (100, 1.0)
ADDRESSES = 1000  # that are remembered

#: Headers by which a web server in front makes itself known.
FORWARDED = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP")


class Attempts:
    """Slows down whoever tries passwords. steady: seconds that nobody sets."""

    def __init__(self, steady: Callable[[], float] = time.monotonic):
        self._steady, self._lock = steady, threading.Lock()
        # Address, '' for all: when its tries are all given back. The one that tried last is the last.
        self._free: OrderedDict[str, float] = OrderedDict()

    def attempt(self, address: str) -> float:
        """Count one try of this address. Returns 0.0; or, if it may not be made, the seconds until another one may."""
        with self._lock:
            now = self._steady()
            waits = [self._wait(name, rule, now) for name, rule in ((address, OF_ONE), ("", OF_ALL))]
            if max(waits) > 0:
                return max(waits)
            for name, (_, every) in ((address, OF_ONE), ("", OF_ALL)):
                self._free[name] = max(now, self._free.get(name, now)) + every
                self._free.move_to_end(name)
            while len(self._free) > ADDRESSES:
                self._free.popitem(last=False)
            return 0.0

    def worked(self, address: str) -> None:
        """The try was the password: this address has all its tries again."""
        with self._lock:
            self._free.pop(address, None)

    def _wait(self, name: str, rule: tuple[int, float], now: float) -> float:
        tries, every = rule
        return self._free.get(name, now) - (tries - 1) * every - now


class Login:
    """Decides whether a request may be answered, by [panel] password, proxy_user_header and proxies."""

    def __init__(self, config: Config, steady: Callable[[], float] = time.monotonic):
        self._password = config["panel", "password"]
        self._header, self._proxies = config["panel", "proxy_user_header"], config["panel", "proxies"]
        key = hashlib.pbkdf2_hmac("sha256", self._password.reveal().encode(), config["pbx", "name"].encode(),
                                  ROUNDS if self._password else 1)
        self.cookie = COOKIE + hashlib.sha256(config["pbx", "name"].encode()).hexdigest()[:8]
        self._signer = TimestampSigner(key, salt="movidesk panel", digest_method=hashlib.sha256)
        self.attempts = Attempts(steady)

    @property
    def has_password(self) -> bool:
        return bool(self._password)

    def user(self, request: Request) -> str | None:
        """Who asks: the name that the web server in front gives; '' for whoever is logged in here, or if no login is needed; None
        for everybody else."""
        if self._header and request.remote_addr in self._proxies:
            name = request.headers.get(self._header, "").strip()
            if name:
                return name
        if self._password:
            return "" if self._has_cookie(request) else None
        return None if self._header or not _is_from_this_machine(request) else ""

    def is_password(self, given: str) -> bool:
        """Whether this is the password; compared in constant time."""
        return self.has_password and compare_digest(given.encode("utf-8", "surrogatepass"), self._password.reveal().encode())

    def client(self, request: Request) -> str:
        """The address of the browser: of a proxy that is trusted, the one that it names."""
        address = request.remote_addr or ""
        if address in self._proxies:
            named = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
            return named if re.fullmatch(r"[0-9A-Fa-f.:]{2,45}", named) else address
        return address

    def set_cookie(self, request: Request, response: Response) -> None:
        """Give the browser a new cookie, in place of one that grows old."""
        if self.has_password:
            is_secure = request.remote_addr in self._proxies and request.headers.get("X-Forwarded-Proto", "").lower() == "https"
            # Without a path: that of the page, wherever a web server in front has put it.
            response.set_cookie(self.cookie, self._signer.sign("viewer").decode(), max_age=SESSION_SECONDS, path=None,
                                secure=is_secure, httponly=True, samesite="Lax")

    def _has_cookie(self, request: Request) -> bool:
        try:
            who, signed = self._signer.unsign(request.cookies.get(self.cookie, ""), return_timestamp=True)
        except BadSignature:
            return False
        # A clock that was set back makes the cookie one of the future; who made it is certain all the same.
        return who == b"viewer" and abs(time.time() - signed.timestamp()) <= SESSION_SECONDS


def _is_from_this_machine(request: Request) -> bool:
    """Whether a browser asks that reaches the panel's own address, as far as the request tells: not through a web server, which
    would show the panel to all whom it serves."""
    return names_this_machine(request.host) and not any(name in request.headers for name in FORWARDED)


def names_this_machine(host: str) -> bool:
    """Whether a Host header is localhost or an address. Any other name may be that of a web page elsewhere, made to lead here so
    that the browser lets that page read the panel (DNS rebinding); without a login nothing else would keep it out."""
    name = host.rpartition(":")[0] if re.search(r":[0-9]*$", host) else host
    return name == "localhost" or re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3}){3}", name) is not None

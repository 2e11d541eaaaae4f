"""Movidesk's telephony API: the eight endpoints of its two documents, one pooled session, three outcomes.

Sources: "API de Movidesk - Telefonía - Con control de la cola" and "Telephony - No queue control". This
module loads requests: import it only where a request is about to be made.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable
from datetime import datetime, timezone
from http.cookiejar import DefaultCookiePolicy
from typing import NamedTuple, Union

import requests
from urllib3.exceptions import (  # HTTPError: a host's name is none
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
)

from movidesk import __version__
from movidesk.config.options import Secret
from movidesk.config.pattern import Pattern
from movidesk.delivery.exchange import Adapter, Exchanges, TooLate

MAX_BODY = 8192             # bytes of an answer that are read; the true ones have a few
RETRY_AFTER_DEFAULT = 60.0  # seconds, where a 429 names none: the window is a minute
RETRY_AFTER_MAX = 86400.0   # seconds; what asks for more is a mistake
RETRY_AFTER_SIZE = 64       # characters; a date has 29


class Param(NamedTuple):
    """A parameter of an endpoint."""

    name: str         # Movidesk's
    field: str        # ours, as `query` takes it
    size: int | None  # characters; None where the document sets no limit
    required: bool


class Endpoint(NamedTuple):
    """An endpoint of the API."""

    method: str  # GET or POST
    path: str
    params: tuple[Param, ...]


_ID = Param("id", "id", 256, True)
_QUEUE = Param("queueId", "queue", 10, True)
_NUMBER = Param("clientNumber", "number", 128, True)
_EXTENSION = Param("branchLine", "extension", 128, True)


def _date(name: str, field: str) -> Param:
    return Param(name, field, None, True)  # optional in some renderings of the documents: always sent


#: Event -> endpoint.
ENDPOINTS = {
    # Con control de la cola
    "received": Endpoint("POST", "asterisk_receivedCall", (_QUEUE, _NUMBER, _ID, _date("callDate", "arrived"))),
    "transferred": Endpoint("POST", "asterisk_transferedCall", (_ID, _EXTENSION, _date("transferDate", "at"))),
    "completed": Endpoint("POST", "asterisk_completedCall",
                          (_ID, Param("link", "link", None, False), _date("completedDate", "at"))),
    "lost": Endpoint("POST", "asterisk_lostCall",
                     (_ID, Param("link", "link", None, False), _date("completedDate", "at"))),
    "canceled": Endpoint("POST", "asterisk_canceledCall", (_ID, _date("canceledDate", "at"))),
    # No queue control. "Even if empty, this parameter must be provided": link.
    "start_transferred": Endpoint("GET", "asterisk_startTransferedCall",
                                  (_QUEUE, _NUMBER, _ID, _EXTENSION, _date("callDate", "arrived"),
                                   _date("transferDate", "at"))),
    "start_completed": Endpoint("GET", "asterisk_completedCall",
                                (_ID, Param("link", "link", None, True), _date("completedDate", "at"))),
    "start_canceled": Endpoint("GET", "asterisk_startCanceledCall",
                               (_QUEUE, _NUMBER, _ID, _date("callDate", "arrived"), _date("canceledDate", "at"))),
    # Both
    "link": Endpoint("POST", "setMadeCallLink", (_ID, Param("Link", "link", 256, True))),
}


class ParameterError(ValueError):
    """A value that the API's documents do not allow; the text names the endpoint, the parameter and the value."""


class NonsenseAnswer(ValueError):
    """receivedCall answered something that is neither a code nor an extension."""


log = logging.getLogger("movidesk.delivery.api")
# urllib3 logs addresses, and the token travels in ours: at DEBUG each one, as a warning where an answer is malformed.
logging.getLogger("urllib3").setLevel(logging.ERROR)


class Delivered(NamedTuple):
    """Movidesk took the request."""

    text: str  # its answer


class Retry(NamedTuple):
    """Nobody knows, or Movidesk wants the request again."""

    after: float | None  # seconds that Movidesk asked for
    why: str
    status: int | None   # None: there was no answer
    cut: bool = False    # the connection stood, and was closed unanswered
    sent: bool = True    # False: the request certainly never left


class Rejected(NamedTuple):
    """Movidesk refused the request."""

    why: str
    status: int


#: What a request came to.
Outcome = Union[Delivered, Retry, Rejected]


class Answer(NamedTuple):
    """What receivedCall answered: an extension or a code; the other is ''."""

    extension: str
    code: str  # "0" to "4"


def utc(epoch: float) -> str:
    """Epoch seconds as the API wants dates: `YYYY-MM-DDTHH:MM:SS` in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(epoch))


def query(event: str, **fields: object) -> dict[str, str]:
    """The query of an event's request, without the token; dates are given as epoch seconds.

    Raises ParameterError where a required value is missing or one is longer than its document allows.
    """
    found = {}
    for param in ENDPOINTS[event].params:
        value = fields.get(param.field, "")
        text = utc(value) if isinstance(value, float) else str(value)
        where = f"{ENDPOINTS[event].path}: {param.name}"
        if not text and param.required and param.field != "link":
            raise ParameterError(f"{where} is missing")
        if param.name == "queueId" and not re.fullmatch(r"[0-9]{1,10}", text):
            raise ParameterError(f"{where} {text!r} is no number of at most 10 digits")
        if param.size and len(text) > param.size:
            raise ParameterError(f"{where} has {len(text)} characters, Movidesk takes {param.size}: {text[:40]!r}...")
        if text or param.required:
            found[param.name] = text
    return found


def outcome(status: int | None, text: str = "", retry_after: str | None = None, now: float = 0.0) -> Outcome:
    """What a request came to. Pure.

    status: of the answer, None where there was none (text then says why). retry_after: the header's value.
    401 and 403 are Retry: nothing is thrown away for a wrong token.
    """
    said = _clean(text)
    if status is None:
        return Retry(None, said, None)
    if 200 <= status < 300:
        return Delivered(said)
    why = f"HTTP {status}{': ' + said if said else ''}"
    if status == 429 or status == 503:
        wait = retry_seconds(retry_after, now)
        return Retry(RETRY_AFTER_DEFAULT if wait is None and status == 429 else wait, why, status)
    if status in (401, 403, 408, 411, 425) or status < 400 or status >= 500:
        return Retry(None, why, status)
    return Rejected(why, status)


def retry_seconds(header: str | None, now: float) -> float | None:
    """Retry-After as seconds from now, from its number or its date form (RFC 9110, 10.2.3); None if it is neither."""
    text = (header or "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return min(float(text), RETRY_AFTER_MAX)
    from dateutil import parser  # slow to load, and seldom needed

    try:
        date = parser.parse(text[:RETRY_AFTER_SIZE], default=datetime(1, 1, 1, tzinfo=timezone.utc))
        if date.year == 1:  # dateutil makes a date of any number; this text names no year
            return None
        return min(max(date.timestamp() - now, 0.0), RETRY_AFTER_MAX)
    except (ValueError, OverflowError):  # also where a zone is more than a day away
        return None


def parse_answer(text: str, extension_pattern: Pattern) -> Answer:
    """receivedCall's answer: a JSON string, a bare word or a number, of which the first word counts.

    Raises NonsenseAnswer, with the text, for what is neither a code nor of the extension's pattern.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise NonsenseAnswer(f"Movidesk answered {_clean(text)!r}")
    words = str(value).split()
    if words and words[0] in ("0", "1", "2", "3", "4"):
        return Answer("", words[0])
    if words and extension_pattern.fullmatch(words[0]):
        return Answer(words[0], "")
    raise NonsenseAnswer(f"Movidesk answered {_clean(text)!r}, neither a code nor an extension (extension_pattern = "
                         f"{extension_pattern.pattern})")


def _clean(text: str) -> str:
    """A text from outside as one short printable line."""
    return " ".join("".join(c if c.isprintable() else " " for c in text[:2000]).split())[:200]


class _Session(requests.Session):
    """Follows no redirect, and does not look at it either: to find out where it points requests reads its whole body,
    however long and slow, and stumbles over an address that is none."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


class Client:
    """The API over one pooled, kept-alive session; usable from several threads.

    timeout: seconds for the connection and for each read; the whole exchange, with the resolving of the name, may take three
    times as long, and what has not been sent by then is never sent.
    """

    def __init__(self, url: str, token: Secret, timeout: float = 5.0, connections: int = 8,
                 clock: Callable[[], float] = time.time):
        self._url = url
        self._token = token
        self._timeout = timeout
        self._clock = clock
        self._session = _Session()
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))  # no answer changes a later request
        self._session.headers["User-Agent"] = f"movidesk-agi/{__version__}"
        self._session.headers["Accept"] = "application/json"
        self._exchanges = Exchanges()
        adapter = Adapter(pool_connections=1, pool_maxsize=connections, max_retries=0)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)

    def close(self) -> None:
        self._session.close()

    def send(self, event: str, **fields: object) -> Outcome:
        """Send one event; returns its outcome. Raises ParameterError before anything is sent.

        No exception leaves that holds the address: the token travels in it.
        """
        endpoint = ENDPOINTS[event]
        params = query(event, **fields)
        try:
            status, text, retry_after = self._exchanges.run(lambda: self._exchange(endpoint, params), 3 * self._timeout)
        except (requests.RequestException, HTTPError, TooLate) as error:
            return Retry(None, _clean(_reason(error, self._timeout)), None, _is_cut(error), not _has_not_left(error))
        return outcome(status, self._mask(text), retry_after, self._clock())

    def _exchange(self, endpoint: Endpoint, params: dict[str, str]) -> tuple[int, str, str | None]:
        params = {"token": self._token.reveal(), **params}
        # With a POST requests sends Content-Length: 0, without which IIS answers 411.
        # A redirect is not followed: it would carry the token to wherever it points.
        with self._session.request(endpoint.method, f"{self._url}/{endpoint.path}", params=params,
                                   timeout=self._timeout, allow_redirects=False, stream=True) as response:
            # Chunks are then read by http.client, which bounds their lines; urllib3 for Python 3.9 does not (CVE-2026-97689).
            response.raw.chunked = False
            body = bytearray()
            for chunk in response.iter_content(1):  # more would wait until so much has come, however slowly
                body += chunk
                if len(body) > MAX_BODY:
                    break
            return response.status_code, body[:MAX_BODY].decode("utf-8", "replace"), response.headers.get("Retry-After")

    def _mask(self, text: str) -> str:
        return re.sub(re.escape(self._token.reveal()), "***", text, flags=re.IGNORECASE)


def _is_cut(error: Exception) -> bool:
    """Whether a connection was there and the other side closed it instead of answering."""
    inner = error.args[0] if isinstance(error, requests.ConnectionError) and error.args else None
    return isinstance(inner, ProtocolError) and isinstance(inner.args[-1], OSError)


def _has_not_left(error: Exception) -> bool:
    """Whether there was no connection over which the request could have left."""
    inner = error.args[0] if isinstance(error, requests.ConnectionError) and error.args else None
    return isinstance(error, requests.ConnectTimeout) or isinstance(getattr(inner, "reason", None), NewConnectionError)


def _reason(error: Exception, timeout: float) -> str:
    """Why a request failed, in words of our own: requests' texts hold the address, and so the token."""
    if isinstance(error, TooLate):
        return str(error)
    if isinstance(error, requests.exceptions.SSLError):
        return "TLS: the certificate or the handshake was refused"
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {timeout:g} s"
    if isinstance(error, requests.Timeout):
        return f"no answer within {timeout:g} s"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy refused (see HTTPS_PROXY in the service's environment)"
    if _is_cut(error):
        return "the connection was cut"
    if isinstance(getattr(error.args[0] if error.args else None, "reason", None), NameResolutionError):
        return "the host's name cannot be resolved"
    if isinstance(error, (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        return "the connection was refused or cut"
    return f"the request failed ({type(error).__name__})"

"""Movidesk's telephony API: the endpoints of its two documents, a client with a connection pool, and the outcomes of a request.

Sources: "API de Movidesk - Telefonía - Con control de la cola" and "Telephony - No queue control". This module imports requests,
which is slow: import it only right before a request.
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
from urllib3.exceptions import (  # HTTPError: an invalid host name
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
)

from movidesk import __version__
from movidesk.config.options import Secret
from movidesk.config.pattern import Pattern
from movidesk.delivery.exchange import Adapter, Exchanges, TooLate

MAX_BODY = 8192             # bytes of an answer that are read; Movidesk's answers have a few
RETRY_AFTER_DEFAULT = 60.0  # seconds, if a 429 has no Retry-After: the window is a minute
RETRY_AFTER_MAX = 86400.0   # seconds; a higher value must be a mistake
RETRY_AFTER_SIZE = 64       # characters that are read; a date has 29


class Param(NamedTuple):
    """A parameter of an endpoint."""

    name: str         # Movidesk's
    field: str        # ours, as `query` takes it
    size: int | None  # characters; None if the document names no maximum ("max")
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
    return Param(name, field, None, True)  # optional in some versions of the documents; we always send it


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
    """A value that the API's documents do not allow; the text names endpoint, parameter and value."""


class NonsenseAnswer(ValueError):
    """The answer to receivedCall is neither a code nor an extension. word: its first word, of which that was expected; or ''."""

    def __init__(self, text: str, word: str = ""):
        super().__init__(text)
        self.word = word


log = logging.getLogger("movidesk.delivery.api")
# urllib3 logs addresses, and ours contain the token: each one at DEBUG level, and as a warning if an answer is malformed.
logging.getLogger("urllib3").setLevel(logging.ERROR)


class Delivered(NamedTuple):
    """Movidesk accepted the request."""

    text: str  # its answer


class Retry(NamedTuple):
    """The request must be sent again: there was no answer, or one that asks for another try."""

    after: float | None  # seconds that Movidesk asked us to wait
    why: str
    status: int | None   # None: there was no answer
    cut: bool = False    # there was a connection, and the other side closed it without an answer
    sent: bool = True    # False: the request was certainly not sent


class Rejected(NamedTuple):
    """Movidesk rejected the request."""

    why: str
    status: int


#: The outcome of a request.
Outcome = Union[Delivered, Retry, Rejected]


class Answer(NamedTuple):
    """The answer to receivedCall: an extension or a code; the other is ''."""

    extension: str
    code: str  # "0" to "4"


def utc(epoch: float) -> str:
    """Epoch seconds as a date for the API: `YYYY-MM-DDTHH:MM:SS` in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(epoch))


def query(event: str, **fields: object) -> dict[str, str]:
    """The query parameters of an event's request, without the token. Dates are epoch seconds (float).

    Raises ParameterError if a required value is missing or a value is longer than the document allows.
    """
    found = {}
    for param in ENDPOINTS[event].params:
        value = fields.get(param.field, "")
        text = utc(value) if isinstance(value, float) else str(value)
        where = f"{ENDPOINTS[event].path}: {param.name}"
        if not text and param.required and param.field != "link":
            raise ParameterError(f"{where} is missing")
        if param.name == "queueId" and not re.fullmatch(r"[0-9]{1,10}", text):
            raise ParameterError(f"{where} {text!r} is not a number of at most 10 digits")
        if param.size and len(text) > param.size:
            raise ParameterError(f"{where} has {len(text)} characters, Movidesk accepts {param.size}: {text[:40]!r}...")
        if text or param.required:
            found[param.name] = text
    return found


def outcome(status: int | None, text: str = "", retry_after: str | None = None, now: float = 0.0) -> Outcome:
    """The outcome of a request. A pure function.

    status: of the answer, None if there was none (then text is the reason). retry_after: the header's value.
    401 and 403 are Retry: no event is given up because of an invalid token.
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
    """Retry-After in seconds from now, given as a number or a date (RFC 9110, 10.2.3); None if it is neither."""
    text = (header or "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return min(float(text), RETRY_AFTER_MAX)
    from dateutil import parser  # slow to import, and seldom needed

    try:
        date = parser.parse(text[:RETRY_AFTER_SIZE], default=datetime(1, 1, 1, tzinfo=timezone.utc))
        if date.year == 1:  # dateutil turns any number into a date; this text has no year
            return None
        return min(max(date.timestamp() - now, 0.0), RETRY_AFTER_MAX)
    except (ValueError, OverflowError):  # also if the zone's offset is more than a day
        return None


def parse_answer(text: str, extension_pattern: Pattern) -> Answer:
    """Parse the answer to receivedCall: a JSON string, a bare word or a number. Its first word counts.

    Raises NonsenseAnswer, with the text, if that is neither a code nor matches extension_pattern.
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
                         f"{extension_pattern.pattern})", words[0] if words else "")


def _clean(text: str) -> str:
    """A text from outside, as one short printable line."""
    return " ".join("".join(c if c.isprintable() else " " for c in text[:2000]).split())[:200]


class _Session(requests.Session):
    """A session that ignores redirects. To find a redirect's target, requests would read the whole body, however long and slow,
    and raise errors for invalid addresses."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


class Client:
    """The API over a pool of persistent connections; several threads may use it.

    timeout: seconds for the connection and for each read. The whole exchange, including name resolution, may take three times as
    long; a request that has not been sent by then is never sent.
    """

    def __init__(self, url: str, token: Secret, timeout: float = 5.0, connections: int = 16,
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
        """Send one event and return its outcome. Raises ParameterError before anything is sent.

        No exception with the address in its text is raised, because the address contains the token.
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
        # For a POST requests sends Content-Length: 0; without it IIS answers 411.
        # Redirects are not followed: the other server would receive the token.
        with self._session.request(endpoint.method, f"{self._url}/{endpoint.path}", params=params,
                                   timeout=self._timeout, allow_redirects=False, stream=True) as response:
            # Then http.client reads the chunks. It limits their lines; urllib3 for Python 3.9 does not (CVE-2026-97689).
            response.raw.chunked = False
            body = bytearray()
            for chunk in response.iter_content(1):  # a larger size would wait until that many bytes have come
                body += chunk
                if len(body) > MAX_BODY:
                    break
            return response.status_code, body[:MAX_BODY].decode("utf-8", "replace"), response.headers.get("Retry-After")

    def _mask(self, text: str) -> str:
        return re.sub(re.escape(self._token.reveal()), "***", text, flags=re.IGNORECASE)


def _is_cut(error: Exception) -> bool:
    """Whether there was a connection and the other side closed it without an answer."""
    inner = error.args[0] if isinstance(error, requests.ConnectionError) and error.args else None
    return isinstance(inner, ProtocolError) and isinstance(inner.args[-1], OSError)


def _has_not_left(error: Exception) -> bool:
    """Whether the request was certainly not sent, because there was no connection."""
    inner = error.args[0] if isinstance(error, requests.ConnectionError) and error.args else None
    return isinstance(error, requests.ConnectTimeout) or isinstance(getattr(inner, "reason", None), NewConnectionError)


def _reason(error: Exception, timeout: float) -> str:
    """Why a request failed, in our own words: the error texts of requests contain the address with the token."""
    if isinstance(error, TooLate):
        return str(error)
    if isinstance(error, requests.exceptions.SSLError):
        return "TLS: the certificate is not trusted, or the handshake failed"
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {timeout:g} s"
    if isinstance(error, requests.Timeout):
        return f"no answer within {timeout:g} s"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy refused (see HTTPS_PROXY in the service's environment)"
    if _is_cut(error):
        return "the connection was cut"
    if isinstance(getattr(error.args[0] if error.args else None, "reason", None), NameResolutionError):
        return "the host name cannot be resolved"
    if isinstance(error, (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        return "the connection was refused or cut"
    return f"the request failed ({type(error).__name__})"

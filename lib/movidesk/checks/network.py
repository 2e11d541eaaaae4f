"""Movidesk's API from this machine, each step by itself: name, connection, certificate, HTTP, and the clock.

No request has the token, so none counts for the account's limit.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import TypeVar
from urllib.parse import urlsplit

from movidesk.checks.finding import Finding, note, ok, trouble
from movidesk.config import Config
from movidesk.messages import _

MOST = 5.0  # seconds for a step, however long [movidesk] timeout is
SKEW = 60.0  # seconds by which the clocks may differ

Result = TypeVar("Result")


class _Step(Exception):
    """A step failed: the finding says how, and no later step makes sense."""

    def __init__(self, finding: Finding):
        super().__init__(finding.text)
        self.finding = finding


def findings(config: Config) -> list[Finding]:
    """The steps up to the first that fails, and the public link."""
    found: list[Finding] = []
    timeout = min(MOST, config["movidesk", "timeout"])
    try:
        _steps(config["movidesk", "url"], timeout, found.append)
    except _Step as step:
        found.append(step.finding)
    return found + public_link(config["recordings", "link"], timeout)


def _steps(url: str, timeout: float, add: Callable[[Finding], None]) -> None:
    from requests.utils import get_environ_proxies

    why = _("events wait, and no caller is given an agent")
    parts = urlsplit(url)
    proxy = get_environ_proxies(url).get(parts.scheme)
    target = urlsplit(proxy if "://" in proxy else "//" + proxy) if proxy else parts
    host, port = target.hostname or "", target.port or (443 if target.scheme == "https" else 80)
    add(_name(host, timeout, why))
    add(_connection(host, port, timeout, why, proxied=bool(proxy)))
    if parts.scheme == "https" and not proxy:
        add(_certificate(host, port, timeout, why))
    for finding in _http(url, timeout, why):
        add(finding)


def _name(host: str, timeout: float, why: str) -> Finding:
    subject, begun = _("DNS of {host}").format(host=host), time.monotonic()
    remedy = _("is url in movidesk.conf right? Else see /etc/resolv.conf, and: getent hosts {host}").format(host=host)
    try:
        found = within(timeout, lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
    except TimeoutError:
        raise _Step(trouble(subject, _("no answer within {seconds:g} s").format(seconds=timeout), why, remedy)) from None
    except OSError as error:
        raise _Step(
            trouble(subject, _("the name cannot be resolved ({reason})").format(reason=error.strerror), why, remedy)
        ) from None
    return ok(subject, f"{found[0][4][0]}{_took(begun)}")


def within(seconds: float, action: Callable[[], Result]) -> Result:
    """The result of an action that has no time-out of its own. Raises TimeoutError, and what the action raises of OSError."""
    done: list[Result | OSError] = []

    def run() -> None:
        try:
            done.append(action())
        except OSError as error:
            done.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not done:
        raise TimeoutError
    if isinstance(done[0], OSError):
        raise done[0]
    return done[0]


def _took(begun: float) -> str:
    return f" ({1000 * (time.monotonic() - begun):.0f} ms)"


def _connection(host: str, port: int, timeout: float, why: str, proxied: bool) -> Finding:
    subject = (_("proxy {host}:{port}") if proxied else _("connection to {host}:{port}")).format(host=host, port=port)
    begun = time.monotonic()
    try:
        socket.create_connection((host, port), timeout).close()
    except OSError as error:
        reason = (
            _("no answer within {seconds:g} s").format(seconds=timeout) if isinstance(error, TimeoutError) else error.strerror
        )
        remedy = (
            _("correct HTTPS_PROXY: systemctl edit movidesk")
            if proxied
            else _("let this machine reach that port (firewall: nft list ruleset), or correct url in movidesk.conf")
        )
        raise _Step(trouble(subject, str(reason or error), why, remedy)) from None
    return ok(subject, _took(begun).strip(" ()"))


def _certificate(host: str, port: int, timeout: float, why: str) -> Finding:
    import os

    import certifi

    subject, begun = _("TLS with {host}").format(host=host), time.monotonic()
    trusted = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or certifi.where()
    try:
        folder = os.path.isdir(trusted)
        context = ssl.create_default_context(cafile=None if folder else trusted, capath=trusted if folder else None)
        with socket.create_connection((host, port), timeout) as plain, context.wrap_socket(plain, server_hostname=host) as safe:
            version = safe.version()
    except ssl.SSLCertVerificationError as error:
        raise _Step(
            trouble(
                subject,
                _("this machine does not trust its certificate ({reason})").format(reason=error.verify_message),
                why,
                _(
                    "is the clock right (timedatectl)? If a proxy decrypts TLS, name its certificate authority: "
                    "REQUESTS_CA_BUNDLE, see docs/install.md"
                ),
            )
        ) from None
    except OSError as error:
        raise _Step(
            trouble(
                subject,
                _("the handshake failed ({reason})").format(reason=error.strerror or error),
                why,
                _("does that port speak TLS? See: openssl s_client -connect {host}:{port}").format(host=host, port=port),
            )
        ) from None
    return ok(subject, f"{version}{_took(begun)}")


def _http(url: str, timeout: float, why: str) -> list[Finding]:
    import requests

    subject, begun = _("Movidesk at {url}").format(url=url), time.monotonic()
    try:
        answer = requests.head(url, timeout=timeout, allow_redirects=False)
    except requests.RequestException as error:
        raise _Step(
            trouble(
                subject,
                _("no answer ({reason})").format(reason=type(error).__name__),
                why,
                _("check the network, the firewall and the proxy (HTTPS_PROXY)"),
            )
        ) from None
    text = f"HTTP {answer.status_code}{_took(begun)}"
    if answer.status_code >= 500:
        raise _Step(
            trouble(subject, text, why, _("wait, and ask Movidesk's support; events are kept. If a proxy answers: HTTPS_PROXY"))
        )
    if answer.status_code == 407:
        raise _Step(trouble(subject, text, why, _("the proxy wants a login: HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT")))
    return [ok(subject, text), *_clock(answer.headers.get("Date", ""), time.time())]


def _clock(date: str, now: float) -> list[Finding]:
    """The clock of this machine against the header Date of an answer."""
    subject = _("clock")
    try:
        theirs = parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError):
        return []  # a server without a clock need not send one
    skew = now - theirs
    if abs(skew) > SKEW:
        late = (
            _("this machine is {seconds:.0f} s ahead of Movidesk")
            if skew > 0
            else _("this machine is {seconds:.0f} s behind Movidesk")
        )
        return [
            trouble(
                subject,
                late.format(seconds=abs(skew)),
                _("the times in tickets are wrong, and signed links expire too early or late"),
                "timedatectl set-ntp true",
            )
        ]
    return [ok(subject, _("differs by {seconds:.0f} s").format(seconds=abs(skew)))]


def public_link(link: str, timeout: float) -> list[Finding]:
    """Whether the address of recordings leads to a web server. Its answer to a file that does not exist is 403 or 404."""
    if not link:
        return []
    import requests

    url = link.format_map(
        {"file": "movidesk-check.wav", "date": time.strftime("%Y-%m-%d"), "id": "movidesk-check", "queue": "0", "extension": "0"}
    )
    parts = urlsplit(url)
    subject, why = _("public link {link}").format(link=link), _("the links in tickets lead nowhere")
    try:
        within(timeout, lambda: socket.getaddrinfo(parts.hostname, None))
        answer = requests.head(url, timeout=timeout, allow_redirects=False)
    except TimeoutError:
        return [note(subject, _("the name server does not answer"))]
    except socket.gaierror:
        return [
            trouble(
                subject,
                _("the name {host} cannot be resolved").format(host=parts.hostname),
                why,
                _("[recordings] link, or the DNS entry of {host}").format(host=parts.hostname),
            )
        ]
    except requests.exceptions.SSLError:
        return [trouble(subject, _("this machine does not trust its certificate"), why, _("renew the web server's certificate"))]
    except requests.RequestException as error:
        # Many routers do not lead their own public address back inside.
        return [
            note(
                subject,
                _("cannot be reached from this machine ({reason}): try it from outside").format(reason=type(error).__name__),
            )
        ]
    if answer.status_code >= 500:
        return [
            trouble(
                subject,
                f"HTTP {answer.status_code}",
                why,
                _("the web server's log; does movidesk serve listen at [recordings] publish?"),
            )
        ]
    return [ok(subject, f"HTTP {answer.status_code}")]

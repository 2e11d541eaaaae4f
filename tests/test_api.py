"""The API client against the two documents, and against servers that misbehave."""

from __future__ import annotations

import io
import logging
import re
import shutil
import socket
import ssl
import struct
import subprocess
import threading
import time
from email.utils import formatdate
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from movidesk.config.options import Secret
from movidesk.delivery import api, exchange
from movidesk.delivery.api import Answer, Delivered, Rejected, Retry
from movidesk_sim import model
from support.waits import free_port

TOKEN = "155cac97-f203-4bb8-86e1-aa4cb8781f3e"
ARRIVED, AT = 1525194000.0, 1525194120.0  # 2018-05-01T17:00:00Z and two minutes later
EXTENSION = re.compile("[0-9]{2,10}")

FIELDS = {"queue": "1", "number": "4733990777", "id": "3", "extension": "5252", "link": "https://pbx/a b&c.wav?x=1#y",
          "arrived": ARRIVED, "at": AT}

#: The documents' tables, as read anew: event -> method, path, {parameter: (the field it comes from, size, required)}.
#: Dates and branchLine are required here: some renderings of the documents have them so, and both are always sent.
ID, LINK = ("id", 256, True), ("link", None, False)
QUEUE, NUMBER, BRANCH = ("queue", 10, True), ("number", 128, True), ("extension", 128, True)
CALL_DATE, DATE = ("arrived", None, True), ("at", None, True)
DOCUMENTS = {
    "received": ("POST", "asterisk_receivedCall",
                 {"queueId": QUEUE, "clientNumber": NUMBER, "id": ID, "callDate": CALL_DATE}),
    "transferred": ("POST", "asterisk_transferedCall", {"id": ID, "branchLine": BRANCH, "transferDate": DATE}),
    "completed": ("POST", "asterisk_completedCall", {"id": ID, "link": LINK, "completedDate": DATE}),
    "lost": ("POST", "asterisk_lostCall", {"id": ID, "link": LINK, "completedDate": DATE}),
    "canceled": ("POST", "asterisk_canceledCall", {"id": ID, "canceledDate": DATE}),
    "start_transferred": ("GET", "asterisk_startTransferedCall",
                          {"queueId": QUEUE, "clientNumber": NUMBER, "id": ID, "branchLine": BRANCH,
                           "callDate": CALL_DATE, "transferDate": DATE}),
    "start_completed": ("GET", "asterisk_completedCall", {"id": ID, "link": LINK, "completedDate": DATE}),
    "start_canceled": ("GET", "asterisk_startCanceledCall",
                       {"queueId": QUEUE, "clientNumber": NUMBER, "id": ID, "callDate": CALL_DATE,
                        "canceledDate": DATE}),
    "link": ("POST", "setMadeCallLink", {"id": ID, "Link": ("link", 256, False)}),
}
PARAMETERS = [(event, name, *spec) for event, (_, _, params) in DOCUMENTS.items() for name, spec in params.items()]
SENT = {**FIELDS, "arrived": "2018-05-01T17:00:00", "at": "2018-05-01T17:02:00"}


class Peer:
    """A server on a socket of its own. answer: bytes, or a function of the connection; once for each request."""

    def __init__(self, answer, tls=None):
        self.answer, self.tls = answer, tls
        self.requests, self.connections = [], 0
        self.closing = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        try:
            with connection:
                connection = self.tls.wrap_socket(connection, server_side=True) if self.tls else connection
                with connection, connection.makefile("rb") as lines:
                    while self._one(connection, lines):
                        pass
        except OSError:
            pass  # the client went away

    def _one(self, connection, lines):
        head = []
        for line in lines:
            if line == b"\r\n":
                break
            head.append(line.decode("latin-1").strip())
        else:
            return False  # the client hung up, or speaks TLS
        method, target, _ = head[0].split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
        self.requests.append((method, urlsplit(target).path, dict(parse_qsl(urlsplit(target).query, True)), headers))
        answer = self.answer(connection) if callable(self.answer) else self.answer
        if answer:
            connection.sendall(answer)
        return bool(answer) and b"Content-Length" in answer and b"Connection: close" not in answer

    def close(self):
        self.closing.set()
        # Closing alone does not wake accept(): its thread could then take a connection of the next socket with this number.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def http(body=b"", status="200 OK", *headers):
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


@pytest.fixture
def peer():
    peers = []

    def start(answer, tls=None):
        peers.append(Peer(answer, tls))
        return peers[-1]

    yield start
    for one in peers:
        one.close()


@pytest.fixture
def client(peer):
    clients = []

    def connect(answer=http(b'"5252"'), tls=None, scheme="http", timeout=2.0, **more):
        target = peer(answer, tls) if not isinstance(answer, int) else None
        port = target.port if target else answer
        clients.append(api.Client(f"{scheme}://127.0.0.1:{port}/public/v1", Secret(TOKEN), timeout, **more))
        clients[-1].peer = target
        return clients[-1]

    yield connect
    for one in clients:
        one.close()


# -- the documents -----------------------------------------------------------------------------------------------------

def test_the_endpoints_are_those_of_the_documents():
    assert set(api.ENDPOINTS) == set(DOCUMENTS)


@pytest.mark.parametrize("event", DOCUMENTS)
def test_a_request_on_the_wire(client, event):
    method, path, params = DOCUMENTS[event]
    sender = client()
    assert sender.send(event, **FIELDS) == Delivered('"5252"')
    (got_method, got_path, query, headers), = sender.peer.requests
    assert (got_method, got_path) == (method, "/public/v1/" + path)
    assert query == {"token": TOKEN, **{name: SENT[field] for name, (field, _, _) in params.items()}}
    assert headers.get("content-length") == ("0" if method == "POST" else None)


@pytest.mark.parametrize("event", DOCUMENTS)
def test_the_simulator_reads_the_documents_the_same_way(event):
    method, path, _ = DOCUMENTS[event]
    query = api.query(event, **FIELDS)
    parameters = model.ENDPOINTS[method, path]
    assert set(query) == {parameter.name for parameter in parameters}
    for parameter in parameters:
        model.check(parameter, query[parameter.name])


@pytest.mark.parametrize("event, name, field, size, required", PARAMETERS)
def test_a_missing_parameter(event, name, field, size, required):
    fields = {key: value for key, value in FIELDS.items() if key != field}
    if required:
        with pytest.raises(api.ParameterError, match=f"{DOCUMENTS[event][1]}: {name}"):
            api.query(event, **fields)
    elif event in ("start_completed", "link"):  # "even if empty, this parameter must be provided"
        assert api.query(event, **fields)[name] == ""
    else:
        assert name not in api.query(event, **fields)


@pytest.mark.parametrize("event, name, field, size, required", [row for row in PARAMETERS if row[3]])
def test_the_size_of_a_parameter(event, name, field, size, required):
    assert api.query(event, **{**FIELDS, field: "1" * size})[name] == "1" * size
    with pytest.raises(api.ParameterError, match=f"{DOCUMENTS[event][1]}: {name}"):
        api.query(event, **{**FIELDS, field: "1" * (size + 1)})


def test_a_link_without_a_documented_size_may_be_long(client):
    link = "https://pbx/" + "x" * 4000
    assert api.query("completed", **{**FIELDS, "link": link})["link"] == link


@pytest.mark.parametrize("queue", ["", "x", "1.5", "-1", "٧", " 1"])
def test_a_queue_is_a_number(queue):
    with pytest.raises(api.ParameterError, match="queueId"):
        api.query("received", **{**FIELDS, "queue": queue})


def test_nothing_is_sent_where_a_parameter_is_wrong(client):
    sender = client()
    with pytest.raises(api.ParameterError) as caught:
        sender.send("received", **{**FIELDS, "id": "x" * 257})
    assert sender.peer.requests == [] and "257" in str(caught.value) and TOKEN not in str(caught.value)


@pytest.mark.parametrize("zone", ["America/Sao_Paulo", "Asia/Kathmandu", "UTC"])
def test_dates_are_utc_wherever_the_pbx_stands(monkeypatch, zone):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert api.utc(ARRIVED + 0.999) == "2018-05-01T17:00:00"
    finally:
        monkeypatch.undo()
        time.tzset()


# -- outcomes ----------------------------------------------------------------------------------------------------------

NOW = 1_800_000_000.0
HTTP_DATE = formatdate(NOW + 90, usegmt=True)


@pytest.mark.parametrize("status, text, header, expected", [
    (200, '"5252"', None, Delivered('"5252"')),
    (200, "", None, Delivered("")),
    (201, "x", None, Delivered("x")),
    (204, "", None, Delivered("")),
    (301, "", None, Retry(None, "HTTP 301", 301)),
    (302, "", "5", Retry(None, "HTTP 302", 302)),
    (304, "", None, Retry(None, "HTTP 304", 304)),
    (400, "id: unknown", None, Rejected("HTTP 400: id: unknown", 400)),
    (404, "", None, Rejected("HTTP 404", 404)),
    (405, "", None, Rejected("HTTP 405", 405)),
    (409, "", None, Rejected("HTTP 409", 409)),
    (422, "", None, Rejected("HTTP 422", 422)),
    (401, "token", None, Retry(None, "HTTP 401: token", 401)),
    (403, "", None, Retry(None, "HTTP 403", 403)),
    (408, "", None, Retry(None, "HTTP 408", 408)),
    (411, "", None, Retry(None, "HTTP 411", 411)),
    (425, "", None, Retry(None, "HTTP 425", 425)),
    (429, "", "7", Retry(7.0, "HTTP 429", 429)),
    (429, "", HTTP_DATE, Retry(90.0, "HTTP 429", 429)),
    (429, "", "soon", Retry(60.0, "HTTP 429", 429)),
    (429, "", None, Retry(60.0, "HTTP 429", 429)),
    (429, "slow down", "0", Retry(0.0, "HTTP 429: slow down", 429)),
    (500, "<html>\r\n\x1b[31moops", None, Retry(None, "HTTP 500: <html> [31moops", 500)),
    (502, "", "7", Retry(None, "HTTP 502", 502)),
    (503, "", "7", Retry(7.0, "HTTP 503", 503)),
    (503, "", HTTP_DATE, Retry(90.0, "HTTP 503", 503)),
    (503, "", "soon", Retry(None, "HTTP 503", 503)),
    (503, "", None, Retry(None, "HTTP 503", 503)),
    (None, "the connection was refused or cut", None, Retry(None, "the connection was refused or cut", None)),
])
def test_outcomes(status, text, header, expected):
    assert api.outcome(status, text, header, NOW) == expected


@given(st.none() | st.integers(100, 999), st.text(), st.none() | st.text())
def test_an_outcome_is_always_one_of_three_with_a_short_printable_line(status, text, header):
    result = api.outcome(status, text, header, NOW)
    assert isinstance(result, (Delivered, Retry, Rejected))
    line = result.text if isinstance(result, Delivered) else result.why
    assert line.isprintable() and len(line) <= 220
    if isinstance(result, Retry) and result.after is not None:
        assert 0 <= result.after <= api.RETRY_AFTER_MAX


@pytest.mark.parametrize("header, expected", [
    ("0", 0.0), ("60", 60.0), (" 60 ", 60.0), ("999999999", api.RETRY_AFTER_MAX),
    (HTTP_DATE, 90.0),
    (formatdate(NOW - 90, usegmt=True), 0.0),
    (formatdate(NOW + 10**8, usegmt=True), api.RETRY_AFTER_MAX),
    (time.strftime("%A, %d-%b-%y %H:%M:%S GMT", time.gmtime(NOW + 90)), 90.0),  # RFC 850
    (time.asctime(time.gmtime(NOW + 90)), 90.0),                                # asctime: UTC, whatever our zone
    (time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(NOW + 90)), 90.0),
    (time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(NOW + 90)), 90.0),
    (None, None), ("", None), ("soon", None), ("-5", None), ("1.5", None), ("5 minutes", None), ("10 s", None),
    ("07:28", None), ("9" * 30, None), ("1" * 10, None), ("\x00", None), ("٧", None),
    ("Mon, 99 Jan 2030 00:00:00 GMT", None),
])
def test_retry_after(monkeypatch, header, expected):
    monkeypatch.setenv("TZ", "America/Sao_Paulo")
    time.tzset()
    try:
        assert api.retry_seconds(header, NOW) == expected
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("header", [
    "Wed, 21 Oct 2026 07:28:00 +9999", "9999-12-31T23:59:59-23:59", "1 " * 30_000, "12:" * 20_000])
def test_an_odd_retry_after_is_judged_at_once(header):
    begun = time.monotonic()
    wait = api.retry_seconds(header, 1.7e9)
    assert wait is None or 0 <= wait <= api.RETRY_AFTER_MAX
    assert time.monotonic() - begun < 0.05


@given(st.text() | st.from_regex(r"[A-Za-z0-9:,+ -]{1,40}", fullmatch=True) | st.datetimes().map(str))
def test_retry_after_never_raises(header):
    seconds = api.retry_seconds(header, NOW)
    assert seconds is None or 0 <= seconds <= api.RETRY_AFTER_MAX


@pytest.mark.parametrize("text, expected", [
    ('"5252"', Answer("5252", "")), ("5252", Answer("5252", "")), ('"5252 Maria"', Answer("5252", "")),
    ("5252 Maria Silva", Answer("5252", "")), (' "5252"\r\n', Answer("5252", "")), ("'5252'", None),
    ('"0"', Answer("", "0")), ("1", Answer("", "1")), ('"2 nobody"', Answer("", "2")), ("3", Answer("", "3")),
    ("4\n", Answer("", "4")), ("04", Answer("04", "")), ("0052", Answer("0052", "")), ('"0052"', Answer("0052", "")),
    ("5", None), ("9", None), ("", None), ('""', None), ("   ", None), ("null", None), ("true", None), ("false", None),
    ("4.0", None), ("1e3", None), ("[5252]", None), ('{"extension": 5252}', None), ("NaN", None), ("-4", None),
    ("12345678901", None), ("5252,5253", None), ("5252&PJSIP/00900@trunk", None), ("<html>5252</html>", None),
    ('"5252', None), ("٤٢", None), ("9" * 5000, None), ("[" * 100000, None), ('"\\ud800"', None), ("\x00", None),
    ("HTTP 429", None),
])
def test_answers_of_received_call(text, expected):
    if expected:
        assert api.parse_answer(text, EXTENSION) == expected
    else:
        with pytest.raises(api.NonsenseAnswer) as caught:
            api.parse_answer(text, EXTENSION)
        assert str(caught.value).isprintable() and len(str(caught.value)) < 400


@given(st.text() | st.from_regex(r'"?[0-9 .eE+-]{1,20}"?') | st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists).map(repr))
def test_an_answer_is_a_code_an_extension_or_nonsense(text):
    try:
        answer = api.parse_answer(text, EXTENSION)
    except api.NonsenseAnswer:
        return
    assert bool(answer.extension) != bool(answer.code)
    assert answer.code in ("", "0", "1", "2", "3", "4") and (answer.code or EXTENSION.fullmatch(answer.extension))


# -- over real sockets -------------------------------------------------------------------------------------------------

def cut(connection):
    connection.shutdown(socket.SHUT_RDWR)


def silent(connection):
    connection.settimeout(10)
    connection.recv(1)  # until the client gives up


@pytest.fixture
def nothing_leaks(capfd):
    """After the test: no log record, at any level, and no output holds the token."""
    written = io.StringIO()
    handler, root = logging.StreamHandler(written), logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield
    root.removeHandler(handler)
    root.setLevel(before)
    assert TOKEN.lower() not in (written.getvalue() + "".join(capfd.readouterr())).lower()


FAILURES = {
    "refused": (free_port, "the connection was refused or cut"),
    "cut": (lambda: cut, "the connection was cut"),
    "cut in the body": (lambda: b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\nConnection: close\r\n\r\nx", "cut"),
    "silent": (lambda: silent, "no answer within 0.3 s"),
    "no HTTP": (lambda: b"SSH-2.0-OpenSSH\r\n", "the connection was refused or cut"),
    "too many headers": (lambda: http(b"", "200 OK", *[f"X-{n}: 1" for n in range(200)]), "cut"),
    "a header too long": (lambda: http(b"", "200 OK", "X: " + "x" * 70000), "cut"),
    "no such encoding": (lambda: http(b"no gzip", "200 OK", "Content-Encoding: gzip"), "the request failed"),
    "a bad chunk": (lambda: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "cut"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failed_request_is_tried_again_and_tells_no_token(client, nothing_leaks, failure):
    make, words = FAILURES[failure]
    result = client(make(), timeout=0.3).send("completed", **FIELDS)
    assert isinstance(result, Retry) and result.status is None and words in result.why
    assert TOKEN not in repr(result)
    assert result.cut is (failure == "cut")


def test_a_connection_that_is_reset_was_cut(client):
    def reset(connection):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    assert client(reset).send("completed", **FIELDS) == Retry(None, "the connection was cut", None, True)


def test_a_chunks_size_without_an_end_is_not_read_for_ever(client):
    taken = []

    def endless(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(1000):  # 64 MB
            connection.sendall(b"0" * 65536)
            taken.append(65536)

    result = client(endless, timeout=1).send("completed", **FIELDS)
    assert isinstance(result, Retry) and sum(taken) < 16 * 2 ** 20  # what the sockets hold


@pytest.mark.parametrize("answer", [
    http(b'"5252"', "200 OK", "no colon in this line"),
    http(b'"5252"', "200 OK", ": no name before this colon"),
    http(b'"5252"', "200 OK", "Content-Length: x"),
    b"HTTP/1.1 200\r\n\r\n",
    http(("unknown token " + TOKEN).encode(), "401 Unauthorized"),
    http(("unknown token " + TOKEN.upper()).encode(), "500 Oops"),
    http(b"", "307 Temporary Redirect", "Location: http://127.0.0.1:1/?token=" + TOKEN),
    http(("no such call " + TOKEN).encode(), "400 Bad Request"),
])
def test_an_odd_answer_tells_no_token(client, nothing_leaks, answer):
    result = client(answer, timeout=0.3).send("completed", **FIELDS)
    assert TOKEN.lower() not in repr(result).lower()


def test_neither_the_client_nor_its_parts_print_the_token(client):
    sender = client()
    assert TOKEN not in repr(sender) + repr(vars(sender)) + str(sender._session.headers)


class NoTls:
    """A plain server where TLS was expected."""

    def wrap_socket(self, connection, server_side):
        connection.recv(1)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        return connection


def test_tls_that_is_none(client, nothing_leaks):
    result = client(tls=NoTls(), scheme="https").send("lost", **FIELDS)
    assert result == Retry(None, "TLS: the certificate is not trusted, or the handshake failed", None)


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl to make a certificate")
def test_a_certificate_that_nobody_vouches_for_is_refused(client, nothing_leaks, tmp_path):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1",
                    "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"],
                   cwd=tmp_path, check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    sender = client(tls=tls, scheme="https")
    assert sender.send("lost", **FIELDS) == Retry(None, "TLS: the certificate is not trusted, or the handshake failed", None)
    assert sender.peer.requests == []


def test_a_redirect_is_not_followed(client, peer):
    elsewhere = peer(http(b'"5252"'))
    sender = client(http(b"", "302 Found", f"Location: http://127.0.0.1:{elsewhere.port}/"))
    assert sender.send("received", **FIELDS) == Retry(None, "HTTP 302", 302)
    assert elsewhere.connections == 0


@pytest.mark.parametrize("location", [b"http://\xff\xfe/", b"http://[::1", b"http://a..b/", b"//:x/"])
def test_where_a_redirect_points_is_not_looked_at(client, location):
    answer = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + location + b"\r\n\r\n"
    assert client(answer).send("received", **FIELDS) == Retry(None, "HTTP 302", 302)


def test_a_cookie_is_not_sent_back(client):
    sender = client(http(b'"5252"', "200 OK", "Set-Cookie: a=b; Path=/"))
    for _ in range(2):
        sender.send("received", **FIELDS)
    assert len(sender.peer.requests) == 2 and "ookie" not in str(sender.peer.requests)


def test_a_host_whose_name_is_none_is_an_outcome():
    result = api.Client(f"https://{'x' * 64}.example", Secret(TOKEN)).send("lost", **FIELDS)
    assert isinstance(result, Retry) and TOKEN not in result.why


def drip(first, then):
    def answer(connection):
        connection.sendall(first)
        while not drip.stop.wait(0.05):
            connection.sendall(then)
    drip.stop = threading.Event()
    return answer


@pytest.mark.parametrize("head", [b"200 OK\r\nContent-Length: 60000\r\n", b"200 OK\r\n", b"302 Found\r\nLocation: /x\r\n"])
def test_a_body_that_drips_is_given_up(client, head):
    begun = time.monotonic()
    result = client(drip(b"HTTP/1.1 " + head + b"\r\n", b"x"), timeout=0.2).send("lost", **FIELDS)
    assert result == Retry(None, "no complete answer within 0.6 s", None)
    assert 0.6 <= time.monotonic() - begun < 2
    drip.stop.set()


@pytest.mark.parametrize("first", [b"HTTP/1.1 200 OK\r\nX-Odd: ", b"HTTP/1.", b"HTTP/1.1 200 OK\r\nX: 1\r\n"])
def test_headers_that_drip_are_given_up_and_their_connection_is_closed(client, first):
    begun = time.monotonic()
    result = client(drip(first, b"x"), timeout=0.2).send("lost", **FIELDS)
    assert result == Retry(None, "no complete answer within 0.6 s", None)
    assert 0.6 <= time.monotonic() - begun < 2
    ended(exchanges())
    drip.stop.set()


def exchanges():
    return [thread for thread in threading.enumerate() if thread.name == "exchange"]


def ended(threads, seconds=5):
    for thread in threads:
        thread.join(seconds)
        assert not thread.is_alive()


@pytest.fixture
def resolver(monkeypatch):
    """resolver.go: until it is set names are not resolved; then they are localhost, or with resolver.fails nothing."""
    class Resolver:
        go, asked, fails = threading.Event(), 0, False

    real = socket.getaddrinfo

    def slow(host, *args, **kwargs):
        Resolver.asked += 1
        Resolver.go.wait(10)
        if Resolver.fails:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return real("127.0.0.1", *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    yield Resolver
    Resolver.go.set()
    ended(exchanges())


@pytest.fixture
def by_name(peer):
    made = []

    def connect(timeout=0.2):
        made.append(api.Client(f"http://movidesk.example:{connect.peer.port}", Secret(TOKEN), timeout))
        return made[-1]

    connect.peer = peer(http(b'"5252"'))
    yield connect
    for one in made:
        one.close()


def test_an_unresolved_name_holds_nobody_and_nothing_is_sent_late(by_name, resolver):
    begun = time.monotonic()
    result = by_name().send("received", **FIELDS)
    assert result == Retry(None, "no connection within 0.6 s (does DNS work?)", None)
    assert 0.6 <= time.monotonic() - begun < 1.5
    resolver.go.set()
    ended(exchanges())
    assert resolver.asked == 1 and by_name.peer.requests == []


def test_a_name_that_cannot_be_resolved(by_name, resolver):
    resolver.fails = True
    resolver.go.set()
    assert by_name().send("received", **FIELDS) == Retry(None, "the host name cannot be resolved", None, sent=False)


def test_exchanges_that_wait_for_a_resolver_do_not_pile_up(by_name, resolver):
    client = by_name(timeout=0.01)
    for _ in range(10 * exchange.MOST):  # one that is given up before it asks the resolver does not count
        result = client.send("received", **FIELDS)
        if "not sent" in result.why:
            break
    assert result.why == f"not sent, {exchange.MOST} requests are waiting already (does DNS work?)"
    assert len(exchanges()) == exchange.MOST
    resolver.go.set()
    ended(exchanges())
    client._timeout = 2.0
    assert client.send("received", **FIELDS) == Delivered('"5252"')


def test_an_exchange_that_is_over_does_not_close_a_kept_connection(client):
    sender = client(timeout=0.2)
    for _ in range(3):
        assert sender.send("received", **FIELDS) == Delivered('"5252"')
        time.sleep(0.25)  # longer than a late cut would take
    assert sender.peer.connections == 1


def test_no_thread_can_be_started(client, monkeypatch):
    def fail(self):
        raise RuntimeError("can't start new thread")

    sender = client()
    with monkeypatch.context() as broken:
        broken.setattr(threading.Thread, "start", fail)
        assert [sender.send("lost", **FIELDS).why for _ in range(exchange.MOST + 1)][-1] == "not sent: can't start new thread"
    assert sender.send("lost", **FIELDS) == Delivered('"5252"')


@pytest.mark.parametrize("head", [b"200 OK\r\n", b"302 Found\r\nLocation: /x\r\n"])
def test_a_huge_body_is_cut_short(client, head):
    sent = []

    def flood(connection):
        connection.sendall(b"HTTP/1.1 " + head + b"\r\n")
        while len(sent) < 10_000:
            connection.sendall(b"x" * 65536)
            sent.append(1)

    result = client(flood, timeout=5).send("lost", **FIELDS)
    assert len(result[0] or result[1]) <= 220
    assert len(sent) < 1000


def test_one_connection_serves_many_requests(client):
    sender = client()
    for _ in range(5):
        assert sender.send("received", **FIELDS) == Delivered('"5252"')
    assert (len(sender.peer.requests), sender.peer.connections) == (5, 1)


def test_a_connection_that_was_closed_meanwhile_is_opened_anew(client):
    sender = client(http(b'"5252"', "200 OK", "Connection: close"))
    assert [sender.send("received", **FIELDS) for _ in range(3)] == [Delivered('"5252"')] * 3
    assert sender.peer.connections == 3


def test_a_client_serves_several_threads(client):
    together = threading.Barrier(4)
    results = []

    def answer(connection):
        together.wait(5)  # four requests are under way at once, or this breaks
        return http(b'"5252"')

    sender = client(answer)
    threads = [threading.Thread(target=lambda: results.append(sender.send("received", **FIELDS))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert results == [Delivered('"5252"')] * 4


def test_retry_after_as_a_date_counts_from_the_clients_clock(client):
    sender = client(http(b"", "429 Too Many Requests", "Retry-After: " + HTTP_DATE), clock=lambda: NOW)
    assert sender.send("lost", **FIELDS) == Retry(90.0, "HTTP 429", 429)


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=60))
def test_whatever_comes_back_is_an_outcome(answer):
    peer = Peer(answer + b"\r\n\r\n")
    sender = api.Client(f"http://127.0.0.1:{peer.port}", Secret(TOKEN), 1.0)
    try:
        assert isinstance(sender.send("lost", **FIELDS), (Delivered, Retry, Rejected))
    finally:
        sender.close()
        peer.close()

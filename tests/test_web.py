"""The web servers: limits on connections, requests and time; bad clients; several ports in one process.

What is served is in test_web_recordings.py and test_web_made_calls.py.
"""
from __future__ import annotations

import io
import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest
import requests
from flask import Flask, Response, request
from werkzeug.wsgi import wrap_file

from movidesk.config import load
from movidesk.context import Context
from movidesk.made_calls import dialler
from movidesk.pbx import ami
from movidesk.recordings import signatures
from movidesk.web import made_calls, server
from movidesk.web import recordings as web_recordings
from support.waits import until

SECRET, TOKEN, MARK = "0123456789abcdef0123456789abcdef", "the-token-of-the-tests", "strange"
NAME = "pbx1-1.1.wav"


@contextmanager
def running(*listens):
    """Serve (application, requests that may wait) each at an address of its own; gives the ports."""
    web = server.Web()
    ports = [web.listen("[tests] listen", ("127.0.0.1", 0), *listen)[1] for listen in listens]
    thread = threading.Thread(target=web.run, daemon=True)
    thread.start()
    try:
        yield ports
    finally:
        web.close()
        thread.join(5)
        assert not thread.is_alive()


class App:
    """Answers every request with `size` bytes, as a file; notes the paths."""

    def __init__(self, size: int = 2):
        self.flask, self.size, self.asked = Flask("tests", static_folder=None), size, []
        self.flask.before_request(self.answer)

    def answer(self) -> Response:
        self.asked.append(request.environ.get(server.REFUSED, request.path))
        return Response(wrap_file(request.environ, io.BytesIO(bytes(self.size))), headers={"Content-Length": str(self.size)},
                        direct_passthrough=True)


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def port(app):
    with running((app.flask,)) as (number,):
        yield number


def connect(port: int, data: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), 10)
    connection.sendall(data)
    return connection


def received(connection: socket.socket) -> bytes:
    """All that comes until the connection ends."""
    found = b""
    with suppress(ConnectionResetError):
        while data := connection.recv(65536):
            found += data
    return found


def ask(port: int, data: bytes) -> bytes:
    with connect(port, data) as connection:
        return received(connection)


GET = b"GET / HTTP/1.1\r\n\r\n"


# -- one connection --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\nA: ", b"POST / HTTP/1.1\r\nContent-Length: 8000\r\n\r\n",
                                  b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\n"],
                         ids=["head", "body", "chunk"])
def test_a_request_that_drips_is_cut(port, app, monkeypatch, sent):
    """Whatever it sends: its time does not begin anew."""
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.5)
    with connect(port, sent) as connection:
        def cut() -> bool:
            with suppress(BlockingIOError):
                connection.send(b"x", socket.MSG_NOSIGNAL)
                return connection.recv(1, socket.MSG_DONTWAIT) == b""
            return False
        with suppress(ConnectionError):
            until(cut, 4)
    assert app.asked == []


def test_a_player_that_takes_nothing_is_cut_and_keeps_nobody_waiting(port, app, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    app.size = 50_000_000
    stalled = [connect(port, GET) for _ in range(server.WORKERS + 2)]
    until(lambda: len(app.asked) == len(stalled))
    app.size = 2
    assert ask(port, GET).endswith(b"\r\n\r\n\0\0")
    monkeypatch.setattr(server, "MAX_CONNECTIONS", len(stalled))
    assert ask(port, GET) == b""
    monkeypatch.setattr(server, "ANSWER_SECONDS", 0.5)
    until(lambda: ask(port, GET))
    assert caplog.text.count("was too slow and was closed") == len(stalled)
    for connection in stalled:
        assert 0 < len(received(connection)) < 50_000_000
        connection.close()


def test_a_connection_serves_one_request(port, app):
    assert ask(port, GET + b"GET /second HTTP/1.1\r\n\r\n").count(b"HTTP/1.1 200") == 1
    assert app.asked == ["/"]


def test_a_request_as_large_as_it_may_be(port, app):
    body = b"x" * server.MAX_BODY
    pieces = b"".join(b"10\r\n%s\r\n" % body[at:at + 16] for at in range(0, len(body), 16))
    head = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
    chunked = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    for data in head + body, chunked + b"2000\r\n" + body + b"\r\n0\r\n\r\n":
        ask(port, data)
    assert app.asked == ["/", "/"]
    for data in (b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (len(body) + 1), chunked + b"2001\r\n",
                 chunked + pieces[:-20] + b"21\r\n",
                 chunked + b"1;" + b"x" * 8000 + b"\r\nx\r\n" + b"1;" + b"x" * 9000 + b"\r\n"):
        ask(port, data)
    assert app.asked[2:] == [413] * 4


EXPECT = b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"


def test_a_client_that_asks_before_it_sends_the_body(port, app):
    """As .NET does."""
    with connect(port, EXPECT % 4) as connection:
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"body")
        assert received(connection).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("data, seen", [(EXPECT % 9000, 413), (EXPECT % 0, "/")], ids=["too large", "no body"])
def test_a_client_that_asks_in_vain(port, app, data, seen):
    assert ask(port, data).startswith(b"HTTP/1.1 200 ") and app.asked == [seen]


# -- many connections, several ports ---------------------------------------------------------------------------------

def test_over_the_limit_a_connection_is_closed_at_once(port, app, monkeypatch, caplog):
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 3)
    idle = [connect(port, b"GET") for _ in range(3)]
    with connect(port) as one_more:
        assert received(one_more) == b""
    assert "[tests] listen: too many connections at once" in caplog.text
    idle.pop().close()
    until(lambda: ask(port, GET))
    for connection in idle:
        connection.close()


@pytest.mark.parametrize("address, said", [("127.0.0.1", "Address already in use"), ("no-such-host.invalid", "not an IPv4")])
def test_a_port_that_cannot_be_had(address, said):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = (address, taken.getsockname()[1])
        with pytest.raises(OSError, match=rf"\[x\] listen = {place[0]}:{place[1]}: {said}"):
            server.Web().listen("[x] listen", place, App().flask)


def test_the_end_closes_ports_and_connections(app):
    with running((app.flask,), (App().flask,)) as ports:
        idle = [connect(port, b"GET") for port in ports]
        until(lambda: ask(ports[1], GET))
    assert [received(connection) for connection in idle] == [b"", b""]
    for port in ports:
        with pytest.raises(ConnectionRefusedError):
            connect(port)


def test_a_worker_for_which_no_thread_can_start(app, monkeypatch, caplog):
    start, failures = server.ThreadedTaskDispatcher.start_new_thread, [RuntimeError("can't start new thread")]

    def start_or_fail(*given) -> None:
        if failures:
            raise failures.pop()
        start(*given)

    monkeypatch.setattr(server.ThreadedTaskDispatcher, "start_new_thread", start_or_fail)
    with running((app.flask,)) as (port,):
        assert ask(port, GET).startswith(b"HTTP/1.1 200 ")
    assert "can't start new thread" in caplog.text


@pytest.fixture
def both(write_config, tmp_path):
    """Recordings and made calls, each at its port; the phones ring until the gate is set."""
    (tmp_path / NAME).write_bytes(b"sound" * 20)
    gate = threading.Event()
    gate.ringing = []
    config = load(write_config(
        recordings={"link": "https://x/{file}", "folder": str(tmp_path), "publish": "127.0.0.1:0", "secret": SECRET},
        made_calls={"listen": "127.0.0.1:0", "token": TOKEN, "ami_user": "movidesk", "ami_secret": "x" * 16, "allow": "0",
                    "per_minute": "1000"})).require()

    def originate(*order) -> str:
        gate.ringing.append(order)
        assert gate.wait(10)
        return ami.ANSWERED

    with running((web_recordings.create_app(config),),
                 (made_calls.create_app(config, dialler.Dialler(Context(config), originate)), made_calls.MAX_CALLS)) as ports:
        yield config, gate, *ports
        gate.set()


def link(config) -> str:
    return signatures.sign("/rec/" + NAME, NAME, config, time.time())


def call(port: int, number: int) -> requests.Response:
    return requests.get(f"http://127.0.0.1:{port}/call", {"source": "5252", "destination": f"01{number:03d}"},
                        headers={"Authorization": TOKEN}, timeout=15)


def test_phones_that_ring_keep_no_recording_waiting(both):
    config, gate, recordings_port, calls_port = both
    with ThreadPoolExecutor(made_calls.MAX_CALLS) as clicks:
        ringing = [clicks.submit(call, calls_port, number) for number in range(made_calls.MAX_CALLS)]
        until(lambda: len(gate.ringing) == made_calls.MAX_CALLS)
        answer = call(calls_port, 998)
        assert (answer.status_code, answer.text) == (503, "32 calls are being set up: try again later")
        started = time.monotonic()
        for _ in range(20):
            assert b"sound" in ask(recordings_port, b"GET %s HTTP/1.1\r\n\r\n" % link(config).encode())
        assert time.monotonic() - started < 5
        gate.set()
        assert {done.result().status_code for done in ringing} == {200}
    assert call(calls_port, 997).status_code == 200


def test_a_port_serves_what_its_section_asks_for(both):
    config, gate, recordings_port, calls_port = both
    gate.set()
    assert call(recordings_port, 1).status_code == 403
    answer = requests.get(f"http://127.0.0.1:{calls_port}{link(config)}", headers={"Authorization": TOKEN}, timeout=10)
    assert (answer.status_code, answer.text) == (404, "the paths are /call and /monitor")


# -- malformed requests ----------------------------------------------------------------------------------------------

MALFORMED = [
    MARK.encode() + b"\r\n\r\n", b"get /%s HTTP/1.1\r\n\r\n", b"GET /%s\r\n\r\n", b"GET / HTTP/1.1\r\n %s\r\n\r\n",
    b"GET / HTTP/1.1\r\n%s\r\n\r\n", b"GET / HTTP/1.1\r\nA: %s\rb\r\n\r\n", b"GET / HTTP/1.1\nA: %s\r\n\r\n",
    b"GET http://[%s HTTP/1.1\r\n\r\n", b"GET http://[%s]/ HTTP/1.1\r\n\r\n", b"GET %s HTTP/1.1\r\n\r\n",
    b"GET /%s%%20\xff HTTP/1.1\r\n\r\n", b"%s / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: %s\r\n\r\n",
    b"GET / HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\nA: %s\r\n\r\n",
    b"GET / HTTP/1.1\r\nTransfer-Encoding: %s\r\n\r\n", b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n%s\r\n",
    b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;\x01%s\r\n", b"GET //%s//x HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: %s\xff:x:y\r\n\r\n", b"OPTIONS * HTTP/1.1\r\nHost: %s\r\n\r\n",
    b"GET / HTTP/1.1\r\nA: %s" + b"x" * (server.MAX_HEAD - len("GET / HTTP/1.1\r\nA: " + MARK)),
    b"POST / HTTP/1.1\r\nContent-Length: 9000\r\n\r\n%s",
]


@pytest.mark.parametrize("data", MALFORMED, ids=range(len(MALFORMED)))
def test_nothing_of_a_malformed_request_is_repeated(both, caplog, data):
    """Neither in the answer nor, but for a word that stands for a path, in any log."""
    caplog.set_level(logging.DEBUG)
    for port, statuses in (both[2], (400, 403, 405)), (both[3], (400, 401, 413, 431, 501)):
        answer = ask(port, data.replace(b"%s", MARK.encode()))
        assert int(answer.split(b" ")[1]) in statuses
        assert b"\r\nConnection: close\r\n" in answer and MARK.encode() not in answer and b"waitress" not in answer
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("urllib3")]
    assert not [line for line in ours if MARK in line and not line.startswith("127.0.0.1 GET '")]


def test_a_recording_that_becomes_shorter_while_it_is_sent(both, tmp_path, caplog):
    config, _, port, _ = both
    (tmp_path / NAME).write_bytes(bytes(50_000_000))
    with connect(port, b"GET %s HTTP/1.1\r\n\r\n" % link(config).encode()) as connection:
        assert connection.recv(100)
        (tmp_path / NAME).write_bytes(b"")
        assert len(received(connection)) < 50_000_000
    assert "became shorter" in caplog.text


def test_a_client_that_is_cut_leaves_no_signature_in_the_log(monkeypatch, caplog):
    """As some programs mangle links; waitress itself logs the path."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(server, "ANSWER_SECONDS", 0.2)
    app = Flask("tests", static_folder=None)
    app.before_request(lambda: until(request.environ["waitress.client_disconnected"]) and "late")
    with running((app,)) as (port,):
        assert ask(port, b"GET /a.wav%3Fsignature=strange HTTP/1.1\r\n\r\n") == b""
        until(lambda: "disconnected" in caplog.text)
    assert MARK not in caplog.text

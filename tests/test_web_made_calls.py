"""Requests for made calls: who may ask, for what, how often; and an Asterisk that cannot be asked.

tests/pbx/test_made_calls.py has the calls themselves.
"""
from __future__ import annotations

import json
import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from movidesk.config import ConfigError, load
from movidesk.context import Context
from movidesk.made_calls import dialler
from movidesk.pbx import ami
from movidesk.web import made_calls, server
from support.waits import until

TOKEN, PASSWORD, AMI_SECRET = "the-token-of-the-tests", "the-password-of-tests", "the-ami-secret-of-it"
ASKED = {"source": "5252", "destination": "4733990777"}


class Pbx:
    """What stands for ami.originate: notes the orders, answers `outcome` (an exception is raised), waits for `gate`."""

    def __init__(self):
        self.orders, self.outcome, self.gate = [], ami.ANSWERED, threading.Event()
        self.gate.set()

    def __call__(self, address, user, secret, fields, ring):
        self.orders.append(fields)
        assert self.gate.wait(5)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class Movidesk:
    """A client of a running server of made calls."""

    def __init__(self, port, dialler, context, pbx, clock):
        self.url = f"http://127.0.0.1:{port}"
        self.dialler, self.context, self.pbx, self.clock = dialler, context, pbx, clock

    def get(self, path="/call", auth=None, headers=None, **params):
        headers = {"Authorization": "Bearer " + TOKEN} if headers is None and auth is None else headers
        return requests.get(self.url + path, {**ASKED, **params}, auth=auth, headers=headers, timeout=10)

    def raw(self, data: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", int(self.url.rpartition(":")[2])), 10) as connection:
            connection.sendall(data)
            return b"".join(iter(lambda: connection.recv(4096), b""))

    def calls(self):
        return self.context.journal.overview.last_calls(10)


@pytest.fixture
def movidesk(write_config, clock):
    """movidesk(auth="none", ...): a client of a server with these [made_calls] settings."""
    running = []

    def start(**settings) -> Movidesk:
        config = load(write_config(made_calls={
            "listen": "127.0.0.1:0", "token": TOKEN, "user": "movidesk", "password": PASSWORD, "ami_user": "movidesk",
            "ami_secret": AMI_SECRET, "allow": "47, 0", **settings})).require()
        context, pbx = Context(config), Pbx()
        web, made = server.Web(), dialler.Dialler(context, pbx, clock)
        _, port = web.listen("[made_calls] listen", config["made_calls", "listen"], made_calls.create_app(config, made),
                             made_calls.MAX_CALLS)
        threading.Thread(target=web.run, daemon=True).start()
        running.append(web)
        return Movidesk(port, made, context, pbx, clock)

    yield start
    for web in running:
        web.close()


# -- what is asked, and answered -------------------------------------------------------------------------------------

def test_get_returns_the_id_as_text(movidesk):
    client = movidesk(caller_id="4730000000")
    answer = client.get()
    call, = client.calls()
    assert (answer.status_code, answer.text, answer.headers["Content-Type"]) == (
        200, call.call_id, "text/plain; charset=utf-8")
    assert (call.mode, call.state, call.extension, call.number) == ("made", "dialled", "5252", "4733990777")
    order, = client.pbx.orders
    assert order == {"Channel": "PJSIP/5252", "Context": "movidesk-outbound", "Exten": "4733990777", "Priority": "1",
                     "CallerID": "4733990777", "ChannelId": call.uniqueid,
                     "Variable": ["MOVIDESK_ID=" + call.call_id, "MOVIDESK_CALLER=4730000000"]}


@pytest.mark.parametrize("body", [{"data": ASKED}, {"json": ASKED}, {"data": json.dumps(ASKED)}, {"params": ASKED},
                                  {"data": iter([json.dumps(ASKED).encode()])}],
                         ids=["form", "json", "json without its type", "query", "chunked"])
def test_post_returns_json(movidesk, body):
    client = movidesk(auth="none")
    answer = requests.post(client.url + "/call", timeout=10, **body)
    assert (answer.status_code, answer.json()) == (200, {"call_id": client.calls()[0].call_id})


def test_an_agent_of_another_technology(movidesk):
    client = movidesk(auth="none", dial_prefix="Local/", dial_suffix="@from-internal/n")
    client.get()
    assert client.pbx.orders[0]["Channel"] == "Local/5252@from-internal/n"


@pytest.mark.parametrize("outcome, status, text", [
    (ami.BUSY, 409, "extension 5252 is busy"),
    (ami.NO_ANSWER, 504, "extension 5252 did not answer"),
    (ami.UNREACHABLE, 502, "extension 5252 cannot be reached: its phone is off, not registered, or declined"),
    (ami.AmiError("Connection refused"), 503, "Asterisk cannot be reached for the call: Connection refused"),
])
def test_no_call(movidesk, outcome, status, text):
    client = movidesk(auth="none")
    client.pbx.outcome = outcome
    answer = client.get()
    assert (answer.status_code, answer.text) == (status, text)
    assert requests.post(client.url + "/call", ASKED, timeout=10).json() == {"error": text}
    assert {(call.state, call.code) for call in client.calls()} == {("ended", text)}


def test_a_failure_of_ours_is_told_without_its_words(movidesk, caplog):
    client = movidesk(auth="none")
    client.pbx.outcome = RuntimeError("inside")
    assert (client.get().status_code, client.get().text) == (500, "the PBX failed: see its log")
    assert "inside" in caplog.text


# -- who may ask -----------------------------------------------------------------------------------------------------

LOGIN = ("movidesk", PASSWORD)


@pytest.mark.parametrize("auth, how", [
    ("none", {}), ("login", {"auth": LOGIN}), ("token", {"headers": {"Authorization": "Bearer " + TOKEN}}),
    ("token", {"headers": {"Authorization": TOKEN}}), ("token", {"headers": {}, "token": TOKEN})])
def test_three_authentications(movidesk, auth, how):
    assert movidesk(auth=auth).get(**how).status_code == 200


@pytest.mark.parametrize("auth, how", [
    ("login", {"headers": {}}), ("login", {"auth": ("movidesk", "x")}), ("login", {"auth": ("x", PASSWORD)}),
    ("login", {"headers": {"Authorization": "Basic ===="}}), ("login", {"headers": {"Authorization": "Bearer " + PASSWORD}}),
    ("login", {"token": TOKEN, "headers": {}}),
    ("token", {"headers": {}}), ("token", {"headers": {}, "token": TOKEN[:-1]}), ("token", {"auth": LOGIN}),
    ("token", {"headers": {}, "token": "ü\udcff".encode("utf-8", "surrogateescape")}),
    ("token", {"headers": {"Authorization": "Bearer"}})])
def test_a_wrong_secret(movidesk, auth, how):
    client = movidesk(auth=auth)
    answer = client.get(**how)
    assert (answer.status_code, answer.text) == (401, "wrong or missing " + auth)
    assert ("WWW-Authenticate" in answer.headers) == (auth == "login")
    assert client.get("/elsewhere", **how).status_code == 401
    assert client.pbx.orders == client.calls() == []


@pytest.mark.parametrize("settings, words", [
    ({"auth": "none", "listen": "0.0.0.0:8089"}, "loopback only"),
    ({"token": None}, "needs token"),
    ({"auth": "login", "password": None}, "needs password"),
    ({"ami_secret": None}, "needs ami_secret"),
    ({"token": "short"}, "5 characters must be 16 to 128"),
    ({"ami": "192.0.2.1:5038"}, "loopback"),
    ({"allow": "47;", "deny": "x"}, "prefixes"),
    ({"dial_prefix": "PJSIP/9&"}, "part of a channel's name"),
])
def test_a_configuration_that_is_open_or_incomplete_is_refused(movidesk, settings, words):
    with pytest.raises(ConfigError, match=words) as raised:
        movidesk(**settings)
    assert not any(secret in str(raised.value) for secret in (TOKEN, PASSWORD, AMI_SECRET))


def test_off_by_default(write_config):
    config = load(write_config())
    assert (config["made_calls", "listen"], config["made_calls", "monitor"], config["made_calls", "allow"]) == ("", "no", "")


def test_the_log_tells_no_secret_and_no_whole_number(movidesk, caplog):
    caplog.set_level(logging.DEBUG)
    for client in movidesk(), movidesk(auth="login"):
        client.get(headers={}, token=TOKEN)
        client.get(auth=LOGIN)
        client.get(destination="190")
        client.raw(b"token=%s HTTP/1.1\r\n\r\n" % TOKEN.encode())
        client.raw(b"GET&token=%s /call HTTP/1.1\r\n\r\n" % TOKEN.encode())
        client.raw(b"GET token=%s HTTP/1.1\r\n\r\n" % TOKEN.encode())
    ours = "".join(record.getMessage() + "\n" for record in caplog.records if record.name.startswith("movidesk"))
    assert "GET '/call' from '5252' to ...'777': 200 pbx1-" in ours
    assert not any(secret in ours for secret in (TOKEN, PASSWORD, AMI_SECRET, ASKED["destination"]))


URL = "/call?source={call.source.number}&destination={call.destination.number}"
SIMULATED = {"none": {}, "login": {"user": "movidesk", "password": PASSWORD}, "token": {"token": TOKEN}}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("auth", SIMULATED)
def test_the_simulators_button(movidesk, simulator, auth, method):
    client = movidesk(auth=auth)
    click = {**ASKED, "destination": "+47 3399-0777", "url": client.url + URL, "method": method, "auth": SIMULATED[auth]}
    assert requests.post(simulator.control + "/make_call", json=click, timeout=10).json()["status"] == 403
    click["destination"] = "4733990777"
    answer = requests.post(simulator.control + "/make_call", json=click, timeout=10).json()
    ticket, = simulator.model.tickets.values()
    assert answer == {"status": 200, "call_id": ticket.id, "text": answer["text"]}
    assert (ticket.state, ticket.agent, ticket.number, ticket.complete) == ("made", "5252", "4733990777", False)
    simulator.model.request("POST", "setMadeCallLink", {"token": simulator.model.token, "id": ticket.id, "Link": "https://x"})
    assert (ticket.complete, simulator.model.problems) == (True, [])


def test_the_simulators_button_and_a_pbx_that_returns_no_id(simulator):
    click = {**ASKED, "url": simulator.home}
    answer = requests.post(simulator.control + "/make_call", json=click, timeout=10).json()
    assert answer["call_id"] == "" and "without a call id" in simulator.model.problems[0]["text"]
    answer = requests.post(simulator.control + "/make_call", json={**ASKED, "url": "http://127.0.0.1:9"}, timeout=10).json()
    assert answer == {"status": 0, "text": "ConnectionError", "call_id": ""}


# -- for what --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("source", ["", "5", "5252&PJSIP/00900", "PJSIP/5252", "5252\r\nAction: Command", "٥٢٥٢"])
def test_a_malformed_extension(movidesk, source):
    client = movidesk(auth="none")
    assert client.get(source=source).status_code == 400
    assert client.pbx.orders == []


@pytest.mark.parametrize("number", ["", "x", "47", "4" * 21, "47339907+7", "47,1", "4733990777@trunk", "4733990777&PJSIP/1",
                                    "4733\r\nAction: x", "4733${EXTEN}", "٤٧٣٣٩٩"])
def test_a_malformed_number(movidesk, number):
    client = movidesk(auth="none", number_pattern=r"\+?\d{3,20}")
    assert client.get(destination=number).status_code == 400
    assert client.pbx.orders == []


def test_an_extension_pattern_that_allows_too_much(write_config, clock):
    config = load(write_config(pbx={"extension_pattern": ".*"}))
    with pytest.raises(dialler.Refused):
        dialler.Dialler(Context(config), Pbx(), clock).call("5252&PJSIP/1", "47339907")


@pytest.mark.parametrize("allow, number, allowed", [
    ("", "4733990777", False), ("47", "4733990777", True), ("47", "(47) 3399-0777", True), ("47", "190", False),
    ("0", "0473399077", True), ("0", "004733990777", False), ("0, 00", "004733990777", True), ("0, 0049", "00493012", True),
    ("0, 0049", "00473012", False), ("47", "+4733990777", False), ("+55", "+554733990777", True), ("+55", "+4930", False),
    ("0", "0900123456", False), ("0, 0900", "0900123456", True), ("0", "090123456", True), ("0", "0300123", False),
])
def test_which_numbers_may_be_dialled(movidesk, allow, number, allowed):
    client = movidesk(auth="none", allow=allow)
    answer = client.get(destination=number)
    assert answer.status_code == (200 if allowed else 403)
    assert len(client.pbx.orders) == len(client.calls()) == allowed
    assert allowed or answer.text == "this number may not be dialled: see [made_calls] allow"


# -- how often -------------------------------------------------------------------------------------------------------

def test_a_flood(movidesk):
    client = movidesk(auth="none", per_minute="3")
    statuses = [client.get(destination=f"473399077{n}").status_code for n in range(5)]
    assert statuses == [200, 200, 200, 429, 429]
    assert client.get(destination="4733990775").headers["Retry-After"] == "60"
    assert client.get(source="5253", destination="4733990771").status_code == 200
    client.clock.advance(60)
    assert client.get(destination="4733990775").status_code == 200


def test_a_double_click_is_one_call(movidesk):
    client = movidesk(auth="none", per_minute="1")
    looks = []
    client.dialler._clock = lambda: looks.append(None) or client.clock()
    client.pbx.gate.clear()
    with ThreadPoolExecutor(5) as clicks:
        answers = [clicks.submit(client.get) for _ in range(4)]
        until(lambda: len(looks) == 4)
        client.clock.advance(dialler.SAME_CLICK + 1)  # it still rings
        answers.append(clicks.submit(client.get))
        until(lambda: len(looks) == 5)
        client.pbx.gate.set()
        texts = {answer.result().text for answer in answers}
    assert texts == {call.call_id for call in client.calls()} and len(client.pbx.orders) == 1


def test_the_same_pair_is_another_call_later_or_when_the_first_failed(movidesk):
    client = movidesk(auth="none")
    client.pbx.outcome = ami.BUSY
    assert client.get().status_code == 409
    client.pbx.outcome = ami.ANSWERED
    first = client.get().text
    assert client.get().text == first
    client.clock.advance(dialler.SAME_CLICK)
    assert client.get().text != first


# -- listening in ----------------------------------------------------------------------------------------------------

def test_monitoring_is_off_by_default(movidesk):
    client = movidesk(auth="none")
    call_id = client.get().text
    assert client.get("/monitor", call=call_id).status_code == 404 and len(client.pbx.orders) == 1


def test_monitoring(movidesk):
    client = movidesk(monitor="yes", per_minute="2")
    call_id = client.get().text
    assert client.get("/monitor", source="5250", call=call_id).text == call_id
    order = client.pbx.orders[1]
    assert (order["Channel"], order["Context"], order["Variable"]) == (
        "PJSIP/5250", "movidesk-monitor", ["MOVIDESK_ID=" + call_id])
    assert client.get("/monitor", source="x&y", call=call_id).status_code == 400
    assert client.get("/monitor", source="5250", call=call_id, headers={}).status_code == 401
    assert client.get("/monitor", source="5250", call="pbx1-1.1").status_code == 404
    client.context.journal.calls.hang_up(call_id)
    assert client.get("/monitor", source="5250", call=call_id).status_code == 404


# -- bad clients -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("data, status", [
    (b"GET /call?source=5252&destination=190 HTTP/1.0\r\n\r\n", b"403"),
    (b"GET /elsewhere HTTP/1.0\r\n\r\n", b"404"), (b"GET http://[::1/call HTTP/1.0\r\n\r\n", b"400"),
    (b"PUT /call HTTP/1.1\r\n\r\n", b"501"),
    (b"HEAD /call?source=5252&destination=4733990777 HTTP/1.1\r\n\r\n", b"501"),
    (b"GET /" + b"x" * (server.MAX_HEAD - 5), b"431"),
    (b"POST /call HTTP/1.1\r\nContent-Length: 99999\r\n\r\n", b"413"),
    (b"POST /call HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"400"),
    (b"POST /call HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n", b"400"),
    (b"POST /call HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n", b"413"),
    (b"POST /call HTTP/1.1\r\nContent-Length: 5\r\n\r\n{\"a\":", b"400"),
    (b"POST /call HTTP/1.1\r\nContent-Length: 2\r\n\r\n\xff\xfe", b"400"),
    (b"POST /call HTTP/1.1\r\nContent-Length: 14\r\n\r\n{\"source\": []}", b"400"),
    (b"POST /monitor HTTP/1.1\r\nContent-Length: 18\r\n\r\n{\"call\": \"\\udce5\"}", b"400"),
])
def test_odd_requests(movidesk, data, status):
    client = movidesk(auth="none")
    answer = client.raw(data)
    assert answer.startswith(b"HTTP/1.1 " + status + b" ") and b"Connection: close" in answer
    assert client.pbx.orders == []


def test_what_is_no_http(movidesk):
    answer = movidesk(auth="none").raw(b"nonsense\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ") and answer.endswith(b"\r\n\r\ninvalid request: use GET or POST /call")


def test_too_many_connections(movidesk, monkeypatch):
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 1)
    client = movidesk(auth="none")
    client.pbx.gate.clear()
    with ThreadPoolExecutor(1) as other:
        first = other.submit(client.get)
        while not client.pbx.orders:
            time.sleep(0.01)
        with pytest.raises(requests.ConnectionError):
            client.get(destination="4733990778")
        client.pbx.gate.set()
        assert first.result().status_code == 200

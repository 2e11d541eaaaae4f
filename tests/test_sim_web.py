"""The simulator over real HTTP."""
from __future__ import annotations

import http.client
import logging
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from movidesk_sim.model import Limit, Movidesk
from movidesk_sim.web import serve

RECEIVED = "asterisk_receivedCall"


class Client:
    """The simulator with one pooled session, as the product has."""

    def __init__(self, simulator):
        self.simulator, self.model, self.session = simulator, simulator.model, requests.Session()

    def post(self, endpoint=RECEIVED, *, timeout=5, **params):
        if endpoint == RECEIVED:
            params = {"queueId": 77, "clientNumber": "4733990777", "id": "c1", **params}
        return self.session.post(f"{self.simulator.url}/{endpoint}", timeout=timeout,
                                 params={"token": self.model.token, **params})

    def set(self, what, body):
        return self.session.post(f"{self.simulator.control}/{what}", json=body, timeout=5)

    def see(self, what):
        return self.session.get(f"{self.simulator.control}/{what}", timeout=5).json()


@pytest.fixture
def client():
    model = Movidesk(time.time, limit=Limit(1000))
    model.add_group(77, ["5252", "5253"])
    with serve(model) as simulator:
        yield Client(simulator)


def test_an_answer_is_a_json_string(client):
    answer = client.post()
    assert (answer.status_code, answer.text, answer.json()) == (200, '"5252"', "5252")


def test_errors_are_answered_with_a_text(client):
    answer = client.post(queueId="x")
    assert (answer.status_code, answer.text) == (400, "queueId: not a whole number: 'x'")
    assert client.post(token="wrong").status_code == 401
    assert client.post("nonsense").status_code == 404
    assert client.session.get(f"{client.simulator.url}/{RECEIVED}").status_code == 405


def test_too_many_requests_over_http(client):
    client.set("limit", {"requests": 1})
    assert client.post().status_code == 200
    answer = client.post()
    assert answer.status_code == 429 and 1 <= int(answer.headers["Retry-After"]) <= 60


def test_a_post_without_a_content_length_is_411_as_with_iis(client):
    connection = http.client.HTTPConnection("127.0.0.1", client.simulator.port, timeout=5)
    connection.putrequest("POST", f"/public/v1/{RECEIVED}")
    connection.endheaders()
    assert connection.getresponse().status == 411
    connection.close()


def test_one_connection_serves_many_requests_with_and_without_a_body(client):
    connection = http.client.HTTPConnection("127.0.0.1", client.simulator.port, timeout=5)
    used = set()
    for body in (b"", b'{"left": "unread"}', b""):
        connection.request("POST", f"/public/v1/{RECEIVED}?id=1", body=body)
        used.add(connection.sock.getsockname())
        answer = connection.getresponse()
        assert answer.status == 401 and answer.read()
    assert len(used) == 1
    connection.close()


# Faults

def test_a_status_instead_of_an_answer(client):
    client.set("faults", {"endpoint": RECEIVED, "status": 503, "count": 2, "retry_after": "7",
                          "body": "<html>"})
    assert client.post("setMadeCallLink", id="m1").status_code == 200  # another endpoint
    for _ in range(2):
        answer = client.post()
        assert (answer.status_code, answer.text, answer.headers["Retry-After"]) == (503, "<html>", "7")
    assert client.model.tickets.keys() == {"m1"}
    assert client.post().status_code == 200
    assert [entry["status"] for entry in client.see("requests")] == [200, 503, 503, 200]


def test_faults_come_in_order(client):
    client.set("faults", [{"status": 500}, {"status": 502}])
    assert [client.post().status_code for _ in range(3)] == [500, 502, 200]


@pytest.mark.parametrize("cut, seen", [("before", 0), ("after", 1)])
def test_a_connection_cut(client, cut, seen):
    client.set("faults", {"cut": cut})
    with pytest.raises(requests.ConnectionError):
        client.post()
    assert len(client.model.tickets) == seen
    assert client.post().status_code == 200


def test_over_the_limit_the_connection_can_be_cut(client):
    client.set("limit", {"requests": 1, "refuses": "cut"})
    assert client.post().status_code == 200
    with pytest.raises(requests.ConnectionError):
        client.post("setMadeCallLink", id="m1")
    assert [entry["status"] for entry in client.see("requests")] == [200, 0] and "m1" not in client.model.tickets


def test_nonsense_in_place_of_the_answer(client):
    client.set("faults", {"body": "<h1>Maintenance"})
    answer = client.post()
    assert (answer.status_code, answer.text) == (200, "<h1>Maintenance")


def test_a_slow_answer(client):
    client.set("faults", {"delay": 0.3})
    with pytest.raises(requests.Timeout):
        client.post(timeout=0.05)
    assert client.post("setMadeCallLink", id="m1").status_code == 200  # others are not held up
    deadline = time.monotonic() + 5
    while "c1" not in client.model.tickets and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "c1" in client.model.tickets  # Movidesk had it all the same


def test_every_answer_takes_the_latency(client):
    """Half of it before Movidesk sees the request; requests of several connections travel at once."""
    assert client.set("switches", {"latency": 0.4}).status_code == 200
    begin = time.time()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda number: client.post(id=f"c{number}").status_code, range(4)))
    assert answers == [200] * 4 and 0.4 <= time.time() - begin < 1.4
    assert all(0.2 <= entry["time"] - begin < 1.0 for entry in client.model.log)
    assert client.set("switches", {"latency": -1.0}).status_code == 400


def test_faults_can_be_cleared(client):
    client.set("faults", {"status": 500, "count": 99})
    assert client.set("faults", {"clear": True}).json() == []
    assert client.post().status_code == 200


# The control interface

def test_setting_the_scene(client):
    client.set("agents", {"extension": "5252", "online": False, "name": "Maria"})
    client.set("agents", {"extension": "7000", "queues": [78]})
    assert client.post().json() == "5253"
    assert client.post(queueId=78, id="c2").json() == "7000"
    client.set("groups", {"queue_id": 77, "opens": "00:00", "closes": "00:00"})
    assert client.post(id="c3").json() == "1"
    client.set("groups", {"queue_id": 79, "agents": ["8000"]})
    assert client.post(queueId=79, id="c4").json() == "8000"
    client.set("switches", {"answer": "bare"})
    assert client.post(id="c5").text == "1"
    assert [agent["offered_to"] for agent in client.see("agents")] == [None, "c1", "c2", "c4"]


def test_seeing_what_arrived(client):
    client.post()
    client.post("asterisk_transferedCall", id="c1", branchLine="5252")
    client.post("asterisk_transferedCall", id="c1", branchLine="5252")
    client.post("asterisk_lostCall", id="c1")
    state = client.see("state")
    assert [agent["in_call"] for agent in state["agents"]] == ["c1", None]
    assert state["tickets"][0]["state"] == "transferred" and state["tickets"][0]["complete"] is False
    assert [entry["status"] for entry in state["requests"]] == [200, 200, 200, 400]
    assert state["duplicates"] == client.see("duplicates") == 1
    assert "cannot become lost" in client.see("problems")[0]["text"]
    assert client.model.token not in str(state)
    client.set("reset", {})
    assert client.see("tickets") == client.see("requests") == client.see("problems") == []


@pytest.mark.parametrize("what, body", [
    ("agents", {}), ("agents", {"extension": "51", "online": "yes"}), ("agents", {"extension": 51}),
    ("agents", {"extension": "4"}), ("agents", {"extension": "51", "queues": ["x"]}), ("agents", "x"),
    ("groups", {"queue_id": "77"}), ("groups", {"queue_id": 80, "agents": ["60", "1"]}),
    ("faults", {"cut": "both"}), ("faults", {"colour": 1}),
    ("limit", {"requests": 0}), ("limit", {"requests": True}), ("switches", {"answer": "xml"}),
])
def test_misuse_is_400_and_changes_nothing(client, what, body):
    before = {**client.see("state"), "time": 0}
    answer = client.set(what, body)
    assert answer.status_code == 400 and answer.json()["error"]
    assert {**client.see("state"), "time": 0} == before


def test_unknown_things_are_404(client):
    assert client.set("weather", {}).status_code == 404
    assert client.session.get(client.simulator.control + "/weather").status_code == 404


@pytest.mark.parametrize("headers, status", [
    ({"Host": "evil.example"}, 421), ({"Origin": "http://evil.example"}, 403), ({"Sec-Fetch-Site": "cross-site"}, 403)])
def test_a_page_of_another_site_changes_nothing(client, headers, status):
    before = {**client.see("state"), "time": 0}
    answer = client.session.post(client.simulator.control + "/switches", json={"reassign": True}, headers=headers, timeout=5)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert {**client.see("state"), "time": 0} == before


def test_a_page_of_another_site_sees_nothing(client):
    answer = client.session.get(client.simulator.control + "/state", headers={"Host": "evil.example"}, timeout=5)
    assert (answer.status_code, list(answer.json())) == (421, ["error"])


# The log, starting and stopping

def test_the_log_has_one_line_a_request_without_the_token(client, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    client.set("faults", {"endpoint": "setMadeCallLink", "cut": "after"})
    client.post(id="c\r\n1")
    with pytest.raises(requests.ConnectionError):
        client.post("setMadeCallLink", id="m1")
    with socket.create_connection(("127.0.0.1", client.simulator.port), timeout=5) as raw:
        raw.sendall(f"GET /{client.model.token} twice HTTP/1.1\r\n\r\n".encode())
        assert b"400" in raw.recv(100)
    lines = [record.getMessage() for record in caplog.records if record.name == "movidesk_sim.web"]
    assert lines == [
        f'POST {RECEIVED} queueId=77 clientNumber=4733990777 id=c??1 -> 200 "5252"',
        "POST setMadeCallLink id=m1 -> connection cut after"]
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("urllib3")]
    assert client.model.token not in "".join([*ours, *capfd.readouterr()])


def test_closing_hangs_up_and_the_same_port_can_be_had_again(client):
    assert client.post().status_code == 200
    client.simulator.close()
    with pytest.raises(requests.ConnectionError):
        client.post()
    with serve(client.model, port=client.simulator.port) as again:
        assert again.url == client.simulator.url
        assert client.post().status_code == 200


def test_the_links_of_tickets_are_looked_at(client):
    client.post(id="good")
    client.post("asterisk_lostCall", id="good", link=client.simulator.home + "/", completedDate="2026-01-31T10:00:00")
    client.post(id="gone")
    client.post("asterisk_lostCall", id="gone", link=client.simulator.home + "/nowhere", completedDate="2026-01-31T10:00:00")
    client.post(id="dead")
    client.post("asterisk_lostCall", id="dead", link="http://127.0.0.1:9/x.wav", completedDate="2026-01-31T10:00:00")
    seen = {look["ticket"]: (look["status"], look["length"] > 0) for look in client.see("links")}
    assert seen["good"] == (200, True) and seen["gone"][0] == 404 and seen["dead"] == (0, False)

"""Calls that Movidesk asks for, through the real service, AMI and Asterisk."""
from __future__ import annotations

import itertools
import json
import wave
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from movidesk_rehearsal.asterisk import free_port
from movidesk_rehearsal.phones import BUSY, DECLINES, RINGS, Agent, Behaviour, Caller, answers
from movidesk_rehearsal.rehearsal import Rehearsal, wait_for
from office import RECORDINGS, SETTINGS, Office

AGENT, CUSTOMER, SUPERVISOR = "5252", "5254", "5255"
TOKEN = "made-calls-token-1"
AMI_SECRET = "ami-secret-of-the-tests"
# The rights that docs/made-calls.md gives.
MANAGER = """
[general]
enabled = yes
port = {port}
bindaddr = 127.0.0.1
[movidesk]
secret = {secret}
deny = 0.0.0.0/0.0.0.0
permit = 127.0.0.1/255.255.255.255
read = call
write = originate
eventfilter = Event: OriginateResponse
eventfilter = Event: Hangup
"""
_serial = itertools.count(1)
# The customer is a phone behind the PBX's own outbound route.
DIALPLAN = """
[from-internal](+)
exten => _47!,1,Set(GLOBAL(SHOWN)=${CALLERID(num)})
 same => n,Dial(PJSIP/5254,20)
"""


@pytest.fixture(scope="module")
def rehearsal(tree, tmp_path_factory):
    rehearsal = Rehearsal(tree, tmp_path_factory.mktemp("made"), more=DIALPLAN, manager={"movidesk": AMI_SECRET},
                          variables={"MOVIDESK_RECORD": "yes"})
    rehearsal.made_calls = f"127.0.0.1:{free_port(1)}"
    rehearsal.write_config({**SETTINGS, "made_calls": [
        "listen = " + rehearsal.made_calls, "auth = token", "token = " + TOKEN, "allow = 47", "ring = 2",
        "per_minute = 100", "caller_id = 4730000000", "monitor = yes",
        f"ami = 127.0.0.1:{rehearsal.pbx.manager_port}", "ami_user = movidesk", "ami_secret = " + AMI_SECRET]})
    rehearsal.pbx.write("manager.conf", MANAGER.format(port=rehearsal.pbx.manager_port, secret=AMI_SECRET))
    with rehearsal:
        yield rehearsal


class MadeCalls(Office):
    """The office, whose phones are heard, and Movidesk's button."""

    def agent(self, extension: str = AGENT, behaviour: Behaviour = answers()) -> Agent:
        return self._open.enter_context(Agent(self.pbx, extension, behaviour, audio=True))

    number = ""

    def click(self, method: str = "GET", again: bool = False) -> dict:
        """What the simulator got when an agent clicked on a number, which is a new one unless it is clicked again."""
        if not again:
            self.number = f"4734{next(_serial):06d}"
        url = f"http://{self.rehearsal.made_calls}/call?source={{call.source.number}}&destination={{call.destination.number}}"
        return requests.post(self.simulator.control + "/make_call", timeout=30, json={
            "source": AGENT, "destination": self.number, "url": url, "method": method, "auth": {"token": TOKEN}}).json()

    def listen(self, call_id: str) -> requests.Response:
        return requests.get(f"http://{self.rehearsal.made_calls}/monitor", timeout=30, params={
            "source": SUPERVISOR, "call": call_id, "token": TOKEN})

    def recorded(self, call_id: str) -> Path:
        """The recording, once it holds a second of the talk."""
        file = self.pbx.spool_dir / "monitor" / (call_id + ".wav")
        wait_for("a second is recorded", lambda: file.exists() and file.stat().st_size > 16000, instead=self.console)
        return file

    def last_call(self) -> dict:
        """The newest call as `movidesk calls --json` has it."""
        return json.loads(self.rehearsal.cli("calls", "--json", "-n", "1").stdout)

    def made_ticket(self, call_id: str):
        """The ticket of a made call that has ended, which is complete and was told exactly once."""
        self.settle()
        ticket = self.model.tickets[call_id]
        assert (ticket.state, ticket.complete, ticket.agent, ticket.number) == ("made", True, AGENT, self.number)
        assert self.heard(call_id) == ["setMadeCallLink"]
        return ticket


@pytest.fixture
def office(rehearsal):
    with MadeCalls(rehearsal) as office:
        yield office


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("who", ["agent", "customer"])
def test_a_made_call_and_its_recording(office, method, who):
    agent, customer = office.agent(AGENT, answers()), office.agent(CUSTOMER, answers())
    answer = office.click(method=method)
    assert answer["status"] == 200 and answer["call_id"].startswith("pbx1-")
    customer.wait_event("answered")
    file = office.recorded(answer["call_id"])
    {"agent": agent, "customer": customer}[who].hang_up()
    assert office.made_ticket(answer["call_id"]).links == [RECORDINGS + file.name]
    assert office.pbx.cli("dialplan show globals").count("SHOWN=4730000000") == 1
    with wave.open(str(file)) as recording:
        assert recording.getnframes() > 8000
    call = office.last_call()
    assert (call["outcome"], [event["kind"] for event in call["events"]], call["reported"]) == ("ended", ["link"], "delivered")


def test_what_a_phone_that_does_not_pick_up_means(office):
    """Busy, declined, not registered, ringing for too long: each has its status, and no ticket."""
    phone = office.agent(AGENT, BUSY)
    assert (office.click()["status"], office.last_call()["code"]) == (409, "extension 5252 is busy")
    phone.become(DECLINES)
    assert office.click()["status"] == 502
    phone.become(RINGS)
    answer = office.click()
    assert (answer["status"], answer["text"]) == (504, "extension 5252 did not answer")
    phone.register(expires=0)
    assert office.click()["status"] == 502
    assert "cannot be reached" in office.last_call()["code"]
    assert office.heard() == [] and office.rehearsal.tickets() == []


def test_a_double_click_is_one_call(office):
    phone, customer = office.agent(AGENT, answers(0.5)), office.agent(CUSTOMER, answers())
    with ThreadPoolExecutor(3) as clicks:
        first = clicks.submit(office.click)
        phone.wait_ringing()
        ids = {answer["call_id"] for answer in clicks.map(lambda _: office.click(again=True), range(2))}
        ids.add(first.result()["call_id"])
    customer.wait_event("answered")
    ids.add(office.click(again=True)["call_id"])
    assert len(ids) == 1 and len(phone.events("invited")) == 1
    office.recorded(*ids)
    phone.hang_up()
    office.made_ticket(*ids)


def test_a_customer_who_does_not_answer(office):
    """The agent hears so; the call ends without a recording, and without a word to Movidesk."""
    office.agent(AGENT, answers())
    office.agent(CUSTOMER, BUSY)
    call_id = office.click()["call_id"]
    office.settle()
    assert office.heard() == [] and office.last_call()["outcome"] == "ended"
    del office.model.tickets[call_id]  # a made call without a link is not complete


def test_a_supervisor_listens(office):
    office.agent(AGENT, answers())
    customer, supervisor = office.agent(CUSTOMER, answers()), office.agent(SUPERVISOR, answers())
    call_id = office.click()["call_id"]
    office.recorded(call_id)
    assert (office.listen(call_id).text, office.listen("pbx1-1.1").status_code) == (call_id, 404)
    wait_for("the supervisor listens", lambda: "ChanSpy" in office.console(), instead=office.console)
    supervisor.wait_event("answered")
    customer.hang_up()
    supervisor.wait_event("ended")
    office.made_ticket(call_id)
    assert office.listen(call_id).status_code == 404


def test_asterisk_is_down(office):
    office.pbx.stop()
    answer = office.click()
    assert (answer["status"], answer["text"]) == (503, "Asterisk cannot be reached for the call: Connection refused")
    assert office.last_call()["code"].startswith("Asterisk cannot be reached")
    office.pbx.start()
    office.agent(AGENT, BUSY)
    assert office.click()["status"] == 409


def test_the_manager_tells_which_calls_are_alive(tree, tmp_path):
    """[pbx] asterisk = ami: a call that died with Asterisk is ended, one of the next Asterisk is not."""
    with Rehearsal(tree, tmp_path, manager={"movidesk": AMI_SECRET}) as rehearsal:
        rehearsal.pbx.write("manager.conf", MANAGER.format(port=rehearsal.pbx.manager_port, secret=AMI_SECRET)
                            .replace("write = originate", "write = originate,reporting"))
        with Agent(rehearsal.pbx, AGENT, answers()) as agent:
            first = Caller(rehearsal.pbx, "77").start()
            wait_for("the agent talks", lambda: any(t.state == "transferred" for t in rehearsal.tickets()))
            rehearsal.pbx.restart(kill=True)
            first.close()
            agent.register()
            rehearsal.stop_service()
            rehearsal.write_config({"pbx": ["asterisk = ami"], "made_calls": [
                f"ami = 127.0.0.1:{rehearsal.pbx.manager_port}", "ami_user = movidesk", "ami_secret = " + AMI_SECRET]})
            with Caller(rehearsal.pbx, "77", "4733990999") as second:
                second.wait_event("sent")
                rehearsal.start_service()
                states = {ticket.number: ticket.complete for ticket in rehearsal.wait_for_tickets(1)}
                assert states[first.number] and not states.get(second.number)
            rehearsal.wait_for_tickets(2)

"""`movidesk simulate --with-asterisk`: a softphone calls, as a customer and as an agent."""
from __future__ import annotations

import re
import time

import pytest
import requests

from movidesk_rehearsal.asterisk_config import PHONES
from movidesk_rehearsal.phones import Agent, Caller, answers
from movidesk_rehearsal.rehearsal import wait_for
from movidesk_rehearsal.softphone import AGENT, CUSTOMER, NUMBER, Softphones
from movidesk_sim.command import add_agents
from movidesk_sim.model import Limit, Movidesk
from movidesk_sim.web import serve


@pytest.fixture(scope="module")
def softphones(request, tmp_path_factory):
    model = Movidesk(time.time, limit=Limit(1000))
    add_agents(model, 5, "5252=Ana Souza,5253=Bruno Lima")  # a queue of another number than the rehearsal's own
    folder, version = str(tmp_path_factory.mktemp("softphone")), request.config.getoption("--asterisk")
    with serve(model) as simulator, Softphones(simulator, folder, version=version) as found:
        yield found


def call(softphones: Softphones) -> Caller:
    caller = Caller(softphones.rehearsal.pbx, NUMBER, CUSTOMER)
    caller.address = PHONES  # not the trunk's
    return caller


def test_what_is_printed_is_what_a_softphone_needs(softphones):
    """The customer's account, as it is printed, makes a call; an agent's phone answers, and the recording can be fetched."""
    said = re.search(r"server 127\.0\.0\.1:(\d+):\n  a customer: user (\w+), password (\w+): dial (\d+)\n", softphones.describe())
    pbx, model = softphones.rehearsal.pbx, softphones.rehearsal.model
    assert said.groups() == (str(pbx.sip_port), CUSTOMER, pbx.passwords[CUSTOMER], NUMBER)
    with call(softphones) as caller:
        caller.wait_answered()
        wait_for("the screen opens", lambda: any(ticket.state == "transferred" for ticket in model.tickets.values()))
        caller.hang_up()
        caller.wait()
    ticket, = softphones.rehearsal.wait_for_tickets(1)
    assert (ticket.state, ticket.agent, ticket.queue, ticket.number) == ("completed", "5252", 5, "4733990701")
    assert requests.get(ticket.links[0], timeout=20).content.startswith(b"RIFF")
    assert model.problems == []
    panel = re.search(r"panel, for this machine only: (http://127\.0\.0\.1:\d+/)\n", softphones.describe())
    assert "<title>" in requests.get(panel[1], timeout=20).text


def test_a_softphone_is_an_agent_and_a_customer_is_called(softphones):
    """The agent's account rings once it is online; the page's button rings the agent's, then the customer's."""
    model, simulator = softphones.rehearsal.model, softphones.rehearsal.simulator
    model.reset()
    for agent in model.agents.values():
        agent.online = agent.extension == AGENT
    with Agent(softphones.rehearsal.pbx, AGENT, answers(after=1), audio=True), \
            Agent(softphones.rehearsal.pbx, CUSTOMER, answers(after=1, hang_up_after=2), audio=True):
        with call(softphones) as caller:
            caller.wait_answered()
            wait_for("the agent has the call", lambda: AGENT in model.in_call)
            caller.hang_up()
            caller.wait()
        made = requests.post(simulator.home + "/page/call", json={"extension": AGENT, "number": "4733990701"}, timeout=60).json()
        assert made["call_id"], made
        tickets = softphones.rehearsal.wait_for_tickets(2)
    assert {(ticket.agent, ticket.state) for ticket in tickets} == {(AGENT, "completed"), (AGENT, "made")}

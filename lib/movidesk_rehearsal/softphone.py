"""`movidesk simulate --with-asterisk`: a private Asterisk beside the simulator, and SIP accounts for a softphone.

One calls the company and watches the simulator's page. Agents' phones answer by themselves, or a second softphone is an agent's.
"""
from __future__ import annotations

import secrets
import socket
import tempfile
import threading
from contextlib import ExitStack
from typing import Callable

from movidesk_rehearsal.asterisk import AsteriskFailed, PrivateAsterisk, free_port
from movidesk_rehearsal.asterisk_config import PHONES
from movidesk_rehearsal.asterisk_tree import AsteriskUnavailable, find_asterisk, need_program
from movidesk_rehearsal.phones import Agent, PhoneFailed, answers
from movidesk_rehearsal.rehearsal import NotInTime, Rehearsal, end_on_signals
from movidesk_sim import model
from movidesk_sim.web import Simulator

AUTOMATIC = ("5252", "5253")  # the agents of the sample, whose phones answer by themselves
ANSWERED_AFTER = 4.0          # seconds that they ring
CUSTOMER, AGENT = "customer", "5260"  # the softphones' accounts
CALLER_ID = "4733990701"
NUMBER = "4733990777"
AMI_USER = "movidesk"

# What a softphone dials arrives as a call from outside; an agent who calls a customer calls the softphone.
DIALPLAN = """
[from-softphone]
exten => _X.,1,Goto(movidesk-queue,{queue},1)

[from-internal](+)
exten => _47!,1,Dial(PJSIP/{customer},30)
"""
TRANSPORT = """
[udp-outside]
type = transport
protocol = udp
bind = {host}:{port}
"""
ACCOUNT = """
[{user}]
type = endpoint
context = {context}
transport = {transport}
aors = {user}
auth = {user}
callerid = <{caller_id}>
disallow = all
allow = alaw,ulaw
direct_media = no
rtp_symmetric = yes
media_address = {host}

[{user}]
type = auth
auth_type = userpass
username = {user}
password = {password}

[{user}]
type = aor
max_contacts = 1
remove_existing = yes
"""


class Softphones:
    """Asterisk, the product and agents' phones beside a simulator that runs, as a context manager.

    simulator: its first group has agents of AUTOMATIC; AGENT joins them, offline. host: where softphones find Asterisk, and
    browsers the recordings: an address of this machine, not 0.0.0.0, since they are told it.
    """

    def __init__(self, simulator: Simulator, folder: str, host: str = PHONES, version: str | None = None) -> None:
        group = next(iter(simulator.model.groups.values()))
        self.automatic = tuple(extension for extension in group.agents if extension in AUTOMATIC)
        group.agents.append(AGENT)
        simulator.model.agents[AGENT] = model.Agent(AGENT, "Softphone", online=False)
        secret = secrets.token_hex(12)
        self.rehearsal = Rehearsal(find_asterisk(version), folder, simulator=simulator, manager={AMI_USER: secret},
                                   variables={"MOVIDESK_RECORD": "yes"},
                                   more=DIALPLAN.format(queue=group.queue_id, customer=CUSTOMER))
        self.host, self._port = host, 0
        self._add_accounts(self.rehearsal.pbx)
        self.rehearsal.publish_recordings(host)
        agents = simulator.model.agents.values()
        self.rehearsal.show_panel({}, {agent.extension: agent.name for agent in agents if agent.name})
        simulator.call_url = self.rehearsal.allow_made_calls(secrets.token_hex(12), AMI_USER, secret)
        self._open = ExitStack()

    def _add_accounts(self, pbx: PrivateAsterisk) -> None:
        text, transport = "", "udp"
        if self.host != PHONES:
            self._port, transport = free_port(socket.SOCK_DGRAM), "udp-outside"
            text += TRANSPORT.format(host=self.host, port=self._port)
        for user, context, caller_id in ((CUSTOMER, "from-softphone", CALLER_ID), (AGENT, "from-internal", AGENT)):
            text += ACCOUNT.format(user=user, context=context, caller_id=caller_id, host=self.host, transport=transport,
                                   password=secrets.token_hex(4))
        pbx.add_pjsip(text)

    def __enter__(self) -> Softphones:
        with ExitStack() as opened:
            opened.enter_context(self.rehearsal)
            for extension in self.automatic:
                opened.enter_context(Agent(self.rehearsal.pbx, extension, answers(after=ANSWERED_AFTER), audio=True))
            self._open = opened.pop_all()
        return self

    def __exit__(self, *_exception) -> None:
        self._open.close()

    def describe(self) -> str:
        """What to enter in a softphone."""
        pbx = self.rehearsal.pbx
        server = f"{self.host}:{self._port or pbx.sip_port}"
        return (f"Asterisk {pbx.tree.version} runs with movidesk-agi beside it, in {self.rehearsal.folder}.\n"
                f"The supervisor's panel, for this machine only: http://{self.rehearsal.panel}/\n"
                f"SIP accounts for softphones, over UDP, server {server}:\n"
                f"  a customer: user {CUSTOMER}, password {pbx.passwords[CUSTOMER]}: dial {NUMBER}\n"
                f"  an agent:   user {AGENT}, password {pbx.passwords[AGENT]}: put it online on the page\n"
                f"The phones of {' and '.join(self.automatic)} answer by themselves after {ANSWERED_AFTER:.0f} seconds.\n"
                "Agents can call the customer: any number that begins with 47. Ctrl-C ends it all.\n")


def run(simulator: Simulator, host: str, say: Callable[[str], object]) -> int:
    """Serve until Ctrl-C; 1 if Asterisk or a phone did not start, with the reason said."""
    folder = tempfile.mkdtemp(prefix="movidesk-simulate-")
    end_on_signals()
    try:
        say("Looking for sipp and Asterisk; what is missing is fetched once, within a minute or so ...")
        need_program("sipp", "sip-tester")
        with simulator, Softphones(simulator, folder, host) as softphones:
            say(softphones.describe())
            threading.Event().wait()
    except (AsteriskUnavailable, AsteriskFailed, PhoneFailed, NotInTime, OSError) as error:
        say(f"movidesk simulate --with-asterisk: {error} (see {folder})")
        return 1
    except KeyboardInterrupt:
        pass
    return 0

"""Which requests leave: a real process of a fleet, to which Redis has granted one, is stopped before it sends it."""
from __future__ import annotations

import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from movidesk.config.options import Secret
from movidesk.fleet import client, membership, script
from movidesk.fleet.client import Client
from support.fleets import ACCOUNT, TIME, member_journal
from support.waits import until

ROOT = Path(__file__).parents[1]
#: Seconds in which Redis must answer here, however busy the machine is.
PATIENCE = 20.0
#: Gets a grant and sends it. On the way it says what it is about to do, and goes on when it is told to.
ASKS = f"""
import socket, sys, time
from movidesk.config import load
from movidesk.context import Context
from movidesk.fleet import client as calls, membership, script
from movidesk.fleet.membership import Membership
from movidesk.journal import Journal, limits

def step(name):
    print(name, flush=True)
    sys.stdin.readline()

def load_client(context):
    step("loads")  # the first request imports the HTTP library
    return client_of(context)

def resolve(*arguments, **more):
    step("connects")
    return found(*arguments, **more)

path, account, limits.SEND_WITHIN = sys.argv[1], sys.argv[2], float(sys.argv[3])
calls.TIMEOUT = calls.LONGEST = membership.TIMEOUT = script.JUMP = {PATIENCE}
config = load(path).require()
client = calls.Client(config["fleet", "redis"], account)
journal = Journal(config["journal", "path"], member=lambda steady: Membership(config, steady, time.time, client))
context = Context(config, journal=journal)
call = journal.calls.arrive("pbx1", "1.1", "77", "4733990001")
while not (turn := journal.scheduler.turn(call, 10)).request_id:
    time.sleep(0.05)
client_of, Context.client = Context.client.fget, property(load_client)
found, socket.getaddrinfo = socket.getaddrinfo, resolve
fields = dict(queue="77", number=call.number, id=call.call_id, arrived=call.arrived)
print(context.send(turn.request_id, "received", **fields), flush=True)
"""


@pytest.fixture
def other(redis, tmp_path, monkeypatch):
    """Another PBX, which has watched Redis' clock for two minutes: so Redis knows what was sent. beat() reports it now."""
    for module, name in ((client, "TIMEOUT"), (client, "LONGEST"), (membership, "TIMEOUT"), (script, "JUMP")):
        monkeypatch.setattr(module, name, PATIENCE)
    # Until it has caught up, its clock and that of Redis, as its calls see it, are `behind` seconds in the past.
    past = "(function() local t = redis.call('TIME') return {t[1] - ARGV[2], t[2]} end)()"
    link = Client(Secret(redis.url), ACCOUNT, text=script.text().replace(TIME, past))
    link.more = (120,)
    journal = member_journal(tmp_path, link, lambda: time.time() - link.more[0], name="pbx2", pbxs=2)
    for behind in range(120, -1, -2):
        link.more = (behind,)
        until(lambda: journal.pool.beat(10))
    journal.beat = lambda: journal.pool.beat(10)
    yield journal
    journal.close()
    link.close()


#: The step at whose begin the process is stopped ('': none), within how many seconds after its claim a request must leave, and
#: [movidesk] timeout: an exchange lasts three times as long.
CASES = [("", 300.0, 15.0), ("loads", 1.0, 15.0), ("connects", 300.0, 0.5)]


@pytest.mark.parametrize("stopped, send_within, timeout", CASES, ids=["not stopped", "loads", "connects"])
def test_a_process_that_was_stopped_does_not_send_what_it_was_granted(redis, other, simulator, write_config, stopped,
                                                                      send_within, timeout):
    path = write_config(movidesk={"url": simulator.url, "requests_per_minute": "10", "timeout": f"{timeout}"},
                        fleet={"redis": redis.url, "pbxs": "2"})
    process = subprocess.Popen([sys.executable, "-c", ASKS, path, ACCOUNT, str(send_within)], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True, bufsize=1, env={"PYTHONPATH": str(ROOT / "lib")})
    try:
        for step in ("loads", "connects"):
            until(lambda: other.beat() and select.select([process.stdout], [], [], 0.05)[0], 120)
            assert process.stdout.readline() == step + "\n"
            if step == stopped:
                process.send_signal(signal.SIGSTOP)
                begun = time.monotonic()
                until(lambda: other.beat() and time.monotonic() - begun > 2.0)
                process.send_signal(signal.SIGCONT)
                break
            process.stdin.write("\n")
        said, _ = process.communicate("\n\n" if stopped else None, timeout=60)
    finally:
        process.kill()
        process.wait()
    asked = [entry["params"]["id"] for entry in simulator.model.log if entry["endpoint"] == "asterisk_receivedCall"]
    assert asked == ([] if stopped else ["pbx1-1.1"]), said
    assert said.splitlines()[-1].startswith("Retry(" if stopped else "Delivered("), said
    until(other.beat)
    shared = other.pool.member.client.state()[1]["shared"]
    assert [entry["pbx"] for entry in shared["window"]] == ["pbx1"], "the grant counts in any case"

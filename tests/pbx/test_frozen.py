"""A service that is frozen (kill -STOP, a process that hangs) on a real Asterisk: callers notice a few seconds at most."""
from __future__ import annotations

import os
import signal
import time

import pytest

from movidesk.pbx import heartbeat
from movidesk_rehearsal.phones import RINGS, answers
from movidesk_rehearsal.rehearsal import wait_for
from office import ANSWERED, CANCELED

STALE = 5.0  # seconds after which the dialplan passes a frozen service by


@pytest.fixture
def frozen(service_office):
    """freeze() and thaw() the service of `service_office`; thawed in the end, or started if it was killed."""
    rehearsal = service_office.rehearsal

    class Frozen:
        path = heartbeat.path_beside(str(rehearsal.journal_path))

        def freeze(self) -> None:
            os.kill(rehearsal.service_pid, signal.SIGSTOP)

        def wait_stale(self) -> None:
            """Until the dialplan knows."""
            wait_for("the heartbeat is old", lambda: time.time() - os.stat(self.path).st_mtime > STALE)

        def thaw(self) -> None:
            os.kill(rehearsal.service_pid, signal.SIGCONT)
            wait_for("the heartbeat", lambda: time.time() - os.stat(self.path).st_mtime < 4 * heartbeat.EVERY)

        def end(self, how: str) -> None:
            """It goes on by itself, or is killed as systemd's watchdog does it."""
            self.thaw() if how == "thawed" else rehearsal.stop_service(kill=True)

        def back(self) -> None:
            """It runs again."""
            if rehearsal.service_pid is None:
                rehearsal.start_service()

    yield Frozen()
    if rehearsal.service_pid is None:
        rehearsal.start_service()
    else:
        os.kill(rehearsal.service_pid, signal.SIGCONT)


def warnings(office, begin: int = 0) -> int:
    """How often the console said that the service is passed by."""
    return sum("has not responded" in line and "Executing" not in line for line in office.console()[begin:].splitlines())


def test_three_callers_of_a_frozen_service_reach_agents(service_office, frozen):
    """Each is asked for at once, by scripts, in the order in which they came; afterwards the service is used again."""
    office = service_office
    frozen.freeze()
    frozen.wait_stale()
    agents = [office.agent(extension, answers()) for extension in ("5252", "5253")]
    callers = [office.call(), office.call()]
    for phone in [*callers, *agents]:
        phone.wait_event("answered", 5)
    third = office.call()
    office.wait_asked(3)  # all agents are taken: it waits for one, by scripts
    office.wait_stage(third, "WaitExten")
    assert warnings(office) == 5, "once per channel: three callers and two agents"
    assert "agi://" not in office.console()
    frozen.thaw()
    before = len(office.console())
    for caller in callers:
        caller.hang_up()
    wait_for("the third talks", lambda: office.heard().count("transferedCall") == 3, instead=office.heard)
    third.hang_up()
    for caller in callers:
        office.ticket(caller, "completed", ANSWERED)
    assert office.tickets(third)[0].state == "completed"
    assert warnings(office, before) == 0 and "agi://" in office.console()[before:]


@pytest.mark.parametrize("end", ["thawed", "killed"])
def test_the_service_freezes_while_a_caller_waits(service_office, frozen, end):
    """The caller looks again within a second, and is in AGI() before the heartbeat is old: systemd's watchdog frees it."""
    office = service_office
    office.all_in_calls()
    caller = office.call()
    office.wait_music(caller)
    frozen.freeze()
    wait_for("the question is in AGI()", lambda: _in_agi(office, "received"))
    office.model.in_call.clear()
    office.agent("5252", answers())
    frozen.end(end)
    wait_for("the agent answered", lambda: "movidesk/transferred" in office.console() or "transferedCall" in office.heard(),
             instead=office.console)
    caller.hang_up()
    caller.wait()
    office.pbx.wait_idle()
    frozen.back()
    assert [(found.state, found.complete) for found in office.tickets(caller)] == [("completed", True)]
    assert [name for name in office.heard() if name != "receivedCall"] == ANSWERED[1:]


@pytest.mark.parametrize("end", ["thawed", "killed"])
@pytest.mark.parametrize("moment", ["answer", "hangup"])
def test_an_event_inside_a_frozen_service_is_recorded_once(service_office, frozen, moment, end):
    """AGI() waits for it, whichever way it ends."""
    office = service_office
    agent = office.agent("5252", RINGS)
    caller = office.call()
    agent.wait_ringing()
    if moment == "hangup":
        agent.answer()
        caller.wait_answered()
        office.wait_told()
    frozen.freeze()
    if moment == "hangup":
        caller.hang_up()
    else:
        agent.answer()
    verb = "hangup" if moment == "hangup" else "transferred"
    wait_for("the verb is in AGI()", lambda: _in_agi(office, verb), instead=office.console)
    frozen.end(end)
    if moment == "answer":
        caller.wait_answered()
        caller.hang_up()
    caller.wait()
    office.pbx.wait_idle()
    if end == "killed":
        assert "movidesk/" + verb in office.console()
    frozen.back()
    office.ticket(caller, "completed", ANSWERED)


def _in_agi(office, verb: str) -> bool:
    return any(fields[5] == "AGI" and f"/{verb}," in fields[6] for fields in office._channels())


def test_a_caller_who_waits_in_agi_and_hangs_up(service_office, frozen):
    """The channel ends when the service is killed; the call has its one ending."""
    office = service_office
    frozen.freeze()
    caller = office.call()
    wait_for("the question is in AGI()", lambda: _in_agi(office, "received"))
    caller.hang_up()
    caller.wait()
    frozen.end("killed")
    office.pbx.wait_idle()
    frozen.back()
    tickets = office.tickets(caller)
    assert [(ticket.state, ticket.complete) for ticket in tickets] == [("canceled", True)]
    assert set(office.heard()) == set(CANCELED)


@pytest.mark.parametrize("jump", [3600, -3600], ids=["an hour on", "an hour back"])
def test_a_clock_that_is_set_hides_the_service_for_one_beat_at_most(service_office, frozen, jump):
    office = service_office
    at = time.time() - jump
    os.utime(frozen.path, (at, at))  # as the file looks right after such a jump
    wait_for("a beat", lambda: abs(time.time() - os.stat(frozen.path).st_mtime) < 3, 4 * heartbeat.EVERY)
    office.agent("5252", answers())
    caller = office.call()
    caller.wait_answered()
    caller.hang_up()
    office.ticket(caller, "completed", ANSWERED)
    assert warnings(office) == 0


def test_without_the_file_the_service_is_tried(service_office, frozen):
    """One on another host, or of an earlier version."""
    office = service_office
    frozen.freeze()
    os.rename(frozen.path, frozen.path + ".away")
    caller = office.call()
    wait_for("the question is in AGI()", lambda: _in_agi(office, "received"))
    caller.hang_up()
    os.rename(frozen.path + ".away", frozen.path)
    frozen.thaw()
    assert [ticket.state for ticket in office.tickets(caller)] == ["canceled"]

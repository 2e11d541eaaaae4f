"""Fail open on a real Asterisk: whatever of ours is gone, the caller hears an agent, and Movidesk hears of it when it is back."""
from __future__ import annotations

import calendar
import errno
import fcntl
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Callable, NamedTuple

import pytest

from movidesk.journal import Journal
from movidesk_rehearsal.phones import RINGS, answers
from movidesk_rehearsal.rehearsal import wait_for
from office import ANSWERED, LOST, Office, lines_of, no_python, scripts_begin

PEOPLE = "people,s,1"  # MOVIDESK_FALLBACK: the phone of 5253, whom Movidesk has not been asked for
PROMPT = 5.0  # seconds until an event of the call is recorded, also where its verbs wait for a lock first
DEFAULT_STATE = "/var/lib/movidesk"


@pytest.fixture
def disk(with_scripts):
    """A journal's folder of its own, on a small disk; gives why there is no such disk, '' where there is."""
    state = with_scripts.journal_path.parent
    shared = state.rename(state.with_name("shared-state"))
    state.mkdir()
    with small_disk(state) as refused:
        yield refused
    shutil.rmtree(state)
    shared.rename(state)


@pytest.fixture
def office(with_scripts, disk):
    """An office whose callers go to PEOPLE when Movidesk cannot be asked; `serve` gives it the service."""
    office = Office(with_scripts)
    office.set(MOVIDESK_FALLBACK=PEOPLE)
    yield office
    try:
        office.close()
    finally:
        with_scripts.stop_service()
        for path in [*with_scripts.tmp.iterdir(), *office.emergency_files()]:
            path.unlink(missing_ok=True)
        for path in with_scripts.memory.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def serve(office: Office) -> None:
    office.set(MOVIDESK_AGID=office.rehearsal.agid)
    office.rehearsal.start_service()


# -- what may be wrong: each is so while its block runs ---------------------------------------------------------------

@contextmanager
def small_disk(folder):
    """A disk of 1 MB in place of this folder, empty; gives why there is none, '' where there is."""
    refused = mount("-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(folder))
    try:
        yield refused
    finally:
        if not refused:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def mount(*arguments: str) -> str:
    """Run mount; returns why it refused, or ''."""
    if not shutil.which("mount"):
        return "there is no mount"
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    return done.stderr.strip() if done.returncode else ""


@contextmanager
def full(folder):
    """Not a byte is left on this folder's disk."""
    ballast = folder / "ballast"
    with open(ballast, "wb", buffering=0) as file, pytest.raises(OSError) as error:
        while True:
            file.write(bytes(4096))
    assert error.value.errno == errno.ENOSPC
    try:
        yield
    finally:
        ballast.unlink()


def disk_full(office):
    return full(office.rehearsal.journal_path.parent)


@contextmanager
def every_disk_full(office):
    obstacle = office.emergency_files()[1]  # /var/tmp belongs to others, too: only our file cannot be written there
    obstacle.unlink(missing_ok=True)
    obstacle.mkdir()
    try:
        with disk_full(office), small_disk(office.rehearsal.tmp), full(office.rehearsal.tmp):
            yield
    finally:
        obstacle.rmdir()


@contextmanager
def nothing_can_be_written(office):
    with every_disk_full(office):
        office.configure({"journal": ["standby = /nonexistent"]})
        yield
        office.configure({})


@contextmanager
def read_only(office):
    folder = str(office.rehearsal.journal_path.parent)
    Journal(str(office.rehearsal.journal_path)).close()
    assert not mount("-o", "remount,ro", folder)
    try:
        yield
    finally:
        assert not mount("-o", "remount,rw", folder)


LOCK = """
import sqlite3, sys
sqlite3.connect(sys.argv[1], isolation_level=None).execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked(office):
    """Another process holds the journal's lock for longer than a verb waits."""
    path = str(office.rehearsal.journal_path)
    Journal(path).close()
    with subprocess.Popen([sys.executable, "-c", LOCK, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"locked\n"
        yield
        other.stdin.close()


@contextmanager
def no_database(office):
    """The journal's file is something else, as the next process that opens it finds."""
    served = office.rehearsal.service_pid is not None
    office.rehearsal.stop_service()
    nonsense = b"this is no database, " * 1000
    office.rehearsal.journal_path.write_bytes(nonsense)
    if served:
        office.rehearsal.start_service()
    yield
    assert kept_aside(office) == nonsense


@contextmanager
def damaged_inside(office):
    """The journal opens, and the first event finds its table damaged."""
    damaged = damage(office.rehearsal.journal_path)
    yield
    assert kept_aside(office) == damaged


@contextmanager
def damaged_and_held(office):
    """The same; and a frozen process holds the lock under which the damaged journal is renamed."""
    path = office.rehearsal.journal_path
    damage(path)
    with open(f"{path}.lock", "a", encoding="ascii") as frozen:
        fcntl.flock(frozen, fcntl.LOCK_EX)
        yield
        assert not list(path.parent.glob(path.name + ".damaged-*"))


def damage(path: Path) -> bytes:
    """Overwrite the first page of the events; returns what the file holds then."""
    Journal(str(path)).close()
    with closing(sqlite3.connect(path)) as db:
        page, = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'events'").fetchone()
        size, = db.execute("PRAGMA page_size").fetchone()
    damaged = bytearray(path.read_bytes())
    damaged[(page - 1) * size:page * size] = b"\xff" * size
    path.write_bytes(damaged)
    return bytes(damaged)


def kept_aside(office) -> bytes:
    """The damaged journal, which is kept."""
    path = office.rehearsal.journal_path
    kept, = (other for other in path.parent.glob(path.name + ".damaged-*") if not other.name.endswith(("-wal", "-shm")))
    return kept.read_bytes()


@contextmanager
def no_service(office):
    office.rehearsal.stop_service(kill=True)
    yield


@contextmanager
def no_configuration(office):
    keep_off_a_real_journal()
    office.rehearsal.config_path.unlink()
    yield
    office.configure({})


@contextmanager
def malformed_configuration(office):
    keep_off_a_real_journal()
    office.rehearsal.config_path.write_text("[movidesk]\nurl https://api.movidesk.com\n")
    yield
    office.configure({})


def keep_off_a_real_journal() -> None:
    if os.path.exists(DEFAULT_STATE):
        pytest.skip(f"a real journal may be in {DEFAULT_STATE}, and it would be used")


def configured(section: str, line: str):
    """A configuration with this line, in which FILE stands for the configuration's own path."""
    @contextmanager
    def trouble(office):
        office.configure({section: [line.replace("FILE", str(office.rehearsal.config_path))]})
        yield
        office.configure({})
    return trouble


def other_python(office):
    """As after an upgrade of the system: the interpreter is there, the virtual environment's modules are not for it."""
    return scripts_begin(office, f"#!{sys.executable} -IS\nraise SystemExit(1)")


# -- the table --------------------------------------------------------------------------------------------------------

class Row(NamedTuple):
    trouble: Callable           # a context manager, of the office
    says: Sequence[str]         # words of the one line that says what to do; () where nothing is to be done
    modes: Sequence[str] = ("service", "scripts")
    disk: bool = False          # the journal is on a small disk of its own
    kept: int = 0               # how many events are in the emergency file in the end
    memory: int = 0             # how many events were in memory only
    told: Sequence[str] = LOST  # ANSWERED: the call goes its normal way, to the phone of 5252


FAILED = "movidesk: received failed"
JOURNAL = FAILED + ": journal"
SCRIPTS = ("scripts",)
ADVICE = ("ERROR", "make install", "movidesk check")
ROWS = {
    "disk full": Row(disk_full, (JOURNAL, "free some space"), disk=True, kept=3),
    "every disk full": Row(every_disk_full, (JOURNAL, "free some space"), disk=True, memory=3),
    "nothing can be written": Row(nothing_can_be_written, (JOURNAL, "free some space"), SCRIPTS, disk=True, told=[]),
    "read-only": Row(read_only, (JOURNAL, "mounted read-only"), SCRIPTS, disk=True, kept=3),
    "locked": Row(locked, (JOURNAL, "fuser"), kept=3),
    "no database": Row(no_database, ("damaged",), told=ANSWERED),
    "damaged inside": Row(damaged_inside, (JOURNAL, "damaged"), SCRIPTS, kept=1),
    "damaged and held": Row(damaged_and_held, (JOURNAL, "damaged"), SCRIPTS, kept=3),
    "no service": Row(no_service, (), ("service",), told=ANSWERED),
    "no configuration": Row(no_configuration, (FAILED, "movidesk.conf: No such file", "etc/movidesk.conf"), SCRIPTS, kept=3),
    "malformed configuration": Row(malformed_configuration, (FAILED, "movidesk.conf:2: ", "key = value"), SCRIPTS, kept=3),
    "unknown key": Row(configured("pbx", "nmae = pbx1"), (FAILED, "[pbx] nmae: unknown key"), SCRIPTS, kept=3),
    "no token": Row(configured("movidesk", "token = no-guid"), (FAILED, "[movidesk] token", "is not a GUID"), SCRIPTS),
    "journal below a file": Row(configured("journal", "path = FILE/journal.db"),
                                (JOURNAL, "movidesk.conf does not exist: create it"), SCRIPTS, kept=3),
    "journal without a folder": Row(configured("journal", "path = FILE.d/journal.db"),
                                    (JOURNAL, "movidesk.conf.d does not exist: create it"), SCRIPTS, kept=3),
    "no Python": Row(no_python, ADVICE, SCRIPTS, kept=3),
    "another Python": Row(other_python, ADVICE, SCRIPTS, kept=3),
}
CASES = [pytest.param(row, mode, id=f"{name}, {mode}") for name, row in ROWS.items() for mode in row.modes]


@pytest.mark.parametrize("row, mode", CASES)
def test_the_caller_hears_an_agent_and_movidesk_hears_of_it_afterwards(office, disk, row, mode):
    if row.disk and disk:
        pytest.skip(f"no small disk can be mounted here: {disk}")
    if mode == "service":
        serve(office)
    agent = office.agent("5252" if row.told == ANSWERED else "5253", answers(), audio=True)
    with row.trouble(office):
        caller = office.call()
        office.wait_talk(caller, agent)
        leave(office, caller)
        events = emergency_events(office)
    said = [line for line in office.console().splitlines() if "Executing" not in line and all(w in line for w in row.says)]
    assert len(said) == 1 or not row.says, office.console()
    assert [event["kind"] for event in events] == ["received", "lost", "hangup"][:row.kept]
    assert office.console().count("IS LOST") == (0 if row.told else 3)
    assert office.console().count("is kept in memory only") == row.memory
    assert "Traceback" not in office.console() and "no-guid" not in office.console()
    recover(office, mode)
    if row.told:
        ticket = office.ticket(caller, "lost" if row.told == LOST else "completed", row.told)
        assert_true_dates(ticket, caller, events)
    assert office.heard() == row.told and emergency_events(office) == []


STANDBY = ("disk full", "every disk full", "read-only", "locked", "damaged inside", "damaged and held", "journal below a file",
           "journal without a folder")


@pytest.mark.parametrize("row, mode", [pytest.param(ROWS[name], mode, id=f"{name}, {mode}")
                                       for name in STANDBY for mode in ROWS[name].modes])
def test_without_a_fallback_the_caller_is_offered_an_agent(office, disk, row, mode):
    """By the standby: Movidesk is asked as ever, and hears each event once, before or after the journal is back."""
    if row.disk and disk:
        pytest.skip(f"no small disk can be mounted here: {disk}")
    office.set(MOVIDESK_FALLBACK="")
    if mode == "service":
        serve(office)
    agent = office.agent("5252", answers(), audio=True)
    with row.trouble(office):
        caller = office.call()
        office.wait_talk(caller, agent)
        if mode == "service":
            wait_for("Movidesk hears of the answer", lambda: "transferedCall" in office.heard(),
                     instead=office.rehearsal.service_log)
        leave(office, caller)
    said = [line for line in office.console().splitlines() if "Executing" not in line and all(w in line for w in row.says)]
    assert said, office.console()
    assert "Traceback" not in office.console() + office.rehearsal.service_log() and "IS LOST" not in office.console()
    recover(office, mode)
    assert_true_dates(office.ticket(caller, "completed", ANSWERED), caller, [])
    assert office.heard() == ANSWERED and emergency_events(office) == []


@pytest.mark.parametrize("mode", ["service", "scripts"])
def test_places_in_line_survive_a_full_disk_and_its_end(office, disk, mode):
    """Three callers wait: one came before, one while the disk was full, one after it. They are served in that order."""
    if disk:
        pytest.skip(f"no small disk can be mounted here: {disk}")
    office.set(MOVIDESK_FALLBACK="")
    if mode == "service":
        serve(office)
    office.all_in_calls()
    first = office.call()
    office.wait_music(first)
    with disk_full(office):
        second = office.call()
        wait_for("both wait", lambda: len(standing(office)) == 2, instead=office.console)
    third = office.call()
    wait_for("the journal has all three", lambda: len(waiting(office)) == 3, instead=office.console)
    assert waiting(office) == [caller.number for caller in (first, second, third)]
    office.model.in_call.clear()
    for agent in [office.agent(extension, answers()) for extension in ("5252", "5253")]:
        agent.wait_event("answered")
    assert served(office) == [first.number, second.number]
    for caller in third, first, second:
        caller.hang_up()
        caller.wait()
    office.pbx.wait_idle()
    recover(office, mode)
    states = [office.tickets(caller)[0].state for caller in (first, second, third)]
    assert states[:2] == ["completed", "completed"] and states[2] in ("completed", "canceled")


def served(office) -> list[str]:
    """The numbers of those whom Movidesk gave an agent, in order."""
    return [entry["params"]["clientNumber"] for entry in list(office.model.log)
            if entry["endpoint"] == "asterisk_receivedCall" and "525" in str(entry["answer"])]


def waiting(office) -> list[str]:
    """The numbers of those who wait, as the journal has them."""
    with closing(Journal(str(office.rehearsal.journal_path))) as journal:
        return [call.number for call in journal.overview.waiting()]


def standing(office) -> list[str]:
    """The same, as the standby has them."""
    if not office.stand_in():
        return []
    with closing(Journal(str(office.stand_in()[0]))) as journal:
        return [call.number for call in journal.overview.waiting()]


@pytest.mark.parametrize("back, mode", [("while the caller is led away", "service"),
                                        ("while the caller is led away", "scripts"), ("in talk", "scripts")])
def test_the_journal_comes_back_in_the_middle_of_the_call(office, back, mode):
    """Its later events are recorded as ever, and find what was kept of it in its place: one ticket, in order."""
    if mode == "service":
        serve(office)
    agent = office.agent("5253", answers(), audio=True)
    with locked(office):
        caller = office.call()
        wait_for("an event is kept", lambda: emergency_events(office), instead=office.console)
        if back == "in talk":
            office.wait_talk(caller, agent)
    office.wait_talk(caller, agent)
    leave(office, caller)
    recover(office, mode)
    assert_true_dates(office.ticket(caller, "lost", LOST), caller, [])
    assert office.heard() == LOST and emergency_events(office) == []


@pytest.mark.parametrize("mode", ["service", "scripts"])
def test_the_disk_fills_while_the_phone_rings(office, disk, mode):
    if disk:
        pytest.skip(f"no small disk can be mounted here: {disk}")
    if mode == "service":
        serve(office)
    agent = office.agent("5252", RINGS, audio=True)
    caller = office.call()
    agent.wait_ringing()
    with disk_full(office):
        agent.answer()
        office.wait_talk(caller, agent)
        leave(office, caller)
        events = emergency_events(office)
    assert [event["kind"] for event in events] == ["transferred", "hangup"]
    recover(office, mode)
    ticket = office.ticket(caller, "completed", ANSWERED)
    assert (ticket.agent, epoch(ticket.dates["transferDate"]), epoch(ticket.dates["completedDate"])) == (
        "5252", *(int(event["at"]) for event in events))


@pytest.mark.parametrize("trouble", [disk_full, no_python])
def test_a_watched_call_without_a_journal(office, disk, trouble):
    if trouble is disk_full and disk:
        pytest.skip(f"no small disk can be mounted here: {disk}")
    agent = office.agent("5253", answers(), audio=True)
    with trouble(office):
        caller = office.call("watched")
        office.wait_talk(caller, agent)
        leave(office, caller)
        assert [event["kind"] for event in emergency_events(office)] == ["arrived", "start_transferred", "hangup"]
    ticket = office.ticket(caller, "completed", ["startTransferedCall", "completedCall"])
    assert ticket.agent == "5253"
    assert_true_dates(ticket, caller, [])


def leave(office, caller) -> None:
    caller.hang_up()
    caller.wait()
    office.pbx.wait_idle()


def emergency_events(office) -> list[dict]:
    """What the emergency files hold, in order of time. A running service may rename one meanwhile: then its lines are read
    twice."""
    lines = [line for path in office.emergency_files() for line in lines_of(path)]
    return sorted(map(json.loads, dict.fromkeys(lines)), key=lambda event: event["at"])


def recover(office, mode: str) -> None:
    """What takes the emergency file in, and sweeps: the start of the service, or `deliver`."""
    if mode == "scripts":
        office.rehearsal.cli("deliver", "--once")
    else:
        office.rehearsal.stop_service()
        office.rehearsal.start_service()


def assert_true_dates(ticket, caller, events) -> None:
    """The call came when the caller came, whenever Movidesk heard of it."""
    assert 0 <= epoch(ticket.dates["callDate"]) - int(caller.started_at) <= PROMPT
    for event in events:
        assert caller.started_at - 0.001 <= event["at"] <= caller.wait().ended_at + PROMPT


def epoch(date: str) -> int:
    return calendar.timegm(time.strptime(date, "%Y-%m-%dT%H:%M:%S"))


# -- Asterisk itself dies ---------------------------------------------------------------------------------------------

MESSAGES = "78"  # a queue whose agents are away: its callers leave a message


@pytest.fixture
def messages(office):
    office.model.add_group(int(MESSAGES), [])
    yield MESSAGES
    del office.model.groups[int(MESSAGES)]


def test_calls_that_died_with_asterisk_end_as_their_state_says(office, messages):
    """One caller talks, one waits, one leaves a message. While Asterisk does not answer nothing is ended, and afterwards
    no call that the new one has."""
    serve(office)
    office.agent("5252", answers())
    talks = office.call()
    talks.wait_answered()
    office.wait_told()
    office.model.agents["5253"].online = False
    waits, speaks = office.call(), office.call(messages)
    office.wait_music(waits)
    office.speak(speaks)
    office.pbx.stop(kill=True)
    for caller in talks, waits, speaks:
        caller.cut_off()
    office.rehearsal.cli("deliver", "--once")
    assert (unended(office), [ticket for ticket in office.rehearsal.tickets() if ticket.complete]) == (3, [])
    office.pbx.start()
    lives = office.call()
    office.wait_music(lives)
    recover(office, "service")
    wait_for("the three endings", lambda: sum(ticket.complete for ticket in office.rehearsal.tickets()) == 3,
             instead=office.heard)
    assert unended(office) == 1
    lives.hang_up()
    office.tickets(lives)
    states = {ticket.number: ticket.state for ticket in office.rehearsal.tickets()}
    assert states == {talks.number: "completed", waits.number: "canceled", speaks.number: "lost", lives.number: "canceled"}


def unended(office) -> int:
    with closing(Journal(str(office.rehearsal.journal_path))) as journal:
        return len(journal.overview.unended())

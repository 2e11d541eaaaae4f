"""An office for one test: phones, a caller's number of its own, and what Movidesk heard, on a rehearsal that tests share."""
from __future__ import annotations

import itertools
import os
import re
import sqlite3
import time
import wave
from array import array
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime, timezone
from pathlib import Path

from movidesk.config import Config
from movidesk.journal.emergency import TAKING
from movidesk_rehearsal.phones import Agent, Behaviour, Caller, answers
from movidesk_rehearsal.rehearsal import QUEUE, Rehearsal, wait_for
from movidesk_sim.faults import Fault
from movidesk_sim.model import Ticket

ANSWERED = ["receivedCall", "transferedCall", "completedCall"]
ASKED_TWICE = ["receivedCall", *ANSWERED]
CANCELED = ["receivedCall", "canceledCall"]
LOST = ["receivedCall", "lostCall"]
HOLIDAY, CLOSED, NOBODY_ONLINE = "0", "1", "2"  # codes that Movidesk answers
AGENTS = ("5252", "5253")
DEFAULT_AGID = "agi://127.0.0.1:4573/"
RECORDINGS = "https://pbx.example.com/rec/"
# A head of the line that asks every second, a message of a few seconds, nothing said about places.
SETTINGS = {"line": ["ask_every = 1", "ask_at_least_every = 1"]}
VARIABLES = {"MOVIDESK_MESSAGE_MAX": "5", "MOVIDESK_ANNOUNCE": "0"}

# `quick` is the queue with prompts of half a second, as is queue 78. `watched` is without queue control. `reception` is where
# people are when Movidesk is not; `people` puts callers through to the phone of 5253 there.
# `s@again` is a fallback that comes back to the queue. `measured` notes how large the recording is right after
# movidesk-hangup, while the channel still lives: handlers run last pushed first.
# `*LANGUAGE` is the queue for a caller of that language.
# `lagging` is the queue while the hint of 5252 is in use for another tenth of a second.
DIALPLAN = """
[from-trunk](+)
exten => quick,1,Set(CHANNEL(language)=quick)
 same => n,Goto(movidesk-queue,77,1)
exten => measured,1,Set(CHANNEL(hangup_handler_push)=measure,s,1)
 same => n,Goto(movidesk-queue,77,1)
exten => lagging,1,Set(DEVICE_STATE(Custom:5252)=INUSE)
 same => n,Originate(Local/late@hints/n,app,Wait,1,,,a)
 same => n,Goto(movidesk-queue,77,1)
exten => _77.,1,Goto(movidesk-queue,77,1)
exten => _*.,1,Set(CHANNEL(language)=${EXTEN:1})
 same => n,Goto(movidesk-queue,77,1)
exten => 78,1,Set(CHANNEL(language)=quick)
 same => n,Goto(movidesk-queue,78,1)
exten => wrong,1,Gosub(movidesk-verb,s,1(received,))
exten => watched,1,Gosub(movidesk-watch,s,1(77))
 same => n,Dial(PJSIP/5253,20,U(movidesk-answered))

[from-internal](+)
exten => 77,1,Goto(movidesk-queue,77,1)

[hints]
exten => 5252,hint,Custom:5252
exten => late,1,Wait(0.1)
 same => n,Set(DEVICE_STATE(Custom:5252)=NOT_INUSE)

[says]
exten => _X!,1,Answer()
 same => n,Set(CHANNEL(language)=pt_BR)
 same => n,Gosub(movidesk-number,s,1(${EXTEN}))
 same => n,Hangup()

[missing]
exten => s,1,Gosub(movidesk-there,s,1(nosuch,queue-nosuch))
 same => n,Verbose(0,Says nosuch: "${MOVIDESK_PROMPT}")
 same => n,Gosub(movidesk-there,s,1(nosuch,queue-holdtime))
 same => n,Verbose(0,Says it: "${MOVIDESK_PROMPT}")
 same => n,Hangup()

[reception]
exten => s,1,Answer()
 same => n,Wait(30)
 same => n,Hangup()

[people]
exten => s,1,Dial(PJSIP/5253,20)

[again]
exten => s,1,Goto(movidesk-queue,77,1)

[measure]
exten => s,1,Set(GLOBAL(MEASURED)=${STAT(s,${MOVIDESK_RECORDING})})
 same => n,Return()
"""

_serial = itertools.count(1)


def shorten_prompts(rehearsal: Rehearsal) -> None:
    """Give callers of the language `quick` prompts of half a second around a message."""
    sounds = rehearsal.pbx.folder / "data" / "sounds"
    (sounds / "quick").mkdir()
    for prompt in ("vm-intro", "vm-msgsaved"):
        (sounds / "quick" / (prompt + ".gsm")).write_bytes((sounds / "en" / "beep.gsm").read_bytes())


class Office:
    """The rehearsal as one test has it. Agents 5252 and 5253 are online in Movidesk; no phone is on yet."""

    def __init__(self, rehearsal: Rehearsal) -> None:
        self.rehearsal = rehearsal
        self.pbx, self.model, self.simulator = rehearsal.pbx, rehearsal.model, rehearsal.simulator
        self._globals: dict[str, str] = {}
        self._open = ExitStack()
        self._log_from = len(self.pbx.log())
        for recording in self.monitor.iterdir():
            recording.unlink()
        for path in filter(Path.is_file, self.emergency_files()):
            path.unlink()  # left by a service that was stopped while it took them in: calls of a test before
        self._refused = self._totals()["refused"]  # by a test before, which has failed
        self._forget_phones()
        self.simulator.faults.rules = []
        self.model.agents = {}
        self.model.add_group(QUEUE, AGENTS)
        self.model.reset()

    def __enter__(self) -> Office:
        return self

    def __exit__(self, *_exception) -> None:
        self.close()

    def _forget_phones(self) -> None:
        """What a test before has taught of phones and agents holds no more."""
        with closing(sqlite3.connect(self.rehearsal.journal_path)) as journal:
            there = {name for name, in journal.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            for table in there & {"refusals", "members", "queues", "waits", "speeds"}:
                journal.execute("DELETE FROM " + table)
            journal.commit()

    @property
    def monitor(self) -> Path:
        return self.pbx.spool_dir / "monitor"

    # The scene

    def set(self, **settings: str) -> None:
        """Dialplan globals, for this test."""
        before = dict(re.findall(r"^ *(\w+)=(.*)$", self.pbx.cli("dialplan show globals"), re.MULTILINE))
        for name, value in settings.items():
            self._globals.setdefault(name, before.get(name, ""))
            self._set_global(name, value)

    def _set_global(self, name: str, value: str) -> None:
        self.pbx.cli(f'dialplan set global {name} "{value}"')

    def configure(self, settings: dict[str, list[str]]) -> None:
        """movidesk.conf with these lines in its sections, for this test; a running service does not read it again."""
        self.rehearsal.write_config({**SETTINGS, **settings})

    def fault(self, endpoint: str, **what) -> None:
        self.simulator.faults.rules.append(Fault("asterisk_" + endpoint, **what))

    def know_wait(self, seconds: float) -> None:
        """Those who were answered lately waited so many seconds for each place."""
        with closing(sqlite3.connect(self.rehearsal.journal_path)) as journal:
            journal.execute("INSERT INTO speeds (queue, at, seconds, longest, rate) VALUES (?, ?, ?, 600, 1000)",
                            (str(QUEUE), time.monotonic(), seconds))
            journal.commit()

    def all_in_calls(self) -> None:
        """Movidesk answers 4: every agent talks to somebody."""
        self.model.in_call.update((extension, "somebody") for extension in AGENTS)

    def agent(self, extension: str = "5252", behaviour: Behaviour = answers(), **options) -> Agent:
        return self._open.enter_context(Agent(self.pbx, extension, behaviour, **options))

    def call(self, to: str = "77", number: str = "", **options) -> Caller:
        """A call that is on its way; its number is nobody else's unless given."""
        return self._open.enter_context(Caller(self.pbx, to, number or f"4733{next(_serial):06d}", **options))

    # What happens

    def wait_stage(self, caller: Caller, application: str, data: str = "") -> None:
        """Wait until the caller's channel runs this dialplan application."""
        wait_for(f"{caller} runs {application}({data}...)", lambda: self._runs(caller, application, data),
                 instead=lambda: self.pbx.cli("core show channels concise"))

    def _runs(self, caller: Caller, application: str, data: str) -> bool:
        return any(fields[7:8] == [caller.number] and fields[5] == application and fields[6].startswith(data)
                   for fields in self._channels())

    def _channels(self) -> list[list[str]]:
        """Asterisk's channels: [0] name, ..., [5] application, [6] data, [7] number, ..., [12] bridge, [13] unique id."""
        return [line.split("!") for line in self.pbx.cli("core show channels concise").splitlines()]

    def wait_talk(self, caller: Caller, agent: Agent) -> None:
        """Wait until the caller and the agent's phone, which must be one with audio, hear each other."""
        caller.wait_answered()
        agent.wait_event("answered")
        wait_for(f"{caller} and {agent} talk", lambda: self._hear_each_other(caller, agent),
                 instead=lambda: self.pbx.cli("pjsip show channelstats"))

    def _hear_each_other(self, caller: Caller, agent: Agent) -> bool:
        channels = [fields for fields in self._channels() if len(fields) > 12 and fields[12]]
        ends = [fields for fields in channels
                if fields[7] == caller.number or fields[0].startswith(f"PJSIP/{agent.extension}-")]
        stats = [line.split() for line in self.pbx.cli("pjsip show channelstats").splitlines()]
        # Of each channel: how many packets of sound Asterisk sent to its phone.
        sent = {fields[1]: int(fields[8]) for fields in stats if len(fields) > 8 and fields[8].isdigit()}
        return (len(ends) == 2 and ends[0][12] == ends[1][12]
                and all(sent.get(fields[0].partition("/")[2][:18], 0) > 0 for fields in ends))

    def wait_music(self, caller: Caller) -> None:
        """Wait until the caller waits for an agent."""
        self.wait_stage(caller, "WaitExten")

    def wait_asked(self, count: int = 1) -> None:
        """Wait until Movidesk was asked so many times for an agent."""
        wait_for(f"receivedCall ({count})", lambda: self.heard().count("receivedCall") >= count, instead=self.heard)

    def wait_heard(self, what: str, count: int = 1) -> None:
        """Wait until Movidesk has heard this so many times. Where no service runs, a look at it delivers, and sweeps too."""
        def heard() -> bool:
            if self.heard().count(what) < count and self.rehearsal.service_pid is None:
                self.rehearsal.cli("deliver", "--once")
            return self.heard().count(what) >= count

        wait_for(f"Movidesk hears {what}", heard, instead=self.heard)

    def console(self) -> str:
        """What Asterisk logged since the test began, without the lines that tell of the EXEC behind each of our warnings."""
        log = self.pbx.log()[self._log_from:]
        return re.sub(r"^.*AGI Script Executing Application: \(Log\).*\n", "", log, flags=re.MULTILINE)

    def speak(self, caller: Caller, seconds: float = 0.5) -> None:
        """Wait until so much of the message that the caller leaves is recorded."""
        size = 44 + int(16000 * seconds)
        wait_for(f"{caller} speaks", lambda: any(p.stat().st_size >= size for p in self.monitor.glob("*-message.wav")),
                 instead=self.console)

    # What came of it

    def heard(self, call_id: str = "") -> list[str]:
        """The requests in order, each without `asterisk_`; one that was not taken bears its status (0: cut)."""
        return [entry["endpoint"].replace("asterisk_", "") + ("" if entry["status"] == 200 else f" {entry['status']}")
                for entry in list(self.model.log) if call_id in ("", entry["params"].get("id"))]

    def heard_at(self, what: str, call_id: str) -> list[float]:
        """When such requests ended, in epoch seconds."""
        entries = [entry for entry in list(self.model.log) if entry["params"].get("id") == call_id]
        return [entry["time"] for entry, name in zip(entries, self.heard(call_id)) if name == what]

    def settle(self) -> None:
        """Wait until no channel is left and Movidesk has everything."""
        self.pbx.wait_idle()
        if self.rehearsal.service_pid is None:
            run = self.rehearsal.cli("deliver", "--once")
            assert run.returncode == 0, run.stderr
        done = {"open": 0, "pending": 0, "refused": self._refused}
        wait_for("everything is delivered", lambda: not self._away() and self._totals() == done,
                 instead=lambda: "\n".join([str(self._totals()), str(self._away()), self.rehearsal.cli("outbox").stdout,
                                            *map(str, self.model.log), self.rehearsal.service_log()[-2000:]]))

    def emergency_files(self) -> list[Path]:
        """Where emergency files may be: beside the journal, and where every process of the machine looks; then the same, while
        they are taken in."""
        beside = self.rehearsal.journal_path.with_name("journal.db.emergency")
        written = [beside, Path("/var/tmp") / (Config(str(self.rehearsal.config_path)).own_name + ".emergency")]
        return written + [path.with_name(path.name + TAKING) for path in written]

    def stand_in(self) -> list[Path]:
        """The standby, while it takes the journal's place."""
        return list(self.rehearsal.memory.glob("*.standby/journal.db"))

    def _away(self) -> list[Path]:
        """What holds events in the journal's place: the standby, emergency files that are not empty."""
        return self.stand_in() + [path for path in self.emergency_files() if lines_of(path)]

    def wait_told(self) -> None:
        """Wait until Movidesk has all that was recorded so far."""
        wait_for("nothing is pending", lambda: self._totals()["pending"] == 0)

    def _totals(self) -> dict[str, int]:
        """As Overview.totals; not by a Journal, which would migrate the file of an older version that still runs."""
        if not os.path.exists(self.rehearsal.journal_path):
            return dict.fromkeys(("open", "pending", "refused"), 0)
        with closing(sqlite3.connect(self.rehearsal.journal_path, isolation_level=None)) as journal:
            journal.execute("BEGIN")  # a hangup between two looks would be in neither
            events = {status: journal.execute("SELECT count(*) FROM events WHERE status = ?", (status,)).fetchone()[0]
                      for status in ("pending", "refused")}
            return {"open": journal.execute("SELECT count(*) FROM calls WHERE ended IS NULL").fetchone()[0], **events}

    def tickets(self, caller: Caller) -> list[Ticket]:
        """All tickets of this caller, once everything is told, oldest first."""
        caller.wait()
        self.settle()
        digits = "".join(c for c in caller.number if c.isdigit())
        return [ticket for ticket in self.rehearsal.tickets() if ticket.number == digits]

    def ticket(self, caller: Caller, state: str, heard: list[str]) -> Ticket:
        """The call's one ticket, which is complete, in this state, and was told exactly so."""
        tickets = self.tickets(caller)
        assert len(tickets) == 1, [ticket.to_json() for ticket in tickets]
        assert self.heard(tickets[0].id) == heard
        assert (tickets[0].state, tickets[0].complete) == (state, True)
        return tickets[0]

    def close(self) -> None:
        """Everybody leaves; nothing may be left over, and Movidesk must have had no reason to complain."""
        self._open.close()
        for name, value in self._globals.items():
            self._set_global(name, value)
        self.configure({})
        self.settle()
        assert self.model.problems == []
        assert [ticket.to_json() for ticket in self.rehearsal.tickets() if not ticket.complete] == []


def lines_of(path: Path) -> list[str]:
    """The lines of a file that may be gone, or be a folder."""
    try:
        return path.read_text().splitlines()
    except (FileNotFoundError, IsADirectoryError):
        return []


def close(office, code):
    """Bring Movidesk's group into the state in which it answers `code`."""
    today = datetime.now(timezone.utc).date().isoformat()
    office.model.groups[77].holidays = [today] if code == HOLIDAY else []
    office.model.groups[77].closes = "00:00" if code == CLOSED else "24:00"
    for agent in office.model.agents.values():
        agent.online = code != NOBODY_ONLINE


def sound(path):
    """The recording's seconds and its loudest sample; fails for a file that is not a whole WAV."""
    with wave.open(str(path)) as file:
        frames = file.readframes(file.getnframes())
        assert len(frames) == 2 * file.getnframes()
        return file.getnframes() / file.getframerate(), loudest(frames)


def loudest(frames: bytes) -> int:
    """The loudest of these samples of 16 bits; half of one at the end does not count."""
    return max(map(abs, array("h", frames[:len(frames) // 2 * 2])), default=0)


def recording(office, link):
    """The file that a ticket's link names."""
    assert link.startswith(RECORDINGS)
    return office.monitor / link[len(RECORDINGS):]


@contextmanager
def scripts_begin(office, line: str):
    """Every script has this first line in place of its own."""
    scripts = {path: path.read_text() for path in (office.pbx.agi_dir / "movidesk").iterdir()}
    for path, text in scripts.items():
        path.write_text(line + "\n" + text.partition("\n")[2])
    try:
        yield
    finally:
        for path, text in scripts.items():
            path.write_text(text)


def no_python(office):
    """The scripts' interpreter is not there, as a context manager."""
    return scripts_begin(office, "#!/nonexistent/bin/python3 -IS")

"""The standby: what the journal knows is taken over when it goes away, and what happened goes back when it returns."""
from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from movidesk import housekeeping
from movidesk.agi import runner, variables
from movidesk.config import load
from movidesk.context import Context
from movidesk.delivery import worker
from movidesk.delivery.worker import Delivery
from movidesk.housekeeping import RestingDelivery
from movidesk.journal import LEASE, Journal, JournalError, emergency, standby, standby_copy, standby_folder, standby_merge
from movidesk.journal.recovery import kept_aside
from movidesk.rules import rate_limit
from movidesk.service import Service
from movidesk_sim.model import Limit, Movidesk
from movidesk_sim.web import serve
from support.peer import Peer
from support.waits import until

QUEUE = "77"


class Machine:
    """A PBX's disk whose folder with the journal can be taken away, its memory, and verbs that run as scripts do."""

    def __init__(self, write_config, folder: Path, url: str, **movidesk: str):
        self.state, self.memory, self._others = folder / "state", folder / "memory", []
        self.state.mkdir()
        self.memory.mkdir()
        self.path = write_config(movidesk={"url": url, "timeout": "15", **movidesk},
                                 line={"ask_every": "1", "ask_at_least_every": "1"},
                                 journal={"path": str(self.state / "journal.db"), "standby": str(self.memory)})

    def context(self, **more) -> Context:
        return Context(load(self.path), **more)

    @contextmanager
    def away(self):
        self.set_away(True)
        yield
        self.set_away(False)

    def lock(self, path: Path) -> None:
        """Another program writes for ever: the journal can be read."""
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        self._others.append(other)

    def set_trouble(self, how: str) -> None:
        """The journal is away, or locked; or also the standby is, where there is one (away-both, locked-both); or none is."""
        for other in self._others:
            other.close()
        self._others.clear()
        self.set_away(how.startswith("away"))
        if how.startswith("locked"):
            self.context().journal.close()
            self.lock(self.state / "journal.db")
        if how.endswith("both") and self.stands_in():
            self.lock(standby_folder.folder(load(self.path)) + "/journal.db")

    def set_away(self, away: bool) -> None:
        here, elsewhere = self.state, self.state.with_name("elsewhere")
        if away == here.exists():
            os.rename(*(here, elsewhere) if away else (elsewhere, here))

    def run(self, verb: str, *arguments: str, uniqueid: str = "17.1", script: bool = True, **variables: str) -> Peer:
        peer = Peer(uniqueid, "4733990777", variables=variables)
        with peer.channel(*arguments) as channel:
            runner.run(verb, channel, self.context(is_script=script), list(arguments))
        return peer

    def recover(self) -> None:
        """What cron or the service does each minute."""
        context = self.context()
        housekeeping.Housekeeping(context).recover()
        Delivery(context).once()
        context.journal.close()

    def pending(self) -> int:
        with closing(Journal(str(self.state / "journal.db"))) as journal:
            return journal.overview.totals()["pending"]

    def stands_in(self) -> bool:
        return standby_folder.in_use(load(self.path))


@pytest.fixture
def model():
    model = Movidesk(time.time, limit=Limit(100_000))
    model.add_group(77, ["5252", "5253"])
    return model


@pytest.fixture
def machine(write_config, tmp_path, model):
    with serve(model) as simulator:
        yield Machine(write_config, tmp_path, simulator.url, requests_per_minute="1000")


@pytest.fixture
def short_locks(monkeypatch):
    monkeypatch.setattr("movidesk.journal.store.BUSY_TIMEOUT", 0.3)


def heard(model) -> list[str]:
    return [entry["endpoint"].replace("asterisk_", "") for entry in model.log]


ANSWERED = ["receivedCall", "transferedCall", "completedCall"]


@pytest.mark.parametrize("away_until", ["received", "transferred", "hangup"])
@pytest.mark.parametrize("away_from", ["received", "transferred", "hangup"])
def test_a_call_that_changes_journals_is_told_once_and_whole(machine, model, away_from, away_until):
    verbs = ["received", "transferred", "hangup"]
    begin, end = verbs.index(away_from), verbs.index(away_until)
    call_id = ""
    for number, (verb, *arguments) in enumerate((("received", QUEUE), ("transferred", "5252"), ("hangup",))):
        machine.set_away(begin <= number <= end)
        for _ in range(50):  # the window of a journal that cannot be read begins full
            peer = machine.run(verb, *arguments, **{variables.ID: call_id, variables.QUEUE: QUEUE, variables.ANSWERED_BY: "5252"})
            call_id = peer[variables.ID] or call_id
            if verb != "received" or peer[variables.EXT]:
                break
            time.sleep(0.05)
    machine.set_away(False)
    machine.recover()
    assert heard(model) == ANSWERED and not machine.stands_in()
    ticket, = model.tickets.values()
    assert (ticket.state, ticket.agent, ticket.complete, model.problems) == ("completed", "5252", True, [])


def test_a_crash_in_the_merge_repeats_nothing_that_the_standby_has_told(machine, model, monkeypatch):
    context = machine.context()
    context.journal.close()
    with standby.use(context, "a test"):
        pass  # its window is known: nothing was sent
    with machine.away():
        machine.run("received", QUEUE)
        machine.run("hangup")
        worker.deliver_standby(machine.context())
    told = heard(model)
    unlink = os.unlink
    monkeypatch.setattr(os, "unlink", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        machine.recover()
    monkeypatch.setattr(os, "unlink", unlink)
    assert machine.stands_in()
    machine.recover()
    assert heard(model) == told == ["receivedCall", "canceledCall"] and not machine.stands_in()


def test_what_a_crash_has_left_of_one_standby_is_no_part_of_the_next(machine, monkeypatch):
    """Its -wal, say, when only the file itself was removed: SQLite would read it as the new file's."""
    context = machine.context()
    assert context.journal
    keep = []
    with standby.use(context, "a test") as other:
        other.journal.calls.arrive("pbx1", "1.1", QUEUE, "1")
        path = other.journal.path
        keep.append(Path(path + "-wal").read_bytes())
    assert standby.end(context)
    Path(path + "-wal").write_bytes(keep[0])
    context.journal.calls.hang_up("pbx1-1.1")
    with standby.use(context, "a test") as other:
        assert other.journal.calls.find("pbx1-1.1").state == "canceled" and other.journal.overview.open_calls() == []


def test_before_its_journal_is_back_a_service_delivers_from_the_standby(machine, model):
    """systemd starts it again every two seconds."""
    context = machine.context()
    context.journal.close()
    with standby.use(context, "a test"):
        pass
    with machine.away():
        machine.run("received", QUEUE)
        machine.run("hangup")
        with pytest.raises(JournalError):
            Service(load(machine.path))
    assert heard(model) == ["receivedCall", "canceledCall"]


def test_somebody_inside_keeps_the_standby(machine):
    with machine.away():
        machine.run("received", QUEUE)
    context = machine.context()
    with standby.use(context, "") as other:
        assert standby.end(context) is False
        assert other.journal.calls.find("pbx1-17.1")
    assert standby.end(context) is True
    assert context.journal.calls.find("pbx1-17.1")


def test_no_verb_of_the_service_waits_for_the_journal(machine):
    """Its own thread looks whether the journal is back."""
    with machine.away():
        machine.run("received", QUEUE)
    machine.run("received", QUEUE, script=False, MOVIDESK_ID="pbx1-17.1")
    assert machine.stands_in()
    machine.run("received", QUEUE, MOVIDESK_ID="pbx1-17.1")
    assert not machine.stands_in()


def test_scripts_look_only_now_and_then_whether_the_journal_is_back(machine, monkeypatch):
    with machine.away():
        machine.run("received", QUEUE)
        machine.run("received", QUEUE, MOVIDESK_ID="pbx1-17.1")
        monkeypatch.setattr(standby, "end", lambda context: 1 / 0)
        peer = machine.run("received", QUEUE, MOVIDESK_ID="pbx1-17.1")
    assert not [line for line in peer.console if "ZeroDivision" in line]


# -- the limit ---------------------------------------------------------------------------------------------------------

def test_the_requests_of_the_last_minute_are_known_in_the_standby(machine, clock):
    context = machine.context(clock=clock)
    for _ in range(10):
        with context.journal.store.transaction():
            assert context.journal.limits.claim(10, rate_limit.SCREEN, rate_limit.Demand()).request_id
        clock.advance(1)
    call = context.journal.calls.arrive("pbx1", "2.1", QUEUE, "1")
    with standby.use(context, "a test") as other:
        assert other.journal.limits.requests_in_window() == 10
        assert not other.journal.scheduler.turn(other.journal.calls.find(call.call_id), 10).request_id
        clock.advance(53)  # two of them: one for the question, one for the screen of the agent whom it calls
        assert other.journal.scheduler.turn(other.journal.calls.find(call.call_id), 10).request_id
    assert standby.end(context) and context.journal.limits.requests_in_window() == 8


def test_an_unknown_window_begins_full(machine, clock):
    machine.set_away(True)
    context, asked = machine.context(clock=clock), []
    context.config._values["movidesk", "requests_per_minute"] = 10
    with standby.use(context, "a test") as other:
        call = other.journal.calls.arrive("pbx1", "1.1", QUEUE, "1")
        began = clock.now
        while clock.now < began + 60:
            if other.journal.scheduler.turn(call, 10).request_id:
                asked.append(clock.now - began)
                other.journal.scheduler.answered(call, "", "4", "")
            clock.advance(1)
    assert asked[0] >= 6 and len(asked) <= 10
    machine.set_away(False)
    assert standby.end(context)
    assert context.journal.limits.requests_in_window() == len(asked), "what was only assumed does not go back"


def test_a_pause_that_movidesk_asked_for_goes_there_and_back(machine, clock):
    context = machine.context(clock=clock)
    context.journal.limits.close_window(100.0)
    context.journal.notes.set("over_soon", "x")
    with standby.use(context, "a test") as other:
        assert other.journal.limits.pause_left() == 100.0
        other.journal.notes.remove("over_soon")
        clock.advance(200)
        other.journal.limits.close_window(50.0)
    assert standby.end(context)
    assert context.journal.limits.pause_left() >= 50.0
    assert context.journal.notes.get("over_soon") is None and context.journal.notes.get("boot")


# -- places ------------------------------------------------------------------------------------------------------------

def positions(journal, *calls) -> list[int]:
    """The places of these callers in line."""
    return [journal.scheduler.turn(journal.calls.find(call.call_id), 1000).position for call in calls]


def test_places_go_there_and_back(machine, clock):
    context = machine.context(clock=clock)
    before = [context.journal.calls.arrive("pbx1", f"1.{number}", QUEUE, "1", priority=number // 2) for number in range(3)]
    for call in before:
        context.journal.scheduler.turn(call, 1000)
    with standby.use(context, "a test") as other:
        late = [other.journal.calls.arrive("pbx1", f"1.{number}", QUEUE, "1", priority=number - 8) for number in (8, 9)]
        for call in late:
            other.journal.scheduler.turn(call, 1000)
        assert positions(other.journal, *before, *late) == [3, 4, 1, 5, 2]
    assert standby.end(context)
    assert positions(context.journal, *before, *late) == [3, 4, 1, 5, 2]


def test_a_priority_counts_in_a_standby_that_cannot_read_its_journal(machine, clock):
    """The caller's arrival comes to the standby from its event, which does not name the priority; its channel does."""
    with machine.away():
        plain, vip = Peer(uniqueid="1.1"), Peer(uniqueid="1.2", variables={variables.PRIORITY: "1"})
        for peer in (plain, vip):
            with peer.channel() as channel:
                runner.run("received", channel, machine.context(), [QUEUE])
        with standby.use(machine.context(), "a test") as other:
            assert [(call.uniqueid, call.priority) for call in other.journal.overview.open_calls()] == [("1.1", 0), ("1.2", 1)]


@pytest.mark.parametrize("begun", [True, False], ids=["a verb has begun the standby", "nobody has"])
def test_what_movidesk_took_as_the_journal_went_is_noted_in_the_standby(machine, model, clock, short_locks, monkeypatch,
                                                                           begun):
    context = machine.context(clock=clock)
    call = context.journal.calls.arrive("pbx1", "1.1", QUEUE, "1")
    context.journal.calls.hang_up(call.call_id)
    send = context.client.send

    def lock_meanwhile(event, **fields):
        result = send(event, **fields)
        machine.set_trouble("locked")
        if begun:
            with standby.use(context, "locked"):
                pass
        return result

    job, _ = Delivery(context).take()
    with monkeypatch.context() as patch:
        patch.setattr(context.client, "send", lock_meanwhile)
        assert Delivery(context).deliver(job) and machine.stands_in()
    clock.advance(LEASE + 1)
    worker.deliver_standby(context)
    assert heard(model) == ["receivedCall", "canceledCall"]
    machine.set_trouble("back")
    assert standby.end(context) and Delivery(context).once() and context.journal.overview.totals()["pending"] == 0
    assert heard(model) == ["receivedCall", "canceledCall"]


@pytest.mark.parametrize("standby_knows_it", [True, False], ids=["known", "of a call that the standby does not have"])
def test_what_movidesk_took_of_any_call_is_not_told_again(machine, model, clock, monkeypatch, standby_knows_it):
    context = machine.context(clock=clock)
    context.journal.calls.hang_up(context.journal.calls.arrive("pbx1", "1.1", QUEUE, "1").call_id)
    job, _ = Delivery(context).take()
    with standby.use(context, "a test") as other, other.journal.store.transaction() as db:
        if not standby_knows_it:
            db.execute("DELETE FROM calls")
    monkeypatch.setattr(context.journal.outbox, "delivered", lambda *_: (_ for _ in ()).throw(JournalError("locked")))
    assert Delivery(context).deliver(job)
    monkeypatch.undo()
    assert standby.end(context)
    clock.advance(LEASE + 1)
    assert Delivery(context).once() and heard(model) == ["receivedCall", "canceledCall"]


@pytest.mark.parametrize("visit", [1, 2])
def test_an_answer_before_the_journal_went_proves_that_it_was_asked_for(machine, model, visit):
    """The standby that could not read the journal tells no arrival again: Movidesk would name another agent, or refuse it."""
    for number in range(visit):
        peer = machine.run("received", QUEUE)
        known = {variables.ID: peer[variables.ID], variables.QUEUE: QUEUE, variables.ANSWERED_BY: peer[variables.EXT]}
        if number + 1 < visit:
            machine.run("canceled", **known)
    machine.run("transferred", peer[variables.EXT], **known)
    told = heard(model)
    with machine.away():
        machine.run("hangup", **known)
        with standby.use(machine.context(), "") as other:
            call, = other.journal.overview.open_calls() + other.journal.overview.last_calls(9)
            assert call.call_id == known[variables.ID]
            assert [event.kind for event in other.journal.calls.events(call)] == ["transferred", "completed"]
            with other.journal.store.transaction() as db:
                db.execute("DELETE FROM requests")  # its window begins full
        worker.deliver_standby(machine.context())
    machine.recover()
    assert heard(model)[len(told):] == ["transferedCall", "completedCall"] + ["canceledCall"] * (visit - 1)
    assert all(ticket.complete for ticket in model.tickets.values()) and not model.problems


def test_a_process_frozen_in_a_takeover_of_the_journal_holds_up_no_caller(machine, model, monkeypatch):
    monkeypatch.setattr("movidesk.file_lock.TIMEOUT", 0.2)
    path = machine.state / "journal.db"
    path.write_bytes(b"no journal at all" * 1000)
    with open(str(path) + ".lock", "a", encoding="ascii") as frozen:
        fcntl.flock(frozen, fcntl.LOCK_EX)
        asked_until = time.monotonic() + 5
        call_id, peer = "", None
        while peer is None or not peer[variables.EXT]:  # the window of a journal that cannot be read begins full
            assert time.monotonic() < asked_until
            peer = machine.run("received", QUEUE, **{variables.ID: call_id})
            call_id = peer[variables.ID] or call_id
        machine.run("hangup", **{variables.ID: call_id})
        assert machine.stands_in()
    machine.recover()
    assert heard(model) == ["receivedCall", "canceledCall"] and not machine.stands_in()


@pytest.mark.parametrize("script", [True, False])
@pytest.mark.parametrize("index", ["calls_uniqueid", "next_events_later"])  # the merge needs the first, not the second
def test_a_bad_page_and_a_frozen_process_hold_up_no_caller(machine, model, monkeypatch, index, script):
    """One verb waits for the lock of the process that has begun a new journal; those that follow use the standby at once."""
    monkeypatch.setattr("movidesk.file_lock.TIMEOUT", 0.4)
    path = damage_index(machine, index)
    service, call_id, waits = machine.context(is_script=False), "", []
    with open(path + ".lock", "a", encoding="ascii") as frozen:
        fcntl.flock(frozen, fcntl.LOCK_EX)

        def run(*verb: str) -> Peer:
            began = time.monotonic()
            peer = machine.run(*verb, script=script, **{variables.ID: call_id, variables.QUEUE: QUEUE})
            waits.append(time.monotonic() - began)
            if not script:
                with suppress(JournalError):  # its own thread looks
                    standby.end(service)
            return peer
        first = run("received", QUEUE)
        call_id = first[variables.ID]
        assert [line for line in first.console if f"held the lock of {path}.lock" in line], first.console
        assert first[variables.EXT] or run("received", QUEUE)[variables.EXT]
        run("transferred", "5252")
        run("hangup")
        assert waits[0] > 0.4 > max(waits[1:]) and machine.stands_in(), waits
    machine.recover()
    assert heard(model) == ANSWERED and not machine.stands_in() and len(kept_aside(path)) == 1


def damage_index(machine: Machine, name: str) -> str:
    """Overwrite the root page of an index; returns the journal's path. The file opens, and what needs the page fails."""
    path = str(machine.state / "journal.db")
    with closing(Journal(path)) as journal:
        page = journal.store.value("SELECT rootpage FROM sqlite_master WHERE name = :name", name=name)
        journal.store.value("PRAGMA wal_checkpoint(TRUNCATE)")
    with open(path, "r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(os.urandom(4096))
    return path


def test_which_phones_refuse_goes_there_and_back(machine, clock):
    """One of a call that only the standby knows gets the number that this call has in the journal."""
    context = machine.context(clock=clock)

    def refuse(book, call, extension):
        book.scheduler.answered(call, extension, "", extension)
        book.scheduler.turn(book.calls.find(call.call_id), 1000, refusal="UNAVAILABLE")

    for name in ("1.1", "1.2"):
        refuse(context.journal, context.journal.calls.arrive("pbx1", name, QUEUE, "1"), "52" + name[2])
    before = context.journal.agents.refusals()
    with standby.use(context, "a test") as other:
        assert other.journal.agents.refusals() == before and len(before) == 2
        other.journal.calls.record("pbx1-1.1", "transferred", "522")  # it works again
        new = other.journal.calls.arrive("pbx1", "1.3", QUEUE, "1")
        refuse(other.journal, new, "523")
    context.journal.calls.arrive("pbx1", "1.4", QUEUE, "1")  # has the number that 1.3 had in the standby
    assert standby.end(context)
    known = context.journal.agents.refusals()
    assert [(phone.extension, phone.call) for phone in known] == [("521", before[0].call),
                                                                  ("523", context.journal.calls.find(new.call_id).id)]
    assert known[1].call != new.id


def test_after_its_call_ended_a_channel_gets_another_id_in_the_standby(machine):
    machine.run("received", QUEUE)
    context = machine.context()
    context.journal.calls.hang_up("pbx1-17.1")
    with standby.use(context, "a test") as other:
        assert other.journal.calls.arrive("pbx1", "17.1", QUEUE, "1").call_id == "pbx1-17.1-2"


def test_a_call_of_which_the_standby_knows_only_the_end_keeps_its_arrival(machine):
    machine.run("received", QUEUE)
    context = machine.context()
    before = context.journal.calls.find("pbx1-17.1")
    with machine.away():
        machine.run("hangup", **{variables.ID: "pbx1-17.1", variables.QUEUE: QUEUE})
    assert standby.end(context)
    after = context.journal.calls.find("pbx1-17.1")
    assert after.arrived == before.arrived < after.ended and after.state == "canceled"


def test_what_the_standby_missed_of_a_call_comes_before_what_it_takes_now(machine, short_locks):
    with machine.away():
        machine.run("received", QUEUE)
    machine.set_trouble("away-both")
    machine.run("transferred", "5252", **{variables.ID: "pbx1-17.1"})
    machine.set_trouble("away")
    machine.run("hangup", **{variables.ID: "pbx1-17.1"})
    with standby.use(machine.context(), "") as other:
        assert [event.kind for event in other.journal.calls.events(other.journal.calls.find("pbx1-17.1"))] == [
            "received", "transferred", "completed"]


# -- who may, and where ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("planted", ["a link", "an open folder"])
def test_a_folder_that_somebody_else_could_write_is_not_used(machine, planted):
    folder = standby_folder.folder(load(machine.path))
    (machine.memory / "other").mkdir()
    if planted == "a link":
        os.symlink(machine.memory / "other", folder)
    else:
        os.mkdir(folder)
        os.chmod(folder, 0o777)
    with machine.away():
        peer = machine.run("received", QUEUE)
    assert peer[variables.CODE] == "E" and any("standby cannot be used either" in line for line in peer.console)
    assert list((machine.memory / "other").iterdir()) == []


def test_others_cannot_read_the_standby(machine):
    with machine.away():
        machine.run("received", QUEUE)
    assert os.stat(standby_folder.folder(load(machine.path))).st_mode & 0o077 == 0


def test_where_a_fallback_is_set_callers_go_there(machine, model):
    with machine.away():
        peer = machine.run("received", QUEUE, MOVIDESK_FALLBACK="people,s,1")
    assert peer[variables.CODE] == "E" and peer[variables.EXT] == "" and heard(model) == []
    machine.recover()
    with closing(Journal(str(machine.state / "journal.db"))) as journal:
        assert journal.calls.find("pbx1-17.1").state == "received"


def test_a_journal_that_cannot_take_the_standby_leaves_both_as_they_were(machine, monkeypatch):
    context = machine.context()
    assert context.journal
    with standby.use(context, "a test") as other:
        for number in range(3):
            other.journal.calls.arrive("pbx1", f"1.{number}", QUEUE, "1")
    add, calls = standby_merge._merge_call, []

    def full(*what):
        calls.append(what)
        if len(calls) == 3:
            raise sqlite3.OperationalError("database or disk is full")
        return add(*what)
    monkeypatch.setattr(standby_merge, "_merge_call", full)
    with pytest.raises(JournalError):
        standby.end(context)
    assert context.journal.overview.open_calls() == [] and machine.stands_in()
    monkeypatch.setattr(standby_merge, "_merge_call", add)
    assert standby.end(context) and len(context.journal.overview.open_calls()) == 3


# -- any order of events -----------------------------------------------------------------------------------------------

TROUBLES = ("away", "away-both", "locked", "locked-both", "back")
STEPS = st.lists(st.sampled_from([*TROUBLES, "deliver", "1", "2", "3"]), min_size=5, max_size=25)
LIFE = (("received", QUEUE), ("transferred", "5252"), ("hangup",))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS, st.booleans())
@example(["away", "1", "away", "back", "2", "away", "1"], False)
def test_whenever_the_journal_goes_and_comes_each_event_is_told_once(write_config, tmp_path_factory, short_locks, steps,
                                                                     knows_when):
    """knows_when: the dialplan says when each caller came (ours does)."""
    model = Movidesk(time.time, limit=Limit(100_000))
    model.add_group(77, ["5252", "5253", "5254"])
    folder = tmp_path_factory.mktemp("machine")
    with serve(model) as simulator, pytest.MonkeyPatch.context() as patch:
        patch.setattr(emergency, "SHARED", str(folder))
        machine = Machine(write_config, folder, simulator.url, requests_per_minute="1000")
        trouble, lives = "back", {name: {"step": 0, "id": "", "agent": "", "came": ""} for name in "123"}
        for step in [*steps, "back", *"111222333"]:
            if step in TROUBLES:
                trouble = step
                machine.set_trouble(step)
            elif step == "deliver":
                _deliver(machine, trouble)
            elif lives[step]["step"] < len(LIFE):
                lives[step]["came"] = lives[step]["came"] or f"{time.time():.6f}" if knows_when else ""
                _go_on(machine, step, lives[step])
        until(lambda: machine.recover() or machine.pending() == 0)
        assert model.problems == [] and model.duplicates == 0
        assert sorted(ticket.number for ticket in model.tickets.values() if not ticket.complete) == []
        assert len(model.tickets) == 3 and not machine.stands_in()


def _deliver(machine: Machine, trouble: str) -> None:
    if trouble == "back":
        return machine.recover()
    try:
        worker.deliver_standby(machine.context())
    except JournalError:
        assert trouble.endswith("both")


def _go_on(machine: Machine, name: str, life: dict) -> None:
    """The next verb of this caller; one who is offered nobody has no agent when it hangs up."""
    verb, *arguments = LIFE[life["step"]]
    if verb == "transferred" and not life["agent"]:
        verb, *arguments = LIFE[2]
        life["step"] = 2
    if verb == "transferred":
        arguments = [life["agent"]]
    peer = machine.run(verb, *arguments, uniqueid="1." + name, **{
        variables.ID: life["id"], variables.QUEUE: QUEUE, variables.ARRIVED: life["came"],
        variables.ANSWERED_BY: life["agent"] if life["step"] == 2 else ""})
    life["id"] = peer[variables.ID] or life["id"]
    if verb == "received":
        life["agent"] = peer[variables.EXT]
    life["step"] += 1


def test_nothing_is_handed_out_while_a_standby_begins(write_config, clock, monkeypatch):
    """It would be in the standby's copy as well, and be sent twice."""
    context = Context(load(write_config()), clock)
    call = context.journal.calls.arrive("pbx1", "1.1", "77", "4733990001")
    context.journal.calls.hang_up(call.call_id)
    begin, seen = standby_copy.begin, []

    def look_meanwhile(*arguments):
        seen.append(RestingDelivery(context).take())
        begin(*arguments)

    monkeypatch.setattr(standby_copy, "begin", look_meanwhile)
    with standby.use(context, "the disk is full"):
        pass
    assert seen == [(None, housekeeping.BEGINS)]
    assert RestingDelivery(context).take() == (None, None)
    assert standby.end(context)
    assert RestingDelivery(context).take()[0].event.kind == "received"

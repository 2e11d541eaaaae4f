"""Calls and their events: what is recorded, and the one ending that each call gets (movidesk.rules.call_states has the rules)."""

from __future__ import annotations

from movidesk.journal.agents import Agents
from movidesk.journal.records import (
    ASKED,
    CALL,
    CALL_ANSWERED,
    CALL_ENDED,
    CLOSED,
    CONVERTS,
    EVENT,
    FAILED,
    HELD,
    HOLD,
    LEASE,
    Call,
    Event,
    Recorded,
)
from movidesk.journal.store import Store
from movidesk.journal.waits import Waits
from movidesk.rules import call_states, waiting_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from movidesk import NamedTuple


class CallStore:
    """What happened, in order. A channel carries one open call at most."""

    def __init__(self, store: Store, agents: Agents, waits: Waits):
        self._store, self._agents, self._waits = store, agents, waits

    # -- finding ----------------------------------------------------------------------------------------------------

    def find(self, call_id: str) -> Call | None:
        """The call with this id, or None."""
        return self._store.row(Call, f"SELECT {CALL} FROM calls WHERE call_id = :call_id", call_id=call_id)

    def get(self, call_id: str) -> Call:
        """The call with this id, which is there."""
        call = self.find(call_id)
        assert call is not None, call_id
        return call

    def visit(self, uniqueid: str, arrived: float | None) -> Call | None:
        """The call of this channel that arrived at exactly this time, or None."""
        return self._store.row(Call, f"SELECT {CALL} FROM calls WHERE uniqueid = :uniqueid AND arrived = :arrived",
                               uniqueid=uniqueid, arrived=arrived)

    def latest(self, uniqueid: str, at: float | None = None) -> Call | None:
        """The last call of the channel with this unique id, or the last that it had at this time; None where there is none."""
        return self._store.row(Call, f"SELECT {CALL} FROM calls WHERE uniqueid = :uniqueid AND arrived <= coalesce(:at, arrived)"
                                     " ORDER BY id DESC LIMIT 1", uniqueid=uniqueid, at=at)

    def began_late(self, uniqueid: str) -> bool:
        """Whether the channel's first call began without an arrival event, so that its arrival time is unknown."""
        return bool(self._store.value("""
            SELECT EXISTS (SELECT 1 FROM events WHERE call = calls.id AND kind != 'received' AND at = arrived)
            FROM calls WHERE uniqueid = :uniqueid ORDER BY id LIMIT 1""", uniqueid=uniqueid))

    def events(self, call: Call) -> list[Event]:
        """The call's events, in order."""
        return self._store.rows(Event, f"SELECT {EVENT} FROM events WHERE call = :call ORDER BY id", call=call.id)

    # -- beginning --------------------------------------------------------------------------------------------------

    def arrive(self, pbx: str, uniqueid: str, queue: str, number: str, mode: str = call_states.CONTROL,
               arrived: float | None = None, channel: str = "", once: bool = False, priority: int = 0) -> Call:
        """The open call of this channel in this queue. If there is none, a new one begins.

        A channel whose call has ended gets the next id (`-2`, `-3`). If it comes to another queue, or back after an agent had
        it, its old call ends first, as a hangup would end it; it is lost if nobody had answered.
        channel: the channel that the call is on, if not the one on which it began (see `move`). once: return the call with this
        arrival time even if it has ended, because two processes may import the same line. priority: the caller's, from 0 to
        waiting_line.HIGHEST_PRIORITY; for an open call it may be another one than before, but an imported line names none.
        """
        channel = channel or uniqueid
        with self._store.transaction():
            same = self.visit(uniqueid, arrived) if once else None
            if same:
                return same
            visits = self._store.rows(Call, f"SELECT {CALL} FROM calls WHERE uniqueid = :uniqueid ORDER BY id", uniqueid=uniqueid)
            last = visits[-1] if visits else None
            if last and last.state not in call_states.ENDED:
                if last.queue == queue and last.mode == mode and last.state != call_states.TRANSFERRED:
                    last = last if once else self._with_priority(last, priority)
                    if channel == (last.channel or last.uniqueid):
                        return last
                    self._move(last, channel, number)
                    return self.get(last.call_id)
                self._leave(last)
            for left in self._open_on(channel):
                self._leave(left)
            visit = len(visits) + 1
            while self.find(call_states.call_id(pbx, uniqueid, visit)):  # begun by an event alone, on another channel
                visit += 1
            call = self._begin(call_states.call_id(pbx, uniqueid, visit), uniqueid, mode, call_states.first_state(mode), queue,
                               number, arrived, priority)
            if channel != uniqueid:
                self._store.execute("UPDATE calls SET channel = :channel WHERE id = :call", channel=channel, call=call.id)
            return self.get(call.call_id)

    def catch_up(self, pbx: str, uniqueid: str, known: str, queue: str, number: str, arrived: float | None,
                 answered_by: str, at: float | None = None) -> str:
        """Record what the dialplan saw of a channel's call and this journal did not; returns the call's id.

        known: the id that the channel knows; where it knows none, the visit that it made at `arrived` is its call, begun now
        if it is not here. answered_by: the extension that took the call, if one did; at: when the call ended, if not now.
        """
        call = self.find(known) if known else self.visit(uniqueid, arrived) or self.latest(uniqueid, at)
        if known and queue and call is None:
            # Where an agent has answered, Movidesk had named it, and so knows of the arrival.
            state = call_states.OFFERED if answered_by else call_states.RECEIVED
            with self._store.transaction():
                call = self.find(known) or self._begin(known, uniqueid, call_states.CONTROL, state, queue, number, arrived or at)
        elif queue and not known and (call is None or arrived and call.arrived != arrived):
            call = self.arrive(pbx, uniqueid, queue, number, arrived=arrived or at, once=True)
        if call is None:
            return known or call_states.call_id(pbx, uniqueid)
        if answered_by and call.mode == call_states.CONTROL and call.state in call_states.BEFORE_AGENT:
            self.record(call.call_id, call_states.TRANSFERRED, answered_by, at=self._now(at))
        return call.call_id

    def dial(self, pbx: str, uniqueid: str, extension: str, number: str) -> Call:
        """Begin a made call: the channel with this unique id will call the agent's extension, then the number."""
        with self._store.transaction():
            call = self._begin(call_states.call_id(pbx, uniqueid), uniqueid, call_states.MADE, call_states.DIALLED, "", number)
            self._store.execute("UPDATE calls SET extension = :extension WHERE id = :call", extension=extension, call=call.id)
            return self.get(call.call_id)

    def dial_failed(self, call_id: str, why: str) -> None:
        """End a made call that did not reach its agent; `why` stands in the call's code."""
        with self._store.transaction():
            if self._store.execute("UPDATE calls SET state = :finished, code = :why, ended = :now"
                                   " WHERE call_id = :call_id AND state = :dialled",
                                   finished=call_states.FINISHED, why=why, now=self._store.clock(), call_id=call_id,
                                   dialled=call_states.DIALLED).rowcount:
                self._store.observe(CALL_ENDED, f"{call_states.MADE} {FAILED}")

    def take_over(self, unfinished: list[tuple[Call, list[Event]]]) -> int:
        """Add the calls of a damaged journal, with their events; those that are here already stay. Returns how many."""
        with self._store.transaction():
            taken, latest = 0, self._store.steady() + HOLD  # due times may be those of another boot
            for call, events in unfinished:
                added = self._store.execute(f"INSERT OR IGNORE INTO calls {_all_but_id(Call)}", **call._asdict())
                if not added.rowcount or added.lastrowid is None:
                    continue  # it is here
                taken += 1
                for event in events:
                    event = event._replace(call=added.lastrowid, due=min(event.due, latest))
                    self._store.execute(f"INSERT INTO events {_all_but_id(Event)}", **event._asdict())
            return taken

    def _begin(self, call_id: str, uniqueid: str, mode: str, state: str, queue: str, number: str,
               arrived: float | None = None, priority: int = 0) -> Call:
        if not 0 < len(call_id) <= call_states.MAX_ID:
            raise ValueError(f"the call id {call_id[:40]!r}... has {len(call_id)} characters; "
                             f"Movidesk takes 1 to {call_states.MAX_ID}")
        arrived = self._store.clock() if arrived is None else arrived
        self._store.execute("INSERT INTO calls (call_id, uniqueid, mode, state, queue, number, arrived, priority, rank)"
                            " VALUES (:call_id, :uniqueid, :mode, :state, :queue, :number, :arrived, :priority, :rank)",
                            call_id=call_id, uniqueid=uniqueid, mode=mode, state=state, queue=queue, number=number,
                            arrived=arrived, priority=priority, rank=waiting_line.rank(self._store.steady(), priority))
        call = self.get(call_id)
        if state in call_states.ENDED:
            self._store.execute("UPDATE calls SET ended = arrived WHERE id = :call", call=call.id)
        if mode == call_states.CONTROL and state == call_states.RECEIVED and queue:  # without a queue it could not be registered
            self.add_event(call, call_states.RECEIVED, arrived)
        return call

    # -- what happens to a call -------------------------------------------------------------------------------------

    def record(self, call_id: str, kind: str, extension: str = "", link: str = "", queue: str = "", number: str = "",
               uniqueid: str = "", arrived: float | None = None, at: float | None = None,
               held: bool = False) -> Recorded:
        """Record one event of a call, if it fits the call's life; on return it is on disk. at: when it was, if not now.

        An event of this kind and this time is not recorded twice: what comes from the emergency file may come again.

        held: an ending that Movidesk is told only when the call's channel hangs up (hang_up) and the message is complete;
        at the latest when HOLD is over, should nobody come back for it.

        A call that the journal does not know (it was lost, or the PBX's own dialplan comes without `received`) is
        begun in the state the event needs: the PBX is the only witness, and what it saw must be told.
        """
        with self._store.transaction():
            call = self.find(call_id)
            if call is None:
                call = self._begin(call_id, uniqueid or call_id, call_states.mode_of(kind), call_states.state_before(kind), queue,
                                   number, arrived)
            if call.mode == call_states.WATCH and kind == call_states.CANCELED:
                kind = call_states.START_CANCELED
            if at is not None and self._has_event(call, kind, at):
                return Recorded(call, None, "it is recorded")
            state = call_states.move(call.mode, call.state, kind)
            if state is None:
                return Recorded(call, None, f"{kind} does not follow {call.state}")
            if state in call_states.ENDED and call.state not in call_states.ENDED:
                self._end(call, kind, link, at)
                if held:
                    self._hold_last(HELD)
            elif kind == call_states.LINK:
                self.add_event(call, kind, self._now(at), link=link)
            else:
                self._record_agent(call, kind, state, extension or call.extension, link, at)
            return Recorded(self.find(call_id), kind, "")

    def _record_agent(self, call: Call, kind: str, state: str, extension: str, link: str, at: float | None) -> None:
        """An agent has the call, or is called."""
        if state == call_states.TRANSFERRED:
            if call.mode == call_states.CONTROL and call.queue and extension:
                self._agents.add_member(call.queue, extension)  # also one who picked up a call that was offered to another
            self._agents.took_a_call(extension)
            if at is None and call.mode == call_states.CONTROL:
                self._waits.answered(call)
            self._store.observe(CALL_ANSWERED, call.mode, call.queue, max(0.0, self._now(at) - call.arrived))
        if kind != call_states.TRANSFERRED or not self.told_transferred(call, extension):
            self.add_event(call, kind, self._now(at), extension, link)
        self._store.execute("UPDATE calls SET state = :state, extension = :extension, picked_up = :at, rings_since = 0,"
                            " rang = (rings_since > 0) * (:now - rings_since) WHERE id = :call",
                            state=state, extension=extension, at=self._now(at), now=self._store.steady(), call=call.id)

    def hang_up(self, call_id: str, link: str = "", at: float | None = None, converts: str = "", left: str = "",
                channel: str = "") -> Recorded:
        """End the call as its state says (call_states.ending_at_hangup), or let go the ending that was held for its message.

        channel: the channel that has gone, if the call ends only where it is still on that one (see `move`).

        left: where the caller goes who did not hang up (`control-78`, `watch-78`, `moved`): a call that no agent had is lost
        then, not canceled, and one that comes back to its own queue goes on.
        converts: the name of the link's file where that is to be converted first (Outbox.conversions). The end of a talk is
        told at once then, and the link after it by an event of its own; the end with a message, for which no agent
        waits, waits.
        """
        with self._store.transaction():
            call = self.find(call_id)
            if call is None:
                return Recorded(None, None, f"no call {call_id}")
            if channel not in ("", call.channel or call.uniqueid):
                return Recorded(call, None, "it goes on on another channel")
            if left == f"{call.mode}-{call.queue}" and call.state not in (call_states.TRANSFERRED, *call_states.ENDED):
                return Recorded(call, None, "it comes back to its queue")
            kind = call_states.ending_at_hangup(call.mode, call.state, "0" if left else call.code)
            if kind is None and self._let_go(call, link, converts):
                return Recorded(call, call.state, "")
            if kind is None and call.mode == call_states.MADE and link and not self._told_link(call):
                # The sweep, say, had ended the call before its recording was known.
                self.add_event(call, call_states.LINK, self._now(at), link=link)
                return Recorded(call, call_states.LINK, "")
            if kind is None:
                return Recorded(call, None, f"it has ended: {call.state}")
            self._end(call, kind, "" if converts else link, at)
            if converts and link and kind in (call_states.COMPLETED, call_states.LOST, call_states.FINISHED):
                self.add_event(call, call_states.LINK, self._now(at), link=link)
                self._hold_last(CONVERTS + converts)
            return Recorded(self.find(call_id), kind, "")

    def move(self, call_id: str, channel: str, number: str, leaving: str = "") -> list[Call]:
        """The call continues on another channel, which took the place of its own: an attended transfer. Its id stays.

        number: that channel's caller. It becomes the call's number unless Movidesk may have heard the first one: it takes one
        number only for an id. leaving: the channel that the call leaves, where that is known; a call that is not on it has moved
        on already. Returns the open calls that the channel had before: they are over, and whoever calls this ends them.
        """
        with self._store.transaction():
            call = self.find(call_id)
            if call is None or call.state in call_states.ENDED and not self._is_held(call):
                return []
            if leaving not in ("", call.channel or call.uniqueid):
                return []
            others = [other for other in self._open_on(channel) if other.id != call.id]
            self._move(call, channel, number)
            return others

    def _with_priority(self, call: Call, priority: int) -> Call:
        """The call with this priority; its place changes as if it had had it from the beginning."""
        if priority == call.priority:
            return call
        call = call._replace(priority=priority, rank=waiting_line.rank(call.rank, priority - call.priority))
        self._store.execute("UPDATE calls SET priority = :priority, rank = :rank WHERE id = :call",
                            priority=priority, rank=call.rank, call=call.id)
        return call

    def _move(self, call: Call, channel: str, number: str) -> None:
        self._store.execute("UPDATE calls SET channel = :channel WHERE id = :call", channel=channel, call=call.id)
        self._store.execute("""
            UPDATE calls SET number = :number WHERE id = :call AND NOT EXISTS (
                SELECT 1 FROM events WHERE call = :call AND (attempts > 0 OR status != 'pending' OR note = :asked))""",
                            number=number, call=call.id, asked=ASKED)

    def _leave(self, call: Call) -> None:
        """End an open call that its caller leaves for another one, as a hangup would; it is lost where nobody had answered."""
        kind = call_states.ending_at_hangup(call.mode, call.state, code="0")
        if kind is not None:
            self._end(call, kind)

    def _end(self, call: Call, kind: str, link: str = "", at: float | None = None) -> None:
        at, fate = self._now(at), ""
        if call.mode == call_states.CONTROL and kind in (call_states.CANCELED, call_states.LOST) and self.told_transferred(call):
            # With report_transfer = ring Movidesk shows the call as transferred: only `completed` may follow that
            # ("canceledCall ... antes del método asterisk_transferedCall").
            kind, fate = call_states.COMPLETED, kind
        if kind != call_states.FINISHED:
            freed = call.extension if kind in (call_states.COMPLETED, call_states.CANCELED, call_states.LOST) else ""
            self.add_event(call, kind, at, freed, link if kind in (call_states.COMPLETED, call_states.LOST) else "")
        elif link:  # all that Movidesk is told of a made call
            self.add_event(call, call_states.LINK, at, link=link)
        self._store.execute("UPDATE calls SET state = :state, ended = :at, fate = :fate WHERE id = :call",
                            state=kind, at=at, fate=fate, call=call.id)
        ending = fate or kind
        began = call.picked_up if ending == call_states.COMPLETED else call.arrived
        seconds = None if began is None else max(0.0, at - began)
        if ending == call_states.LOST and call.code in call_states.OUT_OF_HOURS_CODES:
            ending = CLOSED
        self._store.observe(CALL_ENDED, f"{call.mode} {ending}", call.queue, seconds)

    def _let_go(self, call: Call, link: str, converts: str = "") -> bool:
        """Let the ending go that was held for the caller's message; False where none is."""
        waits = bool(converts and link)
        return self._store.execute(
            "UPDATE events SET due = :due, note = :note, link = :link WHERE call = :call AND note = :held AND status = 'pending'",
            due=self._store.steady() + HOLD if waits else 0, note=CONVERTS + converts if waits else "", link=link, call=call.id,
            held=HELD).rowcount == 1

    # -- events, within a transaction -------------------------------------------------------------------------------

    def add_event(self, call: Call, kind: str, at: float, extension: str = "", link: str = "") -> None:
        """Add an event to the call, whatever its state."""
        self._store.execute("INSERT INTO events (call, kind, at, extension, link) VALUES (:call, :kind, :at, :extension, :link)",
                            call=call.id, kind=kind, at=at, extension=extension, link=link)
        # An earlier event that fails is tried again now, because this one waits for it. What is due within a lease may be
        # under way.
        now = self._store.steady()
        self._store.execute("UPDATE events INDEXED BY events_call SET due = :now WHERE call = :call AND status = 'pending'"
                            " AND due > :lease_end AND id IN (SELECT event FROM trials)",
                            now=now, call=call.id, lease_end=now + LEASE)

    def told_transferred(self, call: Call, extension: str = "") -> bool:
        """Whether a `transferred` (the last one to this extension, if given) is on its way to Movidesk already."""
        told = self._store.value("SELECT extension FROM events WHERE call = :call AND kind = 'transferred'"
                                 " ORDER BY id DESC LIMIT 1", call=call.id)
        return told is not None and extension in ("", told)

    def _hold_last(self, note: str) -> None:
        """Let the event that was just added wait for HOLD at most; its note says what for."""
        self._store.execute("UPDATE events SET due = :until, note = :note WHERE id = last_insert_rowid()",
                            until=self._store.steady() + HOLD, note=note)

    def _now(self, at: float | None) -> float:
        return self._store.clock() if at is None else at

    def _open_on(self, channel: str) -> list[Call]:
        """The open calls that are on the channel with this unique id."""
        return self._store.rows(Call, f"SELECT {CALL} FROM calls INDEXED BY calls_open WHERE ended IS NULL"
                                      " AND CASE channel WHEN '' THEN uniqueid ELSE channel END = :channel ORDER BY id",
                                channel=channel)

    def _is_held(self, call: Call) -> bool:
        return bool(self._store.value("SELECT count(*) FROM events WHERE call = :call AND note = :held AND status = 'pending'",
                                      call=call.id, held=HELD))

    def _has_event(self, call: Call, kind: str, at: float) -> bool:
        return bool(self._store.value("SELECT count(*) FROM events WHERE call = :call AND kind = :kind AND at = :at",
                                      call=call.id, kind=kind, at=at))

    def _told_link(self, call: Call) -> bool:
        return bool(self._store.value("SELECT count(*) FROM events WHERE call = :call AND kind = 'link'", call=call.id))


def _all_but_id(row: type[NamedTuple]) -> str:
    """The columns and values of an INSERT of such a row; its number is given by SQLite."""
    names = row._fields[1:]
    return f"({', '.join(names)}) VALUES ({', '.join(':' + name for name in names)})"

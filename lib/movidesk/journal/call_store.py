"""Calls and their events: what is recorded, and the one ending that each call gets (movidesk.rules.call_states holds the
rules)."""

from __future__ import annotations

from movidesk.journal.moves import Moves
from movidesk.journal.store import (
    CALL,
    CONVERTING,
    CONVERTS,
    DELIVERED,
    EVENT,
    HELD,
    HELD_NOTE,
    HOLD,
    LEASE,
    PENDING,
    WAITS,
    Call,
    Event,
    Job,
    Recorded,
)
from movidesk.rules import call_states, waiting_line


def _columns(row) -> str:
    """What follows the table in an INSERT of such a row: its columns, without its number, and as many placeholders."""
    return f"({', '.join(row._fields[1:])}) VALUES ({', '.join('?' * len(row._fields[1:]))})"


class Book(Moves):
    """What happened, in order."""

    def arrive(self, pbx: str, uniqueid: str, queue: str, number: str, mode: str = call_states.CONTROL,
               arrived: float | None = None, channel: str = "", once: bool = False) -> Call:
        """The open call of this channel in this queue; where there is none, a new one is begun.

        A channel whose call has ended gets the next id (`-2`, `-3`). One that comes to another queue, or back after an
        agent had it, leaves its old call first: that one ends as a hangup would end it, lost where nobody had answered.
        channel: the channel that the call is on, if not the one on which it began (see `move`). once: a call that arrived at this
        very time is the same, also where it has ended: two processes take in one line at once.
        """
        channel = channel or uniqueid
        with self._writing():
            same = self.visit(uniqueid, arrived) if once else None
            if same:
                return same
            visits = self._rows(Call, f"SELECT {CALL} FROM calls WHERE uniqueid = ? ORDER BY id", uniqueid)
            last = visits[-1] if visits else None
            if last and last.state not in call_states.ENDED:
                if last.queue == queue and last.mode == mode and last.state != call_states.TRANSFERRED:
                    if channel == (last.channel or last.uniqueid):
                        return last
                    self._move(last, channel, number)
                    return self.find(last.call_id)
                self._end(last, call_states.ending_at_hangup(last.mode, last.state, code="0"))
            for left in self._open_on(channel):
                self._end(left, call_states.ending_at_hangup(left.mode, left.state, code="0"))
            visit = len(visits) + 1
            while self.find(call_states.call_id(pbx, uniqueid, visit)):  # begun by an event alone, on another channel
                visit += 1
            call = self._begin(call_states.call_id(pbx, uniqueid, visit), uniqueid, mode, call_states.first_state(mode), queue,
                               number, arrived)
            if channel != uniqueid:
                self._db.execute("UPDATE calls SET channel = ? WHERE id = ?", (channel, call.id))
            return self.find(call.call_id)

    def _begin(self, call_id, uniqueid, mode, state, queue, number, arrived=None) -> Call:
        if not 0 < len(call_id) <= call_states.MAX_ID:
            raise ValueError(f"the call id {call_id[:40]!r}... has {len(call_id)} characters; Movidesk takes 1 to "
                             f"{call_states.MAX_ID}")
        arrived = self.clock() if arrived is None else arrived
        self._db.execute("INSERT INTO calls (call_id, uniqueid, mode, state, queue, number, arrived)"
                         " VALUES (?, ?, ?, ?, ?, ?, ?)", (call_id, uniqueid, mode, state, queue, number, arrived))
        call = self.find(call_id)
        if state in call_states.ENDED:
            self._db.execute("UPDATE calls SET ended = arrived WHERE id = ?", (call.id,))
        if mode == call_states.CONTROL and state == call_states.RECEIVED and queue:  # without a queue it could not be registered
            self._add_event(call, call_states.RECEIVED, arrived)
        return call

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
            with self._writing():
                call = self.find(known) or self._begin(known, uniqueid, call_states.CONTROL, state, queue, number, arrived or at)
        elif queue and not known and (call is None or arrived and call.arrived != arrived):
            call = self.arrive(pbx, uniqueid, queue, number, arrived=arrived or at, once=True)
        if call is None:
            return known or call_states.call_id(pbx, uniqueid)
        if answered_by and call.mode == call_states.CONTROL and call.state in call_states.BEFORE_AGENT:
            self.record(call.call_id, call_states.TRANSFERRED, answered_by, at=at)
        return call.call_id

    def dial(self, pbx: str, uniqueid: str, extension: str, number: str) -> Call:
        """Begin a made call: the channel with this unique id will call the agent's extension, then the number."""
        with self._writing():
            call = self._begin(call_states.call_id(pbx, uniqueid), uniqueid, call_states.MADE, call_states.DIALLED, "", number)
            self._db.execute("UPDATE calls SET extension = ? WHERE id = ?", (extension, call.id))
            return self.find(call.call_id)

    def dialled_in_vain(self, call_id: str, why: str) -> None:
        """End a made call that did not reach its agent; `why` stands in the call's code."""
        with self._writing():
            self._db.execute("UPDATE calls SET state = ?, code = ?, ended = ? WHERE call_id = ? AND state = ?",
                             (call_states.FINISHED, why, self.clock(), call_id, call_states.DIALLED))

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
        with self._writing():
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
            else:
                extension = call.extension if kind == call_states.LINK else extension or call.extension
                if state == call_states.TRANSFERRED and kind != call_states.LINK:
                    if call.mode == call_states.CONTROL and call.queue and extension:
                        self._named(call.queue, extension)  # also one who picked up a call that was offered to another
                    self._took_a_call(extension)
                if kind != call_states.TRANSFERRED or not self._told_transferred(call, extension):
                    self._add_event(call, kind, self.clock() if at is None else at,
                                    extension if kind != call_states.LINK else "", link)
                self._db.execute("UPDATE calls SET state = ?, extension = ? WHERE id = ?",
                                 (state, extension, call.id))
            return Recorded(self.find(call_id), kind, "")

    def hang_up(self, call_id: str, link: str = "", at: float | None = None, converts: str = "", left: str = "",
                channel: str = "") -> Recorded:
        """End the call as its state says (calls.ending_at_hangup), or let go the ending that was held for its message.

        channel: the channel that has gone, if the call ends only where it is still on that one (see `move`).

        left: where the caller goes who did not hang up (`control-78`, `watch-78`, `moved`): a call that no agent had is lost
        then, not canceled, and one that comes back to its own queue goes on.
        converts: the name of the link's file where that is to be converted first (`converting`). The end of a talk is
        told at once then, and the link after it by an event of its own; the end with a message, for which no agent
        waits, waits.
        """
        with self._writing():
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
                self._add_event(call, call_states.LINK, self.clock() if at is None else at, link=link)
                return Recorded(call, call_states.LINK, "")
            if kind is None:
                return Recorded(call, None, f"it has ended: {call.state}")
            self._end(call, kind, "" if converts else link, at)
            if converts and link and kind in (call_states.COMPLETED, call_states.LOST, call_states.FINISHED):
                self._add_event(call, call_states.LINK, self.clock() if at is None else at, link=link)
                self._hold_last(CONVERTS + converts)
            return Recorded(self.find(call_id), kind, "")

    def _let_go(self, call: Call, link: str, converts: str = "") -> bool:
        due, note = (self.steady() + HOLD, CONVERTS + converts) if converts and link else (0, "")
        return self._db.execute("UPDATE events SET due = ?, note = ?, link = ? WHERE call = ? AND note = ?"
                                " AND status = 'pending'", (due, note, link, call.id, HELD)).rowcount == 1

    def converting(self) -> list[tuple[Job, str]]:
        """The events that wait for the conversion of a file, with its name, but those whose file somebody converts now."""
        now = self.steady()
        return [(job, job.event.note[len(CONVERTS if job.event.note.startswith(CONVERTS) else CONVERTING):])
                for job in self._jobs("held", "AND " + HELD_NOTE, PENDING)
                if job.event.note.startswith(CONVERTS) or job.event.note.startswith(CONVERTING) and job.event.due <= now]

    def convert(self, job: Job, name: str, seconds: float) -> Job | None:
        """Claim such an event for so many seconds, in which its file may be converted and it is not delivered; None if it was
        delivered, or another process converts the file."""
        with self._writing():
            claimed = job._replace(event=job.event._replace(due=self.steady() + seconds, note=CONVERTING + name))
            return claimed if self._swap(job, claimed) else None

    def converted(self, job: Job, link: str) -> bool:
        """Deliver such an event now, with this link; job: what `convert` returned. False where its old link may be out."""
        with self._writing():
            return self._swap(job, job._replace(event=job.event._replace(due=0, note="", link=link)))

    def _swap(self, job: Job, wanted: Job) -> bool:
        """Change a waiting event, where it still is as it was read."""
        event = wanted.event
        return self._db.execute("UPDATE events SET due = ?, note = ?, link = ? WHERE id = ? AND status = 'pending'"
                                " AND due = ? AND note = ?", (event.due, event.note, event.link, event.id,
                                                              job.event.due, job.event.note)).rowcount == 1

    def _end(self, call: Call, kind: str, link: str = "", at: float | None = None) -> None:
        now = self.clock() if at is None else at
        if call.mode == call_states.CONTROL and kind in (call_states.CANCELED, call_states.LOST) and self._told_transferred(call):
            # With report_transfer = ring Movidesk shows the call as transferred: only `completed` may follow that
            # ("canceledCall ... antes del método asterisk_transferedCall").
            kind = call_states.COMPLETED
        if kind != call_states.FINISHED:
            freed = call.extension if kind in (call_states.COMPLETED, call_states.CANCELED, call_states.LOST) else ""
            self._add_event(call, kind, now, freed, link if kind in (call_states.COMPLETED, call_states.LOST) else "")
        elif link:  # all that Movidesk is told of a made call
            self._add_event(call, call_states.LINK, now, link=link)
        self._db.execute("UPDATE calls SET state = ?, ended = ? WHERE id = ?", (kind, now, call.id))

    def _add_event(self, call: Call, kind: str, at: float, extension: str = "", link: str = "") -> None:
        self._db.execute("INSERT INTO events (call, kind, at, extension, link) VALUES (?, ?, ?, ?, ?)",
                         (call.id, kind, at, extension, link))
        # An earlier event that fails is tried again now, because this one waits for it. What is due within a lease may be
        # under way.
        now = self.steady()
        self._db.execute("UPDATE events INDEXED BY events_call SET due = ? WHERE call = ? AND status = 'pending'"
                         " AND due > ? AND id IN (SELECT event FROM trials)", (now, call.id, now + LEASE))

    def _hold_last(self, note: str) -> None:
        """Let the event that was just added wait for HOLD at most; its note says what for."""
        self._db.execute("UPDATE events SET due = ?, note = ? WHERE id = last_insert_rowid()", (self.steady() + HOLD, note))

    def _has_event(self, call: Call, kind: str, at: float) -> bool:
        found = self._db.execute("SELECT 1 FROM events WHERE call = ? AND kind = ? AND at = ?", (call.id, kind, at))
        return found.fetchone() is not None

    def _told_link(self, call: Call) -> bool:
        return self._db.execute("SELECT 1 FROM events WHERE call = ? AND kind = 'link'", (call.id,)).fetchone() is not None

    def _told_transferred(self, call: Call, extension: str = "") -> bool:
        """Whether a `transferred` (the last one to this extension, if given) is on its way to Movidesk already."""
        row = self._db.execute("SELECT extension FROM events WHERE call = ? AND kind = 'transferred'"
                               " ORDER BY id DESC LIMIT 1", (call.id,)).fetchone()
        return row is not None and extension in ("", row[0])

    def answered(self, call: Call, extension: str, code: str, note: str, report: bool = False,
                 pace: tuple[float, float] = waiting_line.PACE) -> tuple[str, str]:
        """Movidesk answered receivedCall for this call: it is registered there, and offered to `extension` or waiting.

        Returns the extension and the code that its caller is told: a phone that has just refused is code 4 (line.is_too_soon).

        extension and code are both empty where the answer made no sense: the call is registered, and waits.
        report: tell Movidesk of the transfer now, while the phone rings (report_transfer = ring). An answer that comes
        when the call has gone on only settles its arrival. pace: see line.after_answer.
        """
        with self._writing():
            self._answered()
            self._db.execute("UPDATE events SET status = ?, note = ?, attempts = attempts + 1, settled = ?"
                             " WHERE call = ? AND kind = 'received' AND status != 'delivered'",
                             (DELIVERED, note, self.clock(), call.id))
            self._db.execute("DELETE FROM trials WHERE event IN (SELECT id FROM events WHERE call = ? AND kind = 'received')",
                             (call.id,))
            self._db.execute("UPDATE calls SET aside_until = 0 WHERE id = ? AND aside_until > 0", (call.id,))
            # The number that Movidesk was told stays, also where the call moved to another caller meanwhile.
            self._db.execute("UPDATE calls SET number = ? WHERE id = ? AND number != ?", (call.number, call.id, call.number))
            now, refusal, named = self.steady(), None, extension
            if named:
                self._named(call.queue, named)
                refusal = self._refusal(named)
            if waiting_line.is_too_soon(refusal, call.id, now, pace):
                extension, code = "", waiting_line.BUSY
            state = call_states.OFFERED if extension else call_states.WAITING
            if self.find(call.call_id).state in call_states.BEFORE_AGENT:
                if extension and report and not self._told_transferred(call, extension):
                    self._add_event(call, call_states.TRANSFERRED, self.clock(), extension)
                self._db.execute("UPDATE calls SET state = ?, extension = ?, code = ? WHERE id = ?",
                                 (state, named, code, call.id))  # Movidesk keeps the agent whom it named for this call
            self._set_queue(waiting_line.after_answer(self._queue(call.queue), extension, code, self._taken(call.queue), now,
                                                      pace,
                                                      doubtful=waiting_line.holds(refusal, now)))
            return extension, code

    def visit(self, uniqueid: str, arrived: float | None) -> Call | None:
        """The call of this channel that arrived at exactly this time, or None."""
        return self._row(Call, f"SELECT {CALL} FROM calls WHERE uniqueid = ? AND arrived = ?", uniqueid, arrived)

    def latest(self, uniqueid: str, at: float | None = None) -> Call | None:
        """The last call of the channel with this unique id, or the last that it had at this time; None where there is none."""
        return self._row(Call, f"SELECT {CALL} FROM calls WHERE uniqueid = ? AND arrived <= coalesce(?, arrived)"
                               " ORDER BY id DESC LIMIT 1", uniqueid, at)

    def began_late(self, uniqueid: str) -> bool:
        """Whether the channel's first call began with another event than its arrival: nobody knew then when its caller came."""
        return bool(self._row(int, "SELECT EXISTS (SELECT 1 FROM events WHERE call = calls.id AND kind != 'received' AND at = "
                                   "arrived) FROM calls WHERE uniqueid = ? ORDER BY id LIMIT 1", uniqueid))

    def take_over(self, unfinished: list[tuple[Call, list[Event]]]) -> int:
        """Add the calls of a damaged journal, with their events; those that are here already stay. Returns how many."""
        with self._writing():
            taken, latest = 0, self.steady() + HOLD  # due times may be those of another boot
            for call, events in unfinished:
                row = self._db.execute(f"INSERT OR IGNORE INTO calls {_columns(Call)}", call[1:])
                taken += row.rowcount
                for event in events if row.rowcount else ():
                    self._db.execute(f"INSERT INTO events {_columns(Event)}",
                                     event._replace(call=row.lastrowid, due=min(event.due, latest))[1:])
            return taken

    # -- what people look at ----------------------------------------------------------------------------------------

    def open_calls(self) -> list[Call]:
        return self._rows(Call, f"SELECT {CALL} FROM calls INDEXED BY calls_open WHERE ended IS NULL ORDER BY id")

    def unended(self) -> list[Call]:
        """The calls that a hangup would still move: those without an ending, and those whose ending waits for a message."""
        return self._rows(Call, f"SELECT {CALL} FROM calls INDEXED BY calls_open WHERE ended IS NULL UNION"
                                f" SELECT {CALL} FROM events INDEXED BY events_held JOIN calls ON calls.id = events.call"
                                f" WHERE status = 'pending' AND {HELD_NOTE} AND note = ?", HELD)

    def last_calls(self, count: int) -> list[Call]:
        return self._rows(Call, f"SELECT {CALL} FROM calls ORDER BY id DESC LIMIT ?", count)

    def events(self, call: Call) -> list[Event]:
        return self._rows(Event, f"SELECT {EVENT} FROM events WHERE call = ? ORDER BY id", call.id)

    def outbox(self, status: str, count: int = 1000) -> list[Job]:
        """The events that are pending or refused, oldest first."""
        return self._jobs(status, f"ORDER BY events.id LIMIT {count}", status)

    def _jobs(self, index: str, more: str, status: str) -> list[Job]:
        split = len(Event._fields)
        return self._rows(lambda *row: Job(Event(*row[:split]), Call(*row[split:])),
                          f"SELECT {EVENT}, {CALL} FROM events INDEXED BY events_{index} JOIN calls ON calls.id = events.call "
                          f"WHERE status = '{status}' {more}")

    def waiting(self) -> list[Call]:
        """Who stands in line now, of all queues, in order of arrival."""
        return self._rows(Call, f"SELECT {CALL} FROM calls INDEXED BY calls_open WHERE {WAITS} ORDER BY id", self.steady())

    def totals(self) -> dict[str, int]:
        """How many calls are open, and how many events are pending and refused."""
        one = lambda sql: self._row(int, sql)  # noqa: E731
        return {
            "open": one("SELECT count(*) FROM calls WHERE ended IS NULL"),
            "pending": one("SELECT count(*) FROM events WHERE status = 'pending'"),
            "refused": one("SELECT count(*) FROM events WHERE status = 'refused'"),
        }

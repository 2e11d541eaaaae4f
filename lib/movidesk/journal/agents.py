"""What is known of agents (movidesk.rules.waiting_line holds the rules): which extensions a queue has, who has a caller, whose
phone refuses."""

from __future__ import annotations

from movidesk.journal.records import Call
from movidesk.journal.store import Store
from movidesk.rules import call_states, waiting_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Condition: an agent (members.extension) has a caller, in any queue, as Movidesk sees it; so also while Movidesk has not yet
#: been told that the call is over.
_HAS_CALLER = """
    (EXISTS (SELECT 1 FROM calls INDEXED BY calls_agents WHERE calls.extension = members.extension
             AND ended IS NULL AND state IN ('offered', 'transferred') AND extension != '')
     OR EXISTS (SELECT 1 FROM events INDEXED BY events_freeing WHERE events.extension = members.extension
                AND status = 'pending' AND kind IN ('completed', 'canceled', 'lost') AND extension != '')
     OR EXISTS (SELECT 1 FROM elsewhere WHERE kind = 'agent' AND name = members.extension))"""


class Agents:
    """The extensions that Movidesk has named, and what became of it."""

    def __init__(self, store: Store):
        self._store = store

    def refusals(self) -> list[waiting_line.Refusal]:
        """The phones that did not take the last call that they were offered, in order."""
        return self._store.rows(waiting_line.Refusal,
                                "SELECT extension, reason, since, at, times, call FROM refusals ORDER BY extension")

    def refusal(self, extension: str) -> waiting_line.Refusal | None:
        """Why and when this extension's phone last did not take a call; None where it took it."""
        return self._store.row(waiting_line.Refusal, "SELECT extension, reason, since, at, times, call FROM refusals"
                                                     " WHERE extension = :extension", extension=extension)

    def known(self) -> dict[str, float]:
        """The extensions that Movidesk has named since the machine started, and how many seconds ago it last did."""
        now = self._store.steady()
        return {extension: now - named for extension, named in self._store.rows(
            lambda *row: row, "SELECT extension, max(named) FROM members GROUP BY extension ORDER BY extension")}

    def has_newly_refused(self, call: Call, since: float) -> bool:
        """Whether a phone has refused this call since then (steady time), which had not refused before."""
        return bool(self._store.value("SELECT EXISTS (SELECT 1 FROM refusals WHERE call = :call AND at >= :since AND times = 1)",
                                      call=call.id, since=since))

    def with_callers(self, queue: str) -> int:
        """How many agents of this queue have a caller."""
        return self._store.count("SELECT count(*) FROM members WHERE queue = :queue AND " + _HAS_CALLER, queue=queue)

    def available(self, queue: str, now: float, since: float = 0.0) -> int:
        """How many agents of this queue, whom Movidesk has named since then (steady time), have neither a caller nor a refusal
        that holds."""
        free = self._store.rows(str, "SELECT extension FROM members WHERE queue = :queue AND named >= :since AND NOT "
                                + _HAS_CALLER, queue=queue, since=since)
        refusing = {refusal.extension for refusal in self.refusals() if waiting_line.is_expected_to_refuse(refusal, now)}
        return len(set(free) - refusing)

    def own_callers(self) -> list[str]:
        """The extensions that have a caller of this PBX, in order (see `with_callers`)."""
        return self._store.rows(str, """
            SELECT extension FROM calls INDEXED BY calls_agents
                WHERE ended IS NULL AND state IN ('offered', 'transferred') AND extension != ''
            UNION SELECT extension FROM events INDEXED BY events_freeing
                WHERE status = 'pending' AND kind IN ('completed', 'canceled', 'lost') AND extension != ''""")

    def members(self) -> list[tuple[str, str, float]]:
        """Queue, extension and the steady time at which Movidesk last named it, in order."""
        return self._store.rows(lambda *row: row, "SELECT queue, extension, named FROM members ORDER BY queue, extension")

    def extensions(self, queue: str) -> list[str]:
        """The extensions that Movidesk has named for this queue, in order."""
        return self._store.rows(str, "SELECT extension FROM members WHERE queue = :queue ORDER BY extension", queue=queue)

    # -- within a transaction ---------------------------------------------------------------------------------------

    def add_member(self, queue: str, extension: str) -> None:
        """Movidesk has named this extension for this queue; those that it has long not named are forgotten."""
        now = self._store.steady()
        self._store.execute("REPLACE INTO members (queue, extension, named) VALUES (:queue, :extension, :now)",
                            queue=queue, extension=extension, now=now)
        self._store.execute("DELETE FROM members WHERE queue = :queue AND named < :long_ago AND NOT " + _HAS_CALLER,
                            queue=queue, long_ago=now - waiting_line.MEMBER_LASTS)

    def heard_of_members(self, heard: Iterable[tuple[str, str, float]], same: float) -> None:
        """Other PBXs say that Movidesk named an extension for a queue at a steady time: (queue, extension, time). An answer of
        Redis has hundreds of them. Two times that differ by less than `same` seconds are one."""
        known = {(queue, extension): named for queue, extension, named in self.members()}
        for queue, extension, named in heard:
            before = known.get((queue, extension))
            if before is None or before < named - same:
                known[queue, extension] = named
                self._store.execute("INSERT INTO members (queue, extension, named) VALUES (:queue, :extension, :named)"
                                    if before is None else
                                    "UPDATE members SET named = :named WHERE queue = :queue AND extension = :extension",
                                    queue=queue, extension=extension, named=named)

    def take_refusals(self, heard: list[waiting_line.Refusal], same: float) -> None:
        """Keep the refusals that other PBXs report (their `call` is 0), beside those that were seen here; same: see
        `heard_of_members`."""
        for refusal in heard:
            known = self.refusal(refusal.extension)
            if known is None or known.at < refusal.at - same:
                self._store.execute("REPLACE INTO refusals (extension, reason, since, at, times, call)"
                                    " VALUES (:extension, :reason, :since, :at, :times, :call)", **refusal._asdict())
        there = {refusal.extension for refusal in heard}
        for known in self.refusals():
            if not known.call and known.extension not in there:
                self._forget_refusal(known.extension)

    def see_phones(self, queue: str, states: Mapping[str, str]) -> tuple[waiting_line.Phones, bool]:
        """Keep the states of a queue's phones (of DEVICE_STATE(), '' if unknown), by extension.

        Returns what they mean for the queue, and whether a phone of an agent whom Movidesk may name has become free since they
        were kept last. Its refusal is forgotten then: it was in a call, or off.
        """
        number = idle = 0
        is_freed = False
        for extension, before, has_caller in self._store.rows(
                lambda *row: row, f"SELECT extension, phone, {_HAS_CALLER} FROM members WHERE queue = :queue", queue=queue):
            # It may ring for a caller of ours, and is free afterwards: nothing is known of its own calls then.
            state = "" if has_caller else states.get(extension, "")
            if state != before:
                self._store.execute("UPDATE members SET phone = :state WHERE queue = :queue AND extension = :extension",
                                    state=state, queue=queue, extension=extension)
            if has_caller:
                continue
            if waiting_line.becomes_free(before, state):
                is_freed = True
                refusal = self.refusal(extension)
                if refusal is not None and refusal.reason in waiting_line.ELSEWHERE:
                    self._forget_refusal(extension)
            number, idle = number + 1, idle + waiting_line.is_phone_free(state)
        return waiting_line.Phones(number, idle), is_freed

    def add_refusal(self, call: Call, reason: str, now: float) -> bool:
        """Note that the phone which was offered this call did not take it; True where it was known to refuse."""
        last = self.refusal(call.extension)
        since, times = self._store.clock(), 1
        if last is not None and (last.reason in waiting_line.ENGAGED) == (reason in waiting_line.ENGAGED):
            since, times = last.since, last.times + 1
        self._store.execute("REPLACE INTO refusals (extension, reason, since, at, times, call)"
                            " VALUES (:extension, :reason, :since, :now, :times, :call)",
                            extension=call.extension, reason=reason, since=since, now=now, times=times, call=call.id)
        return waiting_line.is_expected_to_refuse(last, now)

    def took_a_call(self, extension: str) -> None:
        """The phone works: its refusals are forgotten, and its queues' heads may ask."""
        if self._forget_refusal(extension):
            self._queues_changed(extension)

    def freed(self, call: Call, kind: str) -> None:
        """Movidesk has heard that a call which had an agent is over: the heads of all queues that have this agent may ask, unless
        its phone would only refuse again."""
        if kind == call_states.COMPLETED:
            self._forget_refusal(call.extension)
        if not waiting_line.is_expected_to_refuse(self.refusal(call.extension), self._store.steady()):
            self._queues_changed(call.extension, call.queue)

    def _forget_refusal(self, extension: str) -> bool:
        return self._store.execute("DELETE FROM refusals WHERE extension = :extension", extension=extension).rowcount > 0

    def _queues_changed(self, extension: str, queue: str = "") -> None:
        self._store.execute("UPDATE queues SET news = 1 WHERE name = :queue"
                            " OR name IN (SELECT queue FROM members WHERE extension = :extension)",
                            queue=queue, extension=extension)

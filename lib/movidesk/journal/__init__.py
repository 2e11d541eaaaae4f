"""The journal: every call, its events in order, and the window of requests. The only package with SQL.

Invariants, and what keeps them:
  an event is on disk before its verb says ok     synchronous=FULL, one transaction per event
  one ending per call id                          the state is read and moved inside that transaction (call_states.move)
  events of a call are delivered in order         only a call's oldest unsettled event is ever handed out (`outbox.take`)
  no more than the limit in any 60 s              the claim is a row of `requests`, written before the request leaves
  one head in each line, nobody overtaken         place, reason and claim are decided in one transaction (`scheduler.turn`);
  (but by a priority)                             `calls.asks_until` shows whose request is under way
  a crash between sending and noting              the event's lease runs out and it is sent again: at least once
"""

from __future__ import annotations

import time
from functools import cached_property

from movidesk.journal.agents import Agents
from movidesk.journal.call_store import CallStore
from movidesk.journal.notes import Notes
from movidesk.journal.records import (
    CONVERTS,
    DELIVERED,
    DISMISSED,
    HELD,
    HOLD,
    LEASE,
    PENDING,
    REFUSED,
    Call,
    Claim,
    Event,
    Job,
    Recorded,
    Rejection,
)
from movidesk.journal.store import BUSY_TIMEOUT, JournalError, Store
from movidesk.journal.waits import Waits
from movidesk.rules.rate_limit import WINDOW

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from movidesk.fleet.membership import Membership
    from movidesk.journal.call_search import CallSearch
    from movidesk.journal.counters import Counters
    from movidesk.journal.demands import Demands
    from movidesk.journal.history import History
    from movidesk.journal.limits import Limits
    from movidesk.journal.next_events import NextEvents
    from movidesk.journal.outbox import Outbox
    from movidesk.journal.overview import Overview
    from movidesk.journal.pool import Pool
    from movidesk.journal.scheduling import Scheduler
    from movidesk.journal.trials import Trials

__all__ = ["BUSY_TIMEOUT", "CONVERTS", "DELIVERED", "DISMISSED", "HELD", "HOLD", "LEASE", "PENDING", "REFUSED", "WINDOW",
           "Call", "Claim", "Event", "Job", "Journal", "JournalError", "Recorded", "Rejection"]


class Journal:
    """One journal file, by its parts. clock, steady and what each method raises: see Store.

    member: (steady clock) -> this PBX's place in its fleet, or None if it has none; called when it is first needed.

    Recording an event needs `calls`, `agents` and `notes`; the other parts are loaded when they are first used.
    """

    def __init__(self, path: str, clock: Callable[[], float] = time.time, steady: Callable[[], float] | None = None,
                 member: Callable[[Callable[[], float]], Membership | None] | None = None):
        self.store = Store(path, clock, steady)
        self._member = member
        self.path, self.clock, self.steady = path, clock, self.store.steady
        self.notes = Notes(self.store)
        self.agents = Agents(self.store)
        self.waits = Waits(self.store)
        self.calls = CallStore(self.store, self.agents, self.waits)

    def close(self) -> None:
        """Close the file, and the connections to Redis."""
        pool: Pool | None = self.__dict__.get("pool")  # if it was used
        if pool is not None:
            pool.member.close()
        self.store.close()

    def leave_fleet(self) -> None:
        """Forget the callers and agents of other PBXs: for one that is in no fleet. Raises JournalError."""
        if self.store.value("SELECT EXISTS (SELECT 1 FROM elsewhere)"):
            with self.store.transaction():
                self.store.execute("DELETE FROM elsewhere")

    @cached_property
    def limits(self) -> Limits:
        """The window of requests, and pauses (Limits)."""
        from movidesk.journal.limits import Limits

        return Limits(self.store)

    @cached_property
    def next_events(self) -> NextEvents:
        """Which event goes next (NextEvents)."""
        from movidesk.journal.next_events import NextEvents

        return NextEvents(self.store)

    @cached_property
    def demands(self) -> Demands:
        """What wants a request (Demands)."""
        from movidesk.journal.demands import Demands

        return Demands(self.store, self.next_events)

    @cached_property
    def pool(self) -> Pool | None:
        """This PBX's part in its fleet (Pool); None if it has none."""
        member = self._member(self.steady) if self._member else None
        if member is None:
            return None
        from movidesk.journal.pool import Pool

        return Pool(self.store, member, self.limits, self.demands, self.next_events, self.agents)

    @cached_property
    def scheduler(self) -> Scheduler:
        """Who asks, and what the answer means (Scheduler)."""
        from movidesk.journal.scheduling import Scheduler

        return Scheduler(self.store, self.limits, self.agents, self.calls, self.demands, self.waits, self.pool)

    @cached_property
    def trials(self) -> Trials:
        """Events that Movidesk does not take (Trials)."""
        from movidesk.journal.trials import Trials

        return Trials(self.store, self.limits, self.calls, self.demands, self.pool)

    @cached_property
    def outbox(self) -> Outbox:
        """The events that Movidesk is to be told (Outbox)."""
        from movidesk.journal.outbox import Outbox

        return Outbox(self.store, self.limits, self.agents, self.demands, self.next_events, self.trials, self.pool)

    @cached_property
    def search(self) -> CallSearch:
        """Finds calls for people (CallSearch)."""
        from movidesk.journal.call_search import CallSearch

        return CallSearch(self.store)

    @cached_property
    def counters(self) -> Counters:
        """How often things happened (Counters)."""
        from movidesk.journal.counters import Counters

        return Counters(self.store)

    @cached_property
    def overview(self) -> Overview:
        """What people look at (Overview)."""
        from movidesk.journal.overview import Overview

        return Overview(self.store)

    @cached_property
    def history(self) -> History:
        """Calls since a moment, for reports (History)."""
        from movidesk.journal.history import History

        return History(self.store)

"""What the journal keeps about the events that wait, read from the events themselves: slowly, and in other words."""
from __future__ import annotations

from movidesk.journal import PENDING, Journal
from movidesk.rules import call_states

SCREENS = ("transferred", "start_transferred")


def frees(event) -> bool:
    """Whether the event ends a call that had an agent, as Movidesk knows."""
    return event.kind == "completed" or event.kind in ("canceled", "lost") and event.extension != ""


def firsts(journal: Journal) -> list[tuple]:
    """(event, call) for each call: the one that goes next, due or not; an arrival only of a call that has ended."""
    found = []
    for call in journal.overview.last_calls(100_000):
        pending = [event for event in journal.calls.events(call) if event.status == PENDING]
        if pending and not (pending[0].kind == "received" and call.ended is None):
            found.append((pending[0], call))
    return found


def expected(journal: Journal) -> list[int]:
    """The numbers of the events that `take` may give: the first that somebody waits for, then the first of the others.
    Checks that the journal finds the same."""
    now = journal.steady()
    due = [(event, call) for event, call in firsts(journal) if event.due <= now]
    urgent = sorted((event.kind not in SCREENS, event.id) for event, _ in due if event.kind in SCREENS or frees(event))
    news = {call.queue for call in journal.overview.open_calls()
            if call.state in ("received", "waiting")
            and journal.store.value("SELECT seen_until > :now FROM calls WHERE id = :call", now=now, call=call.id)
            and journal.scheduler.queue(call.queue).changed}
    others = sorted((call.id, event.id) for event, call in due if event.kind not in SCREENS and not frees(event)
                    and not (event.kind == "received" and call.queue in news))
    found = [event for _, event in urgent[:1] + others[:1]]
    with journal.store.transaction():
        journal.next_events.wake(now)
        assert [job.event.id for job in journal.next_events.candidates(now)] == found
    return found


def sort(event) -> int:
    return 0 if event.kind in SCREENS else 1 if frees(event) else 3 if event.kind == "received" else 2


def check(journal: Journal) -> None:
    """That the tables which triggers keep are what the events say."""
    now = journal.steady()
    kept = journal.store.rows(lambda *row: row, "SELECT call, event, sort, due FROM next_events ORDER BY call")
    truth = sorted((call.id, event.id, sort(event), event.due) for event, call in firsts(journal))
    assert [row[:3] for row in kept] == [row[:3] for row in truth]
    assert all(due == true or due == 0.0 and true <= now for (*_, due), (*_, true) in zip(kept, truth))
    for queue in {call.queue for call in journal.overview.last_calls(100_000)}:
        assert journal.agents.with_callers(queue) == len(taken(journal, queue))


def taken(journal: Journal, queue: str) -> set[str]:
    """The agents that Movidesk has named for this queue who have a caller, or whose call's end it has not heard."""
    named = set(journal.store.rows(str, "SELECT extension FROM members WHERE queue = :queue", queue=queue))
    return {call.extension for call in journal.overview.last_calls(100_000) if call.extension in named and (
        call.state in ("offered", "transferred")
        or any(event.status == PENDING and frees(event) for event in journal.calls.events(call)))}


def backlog(journal: Journal, count: int, queue: str = "77", prefix: str = "old") -> None:
    """So many pending events of ended calls: ends that free an agent, late arrivals with what follows them, a link."""
    for number in range(0, count, 5):
        talks = [journal.calls.arrive("pbx", f"{prefix}{number}.{which}", queue, "47") for which in (1, 2)]
        journal.scheduler.answered(talks[0], "5252", "", "5252")
        for call in talks:
            journal.calls.record(call.call_id, call_states.TRANSFERRED, extension="5252")
            journal.calls.hang_up(call.call_id)
        journal.calls.record(f"pbx-{prefix}{number}.3", call_states.LINK, link="https://pbx/1.wav")
        with journal.store.transaction() as db:
            db.execute("UPDATE events SET status = 'delivered' WHERE call = :call AND kind = 'transferred'", call=talks[0].id)

"""Counts calls, and the times that they took, by hour, day, queue and agent. docs/reports.md says what each figure is.

Times are counted in tenths of a second: so means, medians and percentiles do not depend on the order of the calls. A report has a
million calls: where there is a step for each, it does as little as possible.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from typing import NamedTuple

from movidesk.journal.history import UNKNOWN
from movidesk.reports.periods import Hour
from movidesk.rules import call_states

TYPE_CHECKING = False
if TYPE_CHECKING:
    from movidesk.journal.history import Answered, Calls, Other

#: What became of a call.
ANSWERED, LOST, ABANDONED, WAITING, MADE = "answered", "lost", "abandoned", "waiting", "made"
#: The same, by its state.
OUTCOMES = {
    call_states.TRANSFERRED: ANSWERED, call_states.COMPLETED: ANSWERED, call_states.LOST: LOST,
    call_states.CANCELED: ABANDONED, call_states.START_CANCELED: ABANDONED,
    call_states.RECEIVED: WAITING, call_states.WAITING: WAITING, call_states.OFFERED: WAITING, call_states.ARRIVED: WAITING,
    call_states.DIALLED: MADE, call_states.FINISHED: MADE,
}


class Spread(NamedTuple):
    """How long something took. Seconds; None if it happened in no call."""

    calls: int            # in which it happened, and it is known for how long
    mean: float | None
    median: float | None  # of an even number of calls: the mean of the two in the middle
    p95: float | None     # the shortest time that at least 95 % of the calls did not exceed


class Figures(NamedTuple):
    """The figures of some calls. calls = answered + lost + abandoned + waiting."""

    calls: int            # of callers; made calls are not among them
    answered: int         # an agent picked up
    lost: int             # nobody answered: closed, nobody there, the longest wait was over
    abandoned: int        # the caller hung up before that
    waiting: int          # still in line, or ringing at an agent
    closed: int           # of those lost: Movidesk said that it is a holiday, or outside the hours
    within: int           # answered within the time of the service level
    service_level: float | None  # `within` as a part (0 to 1) of those answered, lost and abandoned, without `closed`
    made: int             # calls that agents made
    not_connected: int    # of these: those that did not come about
    unseen: int           # of those whose pick-up is known: Movidesk has not taken the report of it, so the agent saw no screen
    wait: Spread          # from the arrival to the pick-up, or to the end; without `closed` and `waiting`
    talk: Spread          # from the pick-up to the end
    screen: Spread        # from the pick-up to the moment at which Movidesk took the report of it


class Row(NamedTuple):
    """The figures of an hour, a day, a queue or an agent."""

    name: str  # hour: 08; 01* where the clock shows it for the second time. Day: 2026-01-31. Else the number
    figures: Figures


class _Spans(NamedTuple):
    """Times in tenths of a second, sorted."""

    wait: array[int]    # of answered calls
    talk: array[int]
    screen: array[int]
    waited: array[int]  # of callers whom nobody answered


class _Tally:
    """Counts of some calls, and the times that they took."""

    __slots__ = ("_spans", "answered", "counts", "waited")

    def __init__(self) -> None:
        self.answered = array("i")  # of each answered call: the wait, the talk, the screen (history.Answered)
        self.waited = array("i")    # of each caller whom nobody answered
        self.counts = {LOST: 0, ABANDONED: 0, WAITING: 0, MADE: 0, "closed": 0, "not_connected": 0}
        self._spans: _Spans | None = None

    def spans(self) -> _Spans:
        """The times. Nothing may be counted after that."""
        if self._spans is None:
            self._spans = _Spans(_known(self.answered[::3]), _known(self.answered[1::3]), _known(self.answered[2::3]),
                                 _known(self.waited))
        return self._spans


class _Lines(dict[tuple[str, str], "array[int]"]):
    """By queue and agent: _Tally.answered of a tally, which begins when it is first asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.tallies: dict[tuple[str, str], _Tally] = {}

    def __missing__(self, key: tuple[str, str]) -> array[int]:
        tally = self.tallies[key] = _Tally()
        self[key] = tally.answered
        return tally.answered


class Tallies:
    """Counts calls in all, by hour, day, queue and agent."""

    def __init__(self, hours: Sequence[Hour], days: Sequence[tuple[float, str]], within: int):
        """hours, days: of the period, in order, each with its beginning; a day with its name. within: seconds of the service
        level."""
        self._within = 10 * within
        self._begins = [hour.begins for hour in hours]
        starts = [begin for begin, _ in days]
        self._days = [name for _, name in days]
        self._names = [f"{hour.hour:02d}" + "*" * (hour.again and len(days) == 1) for hour in hours]
        self._day_of = [days[bisect_right(starts, hour.begins) - 1][1] for hour in hours]
        self._hours = [_Tally() for _ in hours]
        self._answered = _Lines()
        self._others: dict[tuple[str, str, str], _Tally] = defaultdict(_Tally)  # by queue, agent, and what became of the call

    def count(self, calls: Calls, end: float) -> None:
        """Count those that arrived before `end`, the end of the period; all of them arrived after its begin."""
        inside = bisect_left(calls.answered.arrived, end)
        self._count_in_hours(calls.answered, inside)
        self._count_in_lines(calls.answered, inside)
        self._count_others(calls.others, end)

    def _count_in_hours(self, calls: Answered, inside: int) -> None:
        """Count the first calls, as many as are `inside` the period."""
        begins, start = self._begins, 0
        while start < inside:
            place = bisect_right(begins, calls.arrived[start])
            until = bisect_left(calls.arrived, begins[place], start, inside) if place < len(begins) else inside
            hour = slice(start, until)
            self._hours[place - 1].answered.extend(
                chain.from_iterable(zip(calls.waits[hour], calls.talks[hour], calls.screens[hour])))
            start = until

    def _count_in_lines(self, calls: Answered, inside: int) -> None:
        """As _count_in_hours. This is one step for each call, so it is made of functions that are not Python's own code."""
        lines = map(self._answered.__getitem__, zip(calls.queues, calls.agents))
        spans = zip(calls.waits, calls.talks, calls.screens)
        deque(islice(map(array.extend, lines, spans), inside), maxlen=0)

    def _count_others(self, calls: Iterable[Other], end: float) -> None:
        for arrived, state, queue, agent, _key, lasted, code, _number in calls:
            if arrived >= end:
                continue
            what = OUTCOMES[state]
            for tally in (self._hours[bisect_right(self._begins, arrived) - 1], self._others[queue, agent, what]):
                tally.counts[what] += 1
                if what is MADE:
                    tally.counts["not_connected"] += code != ""
                elif what is LOST and code in call_states.OUT_OF_HOURS_CODES:
                    tally.counts["closed"] += 1
                elif lasted != UNKNOWN:
                    tally.waited.append(lasted)

    def total(self) -> Figures:
        """The figures of all calls."""
        return _figures(self._hours, self._within)

    def by_hour(self) -> list[Row]:
        """Every hour that the clock shows in the period: those of a single day in order of time, those of several days
        together."""
        names = self._names if len(self._days) == 1 else sorted(self._names)
        return self._rows(names, zip(self._names, self._hours))

    def by_day(self) -> list[Row]:
        """Every day of the period, in order."""
        return self._rows(self._days, zip(self._day_of, self._hours))

    def by_queue(self) -> list[Row]:
        """The queues that had calls, by their numbers."""
        queues = [(queue, tally) for (queue, _), tally in self._answered.tallies.items() if queue]
        queues += [(queue, tally) for (queue, _, what), tally in self._others.items() if queue and what is not MADE]
        return self._rows(sorted({queue for queue, _ in queues}, key=_in_order), queues)

    def by_agent(self) -> list[Row]:
        """The agents who answered or made calls, by their extensions. A call that nobody answered is no agent's."""
        agents = [(agent, tally) for (_, agent), tally in self._answered.tallies.items() if agent]
        agents += [(agent, tally) for (_, agent, what), tally in self._others.items() if agent and what is MADE]
        return self._rows(sorted({agent for agent, _ in agents}, key=_in_order), agents)

    def _rows(self, names: Iterable[str], tallies: Iterable[tuple[str, _Tally]]) -> list[Row]:
        """A row for each name, of all tallies with this name."""
        found: dict[str, list[_Tally]] = {name: [] for name in names}
        for name, tally in tallies:
            found[name].append(tally)
        return [Row(name, _figures(parts, self._within)) for name, parts in found.items()]


def _figures(tallies: Sequence[_Tally], within: int) -> Figures:
    """The figures of all these. within: tenths of a second."""
    counts = {name: sum(tally.counts[name] for tally in tallies) for name in (LOST, ABANDONED, WAITING, MADE, "closed",
                                                                              "not_connected")}
    answered = sum(len(tally.answered) for tally in tallies) // 3
    waits, talks, screens, waited = zip(*(tally.spans() for tally in tallies)) if tallies else ((),) * 4
    in_time = sum(bisect_right(part, within) for part in waits)
    wait, screen = _spread([*waits, *waited]), _spread(screens)
    return Figures(answered + counts[LOST] + counts[ABANDONED] + counts[WAITING], answered, counts[LOST], counts[ABANDONED],
                   counts[WAITING], counts["closed"], in_time, in_time / wait.calls if wait.calls else None, counts[MADE],
                   counts["not_connected"], sum(map(len, waits)) - screen.calls, wait, _spread(talks), screen)


def _in_order(name: str) -> tuple[int, str]:
    """Numbers by their size, as far as they are numbers."""
    return len(name), name


def _known(spans: array[int]) -> array[int]:
    """Those that are not UNKNOWN, sorted."""
    ordered = sorted(spans)
    return array("i", ordered[bisect_left(ordered, 0):])


def _spread(parts: Iterable[array[int]]) -> Spread:
    """parts: tenths of a second, each part sorted."""
    parts = [part for part in parts if part]
    count = sum(map(len, parts))
    if not count:
        return Spread(0, None, None, None)
    median = (_at(parts, (count - 1) // 2) + _at(parts, count // 2)) / 20
    return Spread(count, sum(map(sum, parts)) / count / 10, median, _at(parts, (95 * count + 99) // 100 - 1) / 10)


def _at(parts: Sequence[array[int]], place: int) -> int:
    """What would stand in this place (from 0 on) if all parts were one sorted list. None is made, and few of the values are
    looked at: a report asks this of a million calls a thousand times."""
    low, high = min(part[0] for part in parts), max(part[-1] for part in parts)
    while low < high:
        middle = (low + high) // 2
        if sum(bisect_right(part, middle) for part in parts) > place:
            high = middle
        else:
            low = middle + 1
    return low

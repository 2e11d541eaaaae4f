"""Counts calls, and the times that they took, by hour, day, queue and agent. docs/reports.md says what each figure is.

Times are counted in tenths of a second: so means, medians and percentiles do not depend on the order of the calls.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from movidesk.reports.periods import Hour
from movidesk.rules import call_states

TYPE_CHECKING = False
if TYPE_CHECKING:
    from movidesk.journal.history import PastCall

#: What became of a call.
ANSWERED, LOST, ABANDONED, WAITING, MADE = "answered", "lost", "abandoned", "waiting", "made"
#: The same, by its state.
OUTCOMES = {
    call_states.TRANSFERRED: ANSWERED, call_states.COMPLETED: ANSWERED, call_states.LOST: LOST,
    call_states.CANCELED: ABANDONED, call_states.START_CANCELED: ABANDONED,
    call_states.RECEIVED: WAITING, call_states.WAITING: WAITING, call_states.OFFERED: WAITING, call_states.ARRIVED: WAITING,
    call_states.DIALLED: MADE, call_states.FINISHED: MADE,
}
#: Codes of Movidesk with which it is closed: a holiday, outside the hours.
CLOSED = ("0", "1")
_MOST = 2 ** 31 - 1  # tenths of a second: the largest number that array("i") takes


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
    unseen: int           # of those answered: Movidesk has not taken the report of it, so the agent saw no screen
    wait: Spread          # from the arrival to the pick-up, or to the end; without `closed` and `waiting`
    talk: Spread          # from the pick-up to the end
    screen: Spread        # from the pick-up to the moment at which Movidesk took the report of it


class Row(NamedTuple):
    """The figures of an hour, a day, a queue or an agent."""

    name: str  # hour: 08; 01* where the clock shows it for the second time. Day: 2026-01-31. Else the number
    figures: Figures


class _Tally:
    """Counts of some calls, and the times that they took, in tenths of a second."""

    __slots__ = ("counts", "screen", "talk", "unknown", "wait", "waited")

    def __init__(self) -> None:
        self.wait, self.talk, self.screen = array("i"), array("i"), array("i")  # of answered calls
        self.waited = array("i")  # of callers whom nobody answered
        self.unknown = 0          # answered calls of which it is not known when the agent picked up
        self.counts = {LOST: 0, ABANDONED: 0, WAITING: 0, MADE: 0, "closed": 0, "not_connected": 0}

    def add(self, other: _Tally) -> None:
        self.wait += other.wait
        self.talk += other.talk
        self.screen += other.screen
        self.waited += other.waited
        self.unknown += other.unknown
        for name, count in other.counts.items():
            self.counts[name] += count

    def figures(self, within: int) -> Figures:
        """within: tenths of a second."""
        waits = Counter(self.wait)
        answered = len(self.wait) + self.unknown
        in_time = sum(count for wait, count in waits.items() if wait <= within)
        waits.update(self.waited)
        known = len(self.wait) + len(self.waited)
        return Figures(answered + self.counts[LOST] + self.counts[ABANDONED] + self.counts[WAITING], answered,
                       self.counts[LOST], self.counts[ABANDONED], self.counts[WAITING], self.counts["closed"],
                       in_time, in_time / known if known else None, self.counts[MADE], self.counts["not_connected"],
                       answered - len(self.screen), _spread(waits), _spread(Counter(self.talk)), _spread(Counter(self.screen)))


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
        self._lines: dict[tuple[str, str, str], _Tally] = {}  # by queue, agent, and what became of the call

    def count(self, calls: Iterable[PastCall], end: float) -> None:
        """Count those that arrived before `end`, the end of the period; all of them arrived after its begin."""
        begins, hours, lines, outcomes = self._begins, self._hours, self._lines, OUTCOMES
        low = high = -1.0  # of the hour of the call before: most calls come in order
        for _, state, queue, agent, code, arrived, ended, picked_up, shown, _, _ in calls:
            if arrived >= end:
                continue
            if not low <= arrived < high:
                place = bisect_right(begins, arrived) - 1
                hour, low = hours[place], begins[place]
                high = begins[place + 1] if place + 1 < len(begins) else end
            what = outcomes[state]
            line = lines.get((queue, agent, what))
            if line is None:
                line = lines[queue, agent, what] = _Tally()
            if what is ANSWERED:
                if picked_up is None:
                    hour.unknown += 1
                    line.unknown += 1
                    continue
                span = _tenths(arrived, picked_up)
                hour.wait.append(span)
                line.wait.append(span)
                if ended is not None:
                    span = _tenths(picked_up, ended)
                    hour.talk.append(span)
                    line.talk.append(span)
                if shown is not None:
                    span = _tenths(picked_up, shown)
                    hour.screen.append(span)
                    line.screen.append(span)
                continue
            for tally in (hour, line):
                tally.counts[what] += 1
                if what is MADE:
                    tally.counts["not_connected"] += code != ""
                elif what is LOST and code in CLOSED:
                    tally.counts["closed"] += 1
                elif ended is not None:
                    tally.waited.append(_tenths(arrived, ended))

    def total(self) -> Figures:
        """The figures of all calls."""
        return _sum(self._hours).figures(self._within)

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
        queues = [(queue, tally) for (queue, _, what), tally in self._lines.items() if queue and what is not MADE]
        return self._rows(sorted({queue for queue, _ in queues}, key=_in_order), queues)

    def by_agent(self) -> list[Row]:
        """The agents who answered or made calls, by their extensions. A call that nobody answered is no agent's."""
        agents = [(agent, tally) for (_, agent, what), tally in self._lines.items() if agent and what in (ANSWERED, MADE)]
        return self._rows(sorted({agent for agent, _ in agents}, key=_in_order), agents)

    def _rows(self, names: Iterable[str], tallies: Iterable[tuple[str, _Tally]]) -> list[Row]:
        """A row for each name, of all tallies with this name."""
        found: dict[str, list[_Tally]] = {name: [] for name in names}
        for name, tally in tallies:
            found[name].append(tally)
        return [Row(name, _sum(parts).figures(self._within)) for name, parts in found.items()]


def _sum(tallies: Iterable[_Tally]) -> _Tally:
    total = _Tally()
    for tally in tallies:
        total.add(tally)
    return total


def _in_order(name: str) -> tuple[int, str]:
    """Numbers by their size, as far as they are numbers."""
    return len(name), name


def _tenths(begin: float, end: float) -> int:
    """The time between two moments, in tenths of a second; 0 where the clock was set back."""
    tenths = int(10 * (end - begin) + 0.5)
    return tenths if 0 <= tenths <= _MOST else min(max(tenths, 0), _MOST)


def _spread(spans: Counter[int]) -> Spread:
    """spans: how often each came, in tenths of a second."""
    counts = sorted(spans.items())
    count = sum(times for _, times in counts)
    if not count:
        return Spread(0, None, None, None)
    total = sum(span * times for span, times in counts)
    middle = [_at(counts, (count - 1) // 2), _at(counts, count // 2)]
    return Spread(count, total / count / 10, sum(middle) / 20, _at(counts, (95 * count + 99) // 100 - 1) / 10)


def _at(counts: list[tuple[int, int]], place: int) -> int:
    """What stands in this place (from 0 on) of the sorted list of which these are the counts."""
    for span, times in counts:
        place -= times
        if place < 0:
            return span
    raise IndexError(place)

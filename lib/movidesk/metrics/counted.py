"""Counters and histograms, made of the journal's counters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

from movidesk.journal import records
from movidesk.journal.counters import Counter

#: The upper ends of a histogram's buckets in seconds, without the last one, +Inf. Each is one of records.BOUNDS.
WAIT = (5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 3600.0)
TALK = (10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0)
SCREEN = (0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 1800.0)
REQUEST = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0)

#: The values of a metric's labels, for a counter of the journal; None: the counter does not belong to the metric.
Labels = Callable[[Counter], "Sequence[str] | None"]


def total(name: str, about: str, labels: Sequence[str], counters: Iterable[Counter], values: Labels,
          begin: Iterable[Sequence[str]] = ()) -> CounterMetricFamily:
    """A counter. begin: labels that are shown with 0 until something happens, so that a rate includes the first time."""
    sums = {tuple(each): 0 for each in begin}
    for counter in counters:
        found = values(counter)
        if found is not None:
            sums[tuple(found)] = sums.get(tuple(found), 0) + counter.times
    family = CounterMetricFamily(name, about, labels=labels)
    for key, count in sorted(sums.items()):
        family.add_metric(key, count)
    return family


def histogram(name: str, about: str, labels: Sequence[str], bounds: Sequence[float], counters: Iterable[Counter],
              values: Labels, begin: Iterable[Sequence[str]] = ()) -> HistogramMetricFamily:
    """A histogram of durations. What took an unknown time is not in it. begin: see total."""
    found: dict[tuple[str, ...], dict[float, int]] = {tuple(each): {} for each in begin}
    seconds = dict.fromkeys(found, 0.0)
    for counter in counters:
        key = values(counter) if counter.bucket else None
        if key is not None:
            times = found.setdefault(tuple(key), {})
            times[counter.bucket] = times.get(counter.bucket, 0) + counter.times
            seconds[tuple(key)] = seconds.get(tuple(key), 0.0) + counter.seconds
    family = HistogramMetricFamily(name, about, labels=labels)
    for each, times in sorted(found.items()):
        family.add_metric(each, _cumulative(times, bounds), seconds[each])
    return family


def _cumulative(times: dict[float, int], bounds: Sequence[float]) -> list[tuple[str, float]]:
    """How many durations are not above each of these bounds; the last one is +Inf."""
    buckets, sum_of_all = [], 0
    for bound in records.BOUNDS:
        sum_of_all += times.get(bound, 0)
        if bound in bounds:
            buckets.append((repr(bound), float(sum_of_all)))
    return [*buckets, ("+Inf", float(sum_of_all))]

"""The metrics: their names, what they mean, and what they are made of.

There are two sources. What is true now are the facts of `movidesk status` (movidesk.facts). How often something has happened are
the journal's counters (movidesk.journal.counters). Nothing is kept in memory: two services, a service that was restarted, and
cron's `deliver --once` give the same figures. Both sources are only read, in short statements over a connection of their own, so
that no event waits for them.

While the standby replaces the journal, the facts are those of the standby, and the counters those of both together. If the
journal cannot be read, the counters are missing: if they fell to those of the standby and rose again, Prometheus would take the
rise for thousands of calls.

Names are as https://prometheus.io/docs/practices/naming/ has them. A label has few values: words of ours, and queues, of which
records.MOST_QUEUES limits the number; never a caller's number, an extension, or a call.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from movidesk import __version__, alarms, facts
from movidesk.call_facts import OUTCOMES
from movidesk.config import Config
from movidesk.context import Context
from movidesk.delivery.api import ENDPOINTS
from movidesk.delivery.availability import RESULTS
from movidesk.journal import Journal, JournalError, emergency, records, standby, standby_folder
from movidesk.journal.counters import Counter
from movidesk.metrics import counted
from movidesk.pbx import liveness
from movidesk.rules import call_states
from movidesk.rules.rate_limit import UNLIMITED

#: The content type of `text`.
TEXT = "text/plain; version=0.0.4; charset=utf-8"

#: The endings of calls of each mode, in the words of the label `ending`.
ENDINGS = {call_states.CONTROL: ("completed", "canceled", "lost", records.CLOSED), call_states.WATCH: ("completed", "canceled"),
           call_states.MADE: ("ended", "failed")}
ANSWERED = "answered"


def text(context: Context) -> bytes:
    """All metrics, in Prometheus' text format. A journal that cannot be read is a metric, no error."""
    registry = CollectorRegistry()
    registry.register(_Metrics(context))
    return generate_latest(registry)


class _Metrics(Collector):
    def __init__(self, context: Context):
        self._config, self._clock = context.config, context.clock

    def collect(self) -> Iterator[Metric]:
        begun = time.monotonic()
        known, counters = read(self._config)
        queues = sorted({counter.queue for counter in counters or () if counter.label.startswith(call_states.CONTROL)})
        for family in (*_of_program(self._config, known), *_of_line(known, queues), *_of_requests(known), *_of_outbox(known),
                       *(() if counters is None else _of_calls(counters)), *(() if counters is None else _of_work(counters)),
                       _gauge("movidesk_collected_timestamp_seconds", "When these metrics were read.", self._clock()),
                       _gauge("movidesk_collect_duration_seconds", "How long reading them took.", time.monotonic() - begun)):
            if family.samples:
                yield family


def read(config: Config) -> tuple[facts.Facts, list[Counter] | None]:
    """The facts, and the counters; None if those of the journal cannot be read."""
    try:
        with standby.to_read(config) as other:
            try:
                with closing(Journal(config["journal", "path"])) as journal:
                    counters = journal.counters.all() + (other.counters.all() if other else [])
                    return facts.read(config, other or journal), counters
            except JournalError:
                if other is None:
                    raise
                return facts.read(config, other), None
    except (JournalError, OSError) as error:
        return facts.without_journal(config, error), None


def _gauge(name: str, about: str, value: float | None) -> Metric:
    family = GaugeMetricFamily(name, about)
    if value is not None:
        family.add_metric((), value)
    return family


def _gauges(name: str, about: str, label: str, values: dict[str, float]) -> Metric:
    family = GaugeMetricFamily(name, about, labels=(label,))
    for key, value in values.items():
        family.add_metric((key,), value)
    return family


def _of_program(config: Config, known: facts.Facts) -> Iterator[Metric]:
    build = GaugeMetricFamily("movidesk_build_info", "Version of movidesk-agi and name of the PBX; always 1.",
                              labels=("version", "pbx"))
    build.add_metric((__version__, config["pbx", "name"]), 1)
    yield build
    yield _gauge("movidesk_journal_readable", "Whether the journal, or the standby in its place, could be read (1) or not (0).",
                 known["outbox"] is not None)
    yield _gauge("movidesk_standby_active", "Whether the standby in memory replaces the journal (1) or not (0).",
                 standby_folder.in_use(config))
    yield _gauge("movidesk_journal_size_bytes", "Size of the journal's file and its log.",
                 _size(config["journal", "path"], config["journal", "path"] + "-wal"))
    yield _gauge("movidesk_emergency_file_bytes", "Size of the files with events that the journal could not record.",
                 _size(*(path for path, _ in emergency.waiting(config))))
    yield _gauge("movidesk_delivery_timestamp_seconds", "When a process last said that it delivers events.",
                 liveness.last_delivery(config["journal", "path"]))
    standing = {alarm["name"] for alarm in known["alarms"]}
    yield _gauges("movidesk_alarm_active", "Whether this alarm stands (1) or not (0); docs/operations.md has their meanings.",
                  "alarm", {name: name in standing for name in sorted(standing.union(alarms.NAMES))})


def _size(*paths: str) -> int:
    size = 0
    for path in paths:
        with suppress(OSError):  # it is not there, or not any more
            size += os.path.getsize(path)
    return size


def _of_line(known: facts.Facts, queues: Sequence[str]) -> Iterator[Metric]:
    """queues: those that had calls; nobody waits in them unless the facts say so."""
    if known["line"] is not None and known["calls"] is not None:
        named = {queue for queue in queues if queue != records.OTHER}
        named.update(sorted({line["queue"] for line in known["line"]} - named)[:max(0, records.MOST_QUEUES - len(named))])
        callers, longest = dict.fromkeys(sorted(named), 0.0), dict.fromkeys(sorted(named), 0.0)
        for line in known["line"]:
            queue = line["queue"] if line["queue"] in named else records.OTHER
            callers[queue] = callers.get(queue, 0) + line["waiting"]
            longest[queue] = max(longest.get(queue, 0.0), line["longest"])
        yield _gauges("movidesk_line_callers", "Callers who wait in this queue.", "queue", callers)
        yield _gauges("movidesk_line_longest_wait_seconds", "How long the caller has waited who waits longest in this queue.",
                      "queue", longest)
        yield _gauges("movidesk_line_expected_wait_seconds", "How long the next caller of this queue will probably wait; missing "
                      "while nobody waits, or if it is unknown.", "queue",
                      {line["queue"]: line["expected"] for line in known["line"]
                       if line["expected"] is not None and line["queue"] in named})
        yield _gauge("movidesk_calls_open", "Calls that have not ended.", known["calls"]["open"])
        yield _gauge("movidesk_calls_with_agents", "Calls in which a caller and an agent talk.", known["calls"]["with_agents"])


def _of_requests(known: facts.Facts) -> Iterator[Metric]:
    requests = known["requests"]
    if requests is not None:
        limit, rate = requests["limit"], requests["rate"]
        yield _gauge("movidesk_window_requests", "Requests sent to Movidesk in the last minute.", requests["used"])
        yield _gauge("movidesk_window_limit_requests", "Requests a minute that the configuration allows now; +Inf: no limit.",
                     float("inf") if limit is None else limit)
        yield _gauge("movidesk_window_rate_requests", "Requests a minute that we allow ourselves; less than the limit for a "
                     "while after 429s that were not our fault.", float("inf") if rate >= UNLIMITED else rate)
        yield _gauge("movidesk_pause_seconds", "Seconds until requests are sent again after a 429; 0: they are sent.",
                     requests["paused"])


def _of_outbox(known: facts.Facts) -> Iterator[Metric]:
    outbox = known["outbox"]
    if outbox is not None:
        yield _gauges("movidesk_outbox_events", "Events that Movidesk has not accepted: pending, or refused and set aside.",
                      "status", {"pending": outbox["pending"], "refused": outbox["refused"]})
        yield _gauge("movidesk_outbox_age_seconds", "How long ago the oldest event happened that is to be sent; 0: none is.",
                     outbox["age"])


def _of_calls(counters: list[Counter]) -> Iterator[Metric]:
    """Calls that were answered, and that ended. Each ending and wait of a queue begins with 0."""
    ended = [counter for counter in counters if counter.name == records.CALL_ENDED]
    answered = [counter for counter in counters if counter.name == records.CALL_ANSWERED]
    queues = sorted({(counter.queue, counter.label.split()[0]) for counter in (*ended, *answered)})
    endings = [(queue, mode, ending) for queue, mode in queues for ending in ENDINGS.get(mode, ())]
    yield counted.total("movidesk_calls_ended", "Calls that ended.", ("queue", "mode", "ending"), ended,
                        lambda counter: (counter.queue, *_mode_and_ending(counter)), endings)

    def waited(counter: Counter) -> Sequence[str] | None:
        if counter.name == records.CALL_ANSWERED:
            return counter.queue, ANSWERED
        mode, ending = _mode_and_ending(counter)
        return None if mode == call_states.MADE or ending == "completed" else (counter.queue, ending)

    yield counted.histogram(
        "movidesk_call_wait_seconds", "How long callers waited until an agent answered, or until they left or were lost.",
        ("queue", "result"), counted.WAIT, [*answered, *ended], waited,
        {(queue, ANSWERED if ending == "completed" else ending) for queue, mode, ending in endings if mode != call_states.MADE})
    yield counted.histogram(
        "movidesk_call_talk_seconds", "How long callers and agents talked.", ("queue",), counted.TALK, ended,
        lambda counter: (counter.queue,) if _mode_and_ending(counter)[1] == "completed" else None,
        {(queue,) for queue, mode in queues if mode != call_states.MADE})


def _mode_and_ending(counter: Counter) -> tuple[str, str]:
    mode, _, ending = counter.label.partition(" ")
    return mode, OUTCOMES.get(ending, ending)


def _of_work(counters: list[Counter]) -> Iterator[Metric]:
    """What the service, the delivery and the scripts did."""
    def named(name: str) -> list[Counter]:
        return [counter for counter in counters if counter.name == name]

    def label(counter: Counter) -> Sequence[str]:
        return (counter.label,)

    def nothing(counter: Counter) -> Sequence[str]:
        return ()

    yield counted.histogram(
        "movidesk_screen_delay_seconds", "From the agent's answer until Movidesk knew of it, and could open the "
        "caller's screen; 0 if it was told while the phone rang.", (), counted.SCREEN, named(records.SCREEN), nothing, [()])
    yield counted.total("movidesk_api_requests", "Requests to Movidesk. throttled: 429; unanswered: no answer came.",
                        ("endpoint", "result"), named(records.REQUEST), lambda counter: counter.label.split(),
                        [(endpoint, result) for endpoint in ENDPOINTS for result in RESULTS])
    yield counted.histogram(
        "movidesk_api_request_duration_seconds", "How long Movidesk took to answer, or we waited for it.", ("endpoint",),
        counted.REQUEST, named(records.REQUEST), lambda counter: counter.label.split()[:1],
        [(endpoint,) for endpoint in ENDPOINTS])
    yield counted.total("movidesk_sweeps", "Sweeps. failed: Asterisk did not list its channels.", ("result",),
                        named(records.SWEEP), label, [("done",), ("failed",)])
    yield counted.total("movidesk_swept_calls", "Calls that a sweep ended, because their channel was gone.", (),
                        named(records.SWEPT), nothing, [()])
    yield counted.total("movidesk_emergency_lines", "Lines of the emergency file that were imported, or made no sense.",
                        ("result",), named(records.EMERGENCY), label, [("imported",), ("invalid",)])
    yield counted.total("movidesk_fail_opens", "Calls that went on although a verb failed. journal: it could not be used; "
                        "request: the dialplan's request made no sense; failure: a defect of movidesk-agi.",
                        ("cause",), named(records.FAIL_OPEN), label, [("journal",), ("request",), ("failure",)])
    yield counted.total("movidesk_standby_begins", "How often a standby began to replace the journal.", (),
                        named(records.STANDBY), nothing, [()])

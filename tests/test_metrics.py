"""The metrics: their names and values, what they show while something is away, and the file for node_exporter."""
from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from movidesk import __version__, alarms
from movidesk.config import load
from movidesk.context import Context
from movidesk.housekeeping import Housekeeping
from movidesk.journal import Journal, emergency, records, standby, store
from movidesk.metrics import collector, counted, textfile
from movidesk.pbx import liveness
from movidesk.rules import call_states
from support.journals import arrive, event_of, lock
from support.processes import as_nobody
from support.prometheus import promtool, samples
from support.waits import until

ROOT = Path(__file__).parent.parent
UNITS = ("_seconds", "_bytes", "_total", "_info", "_requests")
#: Names that end with no unit: they count things, or say yes or no.
COUNTS = {"movidesk_line_callers", "movidesk_calls_open", "movidesk_calls_with_agents", "movidesk_outbox_events",
          "movidesk_alarm_active", "movidesk_journal_readable", "movidesk_standby_active"}
LABELS = {"queue", "mode", "ending", "result", "endpoint", "alarm", "status", "cause", "version", "pbx"}


@pytest.fixture
def context(write_config):
    """An office in which every metric has a value."""
    context = Context(load(write_config(movidesk={"requests_per_minute": "10"}, pbx={"name": "pbx1"})))
    Path(liveness.delivery_path(context.config["journal", "path"])).touch()
    yield context
    if context.has_journal:
        context.journal.close()


def scrape(context: Context) -> dict[tuple, float]:
    return samples(collector.text(context).decode())


def talk(journal: Journal, uniqueid: str = "1.1") -> None:
    call = arrive(journal, uniqueid)
    journal.scheduler.answered(call, "5252", "", "5252")
    journal.calls.record(call.call_id, "transferred", "5252")


# -- what they say -----------------------------------------------------------------------------------------------------

def test_a_day_of_calls(context):
    journal = context.journal
    for number, kind in enumerate(("completed", "canceled", "lost", "canceled")):
        if kind == "completed":
            talk(journal, f"1.{number}")
            journal.calls.hang_up(f"pbx-1.{number}")
        else:
            journal.calls.record(arrive(journal, f"1.{number}").call_id, kind)
    talk(journal, "2.1")
    journal.scheduler.turn(arrive(journal, "2.2", queue="78"), 10)
    watched = arrive(journal, "2.3", queue="79", mode=call_states.WATCH)
    journal.calls.hang_up(watched.call_id)
    journal.calls.dial_failed(journal.calls.dial("pbx", "3.1", "5252", "4733990777").call_id, "BUSY")
    found = scrape(context)
    assert {key[1:]: value for key, value in found.items() if key[0] == "movidesk_calls_ended_total"} == {
        ("completed", "control", "77"): 1, ("canceled", "control", "77"): 2, ("lost", "control", "77"): 1,
        ("closed", "control", "77"): 0, ("canceled", "watch", "79"): 1, ("completed", "watch", "79"): 0,
        ("failed", "made", ""): 1, ("ended", "made", ""): 0}
    assert found["movidesk_call_wait_seconds_count", "77", "answered"] == 2
    assert found["movidesk_call_wait_seconds_count", "77", "canceled"] == 2
    assert found["movidesk_call_talk_seconds_count", "77"] == 1
    assert (found["movidesk_line_callers", "77"], found["movidesk_line_callers", "78"]) == (0, 1)
    assert (found["movidesk_calls_open",], found["movidesk_calls_with_agents",]) == (2, 1)
    assert (found["movidesk_window_requests",], found["movidesk_window_limit_requests",]) == (1, 10)
    assert found["movidesk_outbox_events", "pending"] == journal.overview.totals()["pending"]
    assert 0 < found["movidesk_outbox_age_seconds",] < 60
    assert found["movidesk_build_info", "pbx1", __version__] == 1
    assert abs(found["movidesk_collected_timestamp_seconds",] - time.time()) < 60


@pytest.mark.parametrize("code, ending", [("0", "closed"), ("1", "closed"), ("2", "lost"), ("", "lost")])
def test_who_comes_while_it_is_closed_is_counted_apart(context, code, ending):
    journal = context.journal
    call = arrive(journal, "1.1")
    if code:
        journal.scheduler.answered(call, "", code, code)
    journal.calls.record(call.call_id, "lost")
    found = scrape(context)
    assert {name: found["movidesk_calls_ended_total", name, "control", "77"] for name in ("closed", "lost")} == {
        "closed": int(ending == "closed"), "lost": int(ending == "lost")}
    assert found["movidesk_call_wait_seconds_count", "77", ending] == 1


def test_a_histogram_has_the_calls_in_its_buckets(context):
    for number, seconds in enumerate((3, 15, 15, 4000)):
        context.journal.store.observe(records.CALL_ANSWERED, "control", "77", float(seconds))
        context.journal.store.observe(records.CALL_ENDED, "control completed", "77", None if number else 100.0)
    context.journal.store.flush()
    found = scrape(context)
    waits = {key[1]: value for key, value in found.items() if key[0] == "movidesk_call_wait_seconds_bucket" and "answered" in key}
    assert waits == {"5.0": 1, "10.0": 1, "20.0": 3, "30.0": 3, "60.0": 3, "120.0": 3, "300.0": 3, "600.0": 3, "1200.0": 3,
                     "3600.0": 3, "+Inf": 4}
    assert found["movidesk_call_wait_seconds_sum", "77", "answered"] == 4033
    assert found["movidesk_call_talk_seconds_count", "77"] == 1
    assert found["movidesk_calls_ended_total", "completed", "control", "77"] == 4


def test_the_buckets_are_among_those_that_are_counted():
    for bounds in (counted.WAIT, counted.TALK, counted.SCREEN, counted.REQUEST):
        assert set(bounds) < set(records.BOUNDS)


def test_before_the_first_call_every_counter_begins_with_nothing(context):
    found = scrape(context)
    assert found["movidesk_api_requests_total", "received", "throttled"] == 0
    assert found["movidesk_fail_opens_total", "journal"] == 0 and found["movidesk_sweeps_total", "failed"] == 0
    assert found["movidesk_screen_delay_seconds_count",] == 0
    assert {key[1] for key in found if key[0] == "movidesk_alarm_active"} == set(alarms.NAMES)


def test_alarms_by_name(context):
    Path(liveness.delivery_path(context.config["journal", "path"])).unlink()
    found = scrape(context)
    assert (found["movidesk_alarm_active", "service"], found["movidesk_alarm_active", "token"]) == (1, 0)


def test_no_limit_is_infinite(context, write_config):
    context.config = load(write_config(movidesk={"requests_per_minute": "100000"}))
    assert scrape(context)["movidesk_window_limit_requests",] == float("inf")


# -- names and labels --------------------------------------------------------------------------------------------------

def test_promtool_finds_nothing_to_complain_about(context):
    talk(context.journal)
    assert promtool("check", "metrics", text=collector.text(context).decode()) == ""


def test_promtool_would_complain():
    with pytest.raises(AssertionError, match="should have"):
        promtool("check", "metrics", text="# TYPE movidesk_calls counter\nmovidesk_calls 1\n")


def test_names_have_units_and_labels_have_few_values(context):
    talk(context.journal)
    families = list(text_string_to_metric_families(collector.text(context).decode()))
    for family in families:
        name = family.name + "_total" * (family.type == "counter")
        assert name.startswith("movidesk_") and (name.endswith(UNITS) or name in COUNTS), name
        assert family.documentation.endswith((".", "1")), name
        for sample in family.samples:
            assert set(sample.labels) - {"le"} <= LABELS, sample
            assert not {"4733990777", "5252", "pbx-1.1"} & set(sample.labels.values()), sample
    assert len(families) == len({family.name for family in families}) > 25


@pytest.mark.parametrize("page", ["docs/metrics.md", "docs/pt-BR/metrics.md"])
def test_the_documents_have_every_metric_with_its_labels(context, page):
    talk(context.journal)
    context.journal.scheduler.turn(arrive(context.journal, "1.2"), 10)
    context.journal.store.connection.execute("INSERT INTO speeds VALUES ('77', ?, 10, 10, 10)", [context.journal.steady()])
    shown = dict(re.findall(r"^\| `(movidesk_\w+)` \| ([\w, ]*?) ?\| ", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE))
    families = text_string_to_metric_families(collector.text(context).decode())
    made = {family.name + "_total" * (family.type == "counter"):
            {label for sample in family.samples for label in sample.labels} - {"le"} for family in families}
    assert {name: set(filter(None, labels.split(", "))) for name, labels in shown.items()} == made


def test_a_number_for_a_queue_does_not_make_a_metric_for_each_caller(context, monkeypatch):
    """A dialplan that passes ${CALLERID(num)}: the queues that came first stay, the others are one."""
    monkeypatch.setattr(store, "MOST_QUEUES", 20)
    for number in range(60):
        context.journal.calls.record(arrive(context.journal, f"1.{number}", queue=str(4733990000 + number)).call_id, "canceled")
    ended = {key[-1]: value for key, value in scrape(context).items()
             if key[:2] == ("movidesk_calls_ended_total", "canceled")}
    assert sum(ended.values()) == 60 and len(ended) <= 21 and ended[records.OTHER] >= 40


def test_callers_in_very_many_queues_do_not_make_a_metric_each(context, monkeypatch):
    monkeypatch.setattr(records, "MOST_QUEUES", 20)
    for number in range(60):
        context.journal.scheduler.turn(arrive(context.journal, f"1.{number}", queue=str(4733990000 + number)), 10)
    found = scrape(context)
    waiting = {key[-1]: value for key, value in found.items() if key[0] == "movidesk_line_callers"}
    assert sum(waiting.values()) == 60 and len(waiting) == 21 and waiting[records.OTHER] == 40
    assert {key[-1] for key in found if key[0] == "movidesk_line_longest_wait_seconds"} == set(waiting)
    assert len([key for key in found if key[0] == "movidesk_line_expected_wait_seconds"]) <= 20


def test_a_name_of_a_queue_that_is_no_word_is_escaped(context):
    context.journal.store.observe(records.CALL_ENDED, "control lost", 'a"b\\\n')
    context.journal.store.flush()
    assert scrape(context)["movidesk_calls_ended_total", "lost", "control", 'a"b\\\n'] == 1


# -- while something is away -------------------------------------------------------------------------------------------

def test_a_journal_that_cannot_be_read_is_a_metric(context, tmp_path):
    talk(context.journal)
    context.journal.close()
    for name in tmp_path.glob("journal.db*"):
        name.unlink()
    (tmp_path / "journal.db").mkdir()
    found = scrape(context)
    assert found["movidesk_journal_readable",] == 0 and found["movidesk_alarm_active", "journal"] == 1
    assert not {"movidesk_calls_ended_total", "movidesk_outbox_events", "movidesk_line_callers"} & {key[0] for key in found}
    assert promtool("check", "metrics", text=collector.text(context).decode()) == ""
    context._journal = None


def test_while_another_program_writes_the_metrics_can_be_read(context):
    talk(context.journal)
    with closing(lock(context.journal.path)):
        assert scrape(context)["movidesk_calls_open",] == 1


def test_a_scrape_in_mid_event_waits_for_nothing_and_holds_nothing_up(context):
    """It has a connection of its own: a verb of the service holds the lock of its own one meanwhile."""
    found = []
    with context.journal.store.transaction():
        reader = threading.Thread(target=lambda: found.append(scrape(context)))
        reader.start()
        reader.join(10)
    assert found[0]["movidesk_journal_readable",] == 1


def test_the_standby_shows_who_waits_and_both_count(context):
    context.journal.calls.record(arrive(context.journal, "1.1").call_id, "canceled")
    with standby.use(context, "the disk is full") as other:
        other.journal.calls.record(arrive(other.journal, "1.2").call_id, "canceled")
        other.journal.scheduler.turn(arrive(other.journal, "1.3"), 10)
    found = scrape(context)
    assert (found["movidesk_standby_active",], found["movidesk_journal_readable",]) == (1, 1)
    assert (found["movidesk_line_callers", "77"], found["movidesk_alarm_active", "journal"]) == (1, 1)
    during = found["movidesk_calls_ended_total", "canceled", "control", "77"]
    assert standby.end(context)
    assert during == 2 == scrape(context)["movidesk_calls_ended_total", "canceled", "control", "77"]
    assert scrape(context)["movidesk_standby_begins_total",] == 1


def test_counters_never_fall_while_the_journal_is_away(context, tmp_path):
    """They are missing instead: Prometheus would take their return for a rise."""
    context.journal.calls.record(arrive(context.journal, "1.1").call_id, "canceled")
    path = Path(context.journal.path)
    context.journal.close()
    context._journal = None
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").rename(f"{path}.away{suffix}") if Path(f"{path}{suffix}").exists() else None
    path.mkdir()
    with standby.use(context, "there is no disk") as other:
        other.journal.calls.record(arrive(other.journal, "1.2").call_id, "canceled")
    found = scrape(context)
    assert found["movidesk_standby_active",] == found["movidesk_journal_readable",] == 1
    assert not [key for key in found if key[0].endswith("_total")]


def test_a_look_at_the_standby_never_begins_one(context):
    scrape(context)
    assert not standby.standby_folder.in_use(context.config)


def test_lines_of_the_emergency_file_are_seen_while_they_wait(context):
    emergency.save(context.config, event_of(1, "canceled"))
    assert scrape(context)["movidesk_emergency_file_bytes",] > 50


# -- the file for node_exporter ----------------------------------------------------------------------------------------

@pytest.fixture
def office(write_config, tmp_path):
    """A configuration that names such a file in a folder of its own."""
    (tmp_path / "node").mkdir()
    context = Context(load(write_config(metrics={"textfile": str(tmp_path / "node" / "movidesk.prom")})))
    Path(liveness.delivery_path(context.config["journal", "path"])).touch()
    yield context
    context.journal.close()


def test_the_file_is_whole_and_others_may_read_it(office, tmp_path):
    before = os.umask(0o077)  # UMask= of the service
    try:
        path = Path(textfile.write(office))
    finally:
        os.umask(before)
    assert samples(path.read_text())["movidesk_journal_readable",] == 1
    assert path.stat().st_mode & 0o777 == 0o644 and [path] == list((tmp_path / "node").iterdir())
    assert not re.search(r" \d{13}$", path.read_text(), re.MULTILINE)  # node_exporter takes no times


def test_who_reads_while_it_is_written_gets_a_whole_file(office):
    path = Path(textfile.write(office))
    stop, sizes = threading.Event(), set()

    def write() -> None:
        while not stop.is_set():
            textfile.write(office)
    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers[:1]:
        writer.start()
    for _ in range(200):
        sizes.add(path.read_text().endswith("\n") and "movidesk_collect_duration_seconds " in path.read_text())
    stop.set()
    writers[0].join(20)
    assert sizes == {True}


def test_the_service_writes_it_again_and_again(office, monkeypatch):
    monkeypatch.setattr("movidesk.housekeeping.TEXTFILE_EVERY", 0.05)
    stop = threading.Event()
    Housekeeping(office, stop=stop).start()
    path = Path(office.config["metrics", "textfile"])
    assert path.exists(), "else the first look at alarms, at each start, would find one"
    path.unlink()
    until(path.exists)
    stop.set()


@pytest.mark.parametrize("readable", [1, 0])
def test_cron_writes_it_too_even_without_a_journal(office, tmp_path, readable):
    if not readable:
        (tmp_path / "journal.db").mkdir()
    done = subprocess.run([sys.executable, "-m", "movidesk.cli", "--config", office.config.path, "deliver", "--once"],
                          capture_output=True, text=True, timeout=60)
    assert (done.returncode == 0) == bool(readable), done.stderr
    found = samples(Path(office.config["metrics", "textfile"]).read_text())
    assert found["movidesk_journal_readable",] == readable
    if not readable:
        (tmp_path / "journal.db").rmdir()


def test_a_folder_that_is_missing_is_said_once_and_is_an_alarm(office, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("movidesk.housekeeping.TEXTFILE_EVERY", 0.01)
    (tmp_path / "node").rmdir()
    stop = threading.Event()
    housekeeping = Housekeeping(office, stop=stop)
    rounds, write = [], textfile.write
    monkeypatch.setattr(textfile, "write", lambda context: (rounds.append(1), write(context)))
    housekeeping.start()
    until(lambda: len(rounds) > 3)
    stop.set()
    said = f"[metrics] textfile = {tmp_path}/node/movidesk.prom: No such file or directory"
    assert [record.message for record in caplog.records].count(said) == 1
    alarm, = alarms.standing(office)
    assert alarm.name == "metrics" and alarm.text.endswith("No such file or directory; see movidesk check")
    (tmp_path / "node").mkdir()
    textfile.write(office)
    assert alarms.standing(office) == []


def test_without_the_package_cron_says_what_to_install_and_goes_on(office, tmp_path):
    (tmp_path / "prometheus_client.py").write_text("raise ModuleNotFoundError(name='prometheus_client')")
    done = subprocess.run([sys.executable, "-m", "movidesk.cli", "--config", office.config.path, "deliver", "--once"],
                          capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": os.pathsep.join(
                              [str(tmp_path), *sys.path])})
    assert done.stderr.count("[metrics] needs more packages (prometheus_client): pip install 'movidesk-agi[metrics]'\n") == 1
    assert "Traceback" not in done.stderr and done.returncode == 0, done.stderr


def test_what_a_killed_process_left_is_removed(office):
    path = Path(textfile.write(office))
    old, fresh, theirs = (path.with_name(path.name + suffix) for suffix in (".4711", ".4712", ".1.bak"))
    for left in (old, fresh, theirs):
        left.touch()
    for left in (old, theirs):
        os.utime(left, (time.time() - 3600, time.time() - 3600))
    textfile.write(office)
    assert set(path.parent.iterdir()) == {path, fresh, theirs}


def test_a_folder_that_may_not_be_written(office, tmp_path):
    (tmp_path / "node").chmod(0o555)
    os.chmod(tmp_path, 0o755)

    def write() -> str:
        try:
            return textfile.write(office)
        except OSError as error:
            return str(error)
    assert as_nobody(write) == f"[metrics] textfile = {tmp_path}/node/movidesk.prom: Permission denied"


def test_a_file_that_is_old_is_an_alarm_unless_nothing_runs(office, write_config):
    path = textfile.write(office)
    os.utime(path, (time.time() - 400, time.time() - 400))
    alarm, = alarms.standing(office)
    assert alarm.name == "metrics" and "was last written at" in alarm.text
    service = liveness.delivery_path(office.config["journal", "path"])
    os.utime(service, (time.time() - 400, time.time() - 400))
    assert [alarm.name for alarm in alarms.standing(office)] == ["service"]

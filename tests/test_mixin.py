"""etc/movidesk-mixin: what is checked in is what the sources say, and every query asks for what there is."""
from __future__ import annotations

import json
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import promql_parser as promql
import pytest
from prometheus_client.parser import text_string_to_metric_families

from movidesk import alarms
from movidesk.config import load
from movidesk.context import Context
from movidesk.journal import records
from movidesk.metrics import collector
from movidesk.pbx import liveness
from movidesk.rules import call_states
from support.journals import arrive
from support.prometheus import promtool

MIXIN = Path(__file__).parent.parent / "etc" / "movidesk-mixin"
ALERTS = MIXIN / "prometheus_rules_out" / "prometheus_alerts.yaml"
DASHBOARD = json.loads((MIXIN / "dashboards_out" / "movidesk.json").read_text(encoding="utf-8"))
RULES = runpy.run_path(str(MIXIN / "build.py"))["alerts"]()
#: Labels that Prometheus adds.
ADDED = {"instance": "pbx1:9473", "job": "movidesk"}


def panels() -> Iterator[tuple[str, str]]:
    """Title and query of each query of the dashboard."""
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def queries() -> list[str]:
    return [expression for _, expression in panels()] + [rule["expr"] for rule in RULES]


def parsed(query: str) -> object:
    """A query with the values that Grafana puts in: all PBXs, all queues."""
    return promql.parse(re.sub(r"\$__rate_interval", "5m", re.sub(r"\$(instance|queue)\b", ".*", query)))


def parts(node: object) -> Iterator[object]:
    """A query's expression, and all expressions in it."""
    yield node
    for name in ("expr", "lhs", "rhs", "param", "args", "vector_selector", "vs"):
        inner = getattr(node, name, None)
        for each in inner if isinstance(inner, list) else [inner]:
            if type(each).__module__.startswith("promql_parser") or type(each).__name__.endswith(("Expr", "Selector", "Call")):
                yield from parts(each)


def selectors(query: str) -> list[object]:
    return [node for node in parts(parsed(query)) if isinstance(node, promql.VectorSelector)]


@pytest.fixture(scope="module")
def series(tmp_path_factory) -> list[tuple[str, dict[str, str]]]:
    """What a PBX exports on which everything has happened: name and labels of each series, as Prometheus stores it."""
    folder = tmp_path_factory.mktemp("mixin")
    (folder / "movidesk.conf").write_text(
        f"[movidesk]\ntoken = 00000000-0000-0000-0000-000000000000\n[journal]\npath = {folder}/journal.db\nstandby = {folder}\n")
    context = Context(load(str(folder / "movidesk.conf")))
    Path(liveness.delivery_path(context.config["journal", "path"])).touch()
    journal = context.journal
    for number, mode in enumerate((call_states.CONTROL, call_states.WATCH)):
        call = arrive(journal, f"1.{number}", mode=mode)
        journal.calls.record(call.call_id, "transferred" if mode == call_states.CONTROL else "start_transferred", "5252")
        journal.calls.hang_up(call.call_id)
    journal.calls.dial_failed(journal.calls.dial("pbx", "2.1", "5252", "47").call_id, "BUSY")
    journal.scheduler.turn(arrive(journal, "3.1"), 10)
    with journal.store.transaction():
        journal.store.execute("INSERT INTO speeds (queue, at, seconds, longest, rate) VALUES ('77', :now, 10, 10, 10)",
                              now=journal.steady())
        journal.store.observe(records.SCREEN, seconds=1.0)
    text = collector.text(context).decode()
    journal.close()
    return [(sample.name, {**sample.labels, **ADDED}) for family in text_string_to_metric_families(text)
            for sample in family.samples] + [("up", dict(ADDED))]


def matches(selector, series: list[tuple[str, dict[str, str]]]) -> list[dict[str, str]]:
    """The labels of the series that a selector finds."""
    def fits(labels: dict[str, str], matcher) -> bool:
        value, wanted = labels.get(matcher.name, ""), matcher.value
        is_regex = matcher.op in (promql.MatchOp.Re, promql.MatchOp.NotRe)
        found = re.fullmatch(wanted, value) is not None if is_regex else value == wanted
        return found != (matcher.op in (promql.MatchOp.NotEqual, promql.MatchOp.NotRe))
    return [labels for name, labels in series
            if name == selector.name and all(fits(labels, matcher) for matcher in selector.matchers.matchers)]


# -- what is checked in ------------------------------------------------------------------------------------------------

def test_what_is_checked_in_is_what_the_sources_say():
    """Else: make mixin."""
    built = runpy.run_path(str(MIXIN / "build.py"))["built"]()
    assert {path.name: path.read_text(encoding="utf-8") for path in built} == {path.name: text for path, text in built.items()}
    folders = {path for folder in ("dashboards_out", "prometheus_rules_out") for path in (MIXIN / folder).iterdir()}
    assert folders == set(built)


def test_another_selector_is_in_every_query():
    built = runpy.run_path(str(MIXIN / "build.py"))["built"]({"selector": 'job="voip"', "job": "voip"})
    for query in re.findall(r"movidesk_\w+(?!\w)(?:\{[^}]*\})?", "".join(built.values()).replace('\\"', '"')):
        assert 'job="voip"' in query or "_info" in query and "instance)" in query, query


# -- every query -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("query", sorted(set(queries())))
def test_every_metric_label_and_value_of_a_query_is_there(query, series):
    known = {name for name, _ in series}
    assert selectors(query)
    for selector in selectors(query):
        assert selector.name in known, selector.name
        # Something that has not happened here has a series all the same; the queues and PBXs are those of the admin.
        assert matches(selector, series), f"no series for {selector}"


@pytest.mark.parametrize("query", sorted(set(queries())))
def test_a_query_groups_by_labels_that_are_there(query, series):
    for node in parts(parsed(query)):
        if isinstance(node, promql.AggregateExpr) and node.modifier:
            inside = [labels for selector in parts(node) if isinstance(selector, promql.VectorSelector)
                      for labels in matches(selector, series)]
            assert all(set(node.modifier.labels) <= set(labels) for labels in inside), query


def test_a_metric_that_is_not_there_is_found(series):
    for query in ("rate(movidesk_calls_total[5m])", 'movidesk_calls_ended_total{ending="gone"}',
                  'movidesk_calls_ended_total{result="lost"}'):
        assert not all(matches(selector, series) for selector in selectors(query))


def test_every_metric_is_looked_at(series):
    """What nobody looks at need not be exported; but for the time that a scrape took."""
    looked = {selector.name for query in queries() for selector in selectors(query)}
    names = {re.sub("_(bucket|count|sum|created)$", "", name) for name, _ in series}
    assert names - {re.sub("_(bucket|count|sum)$", "", name) for name in looked} == {"movidesk_collect_duration_seconds"}


# -- the rules ---------------------------------------------------------------------------------------------------------

def test_promtool_accepts_the_rules():
    assert f"SUCCESS: {len(RULES)} rules found" in promtool("check", "rules", str(ALERTS))


def test_each_alarm_is_critical_or_mild_as_the_product_says():
    config = runpy.run_path(str(MIXIN / "build.py"))["config"]()
    assert set(config["mildAlarms"]) == alarms.MILD <= set(alarms.NAMES)


def test_a_rule_tells_people_what_to_do():
    for rule in RULES:
        assert rule["alert"].startswith("Movidesk") and rule["labels"]["severity"] in ("warning", "critical")
        assert {"summary", "description"} <= set(rule["annotations"])
        assert set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))) <= set(FIRES[rule["alert"]][2]), rule["alert"]


@pytest.mark.parametrize("page", ["docs/metrics.md", "docs/pt-BR/metrics.md"])
def test_the_documents_have_every_rule(page):
    text = (MIXIN.parents[1] / page).read_text(encoding="utf-8")
    shown = re.findall(r"^\| (Movidesk\w+) \| (\w+) \| ", text, re.MULTILINE)
    assert shown == [(rule["alert"], rule["labels"]["severity"]) for rule in RULES]


PBX = 'instance="pbx1"'
#: Rule -> (series, their values a minute) with which it fires after so many minutes, with these labels.
FIRES = {
    "MovideskDown": ({f'up{{job="movidesk", {PBX}}}': "0x30"}, 10, {"instance": "pbx1", "job": "movidesk"}),
    "MovideskMetricsMissing": ({f"movidesk_build_info{{{PBX}}}": "1x10 _x60",
                                'movidesk_build_info{instance="pbx2"}': "1x90"}, 30, {"instance": "pbx1"}),
    "MovideskMetricsOld": ({f"movidesk_collected_timestamp_seconds{{{PBX}}}": "60x60"}, 15, {"instance": "pbx1"}),
    "MovideskAlarmCritical": ({f'movidesk_alarm_active{{alarm="token", {PBX}}}': "0x5 1x30"}, 15,
                              {"instance": "pbx1", "alarm": "token"}),
    "MovideskAlarm": ({f'movidesk_alarm_active{{alarm="phones", {PBX}}}': "1x30"}, 10, {"instance": "pbx1", "alarm": "phones"}),
    "MovideskJournalUnreadable": ({f"movidesk_journal_readable{{{PBX}}}": "0x30"}, 5, {"instance": "pbx1"}),
    "MovideskEventsLate": ({f"movidesk_outbox_age_seconds{{{PBX}}}": "0+60x60"}, 45, {"instance": "pbx1"}),
    "MovideskThrottled": ({f'movidesk_api_requests_total{{result="throttled", endpoint="received", {PBX}}}': "0+1x60"}, 20,
                          {"instance": "pbx1"}),
    "MovideskRequestsFail": ({f'movidesk_api_requests_total{{result="accepted", endpoint="lost", {PBX}}}': "0+1x60",
                              f'movidesk_api_requests_total{{result="unanswered", endpoint="lost", {PBX}}}': "0+3x60"}, 30,
                             {"instance": "pbx1"}),
    "MovideskRequestsSlow": ({f'movidesk_api_request_duration_seconds_bucket{{le="5.0", endpoint="lost", {PBX}}}': "0+1x60",
                              f'movidesk_api_request_duration_seconds_bucket{{le="10.0", endpoint="lost", {PBX}}}': "0+9x60",
                              f'movidesk_api_request_duration_seconds_bucket{{le="+Inf", endpoint="lost", {PBX}}}': "0+9x60"},
                             40, {"instance": "pbx1"}),
    "MovideskScreensLate": ({f'movidesk_screen_delay_seconds_bucket{{le="30.0", {PBX}}}': "0+1x60",
                             f'movidesk_screen_delay_seconds_bucket{{le="60.0", {PBX}}}': "0+9x60",
                             f'movidesk_screen_delay_seconds_bucket{{le="+Inf", {PBX}}}': "0+9x60",
                             f"movidesk_screen_delay_seconds_count{{{PBX}}}": "0+9x60"}, 50, {"instance": "pbx1"}),
    "MovideskCallersWaitLong": ({f'movidesk_line_longest_wait_seconds{{queue="77", {PBX}}}': "0+60x60"}, 15,
                                {"instance": "pbx1", "queue": "77"}),
    "MovideskCallersLost": ({f'movidesk_calls_ended_total{{mode="control", queue="77", ending="lost", {PBX}}}': "0+1x90",
                             f'movidesk_calls_ended_total{{mode="control", queue="77", ending="completed", {PBX}}}': "0+1x90",
                             f'movidesk_calls_ended_total{{mode="made", queue="", ending="failed", {PBX}}}': "0+9x90"}, 80,
                            {"instance": "pbx1", "queue": "77"}),
    "MovideskFailOpen": ({f'movidesk_fail_opens_total{{cause="journal", {PBX}}}': "0x10 1x30"}, 13,
                         {"instance": "pbx1", "cause": "journal"}),
    "MovideskCallsEndedBySweep": ({f"movidesk_swept_calls_total{{{PBX}}}": "0x10 9x60"}, 20, {"instance": "pbx1"}),
}


def test_each_rule_fires_when_it_should_and_not_before(tmp_path):
    """promtool test rules: at minute 0 none fires, and of each rule's series only that rule."""
    assert set(FIRES) == {rule["alert"] for rule in RULES}
    severity = {rule["alert"]: rule["labels"]["severity"] for rule in RULES}
    alive = {f"movidesk_build_info{{{PBX}}}": "1x90"}
    tests = []
    for name, (values, minutes, labels) in FIRES.items():
        there = {**alive, **values}
        expected = [{"exp_labels": {**labels, "severity": severity[name]}}]
        tests.append({"interval": "1m", "input_series": [{"series": each, "values": each_values} for each, each_values in
                                                         there.items()],
                      "alert_rule_test": [{"eval_time": "0m", "alertname": name, "exp_alerts": []},
                                          {"eval_time": f"{minutes}m", "alertname": name, "exp_alerts": expected}]})
    quiet = {**alive, f'up{{job="movidesk", {PBX}}}': "1x90", f'movidesk_alarm_active{{alarm="token", {PBX}}}': "0x90",
             f'movidesk_line_longest_wait_seconds{{queue="77", {PBX}}}': "30x90", f"movidesk_journal_readable{{{PBX}}}": "1x90",
             f'movidesk_calls_ended_total{{mode="control", queue="77", ending="completed", {PBX}}}': "0+1x90",
             f'movidesk_calls_ended_total{{mode="control", queue="77", ending="lost", {PBX}}}': "0x80 1x10",
             f'movidesk_calls_ended_total{{mode="control", queue="78", ending="closed", {PBX}}}': "0+1x90",
             f'movidesk_calls_ended_total{{mode="control", queue="78", ending="lost", {PBX}}}': "0x80 1x10",
             f'movidesk_screen_delay_seconds_bucket{{le="30.0", {PBX}}}': "0x60 0x30",  # a single one, in a calm night
             f'movidesk_screen_delay_seconds_bucket{{le="60.0", {PBX}}}': "0x60 1x30",
             f'movidesk_screen_delay_seconds_bucket{{le="+Inf", {PBX}}}': "0x60 1x30",
             f"movidesk_screen_delay_seconds_count{{{PBX}}}": "0x60 1x30",
             f'movidesk_fail_opens_total{{cause="journal", {PBX}}}': "7x90",
             f'movidesk_api_requests_total{{result="accepted", endpoint="lost", {PBX}}}': "0+9x30 0+9x60"}
    tests.append({"interval": "1m", "input_series": [{"series": each, "values": values} for each, values in quiet.items()],
                  "alert_rule_test": [{"eval_time": "85m", "alertname": name, "exp_alerts": []} for name in FIRES]})
    tests.append({"interval": "1m", "input_series": [{"series": "other", "values": "1x30"}], "alert_rule_test": [
        {"eval_time": "10m", "alertname": "MovideskMetricsMissing",
         "exp_alerts": [{"exp_labels": {"severity": "critical"}}]}]})  # none has ever sent any
    # Only labels are compared: annotations are for people.
    for test in tests:
        for rule in test["alert_rule_test"]:
            for alert in rule["exp_alerts"]:
                alert["exp_annotations"] = None
    plain = re.sub(r"\n {8}annotations:\n(?: {10}.*\n)+", "\n", ALERTS.read_text(encoding="utf-8"))
    (tmp_path / "alerts.yaml").write_text(plain)
    (tmp_path / "tests.yaml").write_text(json.dumps({"rule_files": ["alerts.yaml"], "evaluation_interval": "1m", "tests": tests}))
    assert "SUCCESS" in promtool("test", "rules", str(tmp_path / "tests.yaml"))


# -- the dashboard -----------------------------------------------------------------------------------------------------

def test_panels_lie_beside_each_other_and_have_ids_of_their_own():
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(places) > 20
    taken = [(x, y) for place in places for x in range(place["x"], place["x"] + place["w"])
             for y in range(place["y"], place["y"] + place["h"])]
    assert len(taken) == len(set(taken)) and max(x for x, _ in taken) <= 23


def test_legends_name_labels_that_the_query_leaves(series):
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            grouped = re.findall(r"by \(([\w, ]*)\)", target["expr"])
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                assert grouped and label in grouped[0].split(", "), (panel["title"], target)


def test_variables_are_those_of_the_queries(series):
    names = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]\w+)", json.dumps(DASHBOARD))) - {"__rate_interval", "__all"}
    assert used == names == {"datasource", "instance", "queue"}
    for variable in DASHBOARD["templating"]["list"][1:]:
        query, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"]).groups()
        assert all(label in labels for selector in selectors(query) for labels in matches(selector, series))

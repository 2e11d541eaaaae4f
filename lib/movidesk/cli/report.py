"""`movidesk report`: the figures of a day, a week or a month, as text, CSV, JSON, or an HTML page."""

from __future__ import annotations

import csv
import gc
import json
import sys
from collections.abc import Callable, Iterable
from typing import Any

from movidesk import messages
from movidesk.call_facts import iso
from movidesk.cli import book, report_sheet
from movidesk.cli.terminal import GOOD, Row, print_fields, print_table, safe_cell, width
from movidesk.config import Config
from movidesk.journal import standby_folder
from movidesk.messages import _
from movidesk.reports import report as reports
from movidesk.reports.callbacks import Caller
from movidesk.reports.figures import Figures
from movidesk.reports.periods import Period
from movidesk.rules import call_states

TEXT, CSV, JSON, HTML = "text", "csv", "json", "html"
COUNTS = ("calls", "answered", "lost", "abandoned", "waiting", "closed", "within", "service_level", "made", "not_connected",
          "unseen")
SPREADS = ("wait", "talk", "screen")
#: The columns of the two CSVs.
FIELDS = ("group", "name", *COUNTS, *(f"{name}_{what}" for name in SPREADS for what in ("mean", "median", "p95")))
CALLER_FIELDS = ("number", "queue", "outcome", "arrived", "waited", "calls")


def show(settings: Config, period: Period, within: int | None, form: str, callers: bool, mask: bool) -> int:
    """Print the report of a period. within: seconds of the service level, if not those of the configuration. callers: only whom
    to call back. mask: show numbers by their last digits alone, also if the configuration does not say so."""
    if form in (CSV, JSON):
        messages.use_english()
    journal = book.opened(settings)
    gc.disable()  # among a million calls it finds nothing, and takes a tenth of the time
    try:
        found = reports.read(journal, period, within or settings["reports", "answer_within"], settings["journal", "keep_days"])
    finally:
        gc.enable()
    masked = call_states.masked if mask or settings["pbx", "mask_numbers"] == "yes" else str
    reader = report_sheet.Reader(masked, settings["pbx", "queue_names"] or {}, settings["pbx", "agent_names"] or {},
                                 standby_folder.in_use(settings))
    if form == HTML:
        from movidesk.cli import report_page

        print(report_page.html(found, reader))
    elif form == TEXT:
        _print_text(found, reader, callers)
    elif form == JSON:
        state = {"incomplete": report_sheet.incomplete(found, reader.standby)}
        _print_json({**state, **(_call_back(found) if callers else _json(found))}, found.callbacks.callers, masked)
    elif callers:
        _print_csv(CALLER_FIELDS, (_caller(caller, masked) for caller in found.callbacks.callers))
    else:
        _print_csv(FIELDS, _lines(found))
    return GOOD


def _print_text(report: reports.Report, reader: report_sheet.Reader, callers: bool) -> None:
    sheet, room = report_sheet.of(report, reader), width()
    tables = [table if room is None else table.within(room) for table in sheet.tables
              if not callers or table.name == "callers"]
    print(sheet.title)
    for note in sheet.notes:
        print(note)
    if not callers:
        print()
        print_fields(sheet.facts)
    elif not tables:
        print(_("nobody has to be called back"))
    for table in tables:
        print(f"\n{table.title}")
        print_table({column.heading: 0 for column in table.columns}, [Row(row) for row in table.rows])
        if table.note:
            print(table.note)


def _print_json(document: dict[str, Any], callers: Iterable[Caller], masked: Callable[[str], str]) -> None:
    """Print the document with these callers in its empty list `callers`. They are encoded one by one: a month of a
    million calls has 70,000 of them, which would take 60 MB at once."""
    encode = json.JSONEncoder(indent=2).encode
    before, key, after = encode(document).partition('"callers": [')
    line_end = before[before.rindex("\n"):]
    sys.stdout.write(before + key)
    separator = ""
    for caller in callers:
        text = "\n" + encode(_caller(caller, masked))
        sys.stdout.write(separator + text.replace("\n", f"{line_end}  "))
        separator = ","
    sys.stdout.write((line_end if separator else "") + after + "\n")


def _print_csv(fields: tuple[str, ...], lines: Iterable[dict[str, Any]]) -> None:
    rows = csv.DictWriter(sys.stdout, fields, lineterminator="\n")
    rows.writeheader()
    rows.writerows({name: safe_cell(value) for name, value in line.items()} for line in lines)


def _lines(report: reports.Report) -> list[dict[str, Any]]:
    """A line for the whole period, for each hour, day, queue and agent."""
    found = [("total", "", report.total)]
    for group, rows in (("hour", report.hours), ("day", report.days), ("queue", report.queues), ("agent", report.agents)):
        found += [(group, row.name, row.figures) for row in rows]
    return [{"group": group, "name": name, **_counts(figures), **_flat(figures)} for group, name, figures in found]


def _counts(figures: Figures) -> dict[str, Any]:
    counts = {name: getattr(figures, name) for name in COUNTS}
    return {**counts, "service_level": _rounded(figures.service_level, 4)}


def _flat(figures: Figures) -> dict[str, Any]:
    return {f"{name}_{what}": _rounded(getattr(getattr(figures, name), what))
            for name in SPREADS for what in ("mean", "median", "p95")}


def _rounded(value: float | None, digits: int = 2) -> float | None:
    return None if value is None else round(value, digits)


def _figures(figures: Figures) -> dict[str, Any]:
    return {**_counts(figures), **{name: {what: _rounded(value) for what, value in getattr(figures, name)._asdict().items()}
                                   for name in SPREADS}}


def _json(report: reports.Report) -> dict[str, Any]:
    groups = {"hours": ("hour", report.hours), "days": ("day", report.days), "queues": ("queue", report.queues),
              "agents": ("agent", report.agents)}
    return {
        "first": report.period.first.isoformat(), "last": report.period.last.isoformat(),
        "begin": iso(report.begin), "end": iso(report.end), "read": iso(report.read),
        "since": None if report.since is None else iso(report.since), "answer_within": report.within,
        "total": _figures(report.total),
        **{group: [{name: row.name, **_figures(row.figures)} for row in rows] for group, (name, rows) in groups.items()},
        "call_back": _call_back(report),
    }


def _call_back(report: reports.Report) -> dict[str, Any]:
    """Whom to call back, without the callers: see _print_json."""
    back = report.callbacks
    return {"callers": [], "answered_since": back.answered, "called_since": back.called, "anonymous": back.anonymous}


def _caller(caller: Caller, masked: Callable[[str], str]) -> dict[str, Any]:
    return {"number": masked(caller.number), "queue": caller.queue, "outcome": caller.outcome, "arrived": iso(caller.arrived),
            "waited": _rounded(caller.waited), "calls": caller.calls}

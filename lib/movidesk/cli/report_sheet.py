"""A report as texts for people: headings, facts and tables, from which the terminal and the HTML page are made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import NamedTuple

from movidesk.facts import span
from movidesk.messages import _, ngettext
from movidesk.reports import figures
from movidesk.reports.callbacks import Caller
from movidesk.reports.figures import Figures, Row, Spread
from movidesk.reports.report import Report

LISTED = 200  # callers that people are shown; programs get all


class Reader(NamedTuple):
    """What a report's readers are told beside its figures."""

    masked: Callable[[str], str]  # how a number is shown
    queues: Mapping[str, str]     # the names of queues by their numbers, as far as they have one
    agents: Mapping[str, str]     # the same of agents, by their extensions
    standby: bool                 # whether the standby records the calls now: the journal, so the report, does not have them


class Column(NamedTuple):
    """A column of a table."""

    heading: str
    detail: int = 0  # 0: always shown. Those with the highest number are left out first where there is no room


class Table(NamedTuple):
    """A table: the first column names its rows."""

    name: str            # hours, days, queues, agents or callers
    title: str
    columns: list[Column]
    rows: list[list[str]]
    note: str = ""       # what stands below it

    def within(self, width: int) -> Table:
        """The same with as many columns as this width has room for, with two blanks between them."""
        widths = [max(map(len, [column.heading, *(row[place] for row in self.rows)]))
                  for place, column in enumerate(self.columns)]
        for detail in sorted({column.detail for column in self.columns}, reverse=True):
            shown = [place for place, column in enumerate(self.columns) if column.detail <= detail]
            if sum(widths[place] + 2 for place in shown) - 2 <= width:
                break
        return self._replace(columns=[self.columns[place] for place in shown],
                             rows=[[row[place] for place in shown] for row in self.rows])


class Sheet(NamedTuple):
    """What people are shown of a report."""

    title: str
    notes: list[str]               # what to know before the figures
    facts: list[tuple[str, str]]   # of all calls: heading and text
    tables: list[Table]


def of(report: Report, reader: Reader) -> Sheet:
    """The report in the reader's language."""
    tables = (_hours(report), _days(report), _queues(report, reader.queues), _agents(report, reader.agents),
              _callers(report, reader))
    return Sheet(title(report), list(_notes(report, reader.standby)), _facts(report), [table for table in tables if table.rows])


def title(report: Report) -> str:
    """What the report is about."""
    first, last = report.period
    if first == last:
        return _("Calls of {day}").format(day=_day(first))
    return _("Calls from {first} to {last}").format(first=_day(first), last=_day(last))


def _notes(report: Report, standby: bool) -> Iterable[str]:
    if report.since is not None and report.since >= report.end:
        yield _("The journal has no calls of this time any more, or it had not begun ([journal] keep_days).")
    elif report.since is not None:
        yield _("The journal has no calls from before {moment}: they are not zero, but unknown ([journal] keep_days).").format(
            moment=_moment(report.since))
    if report.read < report.end:
        yield _("Until now, {moment}.").format(moment=_moment(report.read))
    if incomplete(report, standby):
        yield _("The journal cannot be written: the calls of this time are missing here until it can (movidesk status says why).")


def incomplete(report: Report, standby: bool) -> bool:
    """Whether calls of the period may be missing because the standby records them. standby: as in Reader."""
    return standby and report.read >= report.begin


def _facts(report: Report) -> list[tuple[str, str]]:
    total, back = report.total, report.callbacks
    texts = [_("{answered} answered, {abandoned} abandoned, {lost} lost").format(**total._asdict())]
    if total.closed:
        texts[0] += " " + _("({count} of them while closed)").format(count=total.closed)
    if total.waiting:
        texts.append(ngettext("{count} waits", "{count} wait", total.waiting).format(count=total.waiting))
    found = [(_("calls"), f"{total.calls}: {', '.join(texts)}"),
             (_("service level"), _("{percent} answered within {seconds} s").format(
                 percent=_percent(total.service_level), seconds=report.within)),
             (_("waited"), _spread(total.wait, span)), (_("talked"), _spread(total.talk, span)),
             (_("screen opened"), _spread(total.screen, _tenths))]
    if total.unseen:
        found.append(("", ngettext("for {count} answered call Movidesk has not taken the report: no screen opened",
                                   "for {count} answered calls Movidesk has not taken the report: no screen opened",
                                   total.unseen).format(count=total.unseen)))
    if total.made:
        found.append((_("made calls"), _("{made}, {failed} of them not connected").format(made=total.made,
                                                                                        failed=total.not_connected)))
    found.append((_("to call back"), ngettext("{count} caller", "{count} callers", len(back.callers)).format(
        count=len(back.callers))))
    rest = [(back.answered, ngettext("{count} called again and was answered", "{count} called again and were answered",
                                     back.answered)),
            (back.called, ngettext("{count} was called by an agent", "{count} were called by an agent", back.called)),
            (back.anonymous, ngettext("{count} call without a number", "{count} calls without a number", back.anonymous))]
    if any(count for count, _text in rest):
        found.append(("", _("not among them: {texts}").format(
            texts=", ".join(text.format(count=count) for count, text in rest if count))))
    return found


def _hours(report: Report) -> Table:
    rows = busy_hours(report)
    again = any(row.name.endswith("*") for row in rows)
    return _table("hours", _("By hour"), _("hour"), [row._replace(name=row.name[:2] + ":00" + row.name[2:]) for row in rows],
                  _("* The clock was set back: this hour came twice.") if again else "")


def _days(report: Report) -> Table:
    rows = [row._replace(name=_day(date.fromisoformat(row.name))) for row in report.days]
    return _table("days", _("By day"), _("day"), rows if report.period.first != report.period.last else [])


def _queues(report: Report, names: Mapping[str, str]) -> Table:
    return _table("queues", _("By queue"), _("queue"), [row._replace(name=_named(row.name, names)) for row in report.queues])


def _table(name: str, title: str, heading: str, rows: Sequence[Row], note: str = "") -> Table:
    columns = [Column(heading), Column(_("calls")), Column(_("answered")), Column(_("abandoned calls")),
               Column(_("lost calls")), Column(_("level")), *_times()]
    return Table(name, title, columns, [
        [row.name, *map(str, (row.figures.calls, row.figures.answered, row.figures.abandoned, row.figures.lost)),
         _percent(row.figures.service_level), *_times_of(row.figures)] for row in rows], note)


def _agents(report: Report, names: Mapping[str, str]) -> Table:
    return Table("agents", _("By agent"), [Column(_("agent")), Column(_("answered")), Column(_("made")), *_times()], [
        [_named(row.name, names), str(row.figures.answered), str(row.figures.made), *_times_of(row.figures)]
        for row in report.agents])


def _named(number: str, names: Mapping[str, str]) -> str:
    """A queue or an agent: the number, and the name if there is one."""
    return f"{number} {names[number]}" if number in names else number


def _times() -> list[Column]:
    return [Column(_("wait")), Column(_("wait median"), 4), Column(_("wait 95 %"), 1), Column(_("talk")),
            Column(_("talk median"), 4), Column(_("talk 95 %"), 3), Column(_("screen"), 2)]


def _times_of(row: Figures) -> list[str]:
    return [*(_seconds(value, span) for value in row.wait[1:]), *(_seconds(value, span) for value in row.talk[1:]),
            _seconds(row.screen.mean, _tenths)]


def _callers(report: Report, reader: Reader) -> Table:
    found = report.callbacks.callers
    rows = [[reader.masked(caller.number), _moment(caller.arrived), _named(caller.queue, reader.queues), outcome(caller),
             span(caller.waited), str(caller.calls)] for caller in found[:LISTED]]
    note = _("{count} more: movidesk report --callers --csv").format(count=len(found) - LISTED) if len(found) > LISTED else ""
    return Table("callers", _("To call back"), [Column(_("number")), Column(_("last call")), Column(_("queue")),
                                                Column(_("outcome")), Column(_("waited")), Column(_("times"))], rows, note)


def outcome(caller: Caller) -> str:
    """What became of the caller's last call."""
    return _("lost") if caller.outcome == figures.LOST else _("abandoned")


def busy_hours(report: Report) -> list[Row]:
    """The hours that are shown: from the first with calls to the last one."""
    places = [place for place, row in enumerate(report.hours) if row.figures.calls or row.figures.made]
    return report.hours[places[0]:places[-1] + 1] if places else []


def _day(day: date) -> str:
    """A date with its day of the week."""
    names = (_("Mon"), _("Tue"), _("Wed"), _("Thu"), _("Fri"), _("Sat"), _("Sun"))
    return f"{names[day.weekday()]} {day.isoformat()}"


def _moment(epoch: float) -> str:
    return datetime.fromtimestamp(epoch).strftime("%Y-%m-%d %H:%M")


def _percent(part: float | None) -> str:
    """Rounded down: 100 % are all. Of 29 in 100 the product of floating-point numbers is a little below 29."""
    return "-" if part is None else f"{int(100 * part + 1e-9)} %"


def _spread(spread: Spread, shown: Callable[[float], str]) -> str:
    if spread.mean is None or spread.median is None or spread.p95 is None:
        return "-"
    return _("mean {mean}, median {median}, at most {p95} in 95 %").format(
        mean=shown(spread.mean), median=shown(spread.median), p95=shown(spread.p95))


def _seconds(value: float | None, shown: Callable[[float], str]) -> str:
    return "-" if value is None else shown(value)


def _tenths(seconds: float) -> str:
    return _("{seconds:.1f} s").format(seconds=seconds)

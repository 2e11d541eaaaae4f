"""The commands of `movidesk` with their options. What a command does is in the module of its name, which is loaded only then."""

from __future__ import annotations

from datetime import date
from typing import Any

import click

from movidesk import __version__, config
from movidesk.call_facts import OUTCOMES
from movidesk.cli import parameters
from movidesk.journal.call_search import UNANSWERED, Wanted
from movidesk.messages import _
from movidesk.reports.periods import Period


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
             help=_("Connects Asterisk with Movidesk's telephony API."),
             epilog=_("Exit status: 0 good, 1 trouble, 2 misuse. Times are local; Movidesk receives UTC."))
@click.version_option(__version__, message="movidesk-agi %(version)s")
@click.option("--config", metavar=_("FILE"), type=click.Path(),
              help=_("default: ${variable}, else {path}").format(variable=config.PATH_VARIABLE, path=config.DEFAULT_PATH))
def movidesk(config: str | None) -> None:
    """The command itself does nothing; each of its commands reads the configuration when it runs."""


def settings() -> config.Config:
    """The configuration that this run of the command uses."""
    return config.load(click.get_current_context().find_root().params["config"])


@movidesk.command(help=_("Answer FastAGI and deliver events, until stopped."))
def serve() -> int:
    from movidesk.cli import delivery

    return delivery.serve(settings())


@movidesk.command(help=_("Deliver events without FastAGI."))
@click.option("--once", is_flag=True, help=_("send what is due, then exit (for cron)"))
def deliver(once: bool) -> int:
    from movidesk.cli import delivery

    return delivery.once(settings()) if once else delivery.deliver(settings())


@movidesk.command(help=_("Show what is in trouble, who waits, and which events wait."))
@click.option("--watch", metavar=_("[SECONDS]"), type=click.FloatRange(0.2, 3600), is_flag=False, flag_value=2.0,
              help=_("again and again, every 2 or so many seconds, until Ctrl-C"))
@click.option("--json", "as_json", is_flag=True, help=_("for programs"))
@click.option("--fleet", is_flag=True, help=_("all PBXs that share this account ([fleet])"))
@click.option("--nagios", is_flag=True, help=_("one line for Nagios, Icinga or Zabbix, with exit status 0 to 3"))
@click.option("-w", "--warning", metavar=_("LIMITS"), type=parameters.thresholds,
              help=_("with --nagios: numbers above which it warns, such as waiting=5,longest=120,outbox_age=600"))
@click.option("-c", "--critical", metavar=_("LIMITS"), type=parameters.thresholds,
              help=_("with --nagios: numbers above which it is critical"))
@click.option("-t", "--timeout", metavar=_("SECONDS"), type=click.FloatRange(0.1, 600),
              help=_("with --nagios: how long it may take (10)"))
def status(watch: float | None, as_json: bool, fleet: bool, nagios: bool, warning: dict[str, float] | None,
           critical: dict[str, float] | None, timeout: float | None) -> int:
    if fleet and (nagios or watch is not None):
        raise click.UsageError(_("--fleet excludes --watch and --nagios"))
    if [watch is not None, as_json, nagios].count(True) > 1:
        raise click.UsageError(_("--watch, --json and --nagios exclude each other"))
    if nagios:
        from movidesk.cli import nagios as plugin

        return plugin.run(settings(), warning or {}, critical or {}, timeout or 10.0)
    if warning or critical or timeout:
        raise click.UsageError(_("-w, -c and -t belong to --nagios"))
    from movidesk.cli import status

    if watch is not None:
        return status.watch(settings(), watch)
    if fleet:
        return status.show_fleet(settings(), as_json)
    return status.show_json(settings()) if as_json else status.show(settings())


@movidesk.command(help=_("Show the last calls: how long each waited and talked, and how it ended."),
                  epilog=_("WHEN: 08:00, '2026-01-31 08:00', 2026-01-31, today, yesterday, or how long ago: 30m, 2h, 7d."))
@click.option("-n", "count", metavar=_("COUNT"), type=parameters.count,
              help=_("how many calls, or 'all' (default: 20; all with --csv and --json)"))
@click.option("--number", metavar=_("NUMBER"), type=parameters.part_of_number, help=_("the caller's number, or a part of it"))
@click.option("--agent", metavar=_("EXTENSION"), help=_("answered by this extension"))
@click.option("--queue", metavar=_("QUEUE"), help=_("of this queue"))
@click.option("--state", "outcomes", multiple=True, type=click.Choice(list(dict.fromkeys(OUTCOMES.values()))),
              help=_("in this state; may be repeated"))
@click.option("--unanswered", is_flag=True, help=_("ended before an agent answered"))
@click.option("--day", metavar=_("DAY"), type=parameters.day, help=_("arrived on this day: today, yesterday, or 2026-01-31"))
@click.option("--since", metavar=_("WHEN"), type=parameters.moments, help=_("arrived at this time or later"))
@click.option("--until", metavar=_("WHEN"), type=parameters.moments, help=_("arrived before this time, or on this day"))
@click.option("--id", "name", metavar="ID",
              help=_("everything about one call: its number in this list, its call id, or its channel's unique id"))
@click.option("--follow", is_flag=True, help=_("go on, and show each call to which something happens"))
@click.option("--csv", "form", flag_value="csv", help=_("for spreadsheets"))
@click.option("--json", "form", flag_value="json", help=_("for programs: a line for each call"))
def calls(count: int | None, name: str | None, follow: bool, form: str | None, **wanted: Any) -> int:
    from movidesk.cli import calls

    form = form or calls.TABLE
    if name is not None:
        if follow or count is not None or any(wanted.values()):
            raise click.UsageError(_("--id excludes -n, --follow, and what searches"))
        return calls.show_one(settings(), name, form)
    if follow:
        return calls.follow(settings(), _wanted(**wanted), count or calls.DEFAULT, form)
    if count is None:
        count = calls.DEFAULT if form == calls.TABLE else 0
    return calls.show(settings(), _wanted(**wanted), count or None, form)


@movidesk.command(help=_("Show the figures of a day, a week or a month, by hour, queue and agent, and whom to call back."),
                  epilog=_("DAY: 2026-01-31, today or yesterday. A week is from Monday to Sunday."))
@click.option("--day", metavar=_("[DAY]"), type=parameters.a_day, is_flag=False, flag_value="today",
              help=_("of this day (today)"))
@click.option("--week", metavar=_("[DAY]"), type=parameters.a_week, is_flag=False, flag_value=parameters.LAST,
              help=_("of the week with this day (the last one that is over)"))
@click.option("--month", metavar=_("[DAY]"), type=parameters.a_month, is_flag=False, flag_value=parameters.LAST,
              help=_("of the month with this day, or 2026-01 (the last one that is over)"))
@click.option("--from", "first", metavar=_("DAY"), type=parameters.a_date, help=_("from this day on"))
@click.option("--to", "last", metavar=_("DAY"), type=parameters.a_date, help=_("up to this day, with --from (today)"))
@click.option("--within", metavar=_("SECONDS"), type=click.IntRange(1, 3600),
              help=_("time of the service level (default: [reports] answer_within)"))
@click.option("--callers", is_flag=True, help=_("only whom to call back"))
@click.option("--mask", is_flag=True, help=_("show the last digits of callers' numbers only"))
@click.option("--csv", "form", flag_value="csv", help=_("for spreadsheets"))
@click.option("--json", "form", flag_value="json", help=_("for programs"))
@click.option("--html", "form", flag_value="html", help=_("one page with charts, for mail and browsers"))
def report(day: Period | None, week: Period | None, month: Period | None, first: date | None, last: date | None,
           within: int | None, callers: bool, mask: bool, form: str | None) -> int:
    given = [period for period in (day, week, month) if period is not None]
    if len(given) + (first is not None) > 1:
        raise click.UsageError(_("--day, --week, --month and --from exclude each other"))
    if callers and form == "html":
        raise click.UsageError(_("--callers and --html exclude each other"))
    if first is None and last is not None:
        raise click.UsageError(_("--to needs --from"))
    today = parameters.a_date("today")
    if first is not None:
        given = [Period(first, last or max(first, today))]
        if given[0].last < first:
            raise click.UsageError(_("--to is before --from"))
    from movidesk.cli import report

    return report.show(settings(), given[0] if given else Period(today, today), within, form or report.TEXT, callers, mask)


def _wanted(number: str | None, agent: str | None, queue: str | None, outcomes: tuple[str, ...], unanswered: bool,
            day: tuple[float, float] | None, since: tuple[float, float] | None, until: tuple[float, float] | None) -> Wanted:
    """Which calls the options ask for."""
    if unanswered and outcomes:
        raise click.UsageError(_("--unanswered and --state exclude each other"))
    if day and (since or until):
        raise click.UsageError(_("--day excludes --since and --until"))
    states = UNANSWERED if unanswered else tuple(state for state, outcome in OUTCOMES.items() if outcome in outcomes)
    begin, end = day or (since[0] if since else None, until[1] if until else None)
    return Wanted(number or "", agent or "", queue or "", states, begin, end)


@movidesk.command(help=_("Show the events that wait or were refused, and why."))
@click.option("--now", is_flag=True, help=_("try every event at once that waits for its next try, after a repair"))
@click.option("--replay", metavar=_("EVENT"), type=parameters.events,
              help=_("send a refused event again; its number, or 'all'"))
@click.option("--dismiss", metavar=_("EVENT"), type=parameters.events,
              help=_("give up a refused event: it is never sent, and its alarm ends; its number, or 'all'"))
def outbox(now: bool, replay: int | None, dismiss: int | None) -> int:
    from movidesk.cli import outbox

    if [now, replay is not None, dismiss is not None].count(True) > 1:
        raise click.UsageError(_("--now, --replay and --dismiss exclude each other"))
    if now:
        return outbox.retry_now(settings())
    if replay is not None:
        return outbox.replay(settings(), replay)
    if dismiss is not None:
        return outbox.dismiss(settings(), dismiss)
    return outbox.show(settings())


@movidesk.command(help=_("Show what Movidesk would get for a caller's number, and why ([numbers])."))
@click.argument("numbers", nargs=-1, required=True, metavar=_("NUMBER..."))
def number(numbers: tuple[str, ...]) -> int:
    from movidesk.cli import number

    return number.show(settings(), numbers)


@movidesk.command(help=_("Find what is wrong, and say what mends it."))
@click.option("--json", "as_json", is_flag=True, help=_("for programs"))
@click.option("--bundle", metavar=_("FILE"), type=click.Path(dir_okay=False),
              help=_("write a support archive (tar.gz), without secrets, callers' numbers masked"))
def check(as_json: bool, bundle: str | None) -> int:
    from movidesk.cli import check

    return check.run(settings(), as_json, bundle)


@movidesk.command(help=_("Print the metrics that Prometheus gets ([metrics])."))
def metrics() -> int:
    try:
        from movidesk.cli import metrics
    except ModuleNotFoundError as error:
        raise click.ClickException(_("metrics need more packages ({name}): pip install 'movidesk-agi[metrics]'").format(
            name=error.name)) from None
    return metrics.show(settings())


@movidesk.command(help=_("Run a simulator of Movidesk, for tests."), add_help_option=False,
                  context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def simulate(arguments: tuple[str, ...]) -> int:
    """The simulator has a parser of its own: it imports nothing of the product."""
    try:
        from movidesk_sim.command import main
    except ImportError as error:
        raise click.ClickException(_("the simulator needs more packages ({name}): pip install 'movidesk-agi[sim]'").format(
            name=error.name)) from None
    return main(list(arguments))

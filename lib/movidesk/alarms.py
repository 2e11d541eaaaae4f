"""Alarms: problems that do not go away by themselves and need an admin.

    name       begins                              ends
    config     Config: problems of the file        the file is corrected
    token      apply_outcome: 401 or 403           Movidesk accepts this token, or the file has another
    service    no process delivers                 movidesk serve (or deliver) runs again
    disk       little space is left                space is free
    extension  question, verbs: it does not match  extension_pattern matches it, or a day is over
    away       apply_outcome: no answer, 5xx       Movidesk accepts a request, or rejects one with another status
    pause      Limits.close_window: 429            the pause is over
    idle       the journal: due events stay        a request is sent
    journal    standby.use, or files not writable  standby.end: it can be used again
    refused    the journal: events set aside       `movidesk outbox --replay` or `--dismiss`
    emergency  emergency.save                      emergency.take_in
    damaged    recovery.set_aside                  the file that it kept is moved away
    asterisk   sweep.recover: no answer            Asterisk answers
    phones     Scheduler.turn: calls not answered  the phone answers a call, or is not offered for an hour
    metrics    [metrics] textfile is old           it is written again
    redis      fleet_watch: Redis cannot be used   Redis answers
    fleet      fleet_watch: a PBX is silent        all [fleet] pbxs are there
    clocks     fleet_watch: clocks are apart       they agree

No code switches an alarm on or off: `standing` derives it from stored facts, so an alarm ends with its cause. `movidesk status`
shows the alarms, the service logs them, and once an hour the first verb that runs shows them on Asterisk's console.
"""

from __future__ import annotations

import os
import re
import time

from movidesk import NamedTuple, journal
from movidesk.config import Config
from movidesk.context import NOT_TOLD, UNUSABLE_EXTENSION, Context
from movidesk.delivery.availability import AWAY, TOKEN_REJECTED
from movidesk.journal import REFUSED, emergency, standby, standby_folder
from movidesk.journal.recovery import kept_aside
from movidesk.messages import _, ngettext
from movidesk.pbx import liveness
from movidesk.rules import call_states, waiting_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

SAY_EVERY = 3600.0  # seconds until an alarm is repeated in the same place
#: How many seconds a problem must last to become an alarm; a restart or a short pause does not.
AWAY_AFTER, PAUSE_AFTER, NOT_TOLD_AFTER, IDLE_AFTER = 60.0, 60.0, 300.0, 600.0
SERVICE_AFTER = 180.0       # cron's `deliver --once` says every minute that it delivers
FLEET_AFTER = 60.0          # Redis, or a PBX, is restarted sooner
UNUSABLE_OLD = 86400.0      # seconds after which an extension that did not match no longer counts
TEXTFILE_AFTER = 300.0      # it is written every 15 seconds, by cron's `deliver --once` every minute
LITTLE_SPACE = 50_000_000   # bytes; on a small disk a fiftieth of it

#: How often in a row a phone must fail to raise an alarm: a phone that is off, and one that nobody answers. An agent in another
#: call raises none. REFUSAL_OLD: seconds after which a failure no longer counts.
DEAD_TIMES, UNANSWERED_TIMES, REFUSAL_OLD = 2, 3, 3600.0

#: Alarms with which calls and reports go on; the others are critical.
MILD = frozenset({"pause", "refused", "phones", "extension", "asterisk", "emergency", "damaged", "metrics", "redis", "fleet",
                  "clocks"})
#: All alarms, in the order of the table above.
NAMES = ("config", "token", "service", "disk", "extension", "away", "pause", "idle", "journal", "refused", "emergency", "damaged",
         "asterisk", "phones", "metrics", "redis", "fleet", "clocks")


class Alarm(NamedTuple):
    """An alarm that stands."""

    name: str    # one of the table above
    text: str    # what is wrong, and what to do, as one line
    wrong: str   # only what is wrong
    remedy: str  # only what to do; '' if only `movidesk check` can tell


def of(name: str, wrong: str, remedy: str = "") -> Alarm:
    """An alarm whose line is made of both; without a remedy it sends the reader to `movidesk check`."""
    return Alarm(name, f"{wrong}; {remedy or _('see movidesk check')}", wrong, remedy)


def standing(context: Context) -> list[Alarm]:
    """All current alarms, the most urgent first.

    If the journal cannot be read, the alarm `journal` gives the reason, and alarms that depend on its content are missing.
    """
    found = without_journal(context.config)
    urgent = [alarm for alarm in found if alarm.name in ("config", "journal")]
    of_journal, of_office = [], []
    try:
        of_journal = _of_movidesk(context, context.journal) + _refused(context)
        of_office = _of_fleet(context, context.journal) + _of_office(context, context.journal)
    except journal.JournalError as error:
        if not standby_folder.in_use(context.config):
            urgent.append(of("journal", str(error)))
    return urgent + of_journal + [alarm for alarm in found if alarm not in urgent] + of_office


def without_journal(config: Config) -> list[Alarm]:
    """The alarms that do not depend on the journal's content."""
    problems = config.all_problems()
    found = [of("config", "; ".join(problems))] if problems else []
    if standby_folder.in_use(config):
        found.append(of("journal", _(
            "the journal cannot be used; a second one in memory ({folder}) replaces it, and calls go on. The cause: {why}"
            ).format(folder=standby_folder.folder(config), why=standby.reason(config))))
    elif not _is_writable(config["journal", "path"]):
        found.append(of("journal", _("{path}, or its folder, is not writable for this user").format(
            path=config["journal", "path"]), _("give both to Asterisk's user")))
    found += _of_machine(config["journal", "path"])
    found += _of_textfile(config)
    for path, since in emergency.waiting(config):
        found.append(of("emergency", _("events wait in {path} since {time}: the journal could not record them").format(
            path=path, time=local(since)), _("movidesk serve (or deliver) imports them")))
    for path, since in kept_aside(config["journal", "path"]):
        found.append(of("damaged", _("the journal was damaged at {time} and was renamed to {path}").format(
            time=local(since), path=path), _(
                "see docs/operations.md, \"A damaged journal\", then move that file elsewhere, with its -wal")))
    return found


def _is_writable(path: str) -> bool:
    """Whether this user may write the journal at `path`; True if there is none yet."""
    names = (os.path.dirname(path), path, path + "-wal", path + "-shm")
    return not os.path.exists(path) or all(os.access(name, os.W_OK) for name in names if os.path.exists(name))


def _of_machine(path: str) -> list[Alarm]:
    """Whether a process delivers the events of the journal at `path`, and its disk has space."""
    found = []
    last = liveness.last_delivery(path)
    if os.path.isdir(os.path.dirname(path)) and (last is None or not 0.0 <= time.time() - last < SERVICE_AFTER):
        since = _("has not run since {time}").format(time=local(last)) if last else _("has never run")
        found.append(of("service", _(
            "movidesk serve {since}: no event is sent to Movidesk, and calls use the slower scripts").format(since=since),
            _("start it: systemctl start movidesk (journalctl -u movidesk says why it ended)")))
    try:
        disk = os.statvfs(os.path.dirname(path))
    except OSError:
        return found  # what is wrong with the folder, the journal says
    free = disk.f_bavail * disk.f_frsize
    if free < min(LITTLE_SPACE, disk.f_blocks * disk.f_frsize // 50) or disk.f_files and not disk.f_favail:
        found.append(of("disk", _(
            "only {megabytes:.1f} MB and {files} files are free on the disk of {folder}: once it is full no event can be "
            "recorded there").format(megabytes=free / 1e6, files=disk.f_favail, folder=os.path.dirname(path)),
            _("free some space: du -xh / | sort -h | tail")))
    return found


def _of_textfile(config: Config) -> list[Alarm]:
    """Whether the file for node_exporter is written. While nothing delivers, the alarm about that says enough."""
    path, service = config["metrics", "textfile"], liveness.last_delivery(config["journal", "path"])
    if not path or service is None or not 0.0 <= time.time() - service < SERVICE_AFTER:
        return []
    try:
        written = os.stat(path).st_mtime
    except OSError as error:
        return [of("metrics", _("[metrics] textfile = {path} cannot be read: {why}").format(path=path, why=error.strerror))]
    if abs(time.time() - written) < TEXTFILE_AFTER:
        return []
    return [of("metrics", _("[metrics] textfile = {path} was last written at {time}").format(path=path, time=local(written)))]


def _refused(context: Context) -> list[Alarm]:
    book = context.journal
    refused = book.overview.totals()["refused"]
    if not refused:
        return []
    event, call, _request = book.outbox.jobs(REFUSED, 1)[0]
    why = call_states.without_number(event.note, call.number) if context.config["pbx", "mask_numbers"] == "yes" else event.note
    return [of("refused", ngettext(
        "{count} event is set aside, the first: {kind} of {call} ({why})",
        "{count} events are set aside, the first: {kind} of {call} ({why})", refused).format(
            count=refused, kind=event.kind, call=call.call_id, why=why), _("see movidesk outbox"))]


def _of_fleet(context: Context, book: journal.Journal) -> list[Alarm]:
    """Problems of the other PBXs with this account, and of the Redis between them; what the service last saw."""
    config, found = context.config, []
    if not config["fleet", "redis"]:
        return []  # what is noted is from before
    from movidesk.pbx import fleet_watch  # only a PBX of a fleet loads it

    away = book.notes.get(fleet_watch.REDIS)
    if away and _lasts(context, away[1], FLEET_AFTER):
        text = _("since {time} this PBX may not join the others of its account, and sends nothing until that is mended: {why}")
        if not book.notes.get(fleet_watch.REFUSED):
            text = _("since {time} this PBX cannot share the account with the others ({why}): it goes on with its own waiting "
                     "line and its share of the limit")
        found.append(of("redis", text.format(time=local(away[1]), why=away[0])))
    silent = book.notes.get(fleet_watch.SILENT)
    if silent and _lasts(context, silent[1], FLEET_AFTER):
        there, _space, names = silent[0].partition(" ")
        found.append(of("fleet", _(
            "PBXs of this account since {time}: {there} of {pbxs}; silent: {names}. Nobody uses their share of the limit").format(
                pbxs=config["fleet", "pbxs"], there=there, time=local(silent[1]), names=names or _("unknown")),
            _("start them; if they are gone for good, lower [fleet] pbxs on all others")))
    clocks = book.notes.get(fleet_watch.CLOCKS)
    if clocks:
        found.append(of("clocks", _(
            "clocks differ by more than {seconds:g} s from each other, or from that of Redis' machine: {clocks}").format(
                seconds=fleet_watch.APART, clocks=clocks[0]),
            _("on each PBX: apt-get install chrony, or timedatectl set-ntp true")))
    return found


def _of_office(context: Context, book: journal.Journal) -> list[Alarm]:
    """Problems of Asterisk and its phones."""
    found = []
    not_told = book.notes.get(NOT_TOLD)
    if not_told and _lasts(context, not_told[1], NOT_TOLD_AFTER):
        found.append(of("asterisk", _(
            "Asterisk has not listed its channels since {time}, so calls whose channel is gone stay open: {why}").format(
                time=local(not_told[1]), why=not_told[0])))
    rejected = book.notes.get(UNUSABLE_EXTENSION)
    if rejected and not _lasts(context, rejected[1], UNUSABLE_OLD):
        found += _unusable_extension(context.config, *rejected)
    phones = ", ".join(_phone(refusal) for refusal in book.agents.refusals() if _is_alarming(refusal, book.steady()))
    if phones:
        found.append(of("phones", _("phones do not answer the calls that Movidesk offers: {phones}").format(phones=phones), _(
            "is each phone on and registered, and is MOVIDESK_DIAL_PREFIX right? Agents who are away should go offline in "
            "Movidesk")))
    return found


def _unusable_extension(config: Config, name: str, at: float) -> list[Alarm]:
    """About an extension that Movidesk named, or the name of the channel or queue member that answered a watched call."""
    pattern = config["pbx", "extension_pattern"]
    if pattern.fullmatch(config.agent(name)):
        return []  # the settings have been corrected
    facts = {"name": name, "time": local(at), "pattern": pattern.pattern, "path": config.path}
    if "/" in name:
        return [of("extension", _(
            "{name!r} answered a call at {time}, and [pbx] agent_channel finds no extension in that name that matches "
            "extension_pattern = {pattern}: Movidesk is told that the caller hung up before an agent answered").format(**facts),
            _("correct agent_channel or extension_pattern in {path} (then: systemctl restart movidesk)").format(**facts))]
    return [of("extension", _(
        "{name!r} was named as an extension at {time}, and does not match extension_pattern = {pattern}: that agent gets no "
        "call").format(**facts), _(
            "correct [pbx] extension_pattern in {path} (then: systemctl restart movidesk), or the agent's extension in "
            "Movidesk").format(**facts))]


def _is_alarming(refusal: waiting_line.Refusal, now: float) -> bool:
    if refusal.reason in waiting_line.ENGAGED or not 0.0 <= now - refusal.at < REFUSAL_OLD:
        return False
    return refusal.times >= (DEAD_TIMES if refusal.reason in waiting_line.DEAD else UNANSWERED_TIMES)


def _phone(refusal: waiting_line.Refusal) -> str:
    return _("{extension} ({reason}, {count} times since {time})").format(
        extension=refusal.extension, reason=refusal.reason or _("unknown reason"), count=refusal.times, time=local(refusal.since))


def _of_movidesk(context: Context, book: journal.Journal) -> list[Alarm]:
    """Why no request reaches Movidesk: one alarm, the one that explains the others."""
    refused = context.invalid_token()
    if refused:
        return [of("token", _("Movidesk refuses the token since {time} ({why})").format(time=local(refused[1]), why=refused[0]),
                   _("put a valid one into {path}").format(path=context.config.path))]
    refusal = context.auth_failure()
    if refusal and _lasts(context, refusal[1], AWAY_AFTER):
        return [of("token", _(
            "Movidesk refuses {event} since {time} ({why}), and nothing else was sent: the token may have been revoked").format(
                event=book.notes.failed_alone(TOKEN_REJECTED), time=local(refusal[1]), why=refusal[0]))]
    away = book.notes.get(AWAY)
    if away and _lasts(context, away[1], AWAY_AFTER):
        status = away_status(away[0])
        cause = _("Movidesk does not answer") if status >= 500 else _("Movidesk accepts no request")
        only = book.notes.failed_alone(AWAY)
        alone = _("; only {event} was sent").format(event=only) if only else ""
        return [of("away", _(
            "{cause} since {time} ({why}){alone}: events are kept, callers wait, or go to MOVIDESK_FALLBACK if it is set").format(
                cause=cause, time=local(away[1]), why=away[0], alone=alone), advice(status))]
    pause = book.limits.pause_left()
    if away or pause:
        return [] if pause <= PAUSE_AFTER else [of("pause", _(
            "Movidesk asked for a pause (429), {seconds:.0f} s are left").format(seconds=pause),
            _("if another program uses this account, lower requests_per_minute"))]
    idle = book.next_events.unsent_since(IDLE_AFTER)
    return [of("idle", _("events wait since {time} and no process sends them").format(time=local(idle)),
               _("is movidesk serve running?"))] if idle else []


def away_status(why: str) -> int:
    """The HTTP status in the reason of an outage; 999 if there was no answer."""
    found = re.match(r"HTTP ([0-9]+)", why)
    return int(found.group(1)) if found else 999


def advice(status: int) -> str:
    """What an admin should check when every request gets this status; '' if the status does not tell."""
    if status < 400:
        return _("the address leads elsewhere: check url in movidesk.conf, and whether a proxy or a login page answers "
                 "(HTTPS_PROXY)")
    if status == 411:
        return _("a proxy removes Content-Length: 0 from requests: let it pass them unchanged, or do not use it (HTTPS_PROXY)")
    if status in (400, 404, 405):
        return _("a server answers that does not know the API, or Movidesk does not know the queue: check the path of url in "
                 "movidesk.conf, whether a proxy or a maintenance page answers instead of Movidesk, and movidesk check")
    if status < 500:
        return _("a proxy may give this answer: check HTTPS_PROXY, and ask Movidesk's support")
    return ""


def _lasts(context: Context, since: float, seconds: float) -> bool:
    """Whether a problem has lasted this long; True also if the clock was set back to before it began."""
    return not 0.0 <= context.clock() - since < seconds


def say_on_console(context: Context, say: Callable[[str], None]) -> None:
    """Show the current alarms, each once an hour for the whole PBX. say: writes one line to Asterisk's console."""
    for alarm in standing(context):
        if context.journal.notes.acquire_timer("alarm_said_" + alarm.name, SAY_EVERY):
            say(alarm.text)


class Log:
    """Writes an alarm to the service's log when it begins, every hour, and when it ends."""

    def __init__(self, log: logging.Logger, steady: Callable[[], float] = time.monotonic):
        self._log, self._steady = log, steady
        self._said: dict[str, float] = {}

    def look(self, alarms: list[Alarm]) -> None:
        for name in set(self._said) - {alarm.name for alarm in alarms}:
            del self._said[name]
            self._log.warning("alarm over: %s", name)
        for alarm in alarms:
            if self._steady() - self._said.get(alarm.name, -SAY_EVERY) >= SAY_EVERY:
                self._said[alarm.name] = self._steady()
                self._log.error("alarm %s: %s", alarm.name, alarm.text)


def local(epoch: float) -> str:
    """A time as text, in this machine's time zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(epoch))

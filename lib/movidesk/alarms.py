"""Alarms: what does not mend itself and needs an admin. Each has one owner, one text and one end.

    name       its owner                       its end
    config     Config: problems of the file    the file is mended
    token      Desk.heard: 401 or 403          Movidesk takes this token, or the file has another
    away       Desk.heard: no answer, 5xx      any answer
    pause      Journal.close_window: 429       the pause is over
    idle       the journal: nobody sends       a request is sent
    refused    Journal.rejected: 400 or 404    `movidesk outbox --replay` or `--dismiss`
    emergency  emergency.save                  emergency.take_in
    damaged    damaged.set_aside               the file that it kept is moved away
    asterisk   sweep.recover: not told         Asterisk answers

None is switched on or off: `standing` reads what the owners keep, so that an alarm ends where its cause does. It is shown by
`movidesk status`, said on Asterisk's console by whichever verb comes first, once an hour, and logged by the service.
"""

from __future__ import annotations

import time
from collections import namedtuple

from movidesk import emergency, journal
from movidesk.desk import AWAY, NOT_TOLD, Desk
from movidesk.journal.damaged import kept_aside

SAY_EVERY = 3600.0  # seconds between two times that an alarm is said in one place
#: Seconds that a trouble may last before it is one for the admin: a restart, a short pause.
AWAY_AFTER, PAUSE_AFTER, NOT_TOLD_AFTER, IDLE_AFTER = 60.0, 60.0, 300.0, 600.0

Alarm = namedtuple("Alarm", "name text")


def standing(desk: Desk) -> list[Alarm]:
    """All alarms that stand now, the first to mend first. Raises JournalError."""
    book = desk.journal
    problems = desk.config.all_problems()
    found = [Alarm("config", "; ".join(problems))] if problems else []
    found += _of_movidesk(desk, book)
    refused = book.totals()["refused"]
    if refused:
        found.append(Alarm("refused", "%d events were refused by Movidesk: see movidesk outbox" % refused))
    for path, since in emergency.waiting(desk.config):
        found.append(Alarm("emergency", "events wait in %s since %s: the journal could not take them; movidesk serve "
                                        "(or deliver) takes them in" % (path, local(since))))
    for path, since in kept_aside(book.path):
        found.append(Alarm("damaged", "the journal was damaged at %s and is kept as %s: see docs/operations.md, "
                                      "\"A damaged journal\", then move it away" % (local(since), path)))
    not_told = book.note(NOT_TOLD)
    if not_told and _lasts(desk, not_told[1], NOT_TOLD_AFTER):
        found.append(Alarm("asterisk", "calls that died with Asterisk cannot be told from live ones since %s: "
                                       "%s" % (local(not_told[1]), not_told[0])))
    return found


def _of_movidesk(desk: Desk, book: journal.Journal) -> list[Alarm]:
    """Why nothing goes to Movidesk, the one reason that explains the others."""
    refused = desk.refused_token()
    if refused:
        return [Alarm("token", "Movidesk refuses the token since %s (%s): put a valid one into %s" % (
            local(refused[1]), refused[0], desk.config.path))]
    away = book.note(AWAY)
    if away and _lasts(desk, away[1], AWAY_AFTER):
        return [Alarm("away", "Movidesk does not answer since %s (%s): events are kept, callers go to "
                              "MOVIDESK_FALLBACK; see movidesk check" % (local(away[1]), away[0]))]
    pause = book.paused()
    if away or pause:
        return [] if pause <= PAUSE_AFTER else [Alarm(
            "pause", "Movidesk asked for a pause, %.0f s of it are left (429): does another program use this account? "
                     "Then lower requests_per_minute" % pause)]
    idle = book.unsent(IDLE_AFTER)
    return [Alarm("idle", "events wait since %s and nobody sends them: is movidesk serve running?" % local(idle))
            ] if idle else []


def _lasts(desk: Desk, since: float, seconds: float) -> bool:
    """Whether a trouble has lasted so long; also where the clock was set back behind its beginning."""
    return not 0.0 <= desk.clock() - since < seconds


def say_on_console(desk: Desk, say) -> None:
    """Say what stands, each alarm once an hour for the whole PBX. say: one line to Asterisk's console."""
    for alarm in standing(desk):
        if desk.journal.is_time("alarm_said_" + alarm.name, SAY_EVERY):
            say(alarm.text)


class Log:
    """Writes to the service's log: an alarm when it begins, again every hour, and when it ends."""

    def __init__(self, log, steady=time.monotonic):
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
    """A time as people on this machine read it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(epoch))

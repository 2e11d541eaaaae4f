"""The alarms that stand, and the last answer to the token: what the journal knows (movidesk.alarms)."""

from __future__ import annotations

from movidesk import alarms, journal
from movidesk.checks.finding import Finding, note, ok, trouble
from movidesk.config import Config
from movidesk.context import Context
from movidesk.messages import _


def findings(config: Config) -> list[Finding]:
    """Each alarm as a finding, so that `check` is never content while `status` is not."""
    try:
        book = journal.Journal(config["journal", "path"])
    except journal.JournalError:  # files.py says why
        return [_of_alarm(alarm, config) for alarm in alarms.without_journal(config) if alarm.name != "config"]
    try:
        context = Context(config, journal=book)
        # Problems of the configuration are in configuration.py.
        found = [_of_alarm(alarm, config) for alarm in alarms.standing(context) if alarm.name != "config"]
        return (found or [ok(_("no alarm stands"))]) + _token(context)
    finally:
        book.close()


def _of_alarm(alarm: alarms.Alarm, config: Config) -> Finding:
    why, remedy = _advice(config).get(alarm.name, (_("it does not go away by itself"), _('see "Alarms" in docs/operations.md')))
    return trouble(_("alarm {name}").format(name=alarm.name), alarm.text, why, remedy)


def _advice(config: Config) -> dict[str, tuple[str, str]]:
    """Why an alarm matters, and what ends it, by its name."""
    start = _("systemctl start movidesk; journalctl -u movidesk -e says why it ended")
    again = _("mend what the lines below name, then: movidesk outbox --now")
    return {
        "token": (
            _("Movidesk hears of no call, and names no agent"),
            _("put a valid token into {path} (it is used at once), then: movidesk outbox --now").format(path=config.path),
        ),
        "away": (_("events wait, and no caller is given an agent"), again),
        "pause": (
            _("events wait, and no caller is given an agent"),
            _("wait; lower requests_per_minute if other programs use the account"),
        ),
        "idle": (_("events wait"), start),
        "service": (_("events wait, and each call is slower"), start),
        "disk": (_("a full disk takes no event"), _("free some space: du -xh / | sort -h | tail")),
        "journal": (_("events are kept in memory, or nowhere"), _("mend what the line about the journal names")),
        "refused": (
            _("the tickets of these calls are not complete"),
            _("movidesk outbox shows them; mend the cause, then movidesk outbox --replay all, or --dismiss all to give them up"),
        ),
        "emergency": (_("Movidesk does not know of these events yet"), start),
        "damaged": (_("events may be missing"), _("move that file elsewhere, with its -wal, once it is looked at")),
        "asterisk": (_("calls that Asterisk has lost stay open in Movidesk"), _("mend what the line about Asterisk names")),
        "phones": (_("callers wait although agents are online"), _("mend what the lines about phones name")),
        "extension": (
            _("that agent gets no call, or is not reported"),
            _("extension_pattern in {path}, then: systemctl restart movidesk").format(path=config.path),
        ),
    }


def _token(context: Context) -> list[Finding]:
    """What Movidesk last answered to the configured token. Nothing is asked for it."""
    subject = _("token")
    if not context.config["movidesk", "token"]:
        return []  # a problem of the configuration
    refused, since = context.auth_failure(), context.token_accepted()
    if refused:
        return [
            trouble(
                subject,
                _("Movidesk refuses it since {since} ({why})").format(since=alarms.local(refused[1]), why=refused[0]),
                *_advice(context.config)["token"],
            )
        ]
    if since is None:
        return [note(subject, _("no request was sent with it yet: the first call will show whether it is valid"))]
    return [ok(subject, _("Movidesk has accepted it, first at {since}").format(since=alarms.local(since)))]

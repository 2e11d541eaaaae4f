"""The alarms that stand, and the last answer to the token: what the journal knows (movidesk.alarms)."""

from __future__ import annotations

from movidesk import alarms, journal, remedies
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
    why, remedy = remedies.of(config)[alarm.name]
    remedy = remedy or alarm.remedy or _("mend what the lines below name, then: movidesk outbox --now")
    return trouble(_("alarm {name}").format(name=alarm.name), alarm.wrong, why, remedy)


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
                *remedies.of(context.config)["token"],
            )
        ]
    if since is None:
        return [note(subject, _("no request was sent with it yet: the first call will show whether it is valid"))]
    return [ok(subject, _("Movidesk has accepted it, first at {since}").format(since=alarms.local(since)))]

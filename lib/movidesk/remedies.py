"""Why an alarm matters, and what ends it, where there is more to say than the alarm's own line does (movidesk.alarms)."""

from __future__ import annotations

from movidesk.config import Config
from movidesk.messages import _


def of(config: Config) -> dict[str, tuple[str, str]]:
    """By an alarm's name: why it matters, and what ends it; '' where Alarm.remedy says all of that."""
    start = _("systemctl start movidesk; journalctl -u movidesk -e says why it ended")
    return {
        "token": (
            _("Movidesk hears of no call, and names no agent"),
            _("put a valid token into {path} (it is used at once), then: movidesk outbox --now").format(path=config.path),
        ),
        "away": (_("events wait, and no caller is given an agent"), ""),
        "pause": (_("events wait, and no caller is given an agent"), ""),
        "idle": (_("events wait"), start),
        "service": (_("events wait, and each call is slower"), start),
        "disk": (_("a full disk takes no event"), ""),
        "journal": (_("events are kept in memory, or nowhere"), _("mend what the line about the journal names")),
        "refused": (
            _("the tickets of these calls are not complete"),
            _("movidesk outbox shows them; mend the cause, then movidesk outbox --replay all, or --dismiss all to give them up"),
        ),
        "emergency": (_("Movidesk does not know of these events yet"), start),
        "damaged": (_("events may be missing"), ""),
        "asterisk": (_("calls that Asterisk has lost stay open in Movidesk"), _("mend what the line about Asterisk names")),
        "phones": (_("callers wait although agents are online"), ""),
        "metrics": (
            _("monitoring sees old figures, or none"),
            _(
                "mend what the lines about the configuration, metrics and the systemd unit name, then: "
                "systemctl restart movidesk"
            ),
        ),
        "redis": (_("callers of the other PBXs are not seen, and may be overtaken"), _("mend what the line about Redis names")),
        "fleet": (_("callers wait longer than they need to"), ""),
        "clocks": (_("the times in tickets are wrong"), ""),
        "extension": (_("that agent gets no call, or its calls are reported as abandoned"), ""),
    }

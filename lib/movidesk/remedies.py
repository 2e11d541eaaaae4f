"""Why an alarm matters, and what ends it. The alarms themselves are in movidesk.alarms."""

from __future__ import annotations

from movidesk.config import Config
from movidesk.messages import _


def of(config: Config) -> dict[str, tuple[str, str]]:
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
        "metrics": (
            _("monitoring sees old figures, or none"),
            _("mend what the lines about metrics and the systemd unit name, then: systemctl restart movidesk"),
        ),
        "redis": (_("callers of the other PBXs are not seen, and may be overtaken"), _("mend what the line about Redis names")),
        "fleet": (_("callers wait longer than they need to"), _("movidesk status --fleet shows which PBX is silent; start it")),
        "clocks": (_("the times in tickets are wrong"), _("on each PBX: apt-get install chrony, or timedatectl set-ntp true")),
        "extension": (
            _("that agent gets no call, or is not reported"),
            _("extension_pattern in {path}, then: systemctl restart movidesk").format(path=config.path),
        ),
    }

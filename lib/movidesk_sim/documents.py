"""What the two documents of Movidesk's telephony API ask of a request: its endpoints and their parameters."""
from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import NamedTuple

# The documents say yyyy-MM-ddThh:mm, their examples 2018-5-1T17:00:00. UTC is understood: no zone is accepted.
DATE = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})T(\d{1,2}):(\d{2})(?::(\d{2}))?", re.ASCII)
MAX_ID = 256  # characters of a call id


class Parameter(NamedTuple):
    """One line of the documents' tables."""

    name: str
    kind: str = "string"     # string, int or date
    size: int = 0            # most characters; 0 = no limit documented
    need: str = "optional"   # required = present and not empty; present = may be empty; optional


QUEUE_ID = Parameter("queueId", "int", 10, "required")
NUMBER = Parameter("clientNumber", "string", 128, "required")
ID = Parameter("id", "string", MAX_ID, "required")
BRANCH_LINE = Parameter("branchLine", "string", 128, "required")
CALL_DATE, TRANSFER_DATE, COMPLETED_DATE = (
    Parameter(name, "date") for name in ("callDate", "transferDate", "completedDate"))
CANCELED_DATE = Parameter("canceledDate", "date", need="required")

# Every (method, endpoint) with its parameters besides the token.
ENDPOINTS: dict[tuple[str, str], tuple[Parameter, ...]] = {
    ("POST", "asterisk_receivedCall"): (QUEUE_ID, NUMBER, ID, CALL_DATE),
    ("POST", "asterisk_transferedCall"): (ID, BRANCH_LINE, TRANSFER_DATE),
    ("POST", "asterisk_completedCall"): (ID, Parameter("link"), COMPLETED_DATE),
    ("GET", "asterisk_completedCall"): (ID, Parameter("link", need="present"), COMPLETED_DATE),
    ("POST", "asterisk_lostCall"): (ID, Parameter("link"), COMPLETED_DATE),
    ("POST", "asterisk_canceledCall"): (ID, CANCELED_DATE),
    ("GET", "asterisk_startTransferedCall"): (QUEUE_ID, NUMBER, ID, BRANCH_LINE, CALL_DATE, TRANSFER_DATE),
    ("GET", "asterisk_startCanceledCall"): (QUEUE_ID, NUMBER, ID, CALL_DATE, CANCELED_DATE),
    ("POST", "setMadeCallLink"): (ID, Parameter("Link", "string", 256)),
}


class Refused(Exception):
    """The request breaks the documents; the text names the parameter or the call."""


def check(parameter: Parameter, value: str | None) -> None:
    """Raise Refused unless `value` (None = not given) is what the documents ask for."""
    name = parameter.name
    if value is None and parameter.need != "optional":
        raise Refused(f"{name}: missing")
    if not value:
        if parameter.need == "required":
            raise Refused(f"{name}: empty")
        return
    if parameter.size and len(value) > parameter.size:
        raise Refused(f"{name}: longer than {parameter.size} characters")
    if parameter.kind == "int" and not re.fullmatch("[0-9]+", value):
        raise Refused(f"{name}: not a whole number: {value!r}")
    if parameter.kind == "date" and not is_date(value):
        raise Refused(f"{name}: not a UTC date as yyyy-MM-ddThh:mm: {value!r}")


def is_date(text: str) -> bool:
    return epoch(text) is not None


def epoch(text: str) -> float | None:
    """A date of the API in seconds since 1970; None if it is none."""
    match = DATE.fullmatch(text)
    if not match:
        return None
    try:
        return datetime(*(int(part or 0) for part in match.groups()), tzinfo=timezone.utc).timestamp()
    except ValueError:  # the 31st of February
        return None

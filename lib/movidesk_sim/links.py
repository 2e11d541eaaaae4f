"""Whether the recordings that tickets link to can be fetched, as whoever reads the ticket would."""
from __future__ import annotations

from collections.abc import Iterable

import requests

from movidesk_sim.model import Ticket

TIMEOUT = 5.0  # seconds for each link


def check_links(tickets: Iterable[Ticket]) -> list[dict[str, str | int]]:
    """For every link: its ticket, the HTTP status (0: no answer) and the length of what is there."""
    return [{"ticket": ticket.id, "link": link, **_look(link)} for ticket in tickets for link in ticket.links]


def _look(link: str) -> dict[str, int]:
    try:
        answer = requests.head(link, timeout=TIMEOUT, allow_redirects=False)
    except requests.RequestException:
        return {"status": 0, "length": 0}
    return {"status": answer.status_code, "length": int(answer.headers.get("Content-Length") or 0)}

"""The script that decides in Redis: its text, made of the files beside this module, with the constants of movidesk.rules."""

from __future__ import annotations

import os

from movidesk.rules import rate_limit, waiting_line

#: Files in order: each uses what those before it define.
PARTS = ("state", "limit", "line", "decide")
#: Seconds for which a PBX lends its part of the limit to the others, from an answer of Redis that it has received.
LEASE = 10.0
#: Seconds by which Redis' clock may differ from a PBX's between two of its calls, before it counts as a jump. A call and its
#: answer take at most client.TIMEOUT.
JUMP = 0.5
#: Seconds for which the state is kept if no PBX calls: longer than the longest pause after a 429.
KEPT = 7200.0
#: Seconds since its arrival after which a caller whom Redis has not seen stands in line by its age, not by its number.
FRESH = 3.0
#: Seconds for which a PBX's events count after it last asked for the request of one. A delivery that waits for the limit asks
#: every journal.outbox.LOOK_AGAIN.
DELIVERS = 5.0
#: Of how many requests of the window, at most, an answer tells when each leaves it.
MOST_OPENS = 100


def text() -> str:
    """The whole script."""
    return "\n".join([*(f"local {name} = {value}" for name, value in _constants()), *(_part(name) for name in PARTS)])


def _constants() -> list[tuple[str, float]]:
    """Times are milliseconds there."""
    numbers = {"SCREEN": rate_limit.SCREEN, "HEAD": rate_limit.HEAD, "FREEING": rate_limit.FREEING, "PROBE": rate_limit.PROBE,
               "COMPLETED": rate_limit.COMPLETED, "SLACK": rate_limit.SLACK, "MOST_PASS": rate_limit.MOST_PASS,
               "PROBE_LEAVES": rate_limit.PROBE_LEAVES, "SLACK_LEAVES": rate_limit.SLACK_LEAVES,
               "SLACK_KEEPS": rate_limit.SLACK_KEEPS, "BESIDE_FROM": waiting_line.BESIDE_FROM,
               "MOST_BESIDE": waiting_line.MOST_BESIDE, "MOST_OPENS": MOST_OPENS}
    seconds = {"WINDOW": rate_limit.WINDOW, "LEASE": LEASE, "JUMP": JUMP, "KEPT": KEPT, "FRESH": FRESH, "DELIVERS": DELIVERS,
               "SLACK_AGES_AFTER": rate_limit.SLACK_AGES_AFTER, "PROBE_AGES_AFTER": rate_limit.PROBE_AGES_AFTER,
               "PROBE_AGED_EVERY": rate_limit.PROBE_AGED_EVERY, "PRIORITY": waiting_line.PRIORITY_SECONDS}
    return [*numbers.items(), *((name, round(1000 * value)) for name, value in seconds.items())]


def _part(name: str) -> str:
    with open(os.path.join(os.path.dirname(__file__), name + ".lua"), encoding="ascii") as file:
        return file.read()

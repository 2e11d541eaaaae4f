"""What callers were told of their wait when they began to wait (MOVIDESK_EXPECTED), against what came.

A caller who gives up is no observation of the wait that it was told, unless it had waited longer: it is counted apart.
"""
from __future__ import annotations

from statistics import median, quantiles
from typing import NamedTuple

from _table import show


class Told(NamedTuple):
    """A caller who had to wait."""

    said: float | None  # seconds; None: it was told nothing
    came: float         # seconds until an agent answered, or the caller gave up
    answered: bool


def told(callers, said: dict[int, tuple[float, str]]) -> list[Told]:
    """The callers who had to wait, without those who still wait at the end. said: of a caller's number, when it began to wait,
    and what it was told then (MOVIDESK_EXPECTED)."""
    ends = [(caller, caller.answered or caller.left) for caller in callers if caller.number in said]
    return [Told(float(said[caller.number][1] or 0) or None, end - said[caller.number][0], caller.answered is not None)
            for caller, end in ends if end is not None]


def error(waits: list[Told]) -> float:
    """By which part of what was said half of the answered callers were off, at least; nan if none was told anything."""
    found = [abs(wait.came - wait.said) / wait.said for wait in waits if wait.said and wait.answered]
    return median(found) if found else float("nan")


def report(scenes: dict[str, list[Told]]) -> None:
    """Print what callers were told, by scene, and by decile of what was said."""
    rows = []
    for scene, waits in scenes.items():
        known = [wait for wait in waits if wait.said]
        answered = [wait for wait in known if wait.answered]
        gone = [wait for wait in known if not wait.answered]
        if answered:
            rows.append([scene, len(waits), 100 * len(known) / len(waits), 100 * error(known),
                         100 * sum(abs(wait.came - wait.said) > 60 for wait in answered) / len(answered),
                         median(wait.came / wait.said for wait in answered), len(gone),
                         sum(wait.came > wait.said for wait in gone)])
    show("How long callers were told that they would wait, when they began to wait, and what came",
         ["calls/min / agents", "had to wait", "told, %", "median error, %", "off by over a minute, %",
          "came / said, median", "gave up",
          "of them later than said"], rows, "error: of answered callers, as part of what was said")
    every = sorted(wait for waits in scenes.values() for wait in waits if wait.said and wait.answered)
    tenths = [every[len(every) * number // 10:len(every) * (number + 1) // 10] for number in range(10)]
    show("The same of all scenes, by decile of what was said: seconds that answered callers waited",
         ["said", "median", "a quarter less than", "a quarter more than", "median error, %"],
         [[f"{part[0].said:.0f} to {part[-1].said:.0f}", median(wait.came for wait in part),
           *quantiles((wait.came for wait in part), n=4)[::2], 100 * error(part)] for part in tenths if len(part) > 1],
         f"median error of all: {100 * error(every):.0f} %")

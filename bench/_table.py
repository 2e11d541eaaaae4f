"""What the benches share: medians, a table on the screen, the figures as JSON under bench/results/."""
from __future__ import annotations

import json
import os
import platform
import statistics
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def median(values) -> float:
    return statistics.median(values) if values else float("nan")


def percentile(values, share: float) -> float:
    """The smallest value that `share` (0..1) of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def show(title: str, columns: list[str], rows: list[list], note: str = "") -> None:
    from tabulate import tabulate

    print(f"\n{title}\n{tabulate(rows, columns, floatfmt='.2f')}")
    if note:
        print(note)


def save(name: str, figures: dict) -> None:
    """Write bench/results/NAME.json, with the machine that gave the figures."""
    RESULTS.mkdir(exist_ok=True)
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform(),
               "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    (RESULTS / (name + ".json")).write_text(json.dumps({"machine": machine, **figures}, indent=2) + "\n")

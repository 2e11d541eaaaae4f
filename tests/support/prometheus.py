"""What Prometheus makes of our metrics: its own promtool, and its text format."""
from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[2]
FETCHED = ROOT / ".prometheus" / "promtool"


def promtool(*arguments: str, text: str = "") -> str:
    """Run promtool; what it prints. Fails with that where it finds something."""
    done = subprocess.run([_program(), *arguments], input=text, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def _program() -> str:
    """Where promtool is. Where it is missing, it is taken out of Debian's package prometheus, which is not installed: that would
    start a server."""
    found = shutil.which("promtool")
    if found:
        return found
    FETCHED.parent.mkdir(exist_ok=True)
    with open(FETCHED.parent / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several tests at once
        if not FETCHED.exists():
            _fetch(FETCHED.parent)
    return str(FETCHED)


def _fetch(folder: Path) -> None:
    script = """
        apt-get download -qq prometheus || { apt-get update -qq && apt-get download -qq prometheus; }
        dpkg-deb --fsys-tarfile prometheus_*.deb | tar -xO ./usr/bin/promtool >promtool.new
        rm prometheus_*.deb; chmod +x promtool.new; mv promtool.new promtool"""
    done = subprocess.run(["bash", "-e", "-o", "pipefail", "-c", script], cwd=folder, capture_output=True, text=True, timeout=300,
                          env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    assert done.returncode == 0, f"promtool is missing, and could not be fetched: {done.stderr}"


def samples(text: str) -> dict[tuple, float]:
    """Every sample of a text: (name, value of a label, ...) -> value; the labels in the order of their names."""
    return {(sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text) for sample in family.samples}

"""make lint and .pre-commit-config.yaml: that what they name is there, and that the tools are the pinned ones."""
from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
MAKEFILE = (ROOT / "Makefile").read_text()
HOOKS = (ROOT / ".pre-commit-config.yaml").read_text()


def test_hooks_are_local_and_run_the_pinned_tools():
    """No hook is fetched from anywhere."""
    assert re.findall(r"^ *- repo: (.*)$", HOOKS, re.MULTILINE) == ["local"]
    assert "://" not in HOOKS
    entries = re.findall(r"^ *entry: (.*)$", HOOKS, re.MULTILINE)
    assert len(entries) == HOOKS.count("- id: ") == HOOKS.count("language: system") >= 3
    pinned = (ROOT / "requirements" / "test.txt").read_text()
    for entry in entries:
        command, *arguments = entry.split()
        if command == "make":
            assert f"\n{arguments[-1]}:" in MAKEFILE, entry
        else:
            tool = command.replace(".venv/bin/", "")
            assert tool != command and re.search(rf"^{tool}==", pinned, re.MULTILINE), entry


def test_shellcheck_looks_at_every_shell_script(tmp_path):
    """It finds scripts by their first line, in any folder; what a Python file quotes is none."""
    for name, first in (("one", "#!/bin/sh"), ("two", "#!/usr/bin/env bash"), ("three.sh", "#! /usr/bin/env -S dash -e"),
                        (".ci/four", "#!/bin/bash -e"), ("a/b", "#!/bin/sh"), ("no.py", "#!/usr/bin/env python3"),
                        ("no", "text\n#!/bin/sh"),
                        ("build/no", "#!/bin/sh"), (".venv/no", "#!/bin/sh")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(first + "\n")
    (tmp_path / ".venv" / ".ready").write_text("")
    done = subprocess.run(["make", "-f", ROOT / "Makefile", "-o", ".venv/.ready", "lint-shell", "SHELLCHECK=echo SEEN"],
                          cwd=tmp_path,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    seen = next(line for line in done.stdout.splitlines() if line.startswith("SEEN ") and "one" in line)
    assert set(seen.split()[1:]) == {".ci/four", "./a/b", "./one", "./three.sh", "./two"}


def test_make_test_begins_with_make_lint():
    """And make lint ends, though it asks make what make test would do."""
    said = subprocess.run(["make", "-n", "test"], cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=60, check=True).stdout
    assert 0 < said.index("/ruff check") < said.index("/mypy\n") < said.index(" -m pytest ")


@pytest.mark.parametrize("code, error", [
    ('config.load()["pbx", "name"] + 1', "operator"),                # a setting has the type of its value
    ('book.calls.find("pbx1-1").call_id', "union-attr"),             # there may be no such call
    ('book.calls.find("pbx1-1", "")', "call-arg"),
    ('Demand(heads="1")', "arg-type"),                               # a NamedTuple that costs no typing
    ("def f(x):\n    return x", "no-untyped-def"),                   # strict
    ("x: int = '1'  # type: ignore", "ignore-without-code")])
def test_mypy_finds_a_wrong_type(tmp_path, code, error):
    head = "from movidesk import config\nfrom movidesk.journal import Journal\nfrom movidesk.rules.rate_limit import Demand\n"
    (tmp_path / "wrong.py").write_text(f"{head}book = Journal('/journal.db')\n{code}\n")
    done = subprocess.run([sys.executable, "-m", "mypy", tmp_path / "wrong.py"], cwd=ROOT, stdout=subprocess.PIPE, text=True,
                          timeout=300, env={**os.environ, "MYPYPATH": str(ROOT / "lib")})
    assert done.returncode == 1 and re.findall(r"error: .*\[([a-z-]+)\]$", done.stdout, re.MULTILINE) == [error]


def test_each_finding_that_mypy_is_told_to_ignore_has_a_reason():
    for path in (ROOT / "lib" / "movidesk").rglob("*.py"):
        for line in path.read_text().splitlines():
            assert "type: ignore" not in line or re.search(r"# type: ignore\[[a-z-]+\]  # \w.{8}", line), f"{path}: {line}"
    _, *overrides = (ROOT / "pyproject.toml").read_text().split("[[tool.mypy.overrides]]\n")
    assert overrides
    for override in overrides:
        assert re.match(r"# \w.{20}", override), override

"""make lint and .pre-commit-config.yaml: that what they name is there, and that the tools are the pinned ones."""
from __future__ import annotations

import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).parent.parent
MAKEFILE = (ROOT / "Makefile").read_text()
HOOKS = (ROOT / ".pre-commit-config.yaml").read_text()


def test_hooks_are_local_and_run_the_pinned_tools():
    """No hook is fetched from anywhere."""
    assert re.findall(r"^ *- repo: (.*)$", HOOKS, re.MULTILINE) == ["local"]
    assert "://" not in HOOKS
    entries = re.findall(r"^ *entry: (.*)$", HOOKS, re.MULTILINE)
    assert len(entries) == HOOKS.count("- id: ") == HOOKS.count("language: system") >= 2
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
    assert 0 < said.index("/ruff check") < said.index(" -m pytest ")

"""The tests themselves: where they are, how they are named, and that what they share is written once."""
from __future__ import annotations

import ast
from pathlib import Path

from test_architecture import modules

TESTS = Path(__file__).parent
LONGEST_NAME = 69
#: Test files whose subject is no module: the file's name without test_, and what it is about.
SUBJECTS = {
    "architecture": "imports between modules",
    "browser": "tests/support/browser.py",
    "conventions": "the tests",
    "dialplan": "dialplan/ as text",
    "documentation": "docs/ against the code",
    "fleet_office": "settings, clocks, reboots and users of several PBXs",
    "install": "requirements/ and setup.cfg",
    "lint": "make lint",
    "mixin": "etc/movidesk-mixin, the alert rules and the dashboard",
    "manual": "the manual pages and the completion of shells",
    "scenes": "offices in a virtual clock, with verbs, delivery and simulator",
    "scripts": "agi/",
    "sounds": "sounds/",
    "unit_filter": "the system calls that etc/movidesk.service allows",
}


def named_after() -> set[str]:
    """What a test file may be named after: a module or a package, alone or with the package before it."""
    names = set(SUBJECTS)
    for name in [*modules(), *modules("movidesk_sim"), *modules("movidesk_rehearsal")]:
        parts = name.replace("movidesk_", "").split(".")
        names |= {parts[-1], "_".join(parts[-2:])}
    return names


def trees(pattern: str = "**/*.py") -> dict[Path, ast.Module]:
    return {path.relative_to(TESTS): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(TESTS.glob(pattern))}


def test_a_test_file_is_named_after_a_module_a_package_or_a_subject():
    files = {path.stem[len("test_"):] for path in TESTS.glob("test_*.py")}
    assert files - named_after() == set()
    assert set(SUBJECTS) - files == set()


def test_names_of_tests_are_short():
    names = [node.name for tree in trees().values() for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert [name for name in names if name.startswith("test_") and len(name) > LONGEST_NAME] == []


def test_no_test_file_writes_its_own_clock_or_wait():
    """Clocks are in support/clocks.py, waits in support/waits.py; tests/pbx waits by wait_for of movidesk_rehearsal."""
    again = [f"{path}: {node.name}" for path, tree in trees().items() for node in ast.walk(tree)
             if path.parts[0] != "support" and isinstance(node, (ast.ClassDef, ast.FunctionDef))
             and node.name in {"Clock", "until", "wait_until", "wait_for", "wait_for_port", "free_port", "sleep_until"}]
    assert again == []


def test_no_test_file_imports_another_one():
    """But for what the tests of documents and of conventions ask of the tests of the architecture."""
    allowed = {("test_documentation.py", "test_architecture"), ("test_conventions.py", "test_architecture")}
    found = {(path.name, node.module) for path, tree in trees().items() for node in ast.walk(tree)
             if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("test_")}
    assert found <= allowed, sorted(found - allowed)

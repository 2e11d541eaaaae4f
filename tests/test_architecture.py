"""The parts of the product and who may import whom: docs/architecture.md draws the same picture."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import movidesk

LIB = Path(__file__).parents[1] / "lib"

#: From bottom to top. A module may import from its own level (a package is one level) and from those below.
LEVELS = ("messages", "file_lock", "rules", "config", "fleet", "journal", "reports", "recordings", "delivery", "context",
          "pbx", "alarms", "remedies", "agi", "made_calls", "facts", "call_facts", "fleet_facts", "metrics", "web", "checks",
          "housekeeping", "service", "cli")


def modules(package: str = "movidesk") -> dict[str, Path]:
    """Every module of a package by its dotted name; a package's own is that of its __init__."""
    return {".".join(path.relative_to(LIB).with_suffix("").parts).replace(".__init__", ""): path
            for path in sorted((LIB / package).rglob("*.py"))}


def imports(tree: ast.AST) -> Iterator[ast.ImportFrom | ast.Import]:
    """The imports of a module, those within functions too; not those that only a type checker follows."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, (ast.ImportFrom, ast.Import)):
            yield node
        yield from imports(node)


def imported(text: str, known: dict[str, Path]) -> set[str]:
    """The modules of ours that a module's text imports."""
    found = set()
    for node in imports(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = {alias.name for alias in node.names}
        else:
            assert not node.level and node.module, f"an import relative to the package: {ast.unparse(node)}"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            names = {name if name in known else node.module for name in names}
        found |= names & set(known)
    return found


def level(module: str) -> int:
    """The place of a module in LEVELS; -1 for the package itself, which imports none."""
    return LEVELS.index(module.split(".")[1]) if "." in module else -1


def upward(texts: dict[str, str]) -> list[str]:
    known = dict.fromkeys(texts, Path())
    return [f"{module} imports {other}" for module, text in texts.items() for other in imported(text, known)
            if level(other) > level(module)]


def circles(texts: dict[str, str]) -> list[str]:
    """The modules that reach themselves by their imports."""
    known = dict.fromkeys(texts, Path())
    graph = {module: imported(text, known) for module, text in texts.items()}

    def reached(begin: str) -> set[str]:
        found: set[str] = set()
        todo = list(graph[begin])
        while todo:
            module = todo.pop()
            if module not in found:
                found.add(module)
                todo += graph[module]
        return found

    return [module for module in graph if module in reached(module)]


TEXTS = {module: path.read_text(encoding="utf-8") for module, path in modules().items()}


def test_a_named_tuple_is_as_typing_makes_it():
    body = """
from __future__ import annotations
class Pair(NamedTuple):
    'Two.'

    one: int  # the first
    two: str = "2"
"""
    ours, theirs = {"NamedTuple": movidesk.NamedTuple, "__name__": __name__}, {"NamedTuple": NamedTuple, "__name__": __name__}
    exec(body, ours)
    exec(body, theirs)
    for name in ("__name__", "__module__", "__doc__", "_fields", "_field_defaults"):
        assert getattr(ours["Pair"], name) == getattr(theirs["Pair"], name), name
    assert ours["Pair"](1) == (1, "2") == ours["Pair"](two="2", one=1)
    with pytest.raises(TypeError):
        ours["Pair"]()


def test_no_import_points_up():
    assert upward(TEXTS) == []


def test_no_imports_run_in_a_circle():
    assert circles(TEXTS) == []


@pytest.mark.parametrize("text, found", [
    ("from movidesk import alarms", True), ("def f():\n    from movidesk.alarms import standing", True),
    ("import movidesk.alarms", True), ("from movidesk.rules import call_states", False),
    ("if TYPE_CHECKING:\n    from movidesk.alarms import Alarm", False)])
def test_an_upward_import_is_found(text, found):
    assert bool(upward({**TEXTS, "movidesk.journal.store": text})) == found


def test_a_circle_is_found():
    assert "movidesk.journal.store" in circles({**TEXTS, "movidesk.journal.store": "from movidesk.journal import Journal"})


def loaded(text: str) -> set[str]:
    """The first part of the name of each module that a module's text imports."""
    names = {name for node in imports(ast.parse(text))
             for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""])}
    return {name.split(".")[0] for name in names}


def test_rules_have_no_io_and_no_clock():
    rules = {module for module in TEXTS if module.startswith("movidesk.rules.")}
    assert len(rules) >= 4
    for module in rules:
        assert loaded(TEXTS[module]) <= {"__future__", "bisect", "collections", "math", "movidesk", "re", "typing"}, module
        assert not re.search(r"\b(open|print|input)\(", TEXTS[module]), module


def test_only_the_journal_has_sql():
    sql = re.compile(r"\b(SELECT .* FROM|INSERT (OR \w+ )?INTO|REPLACE INTO|UPDATE \w+ SET|DELETE FROM|PRAGMA \w+) ")
    inside = {module for module, text in TEXTS.items() if "sqlite3" in loaded(text) or sql.search(text)}
    assert "movidesk.journal.store" in inside
    assert {module for module in inside if not module.startswith("movidesk.journal")} == set()


def test_the_simulator_uses_only_configuration_and_rules_of_the_product():
    """It must not err where the product errs."""
    known = modules()
    for module, path in modules("movidesk_sim").items():
        used = imported(path.read_text(encoding="utf-8"), known)
        assert used <= {"movidesk", "movidesk.config"}, module

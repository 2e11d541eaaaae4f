"""The documents against the code, both ways: what there is is documented, and what is documented is there.

Others: tests/test_dialplan.py (variables and contexts in dialplan/README.md), tests/test_config.py (etc/movidesk.conf),
tests/test_alarms.py (the alarms in docs/operations.md).
"""
from __future__ import annotations

import ast
import importlib.util
import io
import re
import tokenize
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import pytest

from movidesk import cli
from movidesk.agi import verbs
from movidesk.config.options import OPTIONS
from movidesk.delivery.api import ENDPOINTS
from movidesk_sim.control import Fault
from movidesk_sim.model import Limit, Switches
from test_architecture import LEVELS, LIB, TEXTS, modules

ROOT = Path(__file__).parent.parent
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("dialplan/*.md"), *ROOT.glob("bench/*.md")])


def section(text: str, title: str) -> str:
    """What stands under this heading, up to the next of its rank."""
    rank = title.split()[0]
    assert text.count(f"\n{title}\n") == 1, title
    return re.split(rf"\n{rank} ", text.split(f"\n{title}\n")[1])[0]


def rows(text: str) -> list[list[str]]:
    """The cells of all tables, without their headings."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    heads = {number - 1 for number, line in enumerate(lines) if line.startswith("|---")}
    return [[cell.strip() for cell in line.strip("|").split("|")] for number, line in enumerate(lines)
            if number not in heads and not line.startswith("|---")]


def names(page: Path) -> str:
    return str(page.relative_to(ROOT))


# -- the map of modules ------------------------------------------------------------------------------------------------

def has_code(path: Path) -> bool:
    """Whether a module defines anything; a package's __init__ often has only its docstring, or passes names on."""
    return path.name != "__init__.py" or re.search(r"^(class|def) ", path.read_text(), re.MULTILINE) is not None


def of_the_map(text: str) -> list[str]:
    return [row[0].strip("`") for row in rows(section(text, "## Modules"))]


def differences(text: str, listed_of_tree: set[str]) -> tuple[set[str], set[str]]:
    """Modules that are not in the map, and modules in the map that are not there."""
    listed = of_the_map(text)
    assert len(listed) == len(set(listed)), "a module is in the map twice"
    return listed_of_tree - set(listed), set(listed) - listed_of_tree


def tree() -> set[str]:
    product = {str(path.relative_to(LIB / "movidesk")) for name, path in modules().items() if has_code(path) and "." in name}
    beside = {str(path.relative_to(LIB)) for name in ("movidesk_sim", "movidesk_rehearsal")
              for path in modules(name).values() if has_code(path)}
    return product | beside


def test_every_module_is_in_the_map_and_every_module_of_the_map_is_there():
    assert len(tree()) > 50
    assert differences(ARCHITECTURE, tree()) == (set(), set())


def test_a_module_that_is_forgotten_or_gone_is_found():
    forgotten = ARCHITECTURE.replace("| `alarms.py` |", "| `alarm.py` |")
    assert differences(forgotten, tree()) == ({"alarms.py"}, {"alarm.py"})


def test_the_map_has_the_order_of_the_levels():
    titles = re.findall(r"^### ([\w, ]+)", section(ARCHITECTURE, "## Modules"), re.MULTILINE)
    found = [name for title in titles for name in title.strip().split(", ") if title != "Beside the product"]
    assert found == list(LEVELS)
    for title, text in zip(titles, re.split(r"^### .*", section(ARCHITECTURE, "## Modules"), flags=re.MULTILINE)[1:]):
        if title != "Beside the product":
            packages = {row[0].strip("`").split("/")[0].replace(".py", "") for row in rows(text)}
            assert packages == set(title.strip().split(", ")), "modules under the wrong heading"


# -- paths and links ---------------------------------------------------------------------------------------------------

# Words that stand for any name.
PLACEHOLDERS = {"agi/VERB", "agi/NAME", "bench/results/NAME.json"}
FOLDERS = (ROOT, LIB / "movidesk", LIB, ROOT / "tests")


def paths(text: str) -> set[str]:
    """What reads as a path of the repository: its first part is a folder there, or it ends as our files do."""
    spans = re.findall(r"(?<!`)`([^`\s]+)`(?!`)", text)
    tops = {path.name for folder in FOLDERS for path in folder.iterdir() if path.is_dir()} - {"config"}
    return {span for span in spans if span not in PLACEHOLDERS and not span.startswith("/") and not set(span) & set("*{=(&,…")
            and ("/" in span and span.split("/")[0] in tops or re.fullmatch(r"[\w/-]+\.(py|md|cfg|toml)", span))}


def missing(text: str, folder: Path = ROOT) -> list[str]:
    """folder: that of the page; names may be relative to it."""
    return sorted(path for path in paths(text) if not any((top / path).exists() for top in (*FOLDERS, folder)))


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_paths_that_are_named_exist(page):
    assert missing(page.read_text(), page.parent) == []


def test_paths_are_found():
    assert len(paths(ARCHITECTURE)) > 60
    assert missing("`lib/movidesk/agi/verb.py`, `agi/verbs.py` and `journal/books.py`") == [
        "journal/books.py", "lib/movidesk/agi/verb.py"]


def anchor(title: str) -> str:
    """A heading as GitHub links it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def dead_links(page: Path, text: str) -> list[str]:
    found = []
    prose = re.sub(r"^```.*?^```|^    .*?$|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        path, _, part = target.partition("#")
        if "://" in path:
            continue
        there = page.parent / path if path else page
        titles = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE) if there.suffix == ".md" and there.is_file() else []
        if not there.exists() or part and part not in map(anchor, titles):
            found.append(target)
    return found


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_links_lead_somewhere(page):
    assert dead_links(page, page.read_text()) == []


def test_a_dead_link_is_found():
    page = ROOT / "README.md"
    assert dead_links(page, "[a](docs/none.md) [b](docs/install.md#none) [c](docs/install.md#2-install)") == [
        "docs/none.md", "docs/install.md#none"]


# -- verbs -------------------------------------------------------------------------------------------------------------

def verb_table(page: Path) -> dict[str, str]:
    """Verb -> arguments, of the table whose rows begin with a verb."""
    return {row[0].strip("`"): row[1] for row in rows(page.read_text()) if row[0].strip("`") in set(verbs.VERBS) | {"dial"}
            and len(row) == 3 and re.fullmatch(r"[A-Z \[\]]*", row[1])}


@pytest.mark.parametrize("page", [ROOT / "dialplan" / "README.md", ROOT / "docs" / "pt-BR" / "dialplan.md"], ids=names)
def test_the_table_of_verbs_is_that_of_the_scripts(page):
    usages = {path.name: re.search(r'^"""(\w+) ?([A-Z \[\]]*): ', path.read_text(), re.MULTILINE)
              for path in (ROOT / "agi").iterdir()}
    assert set(usages) == set(verbs.VERBS)
    assert verb_table(page) == {name: usage[2] for name, usage in usages.items()}


# -- commands and exit statuses ----------------------------------------------------------------------------------------

def usage(capsys, *arguments: str) -> str:
    with suppress(SystemExit):  # of the simulator, which has a parser of its own
        assert cli.main([*arguments, "--help"]) == 0
    return capsys.readouterr().out


def options(text: str) -> set[str]:
    """The options of a --help, but --help itself."""
    return set(re.findall(r"^  (?:-\w, )?(--?[a-z][\w-]*)", text, re.MULTILINE)) - {"--help", "-h"}


def short_options(text: str) -> set[str]:
    """Options of one letter that have a long form, too."""
    return set(re.findall(r"^  (-\w), --", text, re.MULTILINE))


@pytest.fixture
def commands(capsys) -> dict[str, set[str]]:
    """Command -> its options; '' has those of all."""
    text = usage(capsys)
    found = {name: options(usage(capsys, name)) for name in re.findall(r"^  ([a-z]+) ", text, re.MULTILINE)}
    return {"": options(text), **found}


OPERATIONS = {"en": ROOT / "docs" / "operations.md", "pt-BR": ROOT / "docs" / "pt-BR" / "operations.md"}
COMMANDS = {"en": "## Commands", "pt-BR": "## Comandos"}


@pytest.mark.parametrize("language", OPERATIONS)
def test_the_table_of_commands_is_that_of_the_command(language, commands):
    table = [row[0].strip("`").split() for row in rows(section(OPERATIONS[language].read_text(), COMMANDS[language]))]
    documented: dict[str, set[str]] = {}
    for name, *rest in table:
        documented.setdefault(name, set()).update(word for word in rest if word.startswith("-"))
    assert documented == {name: found for name, found in commands.items() if name}
    assert len(commands) > 7 and "--once" in commands["deliver"]


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name != "bench"], ids=names)
def test_commands_that_pages_show_are_there(page, commands, capsys):
    """In code: `movidesk WORD --option`."""
    every = set().union(*commands.values())
    code = re.findall(r"`([^`\n]+)`", page.read_text()) + re.findall(r"^    (.+)$", page.read_text(), re.MULTILINE)
    for line in code:
        for name, rest in re.findall(r"(?:^|/bin/|\s)movidesk ([a-z]+)((?: -[\w-]+| [\w,.:]+)*)", line):
            if re.search(r"systemctl|install -|logger -t|journalctl", line) and name not in commands:
                continue
            assert name in commands, line
            short = short_options(usage(capsys, name))
            assert set(re.findall(r"(?<= )--?[a-z][\w-]*", rest)) <= commands[name] | commands[""] | short, line
        for option in re.findall(r"^(--[a-z][\w-]*)", line):
            assert option in every, line


STATUSES = {"en": r"Exit status: (\d) good, (\d) trouble, (\d) misuse",
            "pt-BR": r"Código de saída: (\d) tudo certo, (\d) problema, (\d) uso incorreto"}


@pytest.mark.parametrize("language", OPERATIONS)
def test_exit_statuses(language, capsys):
    statuses = tuple(str(status) for status in (cli.GOOD, cli.TROUBLE, cli.MISUSE))
    assert re.findall(STATUSES[language], OPERATIONS[language].read_text()) == [statuses]
    assert re.findall(STATUSES["en"], usage(capsys)) == [statuses]


def test_the_makes_targets_are_those_that_help_names():
    makefile = (ROOT / "Makefile").read_text()
    helped = set(re.findall(r'@echo "make (\w+)', makefile))
    named = {name for page in PAGES for name in re.findall(r"`(?:sudo )?make ([a-z-]+)", page.read_text())}
    phony = set(re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split())
    assert helped <= phony and named <= phony
    assert phony - {"help", "clean", "lint-shell", "check-user", "stage", "share", "unit"} <= helped


@pytest.mark.parametrize("page", [ROOT / "docs" / "install.md", ROOT / "docs" / "pt-BR" / "install.md"], ids=names)
def test_what_make_install_can_be_told(page):
    """The table of variables; those for development are in CONTRIBUTING.md and `make help`."""
    defaults = dict(re.findall(r"^([A-Z]+) +\?= *(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE))
    table = {row[0].strip("`"): row[1].strip("`") for row in rows(page.read_text()) if row[0].strip("`").isupper()}
    assert set(table) == set(defaults) - {"PYTHON", "ASTERISK", "JOBS"}
    plain = {name for name in table if "$" not in defaults[name]}
    assert len(plain) >= 4 and {name: table[name] for name in plain} == {name: defaults[name] for name in plain}


# -- settings of movidesk.conf -----------------------------------------------------------------------------------------

def settings_named(text: str) -> set[tuple[str, str]]:
    """`[section] key` in a text, and the keys of indented blocks under a [section] of ours."""
    found = set(re.findall(rf"`\[({'|'.join(OPTIONS)})\] ([a-z_]+)", text))
    for block in re.findall(r"(?:^    .*\n)+", text, re.MULTILINE):
        name = ""
        for line in block.splitlines():
            heading = re.fullmatch(r"    \[([\w-]+)\].*", line)
            name = heading[1] if heading else name
            key = re.match(r"    ([a-z_]+) = ", line)
            if key and name in OPTIONS and not re.search(r"^    (secret = .*\n    deny|permit|read) ", block, re.MULTILINE):
                found.add((name, key[1]))
    return found


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_settings_that_pages_name_are_there(page):
    known = {(name, key) for name, keys in OPTIONS.items() for key in keys}
    assert settings_named(page.read_text()) - known == set()


def test_settings_are_found_in_pages():
    assert ("made_calls", "allow") in settings_named((ROOT / "docs" / "made-calls.md").read_text())
    assert settings_named("`[line] ask_ever`\n\n    [pbx]\n    nam = x\n") == {("line", "ask_ever"), ("pbx", "nam")}


# -- Movidesk's API ----------------------------------------------------------------------------------------------------

API = (ROOT / "docs" / "api.md").read_text()


def test_the_page_on_the_api_has_the_endpoints_of_the_code():
    listed = {(row[1].strip("`").replace("`", "").replace("/", ""), row[2]) for row in rows(section(API, "## Endpoints"))}
    assert listed == {(f"{endpoint.method} {endpoint.path}", ", ".join(param.name for param in endpoint.params))
                      for endpoint in ENDPOINTS.values()}


def test_the_page_on_the_api_has_every_switch_of_the_simulator():
    table = {row[0].strip("`"): set(re.findall(r"`(\w+)`", row[1])) for row in rows(section(API, "## The simulator's switches"))}
    for name, kind in (("switches", Switches), ("limit", Limit), ("faults", Fault)):
        assert table[name] == {field.name for field in fields(kind)}


# -- both languages ----------------------------------------------------------------------------------------------------

PORTUGUESE = ROOT / "docs" / "pt-BR"
FOR_MAINTAINERS = {"architecture.md", "api.md"}  # in English only
#: English page -> Portuguese page.
PAIRS = {ROOT / "README.md": ROOT / "README.pt-BR.md", ROOT / "SECURITY.md": PORTUGUESE / "security.md",
         ROOT / "dialplan" / "README.md": PORTUGUESE / "dialplan.md", ROOT / "etc" / "movidesk.conf": PORTUGUESE / "settings.md",
         **{page: PORTUGUESE / page.name for page in (ROOT / "docs").glob("*.md") if page.name not in FOR_MAINTAINERS}}
# What is the same in every language: variables, settings, options, paths, contexts, files, numbers.
NAMES = re.compile(r"MOVIDESK_[A-Z_]+|(?<![\w/])_[A-Z_]{3,}|--[a-z][\w-]+|(?<!\w)/[a-z][\w./-]+|movidesk-[a-z]+"
                   r"|\b[a-z]+_[a-z_]+\b|\b[\w-]+\.(?:conf|db|py|md)\b|\b\d{2,}\b")


class Part(NamedTuple):
    """What stands between two headings."""

    rank: str
    title: str
    rows: int         # of tables
    names: set[str]   # in code


def parts(text: str) -> list[Part]:
    text = re.sub(r"^```\w*$(.*?)^```$", lambda found: re.sub("^", "    ", found[1], flags=re.MULTILINE), text,
                  flags=re.MULTILINE | re.DOTALL)
    pieces = re.split(r"^(#+) (.*)$", text, flags=re.MULTILINE)[1:]
    found = []
    for rank, title, body in zip(pieces[::3], pieces[1::3], pieces[2::3]):
        code = re.findall(r"`([^`\n]+)`", body) + re.findall(r"^    (.*)$", body, re.MULTILINE)
        found.append(Part(rank, title, len(rows(body)), set(NAMES.findall(" ".join(code)))))
    return found


def lags(english: str, portuguese: str) -> list[str]:
    """Where one page has what the other has not."""
    both = parts(english), parts(portuguese)
    if [part.rank for part in both[0]] != [part.rank for part in both[1]]:
        return [f"headings: {[part.title for part in both[0]]}, {[part.title for part in both[1]]}"]
    return [f"{one.title}: {one.rows} rows and {other.rows}; names in one only: {sorted(one.names ^ other.names)}"
            for one, other in zip(*both) if (one.rows, one.names) != (other.rows, other.names)]


def test_every_page_for_admins_is_there_in_both_languages():
    assert {page for page in PAIRS.values() if not page.is_file()} == set()
    assert {*PORTUGUESE.iterdir(), ROOT / "README.pt-BR.md"} == set(PAIRS.values())


@pytest.mark.parametrize("page", [page for page in PAIRS if page.suffix == ".md"], ids=names)
def test_both_languages_have_the_same_sections_rows_and_names(page):
    assert lags(page.read_text(), PAIRS[page].read_text()) == []


def test_a_page_that_lags_is_found():
    english = (ROOT / "dialplan" / "README.md").read_text()
    assert lags(english, english) == []
    assert "MOVIDESK_MOH" in lags(english, english.replace("| `MOVIDESK_MOH` |", "| `MOVIDESK_MUSICA` |"))[0]
    shorter = english.replace("| `link` | URL | a recording became available later |\n", "")
    assert lags(english, shorter)[0].startswith("Verbs: 11 rows and 10")
    assert lags(english, english.replace("\n## Verbs\n", "\n### Verbs\n"))[0].startswith("headings")


def cells(page: Path, titles: tuple[str, ...], columns: tuple[int, ...]) -> list[tuple[str, ...]]:
    return [tuple(row[column] for column in columns) for title in titles for row in rows(section(page.read_text(), title))]


@pytest.mark.parametrize("titles", [("Settings", "Opções"), ("Contexts", "Contextos")], ids=lambda titles: titles[0])
def test_the_tables_of_the_dialplan_have_the_same_first_columns(titles):
    """Of settings: their names and defaults."""
    english, portuguese = (cells(page, (f"## {title}",), (0, 1)) for page, title in zip(
        (ROOT / "dialplan" / "README.md", PORTUGUESE / "dialplan.md"), titles))
    assert portuguese == english and len(english) >= 10


def test_the_tables_of_variables_have_the_same_names():
    english = cells(ROOT / "dialplan" / "README.md", ("## Channel variables",), (0,))
    assert cells(PORTUGUESE / "dialplan.md", ("## Variáveis de canal",), (0,)) == english and len(english) >= 15


def test_the_portuguese_table_of_settings_is_that_of_the_code():
    """Every key of every section, with its default."""
    page = PORTUGUESE / "settings.md"
    assert re.findall(r"^## \[(\w+)\]$", page.read_text(), re.MULTILINE) == list(OPTIONS)
    for name, keys in OPTIONS.items():
        text = section(page.read_text(), f"## [{name}]").replace("\\|", "\0")
        found = {row[0].strip("`"): row[1].strip("`").replace("\0", "|") for row in rows(text)}
        assert set(found) == set(keys)
        # The name of the PBX has that of the machine.
        assert {key: default for key, default in found.items() if (name, key) != ("pbx", "name")} == {
            key: default for key, (_, default) in keys.items() if (name, key) != ("pbx", "name")}


# -- names in comments and docstrings ----------------------------------------------------------------------------------

# Forms of ids and of file names.
FORMS = {"epoch.counter", "epoch.hex", "FILE.taking", "movidesk.conf"}


def prose(text: str) -> str:
    """The docstrings and comments of a module."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    found = [ast.get_docstring(node) or "" for node in ast.walk(ast.parse(text)) if isinstance(node, documented)]
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return "\n".join([*found, *(token.string for token in tokens if token.type == tokenize.COMMENT)])


def without_docstrings(tree: ast.AST) -> str:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            node.body[0] = ast.Pass()
    return ast.unparse(tree)


def owners(texts: dict[str, str]) -> dict[str, str]:
    """Module, class, table, or part of an object (Journal.calls: CallStore) -> the code that it is, without comments."""
    found: dict[str, str] = {}
    parts: list[tuple[str, str]] = []
    for module, text in texts.items():
        tree = ast.parse(text)
        code = without_docstrings(tree)
        named = [(node.name, ast.unparse(node)) for node in tree.body if isinstance(node, ast.ClassDef)]
        named += [(table, code) for table in re.findall(r"CREATE TABLE (\w+)", code)]
        for name, owned in [(module.rpartition(".")[2], code), *named]:
            found[name] = found.get(name, "") + owned
        parts += re.findall(r"self\.(\w+) = ([A-Z]\w+)\(", code)
        parts += re.findall(r"def (\w+)\(self\)(?: -> \w+)?:\s+pass\s+from .*\s+return ([A-Z]\w+)\(", code)
    for name, kind in parts:
        found[name] = found.get(name, "") + found.get(kind, "")
    return found


def unknown(texts: dict[str, str], *only: str) -> list[str]:
    """Where a comment (of these modules only) names OWNER.NAME, and there is no such owner, or it has no such name."""
    known, found = owners(texts), []
    for module, text in ((module, texts[module]) for module in only or texts):
        for name in set(re.findall(r"(?<![\w./])(?:[A-Za-z_]\w*\.)+[A-Za-z_]\w*(?![\w/])", prose(text))) - FORMS:
            *path, last = name.split(".")
            if path[-1] in known:
                there = last == "py" or name in texts or re.search(rf"\b{last}\b", known[path[-1]])
            else:
                # A library's: its own name, or one that is imported here.
                there = importlib.util.find_spec(path[0]) or re.search(rf"^from .* import {path[0]}$", text, re.MULTILINE)
            if not there:
                found.append(f"{module}: {name}")
    return sorted(found)


def test_names_in_comments_are_there():
    assert unknown(TEXTS) == []


@pytest.mark.parametrize("comment, found", [
    ("# See waiting_line.GRACE, trial.py and Context.journal.", []), ("# See line.GRACE.", ["movidesk.alarms: line.GRACE"]),
    ('def f():\n    """As waiting_line.GRACES."""', ["movidesk.alarms: waiting_line.GRACES"]),
    ("# made.py has it", ["movidesk.alarms: made.py"]), ("# calls.arrived, time.sleep", []),
    ("# calls.came", ["movidesk.alarms: calls.came"])])
def test_a_name_that_is_gone_is_found(comment, found):
    broken = {**TEXTS, "movidesk.alarms": comment}
    assert unknown(broken, "movidesk.alarms") == found

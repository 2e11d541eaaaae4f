"""Messages in English, Portuguese and Spanish: the catalogs are complete, compiled, and where the command finds them."""
from __future__ import annotations

import ast
import configparser
import gettext
import re
import subprocess
import sys
import threading
from pathlib import Path
from string import Formatter
from typing import Union

import click
import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_dir
from babel.messages.pofile import read_po

from movidesk import messages

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "lib" / "movidesk"
LANGUAGES = ("es", "pt")
#: Each catalog: the folder of its code, and how texts are found there (as pyproject.toml has it for `make messages`).
PAGES = [("**/templates/**.html", "jinja2"), ("**/static/**.js", "javascript")]
DOMAINS = {"movidesk": (FOLDER, [("**.py", "python")]), "movidesk_sim": (FOLDER.parent / "movidesk_sim", PAGES)}
Texts = Union[str, "tuple[str, ...]"]


def file_of(language: str, domain: str, suffix: str) -> Path:
    return DOMAINS[domain][0] / "locale" / language / "LC_MESSAGES" / (domain + suffix)


def in_the_code(domain: str) -> set[Texts]:
    """The messages of the code; one with a plural is a pair."""
    folder, methods = DOMAINS[domain]
    return {text for _, _, text, _, _ in extract_from_dir(str(folder), methods, keywords=DEFAULT_KEYWORDS)}


def catalog(language: str, domain: str = "movidesk") -> Catalog:
    with open(file_of(language, domain, ".po"), "rb") as file:
        return read_po(file, locale=language)


def forms(text: Texts) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else tuple(text)


def fields(text: str) -> set[str | None]:
    """The placeholders of a text, with their formats. Raises ValueError if a brace is left open."""
    return {f"{name}:{form}" for _, name, form, _ in Formatter().parse(text) if name is not None}


def faults(message: Message) -> list[str]:
    """What is wrong with a translation."""
    originals, translations = forms(message.id), forms(message.string)
    if not all(translations):
        return [f"not translated: {originals[0]!r}"]
    if message.fuzzy:
        return [f"fuzzy: {originals[0]!r}"]
    wanted = set.union(*map(fields, originals))
    return [f"other placeholders than {sorted(map(str, wanted))}: {text!r}" for text in translations
            if (fields(text) != wanted if len(originals) == 1 else not fields(text) <= wanted)]


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_message_is_translated(language, domain):
    """Else: `make messages`, translate what is empty in the catalog, `make messages` again."""
    messages = [message for message in catalog(language, domain) if message.id]
    listed = {message.id if isinstance(message.id, str) else tuple(message.id) for message in messages}
    assert in_the_code(domain) == listed and len(listed) > 10
    assert [fault for message in messages for fault in faults(message)] == []


@pytest.mark.parametrize("message, found", [
    (Message("{count} calls", "{count} chamadas"), False), (Message("calls", ""), True),
    (Message("{count} calls", "{conta} chamadas"), True), (Message("{count} calls", "chamadas"), True),
    (Message("{seconds:.0f} s", "{seconds} s"), True),
    (Message(("{n} call", "{n} calls"), ("uma chamada", "{n} chamadas")), False),
    (Message(("{n} call", "{n} calls"), ("{n} chamada", "")), True),
    (Message(("{n} call", "{n} calls"), ("{x} chamada", "{n} chamadas")), True)])
def test_a_fault_of_a_translation_is_found(message, found):
    assert bool(faults(message)) == found


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_compiled_is_what_is_written(language, domain):
    """Else: `make messages`."""
    with open(file_of(language, domain, ".mo"), "rb") as file:
        compiled = gettext.GNUTranslations(file)
    for message in catalog(language, domain):
        if isinstance(message.id, str) and message.id:
            assert compiled.gettext(message.id) == message.string
        elif message.id:
            assert (compiled.ngettext(*message.id, 1), compiled.ngettext(*message.id, 2)) == tuple(message.string)


def test_the_catalogs_are_part_of_the_package():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    for domain, (folder, _) in DOMAINS.items():
        found = [path for pattern in setup["options.package_data"][domain].split() for path in folder.glob(pattern)]
        assert {path.parent.parent.name for path in found if path.suffix == ".mo"} == set(LANGUAGES)


def test_a_message_is_a_literal_that_is_formatted_outside():
    """`_(f"...")` and `_("...".format(...))` are never found in a catalog."""
    wrong = [f"{path.name}:{node.lineno}" for path in FOLDER.rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))
             if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("_", "ngettext")
             and not all(isinstance(text, ast.Constant) for text in node.args[:1 if node.func.id == "_" else 2])
             and path.name != "messages.py"]
    assert wrong == []


def test_the_texts_of_click_are_those_of_click():
    ours = {text for _, _, text, _, _ in extract_from_dir(str(FOLDER / "cli"), [("click_texts.py", "python")])}
    theirs = {text for _, _, text, _, _ in extract_from_dir(click.__path__[0], keywords=DEFAULT_KEYWORDS)}
    assert len(ours) > 15 and ours - theirs == set()


# -- which language ----------------------------------------------------------------------------------------------------

NOBODY = {"en": "nobody waits", "pt": "ninguém espera", "es": "nadie espera"}


@pytest.mark.parametrize("environment, language", [
    ({}, "en"), ({"LANG": "C.UTF-8"}, "en"), ({"LANG": "de_DE.UTF-8"}, "en"), ({"LANG": "pt_BR.UTF-8"}, "pt"),
    ({"LANG": "pt_PT.UTF-8"}, "pt"), ({"LANG": "es_MX.UTF-8"}, "es"), ({"LANG": "es_ES.UTF-8", "LC_ALL": "C"}, "en"),
    ({"LANG": "pt_BR.UTF-8", "LC_MESSAGES": "es_AR.UTF-8"}, "es"), ({"LANG": "pt_BR.UTF-8", "LANGUAGE": "en"}, "en")])
def test_the_language_is_that_of_the_locale(monkeypatch, environment, language):
    for name in ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert messages._("nobody waits") == NOBODY["en"]
    messages.follow_locale()
    assert messages._("nobody waits") == NOBODY[language]
    messages.use_english()
    assert messages._("nobody waits") == NOBODY["en"]


def test_a_count_chooses_the_plural(monkeypatch):
    assert [messages.ngettext("{n} call", "{n} calls", n) for n in (0, 1, 2)] == ["{n} calls", "{n} call", "{n} calls"]
    monkeypatch.setenv("LANGUAGE", "pt")
    messages.follow_locale()
    assert [messages.ngettext("{n} call", "{n} calls", n) for n in (1, 2)] == ["{n} call", "{n} calls"]


def test_a_thread_has_a_language_of_its_own(monkeypatch):
    monkeypatch.setenv("LANGUAGE", "es")
    messages.follow_locale()
    said = []

    def say() -> None:
        for language in ("pt", "en", "xx"):
            with messages.in_language(language):
                said.append(messages._("nobody waits"))
                with messages.in_language("pt"):
                    pass
                said.append(messages._("nobody waits"))
        said.append(messages._("nobody waits"))

    with messages.in_language("en"):
        thread = threading.Thread(target=say)
        thread.start()
        thread.join(20)
        assert said == [NOBODY[language] for language in ("pt", "pt", "en", "en", "en", "en", "es")]
        assert messages.ngettext("{count} call", "{count} calls", 2) == "{count} calls"
    assert messages._("nobody waits") == NOBODY["es"]


def test_importing_the_module_loads_no_gettext():
    code = "import sys; from movidesk.messages import _; _('calls'); sys.exit('gettext' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


@pytest.mark.parametrize("language, misuse", [
    ("pt_BR", "Erro: Não existe o comando 'statis'."), ("es_CL", "Error: No existe el comando 'statis'.")])
def test_misuse_is_explained_in_the_language(language, misuse):
    done = subprocess.run([sys.executable, "-m", "movidesk.cli", "statis"], timeout=60, stderr=subprocess.PIPE, text=True,
                          env={"LANG": language + ".UTF-8"}, encoding="utf-8")
    assert done.returncode == 2 and misuse in done.stderr


def test_what_is_shown_is_in_the_language_and_what_programs_read_is_not(write_config):
    def run(*arguments: str) -> str:
        return subprocess.run([sys.executable, "-m", "movidesk.cli", "--config", write_config(), *arguments], timeout=60,
                              env={"LANG": "pt_BR.UTF-8", "PATH": "/usr/bin:/bin"}, stdout=subprocess.PIPE, text=True,
                              encoding="utf-8").stdout

    assert NOBODY["pt"] in run("status")
    assert re.search(r'"why": ""', run("status", "--json"))

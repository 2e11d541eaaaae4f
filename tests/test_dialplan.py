"""dialplan/ and its samples as text: headers, variables, documentation. tests/pbx/test_samples.py has Asterisk load them."""
from __future__ import annotations

import pathlib
import re

import pytest

from support.dialplan_text import DialplanText

ROOT = pathlib.Path(__file__).parent.parent
DIALPLAN = ROOT / "dialplan"
README = (DIALPLAN / "README.md").read_text()
SAMPLES = sorted(path for path in (DIALPLAN / "samples").iterdir() if path.is_dir())
PRODUCT = DialplanText("".join(path.read_text() for path in sorted(DIALPLAN.glob("*.conf"))))
# The variables that the verbs and the service read and set: their names stand in quotes.
PYTHON = set(re.findall(r"['\"]((?:MOVIDESK|VM)_[A-Z_]+)['\"]", "".join(
    path.read_text() for path in sorted((ROOT / "lib" / "movidesk").rglob("*.py")))))
# FreePBX includes the file of globals inside its own [globals], so it comes first.
DIALPLAN_FILES = ("globals_custom.conf", "extensions.conf", "extensions_custom.conf")


def sample(folder: pathlib.Path) -> DialplanText:
    """The dialplan of a sample; its other files aside."""
    return DialplanText("\n".join(folder.joinpath(name).read_text() for name in DIALPLAN_FILES if folder.joinpath(name).exists()))


def files() -> list[pathlib.Path]:
    return sorted(DIALPLAN.rglob("extensions*.conf")) + sorted(DIALPLAN.glob("*.conf"))


@pytest.mark.parametrize("path", files(), ids=lambda path: "/".join(path.relative_to(DIALPLAN).parts))
def test_each_context_says_what_it_is_for_and_who_enters_it(path):
    for name, (header, _) in DialplanText(path.read_text()).contexts.items():
        assert [line for line in header if line.startswith("; Purpose: ")], name
        assert [line for line in header if line.startswith("; Entered from: ")], name


def table(title: str) -> dict[str, str]:
    """Variable -> second column, of the table of dialplan/README.md under this title."""
    part = README.split(f"\n## {title}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \|([^|]*)\|", part, re.MULTILINE)
    return {name: cell.strip().strip("`") for name, cell in rows}


SETTINGS = table("Settings")
VARIABLES = table("Channel variables")  # who sets each
OWN = {f"MOVIDESK{name}" for name in re.findall(
    r"`(?:MOVIDESK)?(_[A-Z_]+)`", re.search(r"`MOVIDESK_GIVE_UP`[^.]*are private to the dialplan", README)[0])}
DOCUMENTED = {*SETTINGS, *VARIABLES, *OWN}
# What dialplan/README.md says that others than the dialplan set.
GIVEN = {*SETTINGS, *(name for name, setter in VARIABLES.items() if setter != "the dialplan")}


def faults(dialplan: DialplanText, given=frozenset(GIVEN), read_elsewhere=frozenset(PYTHON)) -> list[str]:
    return [*dialplan.not_set(set(given)), *dialplan.not_read(set(read_elsewhere)), *dialplan.arguments(), *dialplan.brackets()]


def test_variables_arguments_and_brackets():
    assert len(PRODUCT.contexts) >= 20 and len(PRODUCT.reads()) >= 50 and len(PYTHON) >= 15
    assert faults(PRODUCT) == []


@pytest.mark.parametrize("folder", SAMPLES, ids=lambda folder: folder.name)
def test_variables_arguments_and_brackets_of_a_sample(folder):
    assert sample(folder).contexts
    assert faults(sample(folder), read_elsewhere=PYTHON | set(SETTINGS)) == []


@pytest.mark.parametrize("line, broken, fault", [
    ("Set(MOVIDESK_SAID=)", "Set(MOVIDESK_SAD=)", "MOVIDESK_SAD is set, and read nowhere"),
    ("${MOVIDESK_WAIT} < ${MOVIDESK_LEFT}]", "${MOVIDESK_WAIT} < ${MOVIDESK_LEFT_OVER}]",
     "MOVIDESK_LEFT_OVER is read, and set nowhere"),
    ("${GLOBAL_EXISTS(MOVIDESK_AGID)}", "${GLOBAL_EXISTS(MOVIDESK_AGI)}", "MOVIDESK_AGI is read, and set nowhere"),
    ("${IMPORT(${peer},MOVIDESK_ARRIVED)}", "${IMPORT(${peer},MOVIDESK_CAME)}", "MOVIDESK_CAME is read, and set nowhere"),
    ("${CUT(peers,", "${CUT(others,", "others is read, and set nowhere"),
    ("${FIELDQTY(device,&)}", "${FIELDQTY(devices,&)}", "devices is read, and set nowhere"),
    ("Set(LOCAL(looked)=yes)", "Set(LOCAL(seen)=yes)", "movidesk-phone: LOCAL(seen) is set, and read nowhere"),
    # Local to another context.
    ("(2,Movidesk made call ${MOVIDESK_ID}", "(2,Movidesk made call ${agid}", "agid is read, and set nowhere"),
    ("Set(LOCAL(MOVIDESK_NEXT)=${ARG1})", "NoOp()", "movidesk-leave: reads [], its header names ['ARG1']"),
    ("; ARG1: the end of the name\n", "", "movidesk-file: reads ['ARG1'], its header names []"),
    ("=$[${EPOCH} + ${MOVIDESK_MAX_WAIT}])", "=$[${EPOCH} + ${MOVIDESK_MAX_WAIT})", "brackets or quotes"),
    ('"${MOVIDESK_MUSIC}" = "on"', '"${MOVIDESK_MUSIC}" = on"', "brackets or quotes"),
    ("Goto(dial-${DIALSTATUS},1)", "Goto(dial-${DIALSTATUS,1)", "brackets or quotes"),
    ("Playtones(busy)", "Playtones(busy))", "brackets or quotes"),
])
def test_a_broken_line_is_found(line, broken, fault):
    text = PRODUCT.text.replace(line, broken, 1)
    assert text != PRODUCT.text
    assert [each for each in faults(DialplanText(text)) if fault in each], faults(DialplanText(text))


def test_what_is_documented_is_what_there_is():
    """The tables of dialplan/README.md against the dialplan and the scripts."""
    assert len(SETTINGS) >= 15 and len(VARIABLES) >= 15 and len(OWN) >= 5
    every = PRODUCT.reads() | PRODUCT.sets()
    assert {name for name in every if name.startswith("MOVIDESK_")} - DOCUMENTED == set(), "not documented"
    assert set(SETTINGS) - PRODUCT.reads() - PYTHON == set(), "settings that nothing reads"
    assert set(SETTINGS) & set(VARIABLES) == set()
    assert OWN - every == set(), "documented as the dialplan's own"
    assert {name for name, setter in VARIABLES.items() if setter == "the dialplan"} - PRODUCT.sets() == set()
    assert {name for name, setter in VARIABLES.items() if "()" not in setter and setter != "the dialplan"} - PYTHON == set()
    assert set(VARIABLES) - PRODUCT.reads() - PYTHON == set(), "variables that nothing reads"


def test_defaults_are_those_of_the_documentation():
    defaults = PRODUCT.settings()
    assert len(defaults) >= 10
    assert {name: SETTINGS.get(name) for name in defaults} == defaults
    for name in set(SETTINGS) - set(defaults) - {"MOVIDESK_AGID", "MOVIDESK_OUT_PREFIX", "MOVIDESK_OUT_SUFFIX"}:
        assert SETTINGS[name] == "", f"movidesk-settings gives {name} no default"
    for name in ("MOVIDESK_OUT_PREFIX", "MOVIDESK_OUT_SUFFIX"):
        assert f"Set({name}={SETTINGS[name]})" in PRODUCT.text
    assert f"Set(LOCAL(agid)={SETTINGS['MOVIDESK_AGID']})" in PRODUCT.text


def test_comments_and_documents_name_variables_that_there_are():
    known = DOCUMENTED | {"MOVIDESK_CONFIG"}  # of the environment
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *filter(pathlib.Path.is_file, ROOT.glob("etc/*")),
             *DIALPLAN.rglob("*.conf"), DIALPLAN / "README.md"]
    for page in pages:
        named = set(re.findall(r"(?<![A-Z_])(?:__)?(MOVIDESK_[A-Z_]*[A-Z])(?![\w*{$])", page.read_text()))
        assert named - known == set(), page


@pytest.mark.parametrize("folder", SAMPLES, ids=lambda folder: folder.name)
def test_what_a_sample_sets_or_suggests_is_a_setting_or_its_own(folder):
    """A misspelt global would be ignored in silence; those that are commented out count."""
    settings = set(re.findall(r"^;?(MOVIDESK_\w+) = ", "".join(path.read_text() for path in folder.glob("*.conf")), re.MULTILINE))
    assert settings <= set(SETTINGS)


def test_every_context_and_sample_is_in_the_readme():
    names = re.findall(r"`(movidesk-[\w-]+|-[a-z]+)`", README)
    known = {name if name.startswith("movidesk") else "movidesk" + name for name in names}
    assert set(PRODUCT.contexts) <= known
    assert [folder for folder in SAMPLES if f"](samples/{folder.name}/)" not in README] == []
    assert len(SAMPLES) >= 4


def test_what_samples_share_is_the_same():
    """Whoever has read one pjsip.conf has read them all."""
    for name in ("pjsip.conf", "voicemail.conf", "musiconhold.conf"):
        assert len({path.read_text() for path in (DIALPLAN / "samples").glob("*/" + name)}) == 1


def test_freepbx_files_in_the_documentation_are_those_of_the_sample():
    """The lines that the page quotes stand in the sample, in both languages."""
    sample = "".join(path.read_text() for path in (DIALPLAN / "samples" / "freepbx").glob("*.conf"))
    squeezed = {re.sub(r"\s", "", line).lstrip(";") for line in sample.splitlines()}
    for page in (ROOT / "docs" / "freepbx-issabel.md", ROOT / "docs" / "pt-BR" / "freepbx-issabel.md"):
        quoted = re.findall(r"^    ((?:\[4|\[queue|exten|membergosub|MOVIDESK_)[^\n]*| same[^\n]*)", page.read_text(),
                            re.MULTILINE)
        assert len(quoted) >= 8
        assert [line for line in quoted if re.sub(r"\s", "", line) not in squeezed] == [], page


def test_documents_name_only_samples_that_are_there():
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("dialplan/**/*.*")]:
        for name in re.findall(r"dialplan/samples/([\w./-]+\w)", page.read_text()):
            assert (DIALPLAN / "samples" / name).exists(), f"{page} names dialplan/samples/{name}"

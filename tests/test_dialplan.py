"""dialplan/ and its samples as text: headers, variables, documentation. tests/pbx/test_samples.py has Asterisk load them."""
from __future__ import annotations

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
DIALPLAN = ROOT / "dialplan"
README = (DIALPLAN / "README.md").read_text()
SAMPLES = sorted(path for path in (DIALPLAN / "samples").iterdir() if path.is_dir())
PRODUCT = "".join(path.read_text() for path in sorted(DIALPLAN.glob("*.conf")))
# What Asterisk itself calls by these names is no context.
NO_CONTEXTS = {"general", "globals"}


def contexts(text: str) -> dict[str, list[str]]:
    """The contexts of a dialplan, each with the comment that stands at its head."""
    found = {}
    for name, rest in re.findall(r"^\[([\w-]+)\][^\n]*\n((?:;[^\n]*\n)*)", text, re.MULTILINE):
        if name not in NO_CONTEXTS:
            found[name] = rest.splitlines()
    return found


def files() -> list[pathlib.Path]:
    return sorted(DIALPLAN.rglob("extensions*.conf")) + sorted(DIALPLAN.glob("*.conf"))


@pytest.mark.parametrize("path", files(), ids=lambda path: "/".join(path.relative_to(DIALPLAN).parts))
def test_each_context_says_what_it_is_for_and_who_enters_it(path):
    for name, header in contexts(path.read_text()).items():
        assert [line for line in header if line.startswith("; Purpose: ")], name
        assert [line for line in header if line.startswith("; Entered from: ")], name


def variables(text: str) -> tuple[set[str], set[str]]:
    """The MOVIDESK_ and SUPPORT_ variables that a dialplan reads and sets, comments aside."""
    code = re.sub(r"^\s*;.*$", "", text, flags=re.MULTILINE)
    read = set(re.findall(r"\$\{((?:MOVIDESK|SUPPORT)_\w+)", code))
    return read, set(re.findall(r"(?:Set\((?:LOCAL\(|MASTER_CHANNEL\()?_{0,2}|^)((?:MOVIDESK|SUPPORT)_\w+)", code, re.MULTILINE))


def documented() -> set[str]:
    """The variables that dialplan/README.md names in its tables, and those that it lists as the dialplan's own."""
    own = re.search(r"`MOVIDESK_GIVE_UP`[^.]*belong to the dialplan alone", README)[0]
    short = {"MOVIDESK" + name for name in re.findall(r"`(_[A-Z_]+)`", own)}
    return short | set(re.findall(r"`(MOVIDESK_\w+)`", own)) | set(re.findall(r"^\| `(MOVIDESK_\w+)`", README, re.MULTILINE))


@pytest.mark.parametrize("folder", SAMPLES, ids=lambda folder: folder.name)
def test_what_a_sample_reads_is_set_by_it_or_documented(folder):
    read, own = variables("".join(path.read_text() for path in folder.glob("*.conf")))
    assert read - own - documented() == set()


def test_every_variable_of_the_dialplan_is_documented():
    read, own = variables(PRODUCT)
    assert read and own
    assert (read | own) - documented() == set()


@pytest.mark.parametrize("folder", SAMPLES, ids=lambda folder: folder.name)
def test_what_a_sample_sets_or_suggests_is_a_setting_or_its_own(folder):
    """A misspelt global would be ignored in silence; those that are commented out count."""
    settings = set(re.findall(r"^;?(MOVIDESK_\w+) = ", "".join(path.read_text() for path in folder.glob("*.conf")), re.MULTILINE))
    assert settings <= set(re.findall(r"^\| `(MOVIDESK_\w+)`", README, re.MULTILINE))


def test_every_context_and_sample_is_in_the_readme():
    names = re.findall(r"`(movidesk-[\w-]+|-[a-z]+)`", README)
    known = {name if name.startswith("movidesk") else "movidesk" + name for name in names}
    assert set(contexts(PRODUCT)) <= known
    assert [folder for folder in SAMPLES if "](samples/%s/)" % folder.name not in README] == []
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
        quoted = re.findall(r"^    ((?:\[4|\[queue|exten|membergosub|MOVIDESK_)[^\n]*| same[^\n]*)", page.read_text(), re.MULTILINE)
        assert len(quoted) >= 8
        assert [line for line in quoted if re.sub(r"\s", "", line) not in squeezed] == [], page


def test_documents_name_only_samples_that_are_there():
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("dialplan/**/*.*")]:
        for name in re.findall(r"dialplan/samples/([\w./-]+\w)", page.read_text()):
            assert (DIALPLAN / "samples" / name).exists(), "%s names dialplan/samples/%s" % (page, name)

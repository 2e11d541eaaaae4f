"""What callers hear: which file, in which language, and what takes its place where there is none."""
from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from movidesk_rehearsal.rehearsal import wait_for
from office import CLOSED, NOBODY_ONLINE, Office, close

RECORDER = Path(__file__).parents[2] / "sounds" / "prompts.py"


@pytest.fixture
def sounds(service_office: Office):
    """Asterisk's folder of sounds, with our prompts as `make install` places them."""
    folder = service_office.pbx.folder / "data" / "sounds"
    subprocess.run([sys.executable, RECORDER, "install", folder / "movidesk"], check=True)
    service_office.set(MOVIDESK_PROMPTS="yes", MOVIDESK_ANNOUNCE="30")
    yield folder
    for name in ("movidesk", "custom", "pt", "pt_BR"):
        shutil.rmtree(folder / name, ignore_errors=True)


def played(office: Office, part: str = "") -> list[str]:
    """The files that were played, each with the language of its channel."""
    found = re.findall(r"> Playing '([^']*)\.\w+' \(language '(\w+)'\)", office.console())
    return [f"{name} {language}" for name, language in found if part in name]


def hears(office: Office, *files: str) -> None:
    """Wait until these files were played, in this order, and no others between them."""
    wait_for(" ".join(files), lambda: list(files) == played(office)[:len(files)], 25, lambda: played(office))
    assert "does not exist" not in office.console() and "WARNING" not in office.console(), office.console()


@pytest.mark.parametrize("language, folder", [("pt_BR", "pt_BR"), ("pt", "pt"), ("es", "es"), ("en_GB", "en")])
def test_a_waiting_caller_hears_its_language(service_office, sounds, language, folder):
    service_office.all_in_calls()
    caller = service_office.call(f"*{language}")
    hears(service_office, f"movidesk/{folder}/busy {language}", f"movidesk/{folder}/next {language}")
    service_office.wait_music(caller)
    caller.hang_up()


@pytest.mark.parametrize("language, number", [("pt_BR", "movidesk/pt_BR/numbers/2"), ("es", "digits/2")])
def test_the_second_in_line_hears_its_place(service_office, sounds, language, number):
    """Asterisk has digits in Spanish and none in Portuguese."""
    service_office.all_in_calls()
    service_office.set(MOVIDESK_PROMPTS="no", MOVIDESK_ANNOUNCE="0")
    first = service_office.call()
    service_office.wait_music(first)
    service_office.set(MOVIDESK_PROMPTS="yes", MOVIDESK_ANNOUNCE="30")
    second = service_office.call(f"*{language}")
    place = [f"movidesk/{language}/place {language}", f"{number} {language}", f"movidesk/{language}/hold {language}"]
    busy = [f"movidesk/{language}/busy {language}"]
    wait_for("the place", lambda: played(service_office) in (place, busy + place), 25, lambda: played(service_office))
    for caller in (second, first):
        caller.hang_up()


NEXT, PORTUGUESE = ("queue-youarenext",), ("movidesk/pt_BR/busy", "movidesk/pt_BR/next")


@pytest.mark.parametrize("prompts, language, seconds, files", [
    ("no", "es", 59, (*NEXT, "queue-holdtime", "queue-less-than", "digits/1", "queue-minute")),
    ("no", "en", 89, (*NEXT, "queue-holdtime", "digits/1", "queue-minute")),
    ("no", "fr", 90, (*NEXT, "queue-holdtime", "digits/2", "queue-minutes")),
    ("yes", "pt_BR", 30, (*PORTUGUESE, *(f"movidesk/pt_BR/{name}" for name in ("expected", "less-than", "one-minute")))),
    ("yes", "pt_BR", 60, (*PORTUGUESE, "movidesk/pt_BR/expected", "movidesk/pt_BR/one-minute")),
    ("yes", "pt_BR", 629, (*PORTUGUESE, "movidesk/pt_BR/expected", "movidesk/pt_BR/numbers/10", "movidesk/pt_BR/minutes"))])
def test_the_expected_wait_is_said_after_the_place(service_office, sounds, prompts, language, seconds, files):
    service_office.set(MOVIDESK_PROMPTS=prompts, MOVIDESK_ANNOUNCE_WAIT="yes")
    service_office.all_in_calls()
    service_office.know_wait(seconds)
    caller = service_office.call(f"*{language}")
    hears(service_office, *(f"{file} {language}" for file in files))
    service_office.wait_music(caller)
    assert len(played(service_office)) == len(files)
    caller.hang_up()


@pytest.mark.parametrize("announce, known", [("no", True), ("yes", False)])
def test_the_expected_wait_is_not_said(service_office, sounds, announce, known):
    """Nobody asked for it, or it is not known."""
    service_office.set(MOVIDESK_PROMPTS="no", MOVIDESK_ANNOUNCE_WAIT=announce)
    service_office.all_in_calls()
    if known:
        service_office.know_wait(100)
    caller = service_office.call("*es")
    service_office.wait_music(caller)
    assert played(service_office) == ["queue-youarenext es"]
    caller.hang_up()


def test_a_prompt_of_asterisk_that_is_missing_says_nothing(service_office, sounds):
    service_office.pbx.cli("channel originate Local/s@missing application Wait 20")
    wait_for("it is looked for", lambda: 'Says it: "queue-holdtime"' in service_office.console(), instead=service_office.console)
    assert 'Says nosuch: ""' in service_office.console()
    service_office.pbx.wait_idle(25)


@pytest.mark.parametrize("number, parts", [
    ("1", ["1"]), ("29", ["29"]), ("30", ["30"]), ("59", ["50", "and", "9"])])
def test_a_number_in_portuguese(service_office, sounds, number, parts):
    service_office.pbx.cli(f"channel originate Local/{number}@says application Wait 20")
    hears(service_office, *(f"movidesk/pt_BR/numbers/{part} pt_BR" for part in parts))
    service_office.pbx.wait_idle(25)


def test_where_asterisk_has_portuguese_digits_they_are_used(service_office, sounds):
    (sounds / "pt_BR" / "digits").mkdir(parents=True)
    shutil.copyfile(sounds / "en" / "digits" / "2.gsm", sounds / "pt_BR" / "digits" / "2.gsm")
    service_office.pbx.cli("channel originate Local/2@says application Wait 20")
    hears(service_office, "digits/2 pt_BR")
    service_office.pbx.wait_idle(25)


@pytest.mark.parametrize("code, prompt", [(CLOSED, "closed"), (NOBODY_ONLINE, "nobody")])
def test_a_caller_is_told_why_before_the_call_ends(service_office, sounds, code, prompt):
    close(service_office, code)
    service_office.set(MOVIDESK_MESSAGE="no")
    caller = service_office.call("*es")
    caller.wait_answered()
    service_office.ticket(caller, "lost", ["receivedCall", "lostCall"])
    hears(service_office, f"movidesk/es/{prompt} es")
    assert len(played(service_office)) == 1


def test_a_caller_is_told_why_before_the_message(service_office, sounds):
    close(service_office, CLOSED)
    caller = service_office.call("*pt_BR")
    hears(service_office, "movidesk/pt_BR/closed pt_BR", "movidesk/pt_BR/message pt_BR", "beep pt_BR")
    service_office.wait_stage(caller, "Record")
    caller.press("#")
    hears(service_office, "movidesk/pt_BR/closed pt_BR", "movidesk/pt_BR/message pt_BR", "beep pt_BR",
          "movidesk/pt_BR/saved pt_BR")
    service_office.ticket(caller, "lost", ["receivedCall", "lostCall"])


def test_by_default_callers_hear_what_asterisk_has(service_office, sounds):
    service_office.set(MOVIDESK_PROMPTS="")
    service_office.all_in_calls()
    caller = service_office.call("*es")
    hears(service_office, "queue-youarenext es")
    caller.hang_up()


def test_a_language_that_we_do_not_have(service_office, sounds):
    """Asterisk's own prompt comes first, because it may have it in that language; what it has not is said in English."""
    service_office.all_in_calls()
    caller = service_office.call("*fr")
    hears(service_office, "movidesk/en/busy fr", "queue-youarenext fr")
    caller.hang_up()


def test_without_our_files_callers_hear_what_asterisk_has(service_office, sounds):
    shutil.rmtree(sounds / "movidesk")
    (sounds / "movidesk").mkdir()
    close(service_office, CLOSED)
    caller = service_office.call("*pt_BR")
    hears(service_office, "vm-intro pt_BR", "beep pt_BR")
    caller.hang_up()


@pytest.mark.parametrize("prompts, setting, file, name", [
    ("yes", "", "custom/movidesk/next.gsm", "custom/movidesk/next"),
    ("no", "", "pt/custom/movidesk/next.gsm", "pt/custom/movidesk/next"),
    ("no", "{sounds}/custom", "custom/pt_BR/next.gsm", "{sounds}/custom/pt_BR/next")])
def test_an_own_recording_wins(service_office, sounds, prompts, setting, file, name):
    recording = sounds / file
    recording.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(sounds / "en" / "beep.gsm", recording)
    service_office.set(MOVIDESK_SOUNDS=setting.format(sounds=sounds), MOVIDESK_PROMPTS=prompts)
    service_office.all_in_calls()
    caller = service_office.call("*pt_BR")
    busy = ["movidesk/pt_BR/busy pt_BR"] if prompts == "yes" else []
    hears(service_office, *busy, f"{name.format(sounds=sounds)} pt_BR")
    caller.hang_up()

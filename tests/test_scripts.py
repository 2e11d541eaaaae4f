"""The scripts in agi/, run as Asterisk runs them; and the names that they, Python and the dialplan share."""
from __future__ import annotations

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import sysconfig

import pytest

from movidesk.agi import variables, verbs
from movidesk.journal import Journal, emergency
from support import peer as asterisk
from support.peer import ARGUMENTS, Peer

ROOT = pathlib.Path(__file__).parent.parent
QUEUE = "77"
CALL = "pbx1-1700000000.1"


@pytest.fixture
def environment(write_config, monkeypatch) -> None:
    monkeypatch.setenv("MOVIDESK_CONFIG", write_config())


def script(verb: str) -> list[str]:
    return [sys.executable, str(ROOT / "agi" / verb)]


def kinds(tmp_path) -> list[str]:
    journal = Journal(str(tmp_path / "journal.db"))
    call = journal.calls.find(CALL)
    return [event.kind for event in journal.calls.events(call)] if call else []


# -- as Asterisk runs them -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("verb", verbs.VERBS)
def test_a_script_runs_its_verb(environment, tmp_path, verb):
    peer = Peer()
    done = peer.script(script(verb), *ARGUMENTS.get(verb, []))
    assert (done.returncode, done.stderr, peer.sets[-1]) == (0, "", (variables.RESULT, "ok"))
    assert verb in ("hangup", "moved", "arrived") or kinds(tmp_path)[-1] == verb


def test_the_scripts_run_by_themselves():
    for path in (ROOT / "agi").iterdir():
        assert os.access(path, os.X_OK) and path.read_text().startswith("#!/usr/bin/env python3\n")


@pytest.mark.parametrize("command", [1, 2, 3])
def test_a_hangup_in_mid_verb_loses_no_event(environment, tmp_path, command):
    """Asterisk sends SIGHUP, and goes on answering."""
    Peer().script(script("received"), QUEUE)
    peer = Peer(faults={command: lambda: peer.process.send_signal(signal.SIGHUP)})
    done = peer.script(script("hangup"))
    assert (done.returncode, peer[variables.RESULT]) == (0, "ok")
    assert kinds(tmp_path) == ["received", "canceled"]


@pytest.mark.parametrize("command", [1, 2, 3, 4])
def test_an_asterisk_that_is_gone_in_mid_verb_loses_no_event(environment, tmp_path, command):
    Peer().script(script("received"), QUEUE)
    done = Peer(faults={command: asterisk.EOF}).script(script("hangup"))
    assert (done.returncode, done.stderr) == (0, "")
    assert kinds(tmp_path) == ["received", "canceled"]


def test_what_went_wrong_is_told_on_the_console_and_the_script_ends_well(environment):
    peer = Peer()
    done = peer.script(script("received"), "sales")
    assert (done.returncode, done.stderr, peer[variables.RESULT], peer[variables.CODE]) == (0, "", "error", "E")
    assert peer.console == ["movidesk: received failed: the queue 'sales' is no number of at most 10 digits"]


def test_a_folder_that_asterisks_user_may_not_write(write_config, tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir(0o555)
    settings = write_config(journal={"path": str(folder / "journal.db")})
    peer = Peer()
    peer.script([*as_a_mere_user(), *script("canceled")], env={**os.environ, "MOVIDESK_CONFIG": settings})
    assert peer[variables.RESULT] == "error"
    assert peer.console[:1] == [f"movidesk: canceled failed: journal {folder}/journal.db: unable to open database file; the "
                                f"folder {folder}"
                            " is not writable for this user: give it to Asterisk's user"]
    assert re.fullmatch("movidesk: canceled is kept in .*emergency until the journal is back|movidesk: canceled of call .*"
                        " IS LOST: .*", peer.console[1])
    for path in pathlib.Path("/var/tmp").glob(f"movidesk-*-{settings.replace(os.sep, '-').strip('-')[-150:]}.emergency"):
        path.unlink()


def as_a_mere_user() -> list[str]:
    """A command's prefix for which permissions count; root has to give up its right to pass over them."""
    if os.geteuid() != 0:
        return []
    command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    if not shutil.which("setpriv") or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("as root, and setpriv cannot take its rights away")
    return command


# -- by hand ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("typed", [b"hello\n", b"ls -l\n\n", b"\xff\xfe\n", b"x" * 100_000])
def test_by_hand_from_a_terminal(environment, tmp_path, typed):
    done = subprocess.run(script("lost"), input=typed, capture_output=True, timeout=10)
    line, = done.stderr.decode().splitlines()
    assert line.startswith("movidesk: lost: ") and line.endswith("(this is an AGI script: Asterisk runs it)")
    assert (done.returncode, done.stdout, kinds(tmp_path)) == (1, b"", [])


def test_with_nothing_on_stdin(environment, tmp_path):
    done = subprocess.run(script("lost"), stdin=subprocess.DEVNULL, capture_output=True, timeout=10)
    assert (done.returncode, done.stdout, done.stderr, kinds(tmp_path)) == (0, b"", b"", [])


# -- what an event costs ---------------------------------------------------------------------------------------------

def test_recording_an_event_loads_no_http(environment, tmp_path):
    """As `make install` writes the scripts: without the site module, whose .pth files are not ours."""
    path = [str(ROOT / "lib"), sysconfig.get_path("purelib")]
    installed = tmp_path / "canceled"
    lines = (ROOT / "agi" / "canceled").read_text().splitlines(keepends=True)
    installed.write_text("".join([f"import sys; sys.path.extend({path!r})\n", *lines[1:]]))
    peer = Peer()
    done = peer.script([sys.executable, "-IS", "-X", "importtime", str(installed)])
    loaded = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert peer[variables.RESULT] == "ok" and {"movidesk.agi.runner", "movidesk.journal", "asterisk.agi"} <= loaded
    heavy = {"requests", "urllib3", "http.client", "email", "logging", "ssl", "dataclasses", "inspect", "pprint", "six",
             "argparse", "click", "rich", "gettext", "locale", "dateutil", "typing", "threading", "movidesk.delivery.api",
             "movidesk.delivery.worker", "movidesk.journal.outbox", "movidesk.journal.scheduling",
             "movidesk.config.values", "movidesk.service", "redis", "movidesk.fleet", "movidesk.journal.pool"}
    assert loaded & heavy == set()


@pytest.mark.parametrize("what", ["agi/received", "import movidesk.service", "import movidesk.cli.__main__"])
def test_without_a_fleet_nothing_of_it_is_loaded(environment, what):
    """Not for a question either, and neither the service nor the command loads Redis' client."""
    command = ["-X", "importtime", *([str(ROOT / what)] if what.startswith("agi/") else ["-c", what])]
    if what.startswith("agi/"):
        done = Peer().script([sys.executable, *command], QUEUE)
    else:
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=60)
    loaded = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert {"agi/received": "movidesk.journal.scheduling"}.get(what, "movidesk.config") in loaded
    of_fleet = {"redis", "movidesk.fleet.client", "movidesk.fleet.membership", "movidesk.fleet.memory", "movidesk.fleet.script"}
    if what.startswith("agi/"):
        of_fleet |= {"movidesk.fleet", "movidesk.journal.pool", "movidesk.rules.fleet_share"}
    assert loaded & of_fleet == set()


# -- one name everywhere ---------------------------------------------------------------------------------------------

DIALPLAN = "".join(path.read_text() for path in sorted((ROOT / "dialplan").glob("*.conf")))
CODE = re.sub(r"^\s*;.*$", "", DIALPLAN, flags=re.MULTILINE)

#: The globals of the contract, and those that later features added (dialplan/README.md).
GLOBALS = {"MOVIDESK_" + name for name in (
    "AGID", "DIAL_PREFIX", "DIAL_SUFFIX", "DIAL_OPTIONS", "RING", "MAX_WAIT", "MOH", "FALLBACK", "MESSAGE", "MESSAGE_MAX",
    "RECORD", "ANNOUNCE", "EXIT_KEY", "OUT_PREFIX", "OUT_SUFFIX", "VOICEMAIL", "CHECK_PHONE", "HINTS", "ANNOUNCE_WAIT",
    "PRIORITY", "PROMPTS", "SOUNDS")}
VARIABLES = {value for name, value in vars(variables).items() if name.isupper() and str(value).startswith("MOVIDESK_")}


def test_scripts_verbs_and_the_dialplan_have_the_same_names():
    assert {path.name for path in (ROOT / "agi").iterdir()} == set(verbs.VERBS)
    assert set(re.findall(r"Gosub\(movidesk-verb,s,1\((\w+)", CODE)) <= set(verbs.VERBS)
    for verb in verbs.VERBS:
        assert f'main("{verb}")' in (ROOT / "agi" / verb).read_text()


def test_pythons_channel_variables_occur_in_the_dialplan():
    assert len(VARIABLES) >= 8
    settings = {"MOVIDESK_" + name for name in re.findall(r"movidesk-setting,\w+,1\((\w+)", CODE)}
    assert settings | set(re.findall(r"\bMOVIDESK_\w+", CODE)) >= VARIABLES


def test_what_the_dialplan_reads_is_set_somewhere():
    read = set(re.findall(r"\$\{(MOVIDESK_\w+)", CODE))
    own = set(re.findall(r"Set\(_{0,2}(MOVIDESK_\w+)=", CODE))
    assert read - own - GLOBALS - VARIABLES == set()
    assert read | VARIABLES | set(re.findall(r"GLOBAL_EXISTS\((\w+)", CODE)) >= GLOBALS


def test_what_python_calls_by_name_is_nowhere_a_literal():
    """Channel variables are written once, in agi/variables.py."""
    others = [path for path in (ROOT / "lib" / "movidesk").rglob("*.py") if path.name != "variables.py"]
    assert len(others) > 40
    for path in others:
        found = re.findall(r"""["'](_*MOVIDESK_\w+)["']""", path.read_text())
        assert set(found) <= {"MOVIDESK_CONFIG", "MOVIDESK_USER"}, path  # of the environment


def test_the_emergency_file_takes_every_verb():
    """What it does not know would be logged as nonsense, and lost."""
    assert set(verbs.VERBS) == emergency.KINDS

"""The heartbeat of the service: a file that is as young as the accept loop is alive."""
from __future__ import annotations

import os
import re
import socket
import threading
from pathlib import Path

import pytest

from movidesk.config import load, options
from movidesk.pbx import heartbeat
from movidesk.pbx.heartbeat import Heartbeat
from movidesk.service import tell_systemd

UNIT = (Path(__file__).parent.parent / "etc" / "movidesk.service").read_text()
DIALPLAN = (Path(__file__).parent.parent / "dialplan" / "verb.conf").read_text()


@pytest.fixture
def memory(tmp_path):
    folder = tmp_path / "memory"
    folder.mkdir()
    return folder


@pytest.fixture
def config(write_config, memory):
    return load(write_config(journal={"standby": str(memory)}))


def age_it(path: str, seconds: float) -> None:
    at = os.stat(path).st_mtime - seconds
    os.utime(path, (at, at))


def test_each_beat_makes_the_file_young_at_most_twice_a_second(memory, config, clock):
    told = []
    alive = Heartbeat(config, lambda: told.append(clock.now), clock)
    alive.beat()
    assert os.path.islink(alive.path) and len(list(memory.iterdir())) == 1
    age_it(alive.path, 100)
    old = os.stat(alive.path).st_mtime
    clock.advance(heartbeat.EVERY * 0.9)
    alive.beat()
    assert os.stat(alive.path).st_mtime == old
    clock.advance(heartbeat.EVERY * 0.2)
    alive.beat()
    assert os.stat(alive.path).st_mtime > old + 99 and len(told) == 2


def test_a_clean_end_leaves_no_file(memory, config):
    alive = Heartbeat(config)
    alive.beat()
    alive.end()
    assert not os.path.lexists(alive.path) and list(memory.iterdir()) == []


def test_a_file_that_is_taken_away_comes_back(memory, config, clock):
    alive = Heartbeat(config, steady=clock)
    for gone in alive.path, alive._target, alive.path:
        alive.beat()
        os.unlink(gone)
        clock.advance(1)
    alive.beat()
    assert os.path.exists(alive.path)


@pytest.mark.parametrize("memory_is", ["missing", "a link that somebody planted"])
def test_where_no_memory_can_be_used_the_file_is_beside_the_journal(memory, config, tmp_path, memory_is):
    alive = Heartbeat(config)
    if memory_is == "missing":
        memory.rmdir()
    else:
        os.symlink(tmp_path / "victim", alive._target)
    os.symlink("/nonexistent/old", alive.path)
    alive.beat()
    assert os.path.isfile(alive.path) and not os.path.islink(alive.path) and not (tmp_path / "victim").exists()


def test_a_disk_that_refuses_the_file_is_logged_once_and_stops_nothing(write_config, tmp_path, clock, caplog):
    alive = Heartbeat(load(write_config(journal={"path": str(tmp_path / "none" / "journal.db")})), steady=clock)
    for _ in range(3):
        alive.beat()
        clock.advance(1)
    assert len(caplog.records) == 1 and alive.path in caplog.text


def test_systemd_that_does_not_read_holds_up_nobody(memory, config, tmp_path, monkeypatch, clock):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        alive = Heartbeat(config, lambda: tell_systemd("WATCHDOG=1"), clock)

        def beats():
            for _ in range(3):
                alive.beat()
                clock.advance(1)
        monkeypatch.setattr(heartbeat.log, "error", lambda *what: None)
        notify.setblocking(False)
        sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sender.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                sender.sendto(b"x", str(tmp_path / "notify"))
        thread = threading.Thread(target=beats)
        thread.start()
        thread.join(10)
        assert not thread.is_alive()
        sender.close()


# -- the unit and the dialplan ---------------------------------------------------------------------------------------

def settings(name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)


def test_a_stop_may_take_as_long_as_the_longest_request():
    parse = options.OPTIONS["movidesk"]["timeout"][0]
    longest = max(seconds for seconds in range(1, 100) if is_allowed(parse, str(seconds)))
    assert float(*settings("TimeoutStopSec")) >= 3 * longest + 10


def is_allowed(parse, text: str) -> bool:
    try:
        return bool(parse(text))
    except ValueError:
        return False


def test_the_unit_watches_the_beat():
    assert settings("Type") == ["notify"] and settings("Restart") == ["always"] and settings("StartLimitIntervalSec") == ["0"]
    assert 5 * heartbeat.EVERY <= float(*settings("WatchdogSec")) <= 10, "callers who are inside AGI() wait for so long"
    assert settings("WatchdogSignal") == ["SIGKILL"], "what SIGABRT leaves behind may hold the token"


def test_the_unit_leaves_asterisks_shared_memory_alone():
    """systemd would remove all of the user's, and Asterisk is the same user."""
    assert settings("RemoveIPC") == ["no"]


def test_the_dialplan_looks_at_the_file_beside_the_default_journal():
    assert f"${{STAT(M,{heartbeat.path_beside('/var/lib/movidesk/journal.db')})}}" in DIALPLAN
    limit, = set(re.findall(r"\$\{age\} [<>]= -?(\d+)", DIALPLAN))
    # whole seconds: known after four, and three times what a busy service takes
    assert int(limit) == 3 and heartbeat.EVERY <= 0.5

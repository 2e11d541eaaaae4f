"""How a demo begins and ends, whichever it is."""
from __future__ import annotations

import signal

import pytest

from movidesk_rehearsal import demo_run
from movidesk_rehearsal.rehearsal import NotInTime


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs a demo without programs; its exit status."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.setattr(demo_run, "need_program", lambda *_: "")
    monkeypatch.setattr(demo_run, "find_asterisk", lambda version: version)
    options = demo_run.parser("x", "A demo.\n").parse_args(["--folder", str(tmp_path / "f"), "--asterisk", "16"])
    yield lambda perform: demo_run.run(options, "sipp", "x-", perform)
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("good, status", [(True, 0), (False, 1)])
def test_its_exit_status_is_whether_all_was_good(run, tmp_path, good, status):
    given = []
    assert run(lambda *arguments: given.append(arguments[1:]) or good) == status
    assert given == [("16", str(tmp_path / "f"))]


@pytest.mark.parametrize("error", [OSError("no room"), NotInTime("no room")])
def test_a_failure_is_one_line_with_the_folder(run, capsys, tmp_path, error):
    def fail(*_):
        raise error

    assert run(fail) == 1
    assert capsys.readouterr().err == f"movidesk-agi demo: no room (see {tmp_path / 'f'})\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_whatever_ends_it_lets_it_clean_up(run, capsys, number):
    """Else its Asterisk stays behind."""
    signals = []

    def interrupted(*_):
        try:
            signal.raise_signal(number)
        finally:
            signals.append(number)

    assert run(interrupted) == 1
    assert signals == [number] and capsys.readouterr().err == "interrupted\n"

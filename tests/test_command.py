"""`movidesk simulate`, as whoever rehearses starts it."""
from __future__ import annotations

import subprocess
import sys

import pytest
import requests

from movidesk_sim import command
from movidesk_sim.model import Movidesk
from movidesk_sim.web import Simulator, serve

RECEIVED = "asterisk_receivedCall"


def test_the_command_says_how_to_be_used_and_logs():
    program = "import sys; from movidesk_sim.command import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program]
    options = ["--port", "0", "--agents", "6000", "--queue", "5", "--limit", "1"]
    with subprocess.Popen([*command, *options], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            said = [process.stdout.readline().strip() for _ in range(6)]
            settings = dict(line.split(" = ") for line in said if " = " in line)
            params = {"token": settings["token"], "queueId": 5, "clientNumber": "1", "id": "c1"}
            url = f"{settings['url']}/{RECEIVED}"
            answers = [requests.post(url, params=params, timeout=30) for _ in range(2)]
            assert [answer.status_code for answer in answers] == [200, 429] and answers[0].json() == "6000"
            line = process.stdout.readline()
            assert line.rstrip().endswith(f'POST {RECEIVED} queueId=5 clientNumber=1 id=c1 -> 200 "6000"')
        finally:
            process.send_signal(2)
            process.wait(timeout=30)
        assert settings["token"] not in process.stdout.read()
        assert process.returncode == 0


@pytest.mark.parametrize("agents", ["6000,6001", "6000 6001", "6000, 6001"])
def test_agents_with_commas_or_blanks_between(monkeypatch, agents):
    groups = []
    monkeypatch.setattr(Movidesk, "add_group", lambda _, queue, agents: groups.append((queue, agents)))
    monkeypatch.setattr(Simulator, "run", lambda _: None)
    assert command.main(["--port", "0", "--agents", agents]) == 0
    assert groups == [(77, ["6000", "6001"])]


def test_the_command_refuses_misuse():
    command = [sys.executable, "-c", "from movidesk_sim.command import main; main(['--token', 'secret'])"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2 and "GUID" in done.stderr


@pytest.mark.parametrize("port", ["65536", "99999", "-1", "http", ""])
def test_no_port(capsys, port):
    with pytest.raises(SystemExit) as ended:
        command.main(["--port", port])
    assert ended.value.code == 2 and f"{port} is no port" in capsys.readouterr().err


def test_agents_may_have_names():
    model = Movidesk(lambda: 0.0)
    command.add_agents(model, 5, "6000=Ana Souza, 6001=Bruno, 6002")
    assert [(agent.extension, agent.name) for agent in model.agents.values()] == [
        ("6000", "Ana Souza"), ("6001", "Bruno"), ("6002", "")]
    assert model.groups[5].agents == ["6000", "6001", "6002"]


@pytest.mark.parametrize("host, warned", [("127.0.0.1", False), ("localhost", False), ("127.0.0.2", False), ("0.0.0.0", True)])
def test_a_host_that_others_can_reach_is_warned_of(monkeypatch, capsys, host, warned):
    monkeypatch.setattr(Simulator, "run", lambda _: None)
    assert command.main(["--port", "0", "--host", host]) == 0
    said, error = capsys.readouterr()
    assert ("asks for no password" in error) == warned and "url = http://" in said


def test_a_port_that_is_taken_is_said(capsys):
    taken = serve(Movidesk(lambda: 0.0))
    assert command.main(["--port", str(taken.port)]) == 1
    taken.close()
    said = capsys.readouterr().err
    assert said == (f"movidesk simulate: 127.0.0.1:{taken.port}: Address already in use. "
                    f"Another port: --port {taken.port + 1}\n")


def test_the_address_for_calls_has_its_token_from_a_file(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(Simulator, "run", lambda self: seen.append(self.call_url))
    (tmp_path / "token").write_text("a-secret\n")
    assert command.main(["--port", "0", "--call-url", "http://pbx/call", "--call-token-file", str(tmp_path / "token")]) == 0
    assert command.main(["--port", "0"]) == 0
    assert seen[0].url == "http://pbx/call" and seen[0].auth == {"token": "a-secret"} and seen[1] is None
    assert "a-secret" not in repr(seen)
    with pytest.raises(SystemExit):
        command.main(["--call-url", "http://pbx/call", "--call-token-file", str(tmp_path / "missing")])


def test_an_asterisk_of_its_own_needs_a_checkout(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "movidesk_rehearsal", None)  # as where only the product is installed
    with pytest.raises(SystemExit) as ended:
        command.main(["--port", "0", "--with-asterisk"])
    assert ended.value.code == 2 and "--with-asterisk needs a checkout of movidesk-agi" in capsys.readouterr().err


@pytest.mark.parametrize("options, reason", [
    (["--agents", "5252,6000"], "not for 6000"), (["--host", "0.0.0.0"], "an address of this")])
def test_an_asterisk_of_its_own_that_cannot_be(capsys, options, reason):
    with pytest.raises(SystemExit):
        command.main(["--port", "0", "--with-asterisk", *options])
    assert reason in capsys.readouterr().err


def test_it_listens_at_a_second_address():
    """The page is known there by its address; the product asks at the first."""
    model = Movidesk(lambda: 0.0)
    with command.listen(model, "127.0.0.2", 0) as loopback, serve(model, also="127.0.0.3") as both:
        assert loopback.home.startswith("http://127.0.0.2:") and both.home == f"http://127.0.0.1:{both.port}"
        for address in ("127.0.0.1", "127.0.0.3"):
            assert requests.get(f"http://{address}:{both.port}/page/state", timeout=30).status_code == 200
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.3:{both.port}/", timeout=30)

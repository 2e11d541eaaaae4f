"""`movidesk serve` as a process of its own: FastAGI over TCP, bad peers, delivery, its start and its end."""
from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import socket
import socketserver
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress

import pytest
import requests

from movidesk import __version__
from movidesk.agi import runner, variables, verbs
from movidesk.agi.listener import Listener
from movidesk.config import load
from movidesk.context import Context
from movidesk.journal import Journal
from movidesk.pbx import heartbeat
from movidesk_sim.model import EXAMPLE_TOKEN
from support.peer import ARGUMENTS, Peer
from support.waits import until

QUEUE = "77"
AGI = os.path.join(os.path.dirname(__file__), "..", "agi")
SERVE = [sys.executable, "-c", "import sys; from movidesk.cli import main; sys.exit(main(['serve']))"]


class Service:
    """A running service: its port, its journal, what it has logged."""

    def __init__(self, process: subprocess.Popen, port: int, settings: str, log):
        self.process, self.port, self.settings, self._log = process, port, settings, log
        self.journal = Journal(load(settings)["journal", "path"])

    def log(self) -> str:
        return self._log.read_text()

    def events(self, call_id: str) -> list[tuple[str, str]]:
        call = self.journal.calls.find(call_id)
        return [(event.kind, event.status) for event in self.journal.calls.events(call)] if call else []

    def stop(self, seconds: float = 2) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


def environment(settings: str, **more: str) -> dict[str, str]:
    return {**os.environ, "MOVIDESK_CONFIG": settings, **more}


@contextmanager
def serving(settings: str, folder, **more: str):
    """A service that has said READY=1, as systemd would see it."""
    log = folder / "serve.log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, log.open("w") as stderr:
        notify.bind(str(folder / "notify"))
        notify.settimeout(10)
        process = subprocess.Popen(SERVE, env=environment(settings, NOTIFY_SOCKET=str(folder / "notify"), **more), stderr=stderr)
        try:
            while notify.recv(100) != b"READY=1":
                pass
            port = int(re.search(r"FastAGI on 127\.0\.0\.1:(\d+)", log.read_text()).group(1))
            service = Service(process, port, settings, log)
            service.notify = notify
            yield service
            service.journal.close()
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def service(write_config, simulator, tmp_path):
    with serving(write_config(movidesk={"url": simulator.url}), tmp_path) as running:
        yield running


def ticket(simulator, call_id: str) -> str:
    found = simulator.model.tickets.get(call_id)
    return found.state if found else ""


# -- verbs over TCP --------------------------------------------------------------------------------------------------

def test_the_life_of_a_call_over_fastagi(service, simulator):
    caller = Peer(uniqueid="1.1").call(service.port, "received", QUEUE, "")
    assert (caller[variables.EXT], caller[variables.RESULT]) == ("5252", "ok")
    agent = Peer(uniqueid="1.2", variables={variables.ID: caller[variables.ID]}).call(service.port, "transferred", "5252", "")
    assert agent[variables.RESULT] == "ok"
    until(lambda: ticket(simulator, "pbx1-1.1") == "transferred")
    assert Peer(uniqueid="1.1").call(service.port, "completed", "", "")[variables.RESULT] == "ok"
    until(lambda: ticket(simulator, "pbx1-1.1") == "completed")
    assert simulator.model.problems == []
    assert EXAMPLE_TOKEN not in service.log()


def test_every_verb_is_served(service):
    for number, verb in enumerate(verbs.VERBS):
        peer = Peer(uniqueid=f"1.{number}").call(service.port, verb, *ARGUMENTS.get(verb, []))
        assert (verb, peer.sets[-1]) == (verb, (variables.RESULT, "ok"))


def test_a_service_whose_files_are_replaced_serves_every_verb(write_config, simulator, tmp_path):
    """As `make install` does before it restarts the service; also while the journal is locked, and when it is back."""
    own = tmp_path / "lib" / "movidesk"
    shutil.copytree(os.path.dirname(verbs.__file__) + "/..", own)
    with serving(write_config(movidesk={"url": simulator.url}), tmp_path, PYTHONPATH=str(own.parent)) as service:
        shutil.rmtree(own)
        test_every_verb_is_served(service)
        with closing(sqlite3.connect(service.journal.path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            peers = [Peer("2.1").call(service.port, verb, *ARGUMENTS.get(verb, [])) for verb in ("received", "hangup")]
        assert any("offered" in line for line in peers[0].console), peers[0].console
        until(lambda: service.events("pbx1-2.1") == [("received", "delivered"), ("canceled", "delivered")])
        assert service.stop() == 0
        assert "No module named" not in service.log() and "Traceback" not in service.log()


@pytest.mark.parametrize("path", ["nonsense", "", "lost/../received", "__class__"])
def test_a_path_that_is_no_verb(service, path):
    peer = Peer().call(service.port, path)
    assert peer[variables.RESULT] == "error" and [line for line in peer.console if "no verb" in line]


def test_a_path_may_carry_a_query(service):
    assert Peer().call(service.port, "canceled?x=1")[variables.RESULT] == "ok"


def test_fifty_callers_at_once(service, simulator):
    def life(number: int) -> list[str]:
        about = {"uniqueid": f"1.{number}"}
        first = Peer(**about).call(service.port, "received", QUEUE)
        return [first[variables.RESULT], Peer(**about).call(service.port, "hangup")[variables.RESULT]]

    with ThreadPoolExecutor(50) as pool:
        assert list(pool.map(life, range(50))) == [["ok", "ok"]] * 50
    calls = [service.journal.calls.find(f"pbx1-1.{number}") for number in range(50)]
    assert {call.state for call in calls} == {"canceled"}


# -- peers that are no Asterisk --------------------------------------------------------------------------------------

def test_bad_peers_do_not_harm_the_service(service):
    address = ("127.0.0.1", service.port)
    with socket.create_connection(address) as silent, socket.create_connection(address) as half:
        half.sendall(b"agi_network: yes\nagi_netw")
        socket.create_connection(address).close()
        for sent in b"\0\xff\xfe\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\n" * 1000, b"agi_x: y\n" * 1000:
            send_until_closed(address, sent)
        send_until_closed(address, b"agi_callerid: " + b"9" * 10_000_000)
        assert Peer().call(service.port, "canceled")[variables.RESULT] == "ok"
        silent.sendall(b"\n")  # it has waited for its turn all the while
        assert silent.recv(100).startswith(b'EXEC Log "WARNING,')
    assert "Traceback" not in service.log()
    assert len(max(service.log().splitlines(), key=len)) < 1000


def test_who_only_looks_whether_the_service_listens_leaves_no_line(service):
    address, before = ("127.0.0.1", service.port), service.log()
    socket.create_connection(address).close()
    with socket.create_connection(address, timeout=5) as asking:
        asking.sendall(b"agi_network: yes\nagi_network_script: ping\n\n")
        modified = os.stat(service.settings).st_mtime
        assert asking.makefile().readline() == f"movidesk-agi {__version__} {modified:.6f}\n"
    Peer().call(service.port, "nonsense")
    until(lambda: "no verb 'nonsense'" in service.log())
    assert len(service.log()[len(before):].splitlines()) == 1


def test_a_log_line_has_the_last_digits_of_the_callers_number(service):
    Peer(callerid="4733998642").call(service.port, "canceled")
    Peer(callerid="5252", uniqueid="1.7").call(service.port, "transferred", "x")
    until(lambda: "extension 'x'" in service.log())
    assert "canceled (***8642)\n" in service.log() and "4733998642" not in service.log()
    assert "***52" not in service.log(), "that is the agent's number"


def send_until_closed(address, sent: bytes) -> None:
    """Send this, and wait until the service closes the connection; TimeoutError where it does not."""
    with socket.create_connection(address, timeout=10) as peer, suppress(BrokenPipeError, ConnectionResetError):
        peer.sendall(sent)
        while peer.recv(65536):
            pass


# -- delivery --------------------------------------------------------------------------------------------------------

def test_what_a_script_records_is_delivered_at_once(service, simulator):
    """The script pulls the trigger: by itself the service looks only every few seconds, so three in a row take longer."""
    def script(verb: str, *arguments: str) -> None:
        peer = Peer(uniqueid="1.1")
        peer.script([sys.executable, os.path.join(AGI, verb)], *arguments, env=environment(service.settings))
        assert peer[variables.RESULT] == "ok"

    script("received", QUEUE)
    for verb, state in ("transferred", "transferred"), ("completed", "completed"):
        script(verb)
        until(lambda: ticket(simulator, "pbx1-1.1") == state, 2)
    script("link", "https://pbx.example.com/a.wav")
    until(lambda: simulator.model.tickets["pbx1-1.1"].links, 2)
    until(lambda: {status for _, status in service.events("pbx1-1.1")} == {"delivered"})


def test_what_was_recorded_while_no_service_ran_is_delivered_at_its_start(write_config, simulator, tmp_path):
    settings = write_config(movidesk={"url": simulator.url})
    for verb, *arguments in ("received", QUEUE), ("hangup",):
        with Peer(uniqueid="1.1").channel(*arguments) as channel:
            runner.run(verb, channel, Context(load(settings)), channel.arguments)
    assert ticket(simulator, "pbx1-1.1") == "offered"
    with serving(settings, tmp_path):
        until(lambda: ticket(simulator, "pbx1-1.1") == "canceled")


# -- the web ------------------------------------------------------------------------------------------------------------

WEB = {"recordings": {"link": "https://x/{file}", "publish": "127.0.0.1:0", "secret": "0123456789abcdef"},
       "made_calls": {"listen": "127.0.0.1:0", "auth": "none", "ami_user": "movidesk", "ami_secret": "0123456789abcdef"},
       "metrics": {"listen": "127.0.0.1:0"}, "panel": {"listen": "127.0.0.1:0"}}


@pytest.mark.parametrize("sections", [["recordings"], ["made_calls"], ["panel"],
                                      ["recordings", "made_calls", "metrics", "panel"]], ids="+".join)
def test_the_ports_that_are_configured_and_no_others(write_config, tmp_path, sections):
    with serving(write_config(**{section: WEB[section] for section in sections}), tmp_path) as service:
        ports = dict(re.findall(r"(recordings|made calls|metrics|panel) on 127\.0\.0\.1:(\d+)", service.log()))
        assert [section.replace("_", " ") for section in sections] == list(ports)
        for name, status in ("recordings", 403), ("made calls", 404), ("metrics", 404), ("panel", 404):
            if name in ports:
                assert requests.get(f"http://127.0.0.1:{ports[name]}/x", timeout=10).status_code == status
        with socket.create_connection(("127.0.0.1", int(ports.popitem()[1]))):
            assert service.stop(20) == 0


@pytest.mark.parametrize("pair", [(("recordings", "publish"), ("made_calls", "listen")),
                                  (("made_calls", "listen"), ("metrics", "listen")),
                                  (("metrics", "listen"), ("panel", "listen"))])
def test_the_ports_have_addresses_of_their_own(write_config, pair):
    same = {section: {**WEB[section], key: "127.0.0.1:4574"} for section, key in pair}
    assert "are the same address: each needs its own" in refused_start(write_config(**same))


@pytest.mark.parametrize("section, key", [("recordings", "publish"), ("made_calls", "listen"), ("metrics", "listen"),
                                          ("panel", "listen")])
def test_a_port_of_the_web_that_is_taken(write_config, section, key):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        line = refused_start(write_config(**{section: {**WEB[section], key: address}}))
    assert line == f"movidesk: [{section}] {key} = {address}: Address already in use"


LOADED = """import sys
from movidesk import config, service
service.Service(config.load())
print(*{"flask", "werkzeug", "waitress", "movidesk.web", "movidesk.web.panel", "asterisk.manager", "prometheus_client",
        "movidesk.metrics", "movidesk.reports", "pygal"} & set(sys.modules))"""


@pytest.mark.parametrize("sections, loaded", [
    ([], []), (["recordings"], ["flask", "movidesk.web", "waitress", "werkzeug"]),
    (["panel"], ["flask", "movidesk.reports", "movidesk.web", "movidesk.web.panel", "waitress", "werkzeug"]),
    (["metrics"], ["flask", "movidesk.metrics", "movidesk.web", "prometheus_client", "waitress", "werkzeug"])],
                         ids=["without", "with", "panel", "metrics"])
def test_what_serves_the_web_is_loaded_only_for_it(write_config, sections, loaded):
    settings = write_config(**{section: WEB[section] for section in sections})
    done = subprocess.run([sys.executable, "-c", LOADED], env=environment(settings), capture_output=True, text=True, timeout=20)
    assert (sorted(done.stdout.split()), done.stderr) == (loaded, "")


@pytest.mark.parametrize("section, package, said", [
    ("recordings", "waitress", "[recordings] publish and listen of [made_calls], [metrics] and [panel] need more packages "
                               "(waitress): pip install 'movidesk-agi[web]'"),
    ("metrics", "prometheus_client", "[metrics] needs more packages (prometheus_client): pip install 'movidesk-agi[metrics]'")])
def test_packages_that_the_web_needs_are_missing(write_config, tmp_path, section, package, said):
    (tmp_path / f"{package}.py").write_text(f"raise ModuleNotFoundError('none', name='{package}')")
    settings = write_config(**{section: WEB[section]})
    done = subprocess.run(SERVE, env=environment(settings, PYTHONPATH=str(tmp_path)), capture_output=True, text=True, timeout=10)
    assert (done.returncode, done.stderr) == (1, f"movidesk: {said}\n")


# -- its start and its end ----------------------------------------------------------------------------------------------

def test_sigterm_stops_it_within_two_seconds(service):
    with socket.create_connection(("127.0.0.1", service.port)):
        assert service.stop() == 0
    assert service.log().splitlines()[-1].endswith("stopped")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", service.port))
    assert not os.path.lexists(heartbeat.path_beside(service.journal.path))


def test_sigterm_stops_it_whichever_thread_it_reaches(service):
    """The kernel picks the thread, but only the main one runs Python's handlers, and it sleeps."""
    other = next(int(thread) for thread in os.listdir(f"/proc/{service.process.pid}/task")
                 if int(thread) != service.process.pid)
    assert ctypes.CDLL(None).tgkill(service.process.pid, other, signal.SIGTERM) == 0
    assert service.process.wait(2) == 0


def test_the_watchdog_hears_a_service_that_runs_and_none_that_is_frozen(write_config, tmp_path):
    with serving(write_config(), tmp_path, WATCHDOG_USEC="10000000") as service:
        heard = []
        service.notify.settimeout(2)
        heard = [service.notify.recv(100) for _ in range(3)]
        assert heard == [b"WATCHDOG=1"] * 3
        service.process.send_signal(signal.SIGSTOP)
        with pytest.raises(TimeoutError):
            while True:
                service.notify.recv(100)  # one may be under way


def test_a_busy_service_goes_on_beating(service):
    """A hundred connections that talk at once, and as many that are silent."""
    path, oldest = heartbeat.path_beside(service.journal.path), 0.0
    silent = [socket.create_connection(("127.0.0.1", service.port)) for _ in range(100)]

    def call(number: int) -> str:
        return Peer(uniqueid=f"1.{number}").call(service.port, "arrived", QUEUE)[variables.RESULT]

    with ThreadPoolExecutor(100) as pool:
        waiting = [pool.submit(call, number) for number in range(1000)]
        while not all(done.done() for done in waiting):
            oldest = max(oldest, time.time() - os.stat(path).st_mtime)
            time.sleep(0.01)
        assert {done.result() for done in waiting} == {"ok"}
    for connection in silent:
        connection.close()
    assert oldest < 3  # seconds; the dialplan's limit


def refused_start(settings: str) -> str:
    """The one line with which the service refuses to start."""
    done = subprocess.run(SERVE, env=environment(settings), capture_output=True, text=True, timeout=10)
    line, = done.stderr.splitlines()
    assert done.returncode == 1 and done.stdout == ""
    return line


def test_a_port_that_is_taken(write_config):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        line = refused_start(write_config(agid={"listen": address}))
    assert line.startswith("movidesk: ") and "Address already in use" in line and address in line


@pytest.mark.parametrize("change, said", [
    ({"movidesk": {"token": "no-guid"}}, ":3: [movidesk] token: 7 characters is not a GUID"),
    ({"movidesk": {"token": None}}, "[movidesk] token is missing"),
    ({"pbx": {"report_transfer": "never"}}, "[pbx] report_transfer: 'never' must be one of: answer, ring"),
    ({"colours": {"red": "1"}}, "unknown section [colours]"),
], ids=str)
def test_a_bad_configuration(write_config, change, said):
    settings = write_config(**change)
    line = refused_start(settings)
    assert line.startswith("movidesk: " + settings) and said in line


def test_a_missing_configuration(tmp_path):
    assert "missing.conf: No such file or directory" in refused_start(str(tmp_path / "missing.conf"))


def test_a_missing_folder_of_the_journal(write_config, tmp_path):
    line = refused_start(write_config(journal={"path": str(tmp_path / "none" / "journal.db")}))
    assert line.startswith(f"movidesk: journal {tmp_path}/none/journal.db: ") and "none does not exist" in line


def test_a_peer_that_drips_for_ever_loses_its_place(caplog):
    class Patient(socketserver.StreamRequestHandler):
        def handle(self):
            while self.rfile.read(1):
                pass

    with Listener("[agid] listen", ("127.0.0.1", 0), Patient, 1, life=0.2) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            with socket.create_connection(server.server_address, 5) as peer:
                def closed():
                    with suppress(BlockingIOError):
                        peer.send(b"x", socket.MSG_NOSIGNAL)
                        return peer.recv(1, socket.MSG_DONTWAIT) == b""
                    return False
                with suppress(ConnectionError):
                    until(closed)
            until(lambda: not server._begun)
        finally:
            server.shutdown()
            thread.join()
    assert "[agid] listen: a connection of more than 0.2 s was closed" in caplog.text


def test_a_thread_that_cannot_start_costs_no_place(caplog, monkeypatch):
    class Answers(socketserver.StreamRequestHandler):
        def handle(self):
            self.wfile.write(b"hello")

    refused = []

    def start(thread):
        if thread.name.startswith("serve"):
            return begin(thread)
        if len(refused) < 3:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        return begin(thread)

    with Listener("[agid] listen", ("127.0.0.1", 0), Answers, 1) as server:
        serving_thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="serve")
        serving_thread.start()
        begin = threading.Thread.start
        monkeypatch.setattr(threading.Thread, "start", start)
        try:
            for expected in b"", b"", b"", b"hello":
                with socket.create_connection(server.server_address, 5) as peer:
                    assert peer.recv(100) == expected  # closed at once, and the dialplan runs the script
                until(lambda: not server._begun)
        finally:
            server.shutdown()
            serving_thread.join()
    assert caplog.text.count("[agid] listen: a connection was closed: can't start new thread") == 3
    assert "Traceback" not in caplog.text

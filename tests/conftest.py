"""Options of the whole test run, and what its tests share: a clock, a journal, a simulator, a configuration file."""
from __future__ import annotations

import socketserver
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from movidesk import cli, messages
from movidesk.config import load
from movidesk.context import Context
from movidesk.journal import Journal, emergency
from movidesk.pbx import liveness
from movidesk_rehearsal.redis_server import PrivateRedis
from movidesk_sim.model import EXAMPLE_TOKEN, Limit, Movidesk
from movidesk_sim.web import serve
from support.browser import Windows, chromium
from support.clocks import Clock
from support.proxy import Proxy
from support.recordings import NAME, SECRET, SOUND


def pytest_addoption(parser):
    parser.addoption("--asterisk", default=None, metavar="VERSION",
                     help="major version of the Asterisk that tests/pbx runs on (default: an installed one, else 22)")


@pytest.fixture(autouse=True)
def own_emergency_place(tmp_path, monkeypatch):
    """Emergency files that find no other place stay in the test's folder."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(emergency, "SHARED", str(tmp_path))


@pytest.fixture(autouse=True)
def english(monkeypatch):
    """The command's messages are in English, and not broken to a width, whoever runs the tests."""
    monkeypatch.setenv("LANGUAGE", "C")
    monkeypatch.delenv("COLUMNS", raising=False)  # pytest-xdist sets it
    yield
    messages.use_english()


@pytest.fixture(name="chromium", scope="module")
def one_chromium():
    """A browser for the module's tests, which it takes a second to start."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def browser(chromium):
    """browser.open(url, width=390, scheme="dark", language="es"): a page. At the end no page may have had a fault."""
    windows = Windows(chromium)
    yield windows
    try:
        windows.check()
    finally:
        windows.close()


@pytest.fixture
def machine_zone(monkeypatch):
    """machine_zone("Europe/Lisbon"): from here on that is this machine's time zone."""
    def use(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield use
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def journal(tmp_path, clock):
    """An empty journal at tmp_path/journal.db."""
    journal = Journal(str(tmp_path / "journal.db"), clock)
    yield journal
    journal.close()


@pytest.fixture
def simulator():
    """A simulator without a limit worth the name; queue 77 with the agents 5252 and 5253."""
    model = Movidesk(time.time, limit=Limit(100_000))
    model.add_group(77, ["5252", "5253"])
    with serve(model) as running:
        yield running


@pytest.fixture
def redis(tmp_path):
    """A real Redis of this test's own; it starts within a tenth of a second."""
    with PrivateRedis(tmp_path / "redis") as running:
        yield running


@pytest.fixture
def redis_proxy(redis):
    """The network between a client, which connects to redis.url_at(redis_proxy.port), and this Redis."""
    with Proxy(redis.port) as made:
        yield made


@pytest.fixture
def other_program():
    """other_program(answer): the port of a program that answers so to whatever it is sent, as no Redis does."""
    with ExitStack() as running:
        def listen(answer: bytes) -> int:
            class Handler(socketserver.BaseRequestHandler):
                def handle(self):
                    with suppress(OSError):
                        while self.request.recv(4096):
                            self.request.sendall(answer)

            server = running.enter_context(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler))
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, daemon=True).start()
            running.callback(server.shutdown)
            return server.server_address[1]
        yield listen


@pytest.fixture
def write_config(tmp_path):
    """write_config(pbx={"name": "pbx2"}, ...): writes tmp_path/movidesk.conf and returns its path.

    What is not given suits a test; None leaves a key out. Nothing answers at the address that stands for Movidesk.
    """
    def write(**sections) -> str:
        settings = {
            "movidesk": {"url": "http://127.0.0.1:9/public/v1", "token": EXAMPLE_TOKEN, "timeout": "2",
                         "requests_per_minute": "1000"},
            "pbx": {"name": "pbx1"},
            "journal": {"path": str(tmp_path / "journal.db"), "standby": str(tmp_path)},
            "agid": {"listen": "127.0.0.1:0"},
        }
        for section, values in sections.items():
            settings.setdefault(section, {}).update(values)
        path = tmp_path / "movidesk.conf"
        lines = []
        for section, values in settings.items():
            lines += [f"[{section}]", *(f"{name} = {value}" for name, value in values.items() if value is not None), ""]
        path.write_text("\n".join(lines) + "\n")
        with suppress(OSError):  # as if the service had just run
            Path(liveness.delivery_path(settings["journal"]["path"])).touch()
        return str(path)

    return write


@pytest.fixture
def monitor(tmp_path):
    """The folder of the recordings, with one in it; secret.txt is beside the folder."""
    path = tmp_path / "monitor"
    path.mkdir()
    (path / NAME).write_bytes(SOUND)
    (tmp_path / "secret.txt").write_text("not for you")
    return path


@pytest.fixture
def configured(write_config, monitor):
    """configured(keep_days=3): a configuration with signed links and a publisher on a free port."""
    def make(**more):
        return load(write_config(recordings={"link": "https://pbx.example.com/rec/{file}", "folder": str(monitor),
                                             "publish": "127.0.0.1:0", "secret": SECRET, **more}))
    return make


@pytest.fixture
def publisher(configured, clock):
    """The context of such a configuration."""
    return Context(configured(), clock)


@pytest.fixture
def movidesk(write_config, capsys, simulator):
    """movidesk("status", "--json"): exit status, standard output, standard error; with the file movidesk.path."""
    def run(*arguments):
        return bare("--config", run.path, *arguments)

    def bare(*arguments):
        try:
            status = cli.main(list(arguments))
        except SystemExit as error:
            status = error.code
        return (status, *capsys.readouterr())

    def configure(**sections):
        run.path = write_config(**{"movidesk": {"url": simulator.url, **sections.pop("movidesk", {})}, **sections})

    run.configure, run.bare = configure, bare
    configure()
    return run


@pytest.fixture
def book(movidesk):
    opened = Journal(load(movidesk.path)["journal", "path"])
    yield opened
    opened.close()

"""A whole rehearsal on this machine: the simulator, the product's service, and a private Asterisk with its dialplan.

The demo, the tests and the benches all stand on this one arrangement; nothing of it leaves loopback or its folder.
"""
from __future__ import annotations

import os
import secrets
import shlex
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Callable

from movidesk_rehearsal.asterisk import WAIT_SECONDS, PrivateAsterisk, closed_port, free_port
from movidesk_rehearsal.asterisk_config import pjsip_agents
from movidesk_rehearsal.asterisk_tree import CHECKOUT, AsteriskTree
from movidesk_sim.made_calls import CallUrl
from movidesk_sim.model import Limit, Movidesk, Ticket
from movidesk_sim.web import Simulator, serve

QUEUE = 77

SAMPLES = CHECKOUT / "dialplan" / "samples"
QUEUE_CONTROL = "queue-control"
# 77 is how the tests dial the number that the sample leads to movidesk-queue.
SHORT_NUMBER = f"""
[from-trunk](+)
exten => {QUEUE},1,Goto(movidesk-queue,{QUEUE},1)
"""


def end_on_signals() -> None:
    """SIGTERM, and SIGHUP of a terminal that is closed, raise KeyboardInterrupt as Ctrl-C does; else Asterisk stays behind."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)


class NotInTime(AssertionError):
    """Something that had to happen did not; the text says what was waited for and what there was instead."""


def wait_for(what: str, condition: Callable[[], object], seconds: float = WAIT_SECONDS,
             instead: Callable[[], object] = lambda: "") -> object:
    """Wait until `condition()` is true and return its value; raises NotInTime with what `instead()` shows."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise NotInTime(f"{what}: not within {seconds:g} s; {instead()}")
        time.sleep(0.02)


class Rehearsal:
    """Simulator, service and PBX in `folder`, as a context manager.

    The PBX is `sample`, a folder of dialplan/samples/: its files with nothing but addresses and ports replaced, to which
    are added: `variables`, globals of the dialplan; `more`, dialplan; the phones of agents that it does not have.
    extensions: an extensions.conf for a sample that has none.
    agents: extensions of the Movidesk group `QUEUE`, in order. settings: lines for sections of movidesk.conf.
    service: whether `movidesk serve` runs (else the scripts do everything, and `deliver_once` delivers).
    product: a folder with the agi/, dialplan/ and lib/ that are installed. name: of the PBX.
    simulator: another rehearsal's, which then starts and closes it; agents and limit are those of its model.
    """

    def __init__(self, tree: AsteriskTree, folder: os.PathLike, *, agents: Sequence[str] = ("5252", "5253"),
                 limit: int = 1000, settings: Mapping[str, Sequence[str]] | None = None,
                 variables: Mapping[str, str] | None = None, more: str = "", service: bool = True,
                 systemname: str = "", manager: Mapping[str, str] | None = None,
                 sample: str = QUEUE_CONTROL, extensions: str = "", product: Path = CHECKOUT, name: str = "pbx1",
                 simulator: Simulator | None = None) -> None:
        self.tree, self.product, self.name = tree, product, name
        self.folder = Path(folder).resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._own_simulator = simulator is None
        self.simulator: Simulator = simulator or serve(account(agents, limit))
        self.model: Movidesk = self.simulator.model
        self.config_path = self.folder / "movidesk.conf"
        self.journal_path = self.folder / "state" / "journal.db"
        self.tmp = self.folder / "tmp"
        self.memory = self.folder / "memory"
        for path in (self.journal_path.parent, self.tmp, self.memory):
            path.mkdir(exist_ok=True)
        self.agid = f"127.0.0.1:{free_port(1)}"
        self.limit = self.model.limit.requests
        self.env = {"MOVIDESK_CONFIG": str(self.config_path), "TMPDIR": str(self.tmp)}
        self._offers: dict[str, list[str]] = {}
        self.write_config(settings or {})
        self.pbx = PrivateAsterisk(tree, self.folder / "pbx", env=self.env, systemname=systemname, manager=manager)
        self._refuses = closed_port()
        self.variables = {"MOVIDESK_AGID": self.agid if service else self.no_agid, **(variables or {})}
        self.more = more
        self.wants_service = service
        self._service: subprocess.Popen | None = None
        self.install()
        self._extensions = place_sample(self.pbx, SAMPLES / sample) or extensions
        self._extensions += SHORT_NUMBER if sample == QUEUE_CONTROL else ""
        self.write_dialplan()

    def __enter__(self) -> Rehearsal:
        if self._own_simulator:
            self.simulator.start()
        if self.wants_service:
            self.start_service()
        self.pbx.start()
        return self

    def __exit__(self, *_exception) -> None:
        self.pbx.close()
        self.stop_service()
        if self._own_simulator:
            self.simulator.close()
        self._refuses.close()

    @property
    def no_agid(self) -> str:
        """MOVIDESK_AGID for scripts only. Where Asterisk takes an empty one for the default address, at which somebody else's
        service may listen, this is an address that refuses."""
        return "" if self.tree.has_global_exists else f"127.0.0.1:{self._refuses.getsockname()[1]}"

    def write_config(self, settings: Mapping[str, Sequence[str]]) -> None:
        """movidesk.conf for this rehearsal; `settings` adds lines to its sections. What the service offers by HTTP stays."""
        settings = {**self._offers, **settings}
        sections = {
            "movidesk": [f"url = {self.simulator.url}", f"token = {self.model.token}",
                         f"requests_per_minute = {self.limit}"],
            "pbx": [f"name = {self.name}", "asterisk = " + shlex.join(
                [*self.tree.command, "-C", str(self.folder / "pbx" / "etc" / "asterisk.conf"), "-rx"])],
            "journal": [f"path = {self.journal_path}", f"standby = {self.memory}"],
            "recordings": ["link = https://pbx.example.com/rec/{file}", f"folder = {self.folder / 'pbx' / 'spool' / 'monitor'}"],
            "agid": [f"listen = {self.agid}"],
        }
        text = ""
        for section in dict.fromkeys([*sections, *settings]):
            own = {line.partition("=")[0].strip() for line in settings.get(section, ())}
            lines = [line for line in sections.get(section, []) if line.partition("=")[0].strip() not in own]
            text += "\n".join([f"[{section}]", *lines, *settings.get(section, ())]) + "\n\n"
        self.config_path.touch(0o640)
        self.config_path.chmod(0o640)  # as docs/install.md asks: it contains the token
        self.config_path.write_text(text, encoding="utf-8")

    def allow_made_calls(self, token: str, ami_user: str, ami_secret: str, **more: object) -> CallUrl:
        """Let the service make calls, to numbers that begin with 47, for whoever asks as returned; its address is `made_calls`.
        Before the start."""
        self.made_calls = f"127.0.0.1:{free_port(1)}"
        settings = {"listen": self.made_calls, "auth": "token", "token": token, "allow": "47",
                    "ami": f"127.0.0.1:{self.pbx.manager_port}", "ami_user": ami_user, "ami_secret": ami_secret, **more}
        self._offers["made_calls"] = [f"{name} = {value}" for name, value in settings.items()]
        self.write_config({})
        url = f"http://{self.made_calls}/call?source={{call.source.number}}&destination={{call.destination.number}}"
        return CallUrl(url, auth={"token": token})

    def publish_recordings(self, host: str = "127.0.0.1") -> None:
        """Let the service publish the recordings there, at signed links to which tickets lead. Before the start."""
        address = f"{host}:{free_port(1)}"
        self._offers["recordings"] = [f"link = http://{address}/rec/{{file}}", f"publish = {address}",
                                      f"secret = {secrets.token_hex(24)}"]
        self.write_config({})

    def show_panel(self, queues: Mapping[int, str], agents: Mapping[str, str]) -> None:
        """Let the service show its panel, with these names, at the address `panel`. Before the start."""
        self.panel = f"127.0.0.1:{free_port(1)}"
        self._offers["panel"] = [f"listen = {self.panel}"]
        self._offers["pbx"] = [f"{key} = {', '.join(f'{number} {name}' for number, name in names.items())}"
                               for key, names in (("queue_names", queues), ("agent_names", agents))]
        self.write_config({})

    def write_dialplan(self) -> None:
        """extensions.conf with the current `variables`; a running Asterisk loads it."""
        lines = "\n".join(f"{name} = {value}" for name, value in self.variables.items())
        added = "(+)" if "\n[globals]" in self._extensions else ""
        self.pbx.write("extensions.conf", f"{self._extensions}\n[globals]{added}\n{lines}\n{self.more}")
        if self.pbx.running:
            self.pbx.reload_dialplan()

    # The service

    def install(self) -> None:
        """Place the scripts and the dialplan of `product`; a running Asterisk has the dialplan only once it loads it again."""
        install_product(self.pbx, self.journal_path.parent, self.product)

    def start_service(self) -> None:
        """Start `movidesk serve` and wait until it answers."""
        with open(self.folder / "service.log", "ab") as log:
            self._service = subprocess.Popen([sys.executable, "-m", "movidesk.cli", "serve"], stdout=log, stderr=log,
                                             env=self._own_env())
        wait_for("movidesk serve answers", self._service_listens, instead=self.service_log)

    def _own_env(self) -> dict[str, str]:
        return {**os.environ, **self.env, "PYTHONPATH": str(self.product / "lib")}

    def _service_listens(self) -> bool:
        import socket

        if self._service is None or self._service.poll() is not None:
            raise NotInTime(f"movidesk serve ended: {self.service_log()}")
        host, port = self.agid.split(":")
        try:
            socket.create_connection((host, int(port)), 1).close()
        except OSError:
            return False
        return True

    def stop_service(self, kill: bool = False) -> None:
        """End the service; `kill` as a crash would."""
        process, self._service = self._service, None
        if process is None:
            return
        process.kill() if kill else process.terminate()
        process.wait(10)

    @property
    def service_pid(self) -> int | None:
        return self._service.pid if self._service else None

    def service_log(self) -> str:
        path = self.folder / "service.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def cli(self, *arguments: str) -> subprocess.CompletedProcess:
        """Run the `movidesk` command with this rehearsal's configuration."""
        return subprocess.run([sys.executable, "-m", "movidesk.cli", *arguments], env=self._own_env(),
                              capture_output=True, text=True, timeout=60)

    # What Movidesk heard

    def tickets(self) -> list[Ticket]:
        return list(self.model.tickets.values())

    def requests(self, call_id: str = "") -> list[str]:
        """The endpoints that Movidesk accepted, in order, without the `asterisk_` before them."""
        return [entry["endpoint"].replace("asterisk_", "") for entry in list(self.model.log)
                if entry["status"] == 200 and call_id in ("", entry["params"].get("id"))]

    def wait_for_tickets(self, count: int, seconds: float = WAIT_SECONDS) -> list[Ticket]:
        """Wait until so many tickets are complete."""
        wait_for(f"{count} complete tickets", lambda: sum(t.complete for t in self.tickets()) >= count, seconds,
                 lambda: [ticket.to_json() for ticket in self.tickets()])
        return self.tickets()


def account(agents: Sequence[str], limit: int | Limit) -> Movidesk:
    """A Movidesk account whose group `QUEUE` has these agents, and which takes `limit` requests (a minute)."""
    model = Movidesk(time.time, limit=limit if isinstance(limit, Limit) else Limit(limit))
    model.add_group(QUEUE, agents)
    return model


def place_sample(pbx: PrivateAsterisk, folder: Path) -> str:
    """The files of a sample, all but extensions.conf, whose text is returned ('' where there is none)."""
    files = {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.conf"))}
    extensions, pjsip = files.pop("extensions.conf", ""), files.pop("pjsip.conf", "")
    for name, text in files.items():
        pbx.write(name, text)
    if pjsip:
        pbx.use_pjsip(pjsip + pjsip_agents([name for name in pbx.agents if f"[{name}]" not in pjsip], "from-internal"))
    return extensions


def install_product(pbx: PrivateAsterisk, state: Path, product: Path) -> None:
    """The scripts and the dialplan, as `make install STATEDIR=state` places them, run by this interpreter."""
    scripts = pbx.agi_dir / "movidesk"
    scripts.mkdir(parents=True, exist_ok=True)
    site = [sysconfig.get_path("purelib"), str(product / "lib")]
    for source in sorted((product / "agi").iterdir()):
        text = source.read_text().split("\n", 1)[1]
        target = scripts / source.name
        target.write_text(f"#!{sys.executable} -IS\nimport gc, sys; gc.disable(); sys.path += {site!r}\n{text}")
        target.chmod(0o755)
    target = pbx.etc_dir / "movidesk"
    target.mkdir(parents=True, exist_ok=True)
    for source in sorted((product / "dialplan").glob("*.conf")):
        text = source.read_text(encoding="utf-8").replace("/var/lib/movidesk", str(state))
        (target / source.name).write_text(text, encoding="utf-8")

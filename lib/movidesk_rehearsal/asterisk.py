"""A private Asterisk: real, on loopback only, with every file in a folder of its own.

`python -m movidesk_rehearsal.asterisk [--version 22]` prepares Asterisk itself and says where it is.
"""
from __future__ import annotations

import argparse
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from movidesk_rehearsal import asterisk_config
from movidesk_rehearsal.asterisk_tree import DEFAULT_VERSION, AsteriskTree, AsteriskUnavailable, find_asterisk

BOOT_SECONDS = 30.0
WAIT_SECONDS = 40.0  # what has not happened by then does not happen, on a machine that has much else to do too
STOP_SECONDS = 20.0  # `core stop now` gives channels about 16 s to end
START_ATTEMPTS = 4
SOCKET_PATH_MAX = 100  # of the 108 bytes that a unix socket's address holds
AGENTS = ("5252", "5253", "5254", "5255")


class AsteriskFailed(Exception):
    """Asterisk did not start or did not answer; the message ends with the last lines of its log."""


class PrivateAsterisk:
    """One Asterisk of its own in `folder`, as a context manager or through start() and stop().

    It has the PJSIP endpoint `trunk` (callers from the address asterisk_config.TRUNK, into `trunk_context`) and one endpoint
    for each of `agents`, into `agent_context`; all of them can register, nobody needs a password. use_pjsip() takes another
    pjsip.conf; `passwords` are those that its phones need.
    `env` is added to the environment, which AGI scripts inherit. `systemname` prefixes each UNIQUEID.
    `manager` opens AMI on loopback at `manager_port`: {user: secret}.

    Put a dialplan in place with write("extensions.conf", …) or by copying into `etc_dir` and `agi_dir`, before
    start(), or later with reload_dialplan(). Files written by the caller replace the generated ones.
    """

    def __init__(self, tree: AsteriskTree, folder: os.PathLike, *, env: Mapping[str, str] | None = None,
                 agents: Sequence[str] = AGENTS, trunk_context: str = "from-trunk",
                 agent_context: str = "from-internal", systemname: str = "",
                 manager: Mapping[str, str] | None = None) -> None:
        self.tree = tree
        self.folder = Path(folder).resolve()
        self.env = dict(env or {})
        self.agents = tuple(agents)
        self.etc_dir = self.folder / "etc"
        self.agi_dir = self.folder / "agi-bin"
        self.spool_dir = self.folder / "spool"
        self.log_path = self.folder / "log" / "full"
        self.sip_port = free_port(socket.SOCK_DGRAM)
        self.manager_port = free_port(socket.SOCK_STREAM) if manager else None
        self._run_dir = self.folder / "run"
        self._borrowed_run_dir: str | None = None
        self._process: subprocess.Popen | None = None
        self._make_folders()
        self._link_data()
        self.write("asterisk.conf", asterisk_config.asterisk_conf(self._directories(), systemname))
        self.write("modules.conf", asterisk_config.modules_conf(tree.modules))
        self.write("manager.conf", asterisk_config.manager_conf(manager or {}, self.manager_port))
        for name, text in asterisk_config.FIXED_FILES.items():
            self.write(name, text)
        self.use_pjsip(asterisk_config.pjsip_conf(self.agents, trunk_context, agent_context))

    def __enter__(self) -> PrivateAsterisk:
        self.start()
        return self

    def __exit__(self, *_exception) -> None:
        self.close()

    # Configuration

    def write(self, name: str, text: str) -> Path:
        """Write `name`, relative to etc_dir (`movidesk/x.conf` works too)."""
        path = self.etc_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def use_pjsip(self, text: str) -> None:
        """Take this pjsip.conf, with its addresses replaced (asterisk_config.on_loopback); before start()."""
        self._pjsip = text
        self.passwords = asterisk_config.passwords(text)
        self._write_ports()

    def add_pjsip(self, text: str) -> None:
        """Add to the pjsip.conf; before start()."""
        self.use_pjsip(self._pjsip + text)

    def reload_dialplan(self) -> str:
        return self.cli("dialplan reload")

    # Running

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self.running else None

    def start(self) -> None:
        """Start and wait until fully booted; raises AsteriskFailed."""
        if self.running:
            return
        for _attempt in range(START_ATTEMPTS):
            self._launch()
            if f"127.0.0.1:{self.sip_port}" in self.cli("pjsip show transports"):
                return
            # Somebody took the port since it was picked.
            self.stop(kill=True)
            self.sip_port = free_port(socket.SOCK_DGRAM)
            self._write_ports()
        raise AsteriskFailed(f"no SIP transport came up in {START_ATTEMPTS} attempts\n{self.log_tail()}")

    def stop(self, kill: bool = False) -> None:
        """End Asterisk; `kill` as a crash would, without hanging up anything. Its files stay for another start()."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None and kill:
            process.kill()
        elif process.poll() is None:
            self._run_cli("core stop now")
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def restart(self, kill: bool = False) -> None:
        self.stop(kill=kill)
        self.start()

    def close(self) -> None:
        """Stop, and give back what lies outside `folder`."""
        self.stop()
        if self._borrowed_run_dir:
            shutil.rmtree(self._borrowed_run_dir, ignore_errors=True)

    # Looking and steering

    def cli(self, command: str, timeout: float = WAIT_SECONDS) -> str:
        """What the Asterisk console prints for `command`."""
        run = self._run_cli(command, timeout)
        if run.returncode != 0:
            raise AsteriskFailed(f"{command!r} failed: {(run.stdout + run.stderr).strip()}\n{self.log_tail()}")
        return run.stdout

    def channels(self) -> list[str]:
        """The names of the channels that exist now."""
        lines = self.cli("core show channels concise").splitlines()
        return [line.split("!", 1)[0] for line in lines if "!" in line]

    def wait_idle(self, timeout: float = WAIT_SECONDS) -> None:
        """Wait until no channel is left; raises AsteriskFailed with the names of those that stay."""
        deadline = time.monotonic() + timeout
        while self.channels():
            if time.monotonic() > deadline:
                raise AsteriskFailed(f"channels left after {timeout} s: {', '.join(self.channels())}")
            time.sleep(0.05)

    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace") if self.log_path.exists() else ""

    def log_tail(self, lines: int = 20) -> str:
        console = self.folder / "log" / "console"
        text = self.log() or (console.read_text(errors="replace") if console.exists() else "")
        return "\n".join(text.splitlines()[-lines:])

    # Inside

    def _directories(self) -> dict[str, Path]:
        return {"astetcdir": self.etc_dir, "astmoddir": self.tree.modules, "astvarlibdir": self.folder / "lib",
                "astdbdir": self.folder / "lib", "astkeydir": self.folder / "lib",
                "astdatadir": self.folder / "data", "astagidir": self.agi_dir, "astspooldir": self.spool_dir,
                "astrundir": self._run_dir, "astlogdir": self.folder / "log", "astsbindir": self.folder / "sbin"}

    def _make_folders(self) -> None:
        if len(str(self._run_dir / "asterisk.ctl")) > SOCKET_PATH_MAX:
            self._borrowed_run_dir = tempfile.mkdtemp(prefix="asterisk-")
            self._run_dir = Path(self._borrowed_run_dir)
        for path in self._directories().values():
            path.mkdir(parents=True, exist_ok=True)
        for path in (self.folder / "lib" / "keys", self.folder / "log" / "cdr-csv"):
            path.mkdir(exist_ok=True)
        for name in ("monitor", "voicemail", "outgoing", "tmp"):
            (self.spool_dir / name).mkdir(exist_ok=True)

    def _link_data(self) -> None:
        """Sounds, music and documentation come from the tree, in a folder that may be written to."""
        sounds = self.folder / "data" / "sounds"
        sounds.mkdir(exist_ok=True)
        links = {self.folder / "data" / name: self.tree.data / name for name in ("documentation", "moh")}
        links.update({sounds / language: self.tree.data / "sounds" / language for language in ("en", "es")})
        for link, source in links.items():
            if source.exists() and not link.is_symlink():
                link.symlink_to(source)

    def _write_ports(self) -> None:
        self.write("pjsip.conf", asterisk_config.on_loopback(self._pjsip, self.sip_port))
        self.write("rtp.conf", asterisk_config.rtp_conf(random.randrange(20000, 31000, 500)))

    def _launch(self) -> None:
        console = self.folder / "log" / "console"
        with open(console, "wb") as output:
            self._process = subprocess.Popen(
                self.tree.command + ("-C", str(self.etc_dir / "asterisk.conf"), "-f"), cwd=self.folder,
                env={**os.environ, **self.env}, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True)
        deadline = time.monotonic() + BOOT_SECONDS
        # The socket may not be there yet; once it is, the command itself waits.
        while self._run_cli("core waitfullybooted", BOOT_SECONDS).returncode != 0:
            if not self.running or time.monotonic() > deadline:
                self.stop(kill=True)
                raise AsteriskFailed(f"Asterisk in {self.folder} did not start\n{self.log_tail()}")
            time.sleep(0.05)

    def _run_cli(self, command: str, timeout: float = WAIT_SECONDS) -> subprocess.CompletedProcess:
        line = self.tree.command + ("-C", str(self.etc_dir / "asterisk.conf"), "-rx", command)
        try:
            return subprocess.run(line, capture_output=True, text=True, errors="replace", timeout=timeout)
        except subprocess.TimeoutExpired as error:
            raise AsteriskFailed(f"{command!r} did not return in {timeout} s\n{self.log_tail()}") from error


def free_port(kind: int) -> int:
    """A loopback port that is free now, for SOCK_DGRAM or SOCK_STREAM."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def closed_port() -> socket.socket:
    """A loopback port that refuses connections until this socket is closed."""
    holder = socket.socket()
    holder.bind(("127.0.0.1", 0))
    return holder


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Prepare Asterisk for the demo, the tests and the benches.")
    parser.add_argument("--version", default=DEFAULT_VERSION, help="major version (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        tree = find_asterisk(options.version)
    except AsteriskUnavailable as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Asterisk {tree.version}: {' '.join(tree.command)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A private Redis: real, on loopback only, with every file in a folder of its own."""
from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from movidesk_rehearsal.asterisk import free_port
from movidesk_rehearsal.asterisk_tree import need_program

START_SECONDS = 20.0
START_ATTEMPTS = 4
CLI_SECONDS = 20.0
#: The user of cli(), whatever a test does to the others.
ADMIN, ADMIN_PASSWORD = "rehearsal", "only-for-this-rehearsal"


class RedisFailed(Exception):
    """Redis did not start or refused a command; the text says why."""


class PrivateRedis:
    """One Redis of its own in `folder`, as a context manager or through start() and close().

    `url` is what clients connect to, a port of 127.0.0.1 that stays the same through stop() and start(); with `tls` it is
    rediss://, and `certificate` (of the names localhost and 127.0.0.1, signed by itself) proves it. `settings` are lines of
    redis.conf. It keeps nothing on disk, so a start finds it empty. The default user needs no password.
    """

    def __init__(self, folder: os.PathLike, *, tls: bool = False, settings: Mapping[str, str] | None = None) -> None:
        self.folder = Path(folder).resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.tls = tls
        self.settings = dict(settings or {})
        self.port = free_port(socket.SOCK_STREAM)
        self.certificate = self.folder / "redis.crt"
        self._socket_folder = tempfile.mkdtemp(prefix="redis-")  # a socket's path may have 107 characters
        self._socket = os.path.join(self._socket_folder, "redis.sock")
        self._process: subprocess.Popen | None = None
        if tls:
            make_certificate(self.certificate, self.folder / "redis.key")

    def __enter__(self) -> PrivateRedis:
        return self.start()

    def __exit__(self, *_exception) -> None:
        self.close()

    @property
    def url(self) -> str:
        return self.url_at(self.port)

    def url_at(self, port: int, user: str = "", password: str = "") -> str:
        """The address for clients that connect to another port, which leads here, or as a user."""
        login = f"{user}:{password}@" if user or password else ""
        return f"redis{'s' if self.tls else ''}://{login}127.0.0.1:{port}/0"

    # Running

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self.running else None

    def start(self) -> PrivateRedis:
        """Start and wait until it answers; raises RedisFailed."""
        if self.running:
            return self
        first = not (self.folder / "redis.conf").exists()
        for _attempt in range(START_ATTEMPTS):
            self._launch()
            if self._came_up():
                return self
            self.kill()
            if first:  # somebody took the port since it was picked
                self.port = free_port(socket.SOCK_STREAM)
        raise RedisFailed(f"Redis in {self.folder} did not start\n{self.log()[-2000:]}")

    def stop(self) -> None:
        """End it as an admin would: clients' connections are closed."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """From here on it answers nobody, while the kernel still takes what clients send; resume() lets it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Stop it, and start it again with nothing in it."""
        self.stop()
        self.start()

    def close(self) -> None:
        """End it, and remove what lies outside `folder`."""
        self._end(signal.SIGKILL)
        shutil.rmtree(self._socket_folder, ignore_errors=True)

    # Looking and steering

    def cli(self, *words: str, seconds: float = CLI_SECONDS) -> str:
        """What redis-cli prints for one command, sent past port, TLS and the users of clients; raises RedisFailed."""
        program = need_program("redis-cli", "redis-tools")
        command = [program, "-e", "-s", self._socket, "--user", ADMIN, "--no-auth-warning", *words]
        try:
            run = subprocess.run(command, capture_output=True, text=True, timeout=seconds,
                                 env={**os.environ, "REDISCLI_AUTH": ADMIN_PASSWORD})
        except subprocess.TimeoutExpired as error:
            raise RedisFailed(f"{words[0]} did not return in {seconds:g} s") from error
        if run.returncode != 0:
            raise RedisFailed(f"{' '.join(words)}: {(run.stdout + run.stderr).strip()}")
        return run.stdout.strip()

    def set(self, **settings: str) -> None:
        """Change settings of redis.conf, with _ for -, until the next start: `set(maxmemory="1mb")`."""
        for name, value in settings.items():
            self.cli("CONFIG", "SET", name.replace("_", "-"), value)

    def add_user(self, name: str, password: str, *rules: str) -> None:
        """Add a user, or replace it, with exactly these rights until the next start: `"~movidesk:*", "+evalsha"`."""
        self.cli("ACL", "SETUSER", name, "reset", "on", ">" + password, *rules)

    def close_door(self) -> None:
        """From here on the default user, who has no name and no password, is refused, until the next start."""
        self.cli("ACL", "SETUSER", "default", "off")

    def forget_scripts(self) -> None:
        self.cli("SCRIPT", "FLUSH", "SYNC")

    def forget_everything(self) -> None:
        self.cli("FLUSHALL", "SYNC")

    def sleep(self, seconds: float) -> None:
        """Let it stand still for so long, as a slow command would; returns when that is over."""
        self.cli("DEBUG", "SLEEP", str(seconds), seconds=seconds + CLI_SECONDS)

    def log(self) -> str:
        path = self.folder / "redis.log"
        return path.read_text(errors="replace") if path.exists() else ""

    # Inside

    def _launch(self) -> None:
        program, name = find_redis()
        path = self.folder / "redis.conf"
        path.write_text("".join(f"{key} {value}\n" for key, value in self._configuration().items()), encoding="utf-8")
        with open(self.folder / "redis.log", "ab") as log:
            self._process = subprocess.Popen([name, str(path)], executable=program, cwd=self.folder, stdin=subprocess.DEVNULL,
                                             stdout=log, stderr=subprocess.STDOUT, start_new_session=True)

    def _configuration(self) -> dict[str, str]:
        ports = {"port": "0", "tls-port": str(self.port), "tls-cert-file": str(self.certificate), "tls-auth-clients": "no",
                 "tls-key-file": str(self.folder / "redis.key"), "tls-ca-cert-file": str(self.certificate),
                 } if self.tls else {"port": str(self.port)}
        return {"bind": "127.0.0.1", **ports, "unixsocket": self._socket, "save": '""', "appendonly": "no",
                "dir": str(self.folder), "daemonize": "no", "enable-debug-command": "yes", "maxmemory-policy": "noeviction",
                f"user {ADMIN}": f"on >{ADMIN_PASSWORD} ~* &* +@all", **self.settings}

    def _came_up(self) -> bool:
        deadline = time.monotonic() + START_SECONDS
        while self.running and time.monotonic() < deadline:
            try:
                self.cli("PING", seconds=1.0)
                return True
            except RedisFailed:
                time.sleep(0.02)
        return False

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        process.send_signal(signal.SIGCONT)  # a paused one would not hear SIGTERM
        process.wait(CLI_SECONDS)


def find_redis() -> tuple[str, str]:
    """The server's program, and the name to start it by.

    Debian has the program in redis-tools, under the name redis-check-rdb; the package redis-server adds little but a service of
    the system, which nobody asked for.
    """
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return found, name
    return need_program("redis-check-rdb", "redis-tools"), "redis-server"


def make_certificate(certificate: Path, key: Path) -> None:
    """A certificate for this machine's loopback that signs itself, valid for a day, and its key."""
    run = subprocess.run(
        [need_program("openssl", "openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", str(key), "-out", str(certificate)], capture_output=True, text=True)
    if run.returncode != 0:
        raise RedisFailed(f"openssl: {run.stderr.strip()}")

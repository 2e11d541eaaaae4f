"""A small Debian 12 in a folder, entered by chroot, into which the package is installed; and the package itself.

Mounts are made in a mount namespace of their own, which ends with the process that holds it: nothing of them is left behind.
"""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from movidesk_rehearsal.asterisk_tree import CHECKOUT, debian_mirror, need_program

SUITE = "bookworm"
UNIT = "lib/systemd/system/movidesk.service"
# What the package is built from.
SOURCES = ("agi", "debian", "dialplan", "docs", "etc", "lib", "requirements", "sounds", "Makefile",
           "README.md", "README.pt-BR.md", "SECURITY.md", "pyproject.toml", "setup.cfg")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# In systemd's place: starts, stops and restarts the one service as its unit says, and writes down what it was asked.
SYSTEMCTL = rf"""#!/bin/sh
echo "$*" >>/var/log/systemctl
unit() {{ sed -n "s/^$1=//p" /{UNIT}; }}
running() {{ [ -s /run/movidesk/pid ] && kill -0 "$(cat /run/movidesk/pid)" 2>/dev/null; }}
stop() {{
    running && kill "$(cat /run/movidesk/pid)"
    while running; do sleep 0.05; done
    true
}}
start() {{
    running || (cd / && exec setsid runuser -u "$(unit User)" -- env "$(unit Environment)" sh -c \
        'echo $$ >/run/movidesk/pid; exec $0' "$(unit ExecStart)" </dev/null >>/var/log/movidesk.log 2>&1) &
    while ! running; do sleep 0.05; done
}}
case " $* " in
    *" is-enabled "*) echo enabled ;;
    *" is-active "*) running ;;
    *" try-restart "*) running && stop && start ;;
    *" restart "*) stop; start ;;
    *" start "*) start ;;
    *" stop "*) stop ;;
esac
"""


def build_tree(folder: Path) -> Path:
    """A Debian with Python, and without movidesk-agi; takes half a minute."""
    run([need_program("mmdebstrap", "mmdebstrap"), "--quiet", "--mode=root", "--variant=minbase", "--format=directory",
         "--include=python3", SUITE, str(folder), f"deb {debian_mirror()} {SUITE} main"])
    return folder


def build_package(folder: Path) -> Path:
    """`make deb` of this checkout in `folder`; takes half a minute."""
    for name in SOURCES:
        source = CHECKOUT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "movidesk-agi", "*.egg-info"))
        else:
            shutil.copy(source, folder)
    run(["make", "deb"], cwd=folder)
    package, = (folder / "dist" / "deb").glob("*.deb")
    return package


def newer(package: Path, folder: Path, version: str) -> Path:
    """The same package as a later version: that of the program, and a line more in its dialplan."""
    tree = folder / "newer"
    run(["dpkg-deb", "-R", str(package), str(tree)])
    control = tree / "DEBIAN" / "control"
    old = next(line for line in control.read_text().splitlines() if line.startswith("Version: "))
    control.write_text(control.read_text().replace(old, "Version: " + version))
    module, = tree.glob("usr/lib/movidesk-agi/venv/lib/python3*/site-packages/movidesk/__init__.py")
    module.write_text(module.read_text().replace(old.split()[1], version))
    python = (tree / "usr/lib/movidesk-agi/venv/bin/python3").resolve().name
    run(["/usr/bin/" + python, "-m", "compileall", "-qf", "-s", str(tree), "--invalidation-mode", "unchecked-hash", str(module)])
    with open(tree / "usr/share/movidesk-agi/dialplan/watch.conf", "a") as file:
        file.write(f"[movidesk-version]\nexten => {version},1,Return()\n")
    target = folder / f"{version}.deb"
    run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "-b", str(tree), str(target)])
    return target


def run(command: Sequence[str], **options) -> str:
    """What it printed, on both; AssertionError if it failed."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
                          timeout=300, **options)
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}"
    return done.stdout


class Debian:
    """A copy of `tree`, entered by command(); as a context manager.

    mounts: folders of this machine that it sees, at the same paths. etc: what is at its /etc/asterisk.
    """

    def __init__(self, tree: Path, root: Path, mounts: Sequence[Path] = (), etc: Path | None = None) -> None:
        run(["cp", "-a", str(tree), str(root)])
        self.root = root
        for name in ("run/systemd/system", "run/movidesk", "etc/asterisk"):
            (root / name).mkdir(parents=True)
        (root / "run/movidesk").chmod(0o777)
        (root / "usr/local/bin/systemctl").write_text(SYSTEMCTL)
        (root / "usr/local/bin/systemctl").chmod(0o755)
        self._steps = [f"mount --bind {source} {root}{target}" for source, target in [
            ("/proc", "/proc"), ("/dev", "/dev"), ("/dev/shm", "/dev/shm"), *((path, path) for path in mounts),
            *([(etc, "/etc/asterisk")] if etc else [])]]
        for path in mounts:
            (root / str(path).lstrip("/")).mkdir(parents=True, exist_ok=True)
        self._holder: subprocess.Popen | None = None

    def __enter__(self) -> Debian:
        script = "set -e; " + "; ".join(self._steps) + "; echo ready; exec cat"
        self._holder = subprocess.Popen(["unshare", "--mount", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)
        assert self._holder.stdout and self._holder.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *_exception) -> None:
        if self._holder:
            self.run("systemctl", "stop", "movidesk.service")
            self._holder.communicate()
        # From here only the copy is seen, nothing that was mounted in it.
        shutil.rmtree(self.root)

    def command(self, *command: str, user: str = "") -> tuple[str, ...]:
        """The command line that runs a command in there."""
        assert self._holder
        return ("nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", "chroot", *([f"--userspec={user}:{user}"] if user else []),
                str(self.root), *command)

    def run(self, *command: str, user: str = "", fails: bool = False) -> str:
        """What a command printed in there; AssertionError if it failed, or if it did not and should."""
        environment = ("env", "-i", "PATH=" + PATH, "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8")
        done = subprocess.run(self.command(*environment, *command, user=user), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              stdin=subprocess.DEVNULL, text=True, timeout=120)
        assert (done.returncode != 0) == fails, f"{' '.join(command)}:\n{done.stdout}"
        return done.stdout

    def dpkg(self, *arguments: str | Path, fails: bool = False, offline: bool = False) -> str:
        """dpkg in there; a path among the arguments is a package of this machine. offline: cut off from every network."""
        for path in arguments:
            if isinstance(path, Path):
                shutil.copy(path, self.root / "tmp")
        names = [f"/tmp/{argument.name}" if isinstance(argument, Path) else argument for argument in arguments]
        return self.run(*(["unshare", "--net"] if offline else []), "dpkg", *names, fails=fails)

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text)

    def read(self, name: str) -> str:
        path = self.root / name
        return path.read_text() if path.exists() else ""

    def owner(self, path: str) -> str:
        """USER:GROUP MODE of a path in there."""
        return self.run("stat", "-c", "%U:%G %a", path).strip()


def asterisk_package(folder: Path) -> Path:
    """A package that stands for Asterisk's: it brings the user and /usr/sbin/asterisk."""
    tree = Path(tempfile.mkdtemp(dir=folder))
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN" / "control").write_text("Package: asterisk\nVersion: 1:22\nArchitecture: all\n"
                                             "Maintainer: nobody <nobody@localhost>\nDescription: stands for Asterisk\n")
    (tree / "DEBIAN" / "preinst").write_text("#!/bin/sh\nuseradd --system --user-group --home-dir /var/lib/asterisk asterisk\n")
    (tree / "DEBIAN" / "preinst").chmod(0o755)
    (tree / "usr" / "sbin").mkdir(parents=True)
    (tree / "usr" / "sbin" / "asterisk").write_text("#!/bin/sh\n")
    tree.chmod(0o755)
    target = folder / "asterisk.deb"
    run(["dpkg-deb", "--root-owner-group", "-b", str(tree), str(target)])
    return target


def may_build() -> bool:
    return os.geteuid() == 0 and sys.platform == "linux" and shutil.which("apt-get") is not None

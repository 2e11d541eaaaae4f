"""Where the demo, the tests and the benches take Asterisk from.

An installed Asterisk is used where it fits, then the distribution's package. Debian 12 has none, so there the
packages of another Debian suite are unpacked into a folder of the checkout and run from it through their own
loader; the system's own packages stay as they are.
"""
from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
DEFAULT_VERSION = "22"
SOUNDS = ("asterisk-core-sounds-en-gsm", "asterisk-core-sounds-es-gsm", "asterisk-moh-opsound-gsm")
# Debian suite and packages for each major version that can be unpacked.
SUITES = {
    "22": ("sid", ("asterisk",) + SOUNDS),
    "16": ("bullseye", ("asterisk", "asterisk-voicemail") + SOUNDS),
}


class AsteriskUnavailable(Exception):
    """No Asterisk could be found or prepared; the message says what to do about it."""


@dataclass(frozen=True)
class AsteriskTree:
    """One set of Asterisk files: `command` is the start of every command line that runs it."""

    command: tuple[str, ...]
    modules: Path
    data: Path
    version: str

    @property
    def major(self) -> str:
        return self.version.split(".")[0]

    @property
    def has_global_exists(self) -> bool:
        """Whether its dialplan can tell an empty global from one that is not set."""
        return tuple(map(int, re.findall(r"\d+", self.version)[:2])) >= (21, 1)


def find_asterisk(version: str | None = DEFAULT_VERSION, root: os.PathLike | None = None) -> AsteriskTree:
    """The Asterisk of the major `version` ("22", "16"; None: whatever is there, else 22).

    `root` is the folder for unpacked trees, the checkout's `.asterisk` unless given. Raises AsteriskUnavailable.
    """
    root = Path(root) if root else CHECKOUT / ".asterisk"
    unpacked = root / (version or DEFAULT_VERSION)
    tree = _installed(version)
    if tree is None and not unpacked.is_dir() and _install_package(version):
        tree = _installed(version)
    if tree is not None:
        return tree
    if not unpacked.is_dir():
        _unpack(version or DEFAULT_VERSION, unpacked)
    return _unpacked(unpacked)


def need_program(program: str, package: str) -> str:
    """The path of `program`; as root on Debian its package is installed where it is missing."""
    found = shutil.which(program)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        _apt_install(package)
        found = shutil.which(program)
    if found is None:
        raise AsteriskUnavailable(f"{program} is missing; as root: apt-get install {package}")
    return found


def _installed(version: str | None) -> AsteriskTree | None:
    program = shutil.which("asterisk") or shutil.which("asterisk", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        return None
    found = _version_of((program,))
    if version not in (None, found.split(".")[0]):
        return None
    return _tree((program,), Path("/"), found)


def _unpacked(folder: Path) -> AsteriskTree:
    libraries = [folder / "usr/lib/x86_64-linux-gnu", folder / "lib/x86_64-linux-gnu", folder / "usr/lib"]
    # 16's lib64/ld-linux-x86-64.so.2 is an absolute link, out of the tree: take the loader itself.
    loaders = [file for library in libraries[:2] for file in sorted(library.glob("ld-*.so*")) if file.is_file()]
    if not loaders:
        raise AsteriskUnavailable(f"{folder} holds no loader: remove the folder, so that it is unpacked again")
    path = ":".join(str(library) for library in libraries)
    command = (str(loaders[0]), "--library-path", path, str(folder / "usr/sbin/asterisk"))
    return _tree(command, folder, _version_of(command))


def _tree(command: tuple[str, ...], prefix: Path, version: str) -> AsteriskTree:
    modules = [prefix / place / "asterisk/modules" for place in
               ("usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "usr/lib", "usr/lib64", "usr/local/lib")]
    data = [prefix / place for place in ("usr/share/asterisk", "var/lib/asterisk")]
    return AsteriskTree(command, _first(modules, "pbx_config.so"), _first(data, "documentation"), version)


def _first(folders: list[Path], content: str) -> Path:
    for folder in folders:
        if (folder / content).exists():
            return folder
    raise AsteriskUnavailable(f"Asterisk without {content}: looked in {', '.join(map(str, folders))}")


def _version_of(command: tuple[str, ...]) -> str:
    run = subprocess.run(command + ("-V",), capture_output=True, text=True)
    found = re.match(r"Asterisk (?:certified[/-])?(\d+(?:\.\d+)*)", run.stdout)
    if found is None:
        raise AsteriskUnavailable(f"{command[-1]} -V names no version: {(run.stdout + run.stderr).strip()!r}")
    return found.group(1)


def _install_package(version: str | None) -> bool:
    """Install the distribution's own Asterisk; False where there is none of that version, or no right to."""
    if os.geteuid() != 0 or not shutil.which("apt-cache"):
        return False
    policy = subprocess.run(["apt-cache", "policy", "asterisk"], capture_output=True, text=True,
                            env=dict(os.environ, LC_ALL="C")).stdout
    candidate = re.search(r"Candidate: (?:\d+:)?(\d+)\.", policy)
    if candidate is None or version not in (None, candidate.group(1)):
        return False
    _apt_install("asterisk", *SOUNDS)
    if shutil.which("systemctl"):
        # It was installed for its files; nobody asked for a telephone exchange on this machine's address.
        subprocess.run(["systemctl", "disable", "--now", "asterisk"], capture_output=True)
    return True


def _apt_install(*packages: str) -> None:
    for command in (["update", "-q"], ["install", "-y", "-q", "--no-install-recommends", *packages]):
        run = subprocess.run(["apt-get", *command], capture_output=True, text=True,
                             env=dict(os.environ, DEBIAN_FRONTEND="noninteractive"))
    if run.returncode != 0:
        raise AsteriskUnavailable(f"apt-get install {' '.join(packages)} failed: {_last_line(run.stderr)}")


def _unpack(version: str, target: Path) -> None:
    if version not in SUITES:
        raise AsteriskUnavailable(f"Asterisk {version} is not installed, and only {', '.join(SUITES)} can be unpacked")
    suite, packages = SUITES[version]
    program = need_program("mmdebstrap", "mmdebstrap")
    mirror = debian_mirror()
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    with open(target.with_name(target.name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.is_dir():  # another process unpacked it while this one waited
            return
        shutil.rmtree(part, ignore_errors=True)
        _run_mmdebstrap(program, suite, packages, mirror, part)
        _link_sounds(part)
        part.rename(target)


def _run_mmdebstrap(program: str, suite: str, packages: tuple[str, ...], mirror: str, part: Path) -> None:
    # With --variant=extract no package script runs, so neither mode touches the system.
    mode = "root" if os.geteuid() == 0 else "chrootless"
    run = subprocess.run(
        [program, f"--mode={mode}", "--variant=extract", "--format=directory",
         '--aptopt=Acquire::Check-Valid-Until "false"', '--aptopt=APT::Install-Recommends "false"',
         "--include=" + ",".join(packages), suite, str(part), f"deb {mirror} {suite} main"],
        capture_output=True, text=True)
    if run.returncode == 0:
        return
    if "does not have a Release file" in run.stderr:
        raise AsteriskUnavailable(f"Debian's suite {suite} is no longer at the mirror this machine's apt uses")
    raise AsteriskUnavailable(f"unpacking Asterisk from Debian {suite} failed: {_apt_error(run.stderr)}")


def _link_sounds(folder: Path) -> None:
    """Link each language to its voice, as Debian's alternatives would; without a `beep` nothing is recorded."""
    sounds = folder / "usr/share/asterisk/sounds"
    for voice in sorted(sounds.glob("??_*")):
        link = sounds / voice.name[:2]
        if link.is_symlink() or not link.exists():
            link.unlink(missing_ok=True)
            link.symlink_to(voice.name)


def debian_mirror() -> str:
    """The address that this machine's apt has for the Debian archive; raises AsteriskUnavailable."""
    rows = _index_targets() or _index_targets("--no-release-info")
    for uri, origin, release in rows:
        # Without downloaded lists apt leaves the placeholder in place of the origin.
        if origin in ("Debian", "$(ORIGIN)") and "-" not in release:
            return uri
    raise AsteriskUnavailable("no Asterisk is installed and apt knows no Debian archive to unpack one from: "
                              "install the distribution's asterisk package")


def _index_targets(*options: str) -> list[list[str]]:
    if not shutil.which("apt-get"):
        return []
    run = subprocess.run(["apt-get", "indextargets", *options, "--format", "$(REPO_URI)|$(ORIGIN)|$(RELEASE)",
                          "Created-By: Packages"], capture_output=True, text=True)
    return [line.split("|") for line in run.stdout.splitlines() if line.count("|") == 2]


def _apt_error(output: str) -> str:
    errors = [line for line in output.splitlines() if line.startswith("E: ")]
    return errors[0][3:] if errors else _last_line(output)


def _last_line(output: str) -> str:
    lines = output.strip().splitlines()
    return lines[-1] if lines else "no output"

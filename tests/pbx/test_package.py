"""make deb: the package in a clean Debian 12, with calls on an Asterisk that runs in there as Asterisk's user.

systemd does not run there; a stand-in starts the service as the unit says (debian_tree.SYSTEMCTL).
"""
from __future__ import annotations

import dataclasses
import re
import shlex
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from debian_tree import Debian, asterisk_package, build_package, build_tree, may_build, newer
from movidesk_rehearsal.asterisk import PrivateAsterisk, free_port
from movidesk_rehearsal.asterisk_tree import CHECKOUT
from movidesk_rehearsal.phones import Agent, Caller, answers
from movidesk_rehearsal.rehearsal import SAMPLES, place_sample, wait_for
from movidesk_sim.model import Limit, Movidesk
from movidesk_sim.web import serve

pytestmark = pytest.mark.skipif(not may_build(), reason="needs root on Debian, which builds a small Debian and enters it")

NEWER = "9.9.9"
NUMBER = "4733990777"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(a Debian without the package, the package)."""
    folder = tmp_path_factory.mktemp("built")
    (folder / "package").mkdir()
    with ThreadPoolExecutor() as both:
        tree, package = both.submit(build_tree, folder / "tree"), both.submit(build_package, folder / "package")
        yield tree.result(), package.result()
    shutil.rmtree(folder)


@pytest.fixture
def debian(built, tmp_path):
    with Debian(built[0], tmp_path / "root") as debian:
        yield debian


def ours(debian: Debian) -> list[str]:
    """What is left of us, but for what dpkg and the stand-in for systemd write about us."""
    found = debian.run("find", "/", "-xdev", "-iname", "*movidesk*").splitlines()
    return [path for path in found if not re.match(r"/var/lib/(dpkg|systemd)/|/var/log/|/tmp/|/run/", path)]


def test_the_package_goes_without_a_trace_if_nothing_was_done(built, debian, tmp_path):
    """Installed before Asterisk: it says so, and gets Asterisk's user when that is there."""
    package = built[1]
    before = ours(debian)
    said = debian.dpkg("-i", package, offline=True)
    assert "there is no user asterisk yet" in said and "put the token into /etc/asterisk/movidesk.conf" in said
    assert debian.owner("/etc/asterisk/movidesk.conf") == "root:root 640"

    debian.dpkg("-i", asterisk_package(tmp_path))
    assert debian.owner("/etc/asterisk/movidesk.conf") == "root:asterisk 640"
    assert debian.owner("/var/lib/movidesk") == "asterisk:asterisk 750"
    assert "enabled" not in debian.read("var/log/systemctl") and " start " not in debian.read("var/log/systemctl")
    assert debian.run("movidesk", "--version") == f"movidesk-agi {package.name.split('_')[1]}\n"
    assert "hangup" in debian.run("ls", "/var/lib/asterisk/agi-bin/movidesk")
    pages = {path.name for path in (CHECKOUT / "docs").iterdir()}
    assert set(debian.run("ls", "/usr/share/doc/movidesk-agi/docs").split()) == pages, "pictures stay as the pages link them"

    debian.dpkg("--purge", "movidesk-agi")
    assert ours(debian) == before


def test_it_does_not_mix_with_what_make_installed(built, debian):
    (debian.root / "var/lib/asterisk/agi-bin/movidesk").mkdir(parents=True)
    assert "First run make uninstall" in debian.dpkg("-i", built[1], fails=True)
    assert not (debian.root / "usr/lib/movidesk-agi").exists()


class Office:
    """An Asterisk in a Debian, run by its own user, a simulator of Movidesk outside, and phones."""

    def __init__(self, debian: Debian, pbx: PrivateAsterisk, model: Movidesk, url: str) -> None:
        self.debian, self.pbx, self.model, self.url = debian, pbx, model, url
        self.agid = f"127.0.0.1:{free_port(1)}"

    def configure(self) -> None:
        """What docs/install.md tells an admin to do; and where the simulator, the service and this Asterisk's console are."""
        path = self.pbx.etc_dir / "movidesk.conf"
        program = self.pbx.tree.command[self.pbx.tree.command.index(str(self.debian.root)) + 1:]
        console = shlex.join([*program, "-C", str(self.pbx.etc_dir / "asterisk.conf"), "-rx"])
        text = path.read_text()
        for key, value in {"url": self.url, "token": self.model.token, "requests_per_minute": "1000", "name": "pbx1",
                           "asterisk": console, "listen": self.agid}.items():
            text, count = re.subn(rf"^;{key} = .*$", f"{key} = {value}", text, count=1, flags=re.MULTILINE)
            assert count == 1, key
        path.write_text(text)

    def tickets(self, *agents: str) -> None:
        """Wait until there are these tickets, in this order, each complete: answered by the agent, or lost where that is ''."""
        def found() -> list[str] | None:
            tickets = list(self.model.tickets.values())
            return [ticket.agent or "" for ticket in tickets] if all(ticket.complete for ticket in tickets) else None

        wait_for(f"tickets of {agents}", lambda: found() == list(agents), instead=lambda: (
            [ticket.to_json() for ticket in self.model.tickets.values()], self.pbx.log_tail(),
            self.debian.read("var/log/movidesk.log")[-2000:]))

    def talk(self, caller: Caller) -> None:
        """Wait until the caller talks: two channels are in a bridge."""
        caller.wait_answered()
        wait_for(f"{caller} talks", lambda: self._talks(caller), instead=lambda: self.pbx.cli("core show channels concise"))

    def _talks(self, caller: Caller) -> bool:
        """Asterisk's list: [7] the number of the caller, [12] the bridge."""
        channels = [line.split("!") for line in self.pbx.cli("core show channels concise").splitlines()]
        return any(fields[7] == caller.number and fields[12] for fields in channels if len(fields) > 12)


@pytest.fixture
def office(built, tmp_path, tree):
    """Before the package is installed; Asterisk does not run yet."""
    files = CHECKOUT / ".asterisk" / tree.major
    if not str(tree.data).startswith(str(files)):
        pytest.skip("Asterisk is installed on this machine; one that is unpacked can be seen from inside a chroot")
    inside, folder = files.resolve(), tmp_path / "pbx"
    (folder / "etc").mkdir(parents=True)
    model = Movidesk(time.time, limit=Limit(1000))
    model.add_group(77, ["5252"])
    with serve(model) as simulator, Debian(built[0], tmp_path / "root", [inside, folder], folder / "etc") as debian:
        debian.run("useradd", "--system", "--user-group", "asterisk")
        command = [part.replace(str(files), str(inside)) for part in tree.command]
        moved = dataclasses.replace(tree, command=debian.command(*command, user="asterisk"),
                                    modules=inside / tree.modules.relative_to(files), data=inside / tree.data.relative_to(files))
        pbx = PrivateAsterisk(moved, folder)
        office = Office(debian, pbx, model, simulator.url)
        extensions = place_sample(pbx, SAMPLES / "queue-control")
        pbx.write("extensions.conf", extensions.replace("[globals]", f"[globals]\nMOVIDESK_AGID = {office.agid}"))
        debian.run("chown", "-R", "asterisk:asterisk", str(folder))
        yield office
        pbx.close()


def test_install_call_upgrade_during_a_call_remove_and_purge(built, office, tmp_path):
    debian, pbx, package = office.debian, office.pbx, built[1]
    debian.dpkg("-i", package)
    assert (pbx.agi_dir / "movidesk").is_symlink() and (pbx.folder / "data" / "sounds" / "movidesk").is_symlink()
    office.configure()
    config = (pbx.etc_dir / "movidesk.conf").read_text()
    pbx.start()

    # By the script first; then the service is started.
    with Agent(pbx, "5252", answers(), audio=True):
        with Caller(pbx, NUMBER) as caller:
            office.talk(caller)
            caller.hang_up()
        pbx.wait_idle()
        debian.run("systemctl", "restart", "movidesk.service")
        office.tickets("5252")
        with Caller(pbx, NUMBER) as caller:
            office.talk(caller)
            caller.hang_up()
            office.tickets("5252", "5252")

        # An upgrade while somebody talks and somebody waits.
        with Caller(pbx, NUMBER, "4733000001") as talks, Caller(pbx, NUMBER, "4733000002") as waits:
            office.talk(talks)
            wait_for("the second waits", lambda: "WaitExten" in pbx.cli("core show channels concise"))
            said = debian.dpkg("-i", newer(package, tmp_path, NEWER))
            assert "dialplan reload" in said
            assert "try-restart movidesk.service" in debian.read("var/log/systemctl")
            wait_for("the new service", lambda: debian.read("var/log/movidesk.log").count("FastAGI on") == 2)
            assert debian.run("movidesk", "--version") == f"movidesk-agi {NEWER}\n"
            assert (pbx.etc_dir / "movidesk.conf").read_text() == config
            pbx.reload_dialplan()
            assert NEWER in pbx.cli("dialplan show movidesk-version")
            talks.hang_up()
            office.talk(waits)
            waits.hang_up()
            office.tickets("5252", "5252", "5252", "5252")
    pbx.wait_idle()

    # Removed: calls go on, also after a restart of Asterisk. The configuration and the journal are there again afterwards.
    assert "kept" in debian.dpkg("--remove", "movidesk-agi")
    assert "stop movidesk.service" in debian.read("var/log/systemctl")
    assert (pbx.etc_dir / "movidesk.conf").read_text() == config and not (pbx.agi_dir / "movidesk").is_symlink()
    pbx.restart()
    assert "removed" in pbx.cli("dialplan show movidesk-queue")
    started = debian.read("var/log/systemctl").count(" start ")
    assert "movidesk.conf and the journal are as they were" in debian.dpkg("-i", package)
    assert debian.read("var/log/systemctl").count(" start ") == started + 1
    pbx.reload_dialplan()
    with Agent(pbx, "5252", answers(), audio=True), Caller(pbx, NUMBER) as caller:
        office.talk(caller)
        caller.hang_up()
        office.tickets(*["5252"] * 5)
    assert "completed" in debian.run("movidesk", "calls")

    # Purged: the journal stays, and a dialplan that includes ours finds a file.
    pbx.wait_idle()
    said = debian.dpkg("--purge", "movidesk-agi")
    assert "the journal stays" in said and "removed.conf stays" in said
    assert (debian.root / "var/lib/movidesk/journal.db").exists() and not (pbx.etc_dir / "movidesk.conf").exists()
    pbx.restart()
    assert "removed" in pbx.cli("dialplan show movidesk-queue")

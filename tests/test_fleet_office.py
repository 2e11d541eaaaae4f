"""What happens to an office with several PBXs: settings change, clocks are set, machines reboot, users look. On a real Redis."""
from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from movidesk import cli
from movidesk.config import load
from movidesk.context import Context
from movidesk.fleet.membership import Membership
from movidesk.journal import Journal, standby
from movidesk.pbx import fleet_watch
from movidesk.rules import waiting_line
from support.clocks import Clock
from support.fleets import VirtualRedis, config
from support.journals import arrive
from support.waits import until

NOBODY = 65534  # a user and a group


class Office:
    """PBXs that begin and end. A PBX's wall clock is `ahead` seconds ahead of the others'."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url, self.now, self.opened = folder, url, Clock(), {}

    def start(self, name: str, pbxs: int = 2, boot: float = 0.0) -> Journal:
        """The PBX's service starts, with what its configuration says now. boot: when its machine started, if it did since."""
        self.stop(name)
        link, ahead = VirtualRedis(self.url, self.now), Clock(0.0)
        made = config(self.folder, name, pbxs=pbxs)
        journal = Journal(":memory:", lambda: self.now() + ahead(), lambda: self.now() - boot,
                          member=lambda steady: Membership(made, steady, journal.clock, link))
        if boot:
            journal.pool.member.instance = f"{name} after {boot}"
        journal.ahead = ahead
        self.opened[name] = journal
        return journal

    def stop(self, name: str) -> None:
        if name in self.opened:
            self.opened.pop(name).close()

    def wait(self, seconds: float) -> None:
        end = self.now() + seconds
        while self.now() < end:
            self.now.advance(2.0)
            for journal in self.opened.values():
                journal.pool.beat(10)

    def modes(self) -> dict[str, str]:
        return {name: journal.pool.standing().mode for name, journal in self.opened.items()}

    def look(self, name: str, caller: str) -> waiting_line.Turn:
        """A look of this caller, who comes now if it is new."""
        return self.opened[name].scheduler.turn(arrive(self.opened[name], caller), 10)

    def positions(self, *callers: tuple[str, str]) -> list[int]:
        return [self.look(*caller).position for caller in callers]


@pytest.fixture
def office(tmp_path, redis):
    office = Office(tmp_path, redis.url)
    yield office
    for name in list(office.opened):
        office.stop(name)


def test_a_wall_clock_that_is_set_moves_nobody_in_line(office):
    one, two = office.start("pbx1"), office.start("pbx2")
    office.wait(6)
    line = [("pbx1", "a1"), ("pbx2", "b1"), ("pbx1", "a2")]
    assert office.positions(*line) == [1, 2, 3]
    for step, said in ((3600, "pbx2 +3600 s"), (-7200, "pbx2 -3600 s")):
        two.ahead.advance(step)
        office.wait(4)
        line.append(("pbx2", f"b{step}"))
        assert office.positions(*line) == list(range(1, len(line) + 1))
        fleet_watch.look(one, one.pool.member)
        assert said in one.notes.get(fleet_watch.CLOCKS)[0]
        assert office.modes() == {"pbx1": "pool", "pbx2": "pool"}


def test_a_third_pbx_joins_once_the_same_number_is_on_each(office):
    office.start("pbx1"), office.start("pbx2")
    office.wait(90)
    office.start("pbx3", pbxs=3)
    office.start("pbx2", pbxs=3)  # the admin has forgotten pbx1
    office.wait(20)
    assert office.modes() == {"pbx1": "pool", "pbx2": "refused", "pbx3": "refused"}
    refused = office.look("pbx2", "b0")
    assert (refused.request_id, refused.code) == (0, ""), "its callers go to the fallback, as if Movidesk did not answer"
    assert refused.reason == "[fleet] pbxs = 3 here, but 2 on the others: write the same number on each"
    assert office.look("pbx1", "a0").request_id, "the others go on"
    office.start("pbx1", pbxs=3)
    office.wait(20)
    assert set(office.modes().values()) == {"pool"}
    assert office.positions(("pbx3", "c1"), ("pbx1", "a1"), ("pbx2", "b0")) == [2, 3, 1], "who has waited, comes first"


def test_a_pbx_that_reboots_leaves_the_line_and_comes_back(office):
    """Also where its machine is faster than its lease: until then it looks like another PBX of its name."""
    office.start("pbx1"), office.start("pbx2")
    office.wait(6)
    assert office.positions(("pbx2", "b1"), ("pbx1", "a1")) == [1, 2]
    office.start("pbx2", boot=office.now() - 3.0)
    office.wait(4)
    assert office.modes()["pbx2"] == "refused" and office.positions(("pbx1", "a1")) == [2]
    office.wait(10)
    assert office.modes() == {"pbx1": "pool", "pbx2": "pool"}
    assert office.positions(("pbx1", "a1"), ("pbx2", "b2")) == [1, 2]


@pytest.fixture
def pbx(redis, write_config):
    """pbx("pbx2", path): the journal of that PBX at that path, with its configuration and Redis' own clock."""
    opened = []

    def make(name: str, path: Path) -> Journal:
        path.parent.mkdir(exist_ok=True)
        settings = load(write_config(pbx={"name": name}, fleet={"redis": redis.url, "pbxs": "2"},
                                     journal={"path": str(path), "standby": str(path.parent)})).require()
        opened.append(Journal(str(path), member=lambda steady: Membership(settings, steady, time.time)))
        opened[-1].settings = settings
        return opened[-1]

    yield make
    for journal in opened:
        journal.close()


def test_who_leaves_the_fleet_waits_for_nobody_there(pbx, movidesk, simulator, tmp_path):
    """[fleet] is switched off while callers wait at the other PBX, of whom nobody tells any more."""
    other, mine = pbx("pbx2", tmp_path / "2" / "journal.db"), pbx("pbx1", tmp_path / "journal.db")
    caller = arrive(other, "b1")
    until(lambda: other.scheduler.turn(caller, 10) and mine.pool.beat(10) and mine.store.count("SELECT count(*) FROM elsewhere"))
    call = arrive(mine, "a1")
    mine.calls.hang_up(call.call_id)
    movidesk.configure()
    assert movidesk("deliver", "--once")[0] == 0
    assert [entry["params"]["id"] for entry in simulator.model.log] == [call.call_id] * 2


def test_who_joins_a_fleet_tells_what_it_sent_before(pbx, movidesk, simulator, tmp_path):
    """[fleet] is switched on while the requests of calls in progress still count."""
    movidesk.configure()
    before = Journal(load(movidesk.path)["journal", "path"])
    call = arrive(before, "a1")
    before.calls.hang_up(call.call_id)
    before.close()
    assert movidesk("deliver", "--once")[0] == 0
    assert len(simulator.model.log) == 2
    mine = pbx("pbx1", tmp_path / "journal.db")
    until(lambda: mine.pool.beat(10))
    window = mine.pool.member.client.state()[1]["shared"]["window"]
    assert [entry["pbx"] for entry in window] == ["pbx1", "pbx1"]


def test_a_standby_keeps_the_places_of_its_callers(pbx, tmp_path):
    """Another program writes into the journal of the first PBX for ever."""
    one, two = pbx("pbx1", tmp_path / "1" / "journal.db"), pbx("pbx2", tmp_path / "2" / "journal.db")
    settings = one.settings
    places = {}

    def look(journal: Journal, *callers: str) -> bool:
        """Whether Redis has told the places of all these callers."""
        for caller in callers:
            places[caller] = journal.scheduler.turn(arrive(journal, caller), 10).position
        return not journal.pool.standing().why

    until(lambda: one.pool.beat(10) and two.pool.beat(10))
    for journal, caller in ((one, "a1"), (two, "b1"), (one, "a2")):
        until(lambda: look(journal, caller))
    writer = sqlite3.connect(one.path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    with standby.use(Context(settings), "locked") as inside:
        until(lambda: look(inside.journal, "a1", "a2", "a3") and look(two, "b1"))
    assert places == {"a1": 1, "b1": 2, "a2": 3, "a3": 4}
    writer.close()
    assert standby.end(Context(settings))
    until(lambda: look(one, "a1", "a2", "a3") and look(two, "b1"))
    assert places == {"a1": 1, "b1": 2, "a2": 3, "a3": 4}
    assert sorted(two.pool.member.client.state()[1]["pbx:pbx1"]["line"]) == ["pbx-a1", "pbx-a2", "pbx-a3"]


def as_user(number: int, action: Callable[[], object]) -> str:
    """What action() prints in another process, of this user and group. Its modules must be loaded: Python may be root's alone."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgid(number)
            os.setuid(number)
            with os.fdopen(writer, "w") as out, redirect_stdout(out), redirect_stderr(out):
                action()
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as shown:
        said = shown.read()
    os.waitpid(child, 0)
    return said


@pytest.fixture
def public_folder():
    """A folder in which every user may look, and whose subfolder `state` belongs to NOBODY, as Asterisk's does to its user."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    (folder / "state").mkdir()
    os.chown(folder / "state", NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("first", [0, NOBODY], ids=["root first", "asterisk first"])
def test_root_and_asterisk_both_look_and_the_service_goes_on(public_folder, movidesk, redis, first):
    """Nothing that root's command leaves behind keeps the service's user from its journal or from the fleet."""
    fleet = {"redis": redis.url, "pbxs": "2"}
    movidesk.configure(fleet=fleet)
    movidesk("status", "--fleet"), movidesk("check")  # load the modules
    state = public_folder / "state"
    movidesk.configure(journal={"path": str(state / "journal.db"), "standby": str(state)}, fleet=fleet)
    for file in state.iterdir():
        os.chown(file, NOBODY, NOBODY)  # the fixture has made it
    path = shutil.copy(movidesk.path, public_folder)
    os.chown(path, 0, NOBODY)
    os.chmod(path, 0o640)

    def serve() -> None:
        """As the service does, for a moment."""
        settings = load(path).require()
        journal = Journal(settings["journal", "path"], member=lambda steady: Membership(settings, steady, time.time))
        until(lambda: journal.pool.beat(10))
        print(journal.pool.standing().mode, journal.pool.member.memory.trouble)
        journal.close()

    assert as_user(NOBODY, serve) == "pool \n"
    for number in (first, NOBODY - first):
        shown = as_user(number, lambda: cli.main(["--config", path, "status", "--fleet"]))
        assert "1 of 2; this is pbx1" in shown and "trouble" not in shown
        shown = as_user(number, lambda: cli.main(["--config", path, "check"]))
        assert "PBXs of this account" in shown and "rights in Redis" in shown
        assert as_user(NOBODY, serve) == "pool \n"
    assert {file.name: file.stat().st_uid for file in state.iterdir() if file.stat().st_uid != NOBODY} == {}

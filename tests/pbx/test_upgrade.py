"""An upgrade from the version before while calls are in progress: scripts, service and dialplan, in the order of docs/install.md.

tests/released/product.tar.xz is the agi/, dialplan/ and lib/ of that version (docs/architecture.md says how it is made).
"""
from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pytest

from movidesk_rehearsal.asterisk_tree import CHECKOUT
from movidesk_rehearsal.phones import RINGS, answers
from movidesk_rehearsal.rehearsal import Rehearsal, wait_for
from office import ANSWERED, CANCELED, DEFAULT_AGID, DIALPLAN, LOST, RECORDINGS, SETTINGS, VARIABLES, Office, shorten_prompts

RELEASED = Path(__file__).parents[1] / "released" / "product.tar.xz"
MESSAGE_KEY = "9"


class Upgrade(Office):
    """An office whose product can be replaced while it is open."""

    def install(self) -> None:
        """`make install`: the files change under the running service; Asterisk keeps the dialplan that it has loaded."""
        place(self.rehearsal.product)
        self.rehearsal.install()

    def restart(self) -> None:
        self.rehearsal.stop_service()
        self.rehearsal.start_service()

    def reload(self) -> None:
        self.pbx.reload_dialplan()


STEPS = [Upgrade.install, Upgrade.restart, Upgrade.reload]


def place(product: Path) -> None:
    """Put this version's files in the place of those that are there, as pip does: the old ones are moved away, then deleted."""
    for name in ("agi", "dialplan", "lib/movidesk"):
        old = (product / name).rename(product / (name + ".old"))
        shutil.copytree(CHECKOUT / name, product / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.rmtree(old)


@pytest.fixture(params=["service", "scripts"])
def office(request, tree, tmp_path):
    """With the version before; its service runs, also where the dialplan uses the scripts."""
    with tarfile.open(RELEASED) as files:
        files.extractall(tmp_path / "product")
    own = {"MOVIDESK_RECORD": "yes", "MOVIDESK_EXIT_KEY": MESSAGE_KEY, "MOVIDESK_MESSAGE_MAX": "60"}
    rehearsal = Rehearsal(tree, tmp_path, product=tmp_path / "product", settings=SETTINGS, variables={**VARIABLES, **own},
                          more=DIALPLAN)
    if request.param == "scripts":
        rehearsal.variables["MOVIDESK_AGID"] = rehearsal.no_agid
        rehearsal.write_dialplan()
    with rehearsal:
        shorten_prompts(rehearsal)
        with Upgrade(rehearsal) as office:
            yield office
            assert DEFAULT_AGID not in office.console()


@pytest.mark.parametrize("done", [1, 2, 3], ids=["files", "service", "dialplan"])
def test_calls_in_progress_go_on_when_a_part_is_upgraded(office, done):
    """They end after this step; then the other steps follow."""
    first, second = office.agent("5252", answers(), audio=True), office.agent("5253", RINGS, audio=True)
    talks = office.call()
    office.wait_talk(talks, first)
    rings = office.call()
    second.wait_ringing()
    office.wait_told()  # Movidesk knows that both are taken
    waits = office.call()
    office.wait_music(waits)  # first in line
    speaks, leaves = office.call("quick"), office.call()
    office.wait_music(speaks)
    office.wait_music(leaves)
    speaks.press(MESSAGE_KEY)
    office.speak(speaks)

    for step in STEPS[:done]:
        step(office)

    begins = office.call()
    office.wait_music(begins)
    begins.hang_up()
    leaves.hang_up()
    second.answer()
    office.wait_talk(rings, second)
    office.speak(speaks, 1.0)
    speaks.hang_up()
    talks.hang_up()
    office.wait_talk(waits, first)
    waits.hang_up()
    rings.hang_up()

    for step in STEPS[done:]:
        step(office)
    for caller, agent in ((talks, "5252"), (rings, "5253")):
        ticket = office.ticket(caller, "completed", ANSWERED)
        assert (ticket.agent, ticket.links) == (agent, [RECORDINGS + ticket.id + ".wav"])
    assert office.ticket(speaks, "lost", LOST).links
    office.ticket(leaves, "canceled", CANCELED)
    office.ticket(begins, "canceled", CANCELED)
    ticket, = office.tickets(waits)
    assert (ticket.state, ticket.agent, ticket.complete) == ("completed", "5252", True)
    assert list(dict.fromkeys(office.heard(ticket.id))) == ANSWERED  # it was asked for several times
    assert "Traceback" not in office.rehearsal.service_log()
    wait_for("no emergency file is left", lambda: not any(path.exists() for path in office.emergency_files()))

"""`movidesk check` on a real Asterisk: what an admin breaks, the line that names it, and that its remedy mends it."""
from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from movidesk.journal import Journal
from movidesk.pbx import liveness
from movidesk_rehearsal.asterisk import free_port
from movidesk_rehearsal.phones import Agent, Caller, answers
from movidesk_rehearsal.rehearsal import Rehearsal, wait_for

OTHER_TOKEN = "00000000-1111-2222-3333-444444444444"
DIALPLAN = """
[from-trunk](+)
exten => 78,1,Goto(movidesk-queue,78,1)
"""


class Installation:
    """A rehearsal as an admin sees it: with files to break, and `check`."""

    def __init__(self, rehearsal: Rehearsal):
        self.rehearsal, self.pbx, self.model = rehearsal, rehearsal.pbx, rehearsal.model
        self.link = f"link = {rehearsal.simulator.home}/rec/{{file}}"
        self.configure()
        # Remedies say `asterisk -rx`.
        self.bin = rehearsal.folder / "bin"
        self.bin.mkdir(exist_ok=True)
        command = [*rehearsal.tree.command, "-C", str(self.pbx.etc_dir / "asterisk.conf")]
        (self.bin / "asterisk").write_text("#!/bin/sh\nexec " + " ".join(command) + ' "$@"\n')
        (self.bin / "asterisk").chmod(0o755)

    def configure(self, **sections: list[str]) -> None:
        """movidesk.conf with these lines, which a running service does not read again."""
        self.rehearsal.write_config({"recordings": [self.link], **sections})
        self.rehearsal.config_path.chmod(0o640)

    def restart(self, **sections: list[str]) -> None:
        self.configure(**sections)
        self.rehearsal.stop_service()
        self.rehearsal.start_service()

    def check(self) -> tuple[int, str]:
        done = self.rehearsal.cli("check")
        assert not done.stderr, done.stderr
        return done.returncode, done.stdout

    def troubles(self) -> list[str]:
        """The findings in trouble, each with its lines."""
        status, out = self.check()
        found = ["TROUBLE  " + re.split(r"\n(?:ok|note) ", part)[0] for part in ("\n" + out).split("\nTROUBLE  ")[1:]]
        assert status == bool(found), out
        return found

    def trouble(self, *words: str) -> str:
        """The one finding that has these words; it says why it matters and what mends it."""
        found = [text for text in self.troubles() if all(word in text for word in words)]
        assert len(found) == 1, self.check()[1]
        assert "\n         why: " in found[0] and "\n         mend: " in found[0]
        print(found[0])
        return found[0]

    def mend(self, finding: str) -> None:
        """Run the remedy, which is a command."""
        command = finding.split("mend: ")[1].strip()
        path = f"{self.bin}:{os.environ['PATH']}"
        subprocess.run(command, shell=True, check=True, timeout=30, env={**os.environ, "PATH": path})

    def call(self, to: str = "77", **options) -> Caller:
        return Caller(self.pbx, to, **options)

    def journal(self) -> Journal:
        return Journal(str(self.rehearsal.journal_path))

    def wait_well(self) -> None:
        """Wait until nothing is in trouble."""
        wait_for("check is content", lambda: not self.troubles(), instead=self.check)

    def forget(self) -> None:
        """Nothing is known of earlier calls."""
        self.rehearsal.stop_service()
        for path in self.rehearsal.journal_path.parent.iterdir():
            path.unlink()
        self.model.reset()


@pytest.fixture(scope="module")
def rehearsal(tree, tmp_path_factory):
    with Rehearsal(tree, tmp_path_factory.mktemp("check"), more=DIALPLAN) as made:
        yield made


@pytest.fixture
def admin(rehearsal):
    installation = Installation(rehearsal)
    installation.forget()
    installation.restart()
    yield installation
    installation.pbx.wait_idle()


def test_all_is_well_and_no_look_leaves_a_line_in_the_log(admin):
    wait_for("the service has begun", lambda: admin.rehearsal.service_log().rstrip().endswith("journal.db"))
    before = admin.rehearsal.service_log()
    assert admin.troubles() == []
    assert admin.rehearsal.service_log() == before and not admin.model.log


# -- the configuration -------------------------------------------------------------------------------------------------

def test_a_wrong_token(admin):
    admin.restart(movidesk=[f"token = {OTHER_TOKEN}"])
    with admin.call() as caller:
        wait_for("Movidesk refuses it", lambda: any(entry["status"] == 401 for entry in list(admin.model.log)))
        caller.hang_up()
    finding = admin.trouble("alarm token: Movidesk refuses the token since", "HTTP 401")
    assert "put a valid token into" in finding and "movidesk outbox --now" in finding
    assert "token: Movidesk refuses it since" in admin.check()[1]
    admin.configure()
    admin.rehearsal.cli("outbox", "--now")
    admin.wait_well()


def test_no_token(admin):
    admin.configure(movidesk=["token ="])
    assert "correct it in " in admin.trouble("[movidesk] token is missing")
    admin.restart()
    admin.wait_well()


def test_a_configuration_that_everybody_can_read(admin):
    admin.rehearsal.config_path.chmod(0o644)
    admin.mend(admin.trouble("secrets in ", "everybody on this machine may read the file (mode 0644)"))
    admin.wait_well()


def test_an_unknown_name_in_the_link(admin):
    admin.restart()
    admin.configure(recordings=["link = https://pbx.example.com/{fle}"])
    admin.trouble("[recordings] link: 'https://pbx.example.com/{fle}' has no field {fle}; it may use {file}")
    admin.restart()
    admin.wait_well()


# -- the network -------------------------------------------------------------------------------------------------------

def test_a_host_that_does_not_resolve(admin):
    admin.configure(movidesk=["url = https://api.movidesk.invalid/public/v1", "timeout = 2"])
    assert "is url in movidesk.conf right?" in admin.trouble("DNS of api.movidesk.invalid: ")
    admin.restart()
    admin.wait_well()


def test_a_closed_port(admin):
    port = free_port(1)
    admin.configure(movidesk=[f"url = http://127.0.0.1:{port}/public/v1"])
    admin.trouble(f"connection to 127.0.0.1:{port}: Connection refused")
    admin.restart()
    admin.wait_well()


# -- the service -------------------------------------------------------------------------------------------------------

def test_the_service_is_down(admin):
    admin.rehearsal.stop_service()
    admin.trouble("movidesk serve does not run (Connection refused)")
    sign = liveness.delivery_path(str(admin.rehearsal.journal_path))
    Path(sign).touch()
    os.utime(sign, (time.time() - 600,) * 2)
    assert "systemctl start movidesk" in admin.trouble("movidesk serve does not run (Connection refused)")
    admin.trouble("alarm service: movidesk serve has not run since ")
    assert admin.rehearsal.cli("status").returncode == 1
    admin.rehearsal.start_service()
    admin.wait_well()
    assert admin.rehearsal.cli("status").returncode == 0


def test_a_service_that_runs_with_the_settings_from_before(admin):
    time.sleep(0.01)  # the file's time must differ
    admin.configure(line=["ask_every = 2"])
    assert "systemctl restart movidesk" in admin.trouble("was changed after it started")
    admin.restart()
    admin.wait_well()


def test_a_service_that_is_frozen(admin):
    os.kill(admin.rehearsal.service_pid, 19)
    try:
        admin.trouble("it accepts connections, but does not answer")
    finally:
        os.kill(admin.rehearsal.service_pid, 18)
    admin.wait_well()


def test_movidesk_agid_leads_elsewhere(admin):
    right = admin.rehearsal.variables["MOVIDESK_AGID"]
    admin.rehearsal.variables["MOVIDESK_AGID"] = "127.0.0.1:1"
    admin.rehearsal.write_dialplan()
    try:
        finding = admin.trouble(f"MOVIDESK_AGID: it is 127.0.0.1:1, but the service listens at {right} ([agid] listen)")
        assert f"MOVIDESK_AGID = {right} in [globals] of {admin.pbx.etc_dir}/extensions.conf" in finding
    finally:
        admin.rehearsal.variables["MOVIDESK_AGID"] = right
        admin.rehearsal.write_dialplan()
    admin.wait_well()


# -- Asterisk ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("command, words", [("/nonexistent -rx", "No such file or directory"), ("echo", "as Asterisk does"),
                                            ("false", "exit status 1")])
def test_a_console_that_does_not_answer(admin, command, words):
    admin.restart(pbx=[f"asterisk = {command}"])
    admin.trouble(f"Asterisk's console ({command}): ", words)


def test_a_dialplan_that_is_not_included(admin):
    path = admin.pbx.etc_dir / "extensions.conf"
    text = path.read_text()
    path.write_text(text.replace("#include movidesk/*.conf\n", ""))
    admin.pbx.reload_dialplan()
    try:
        admin.mend(admin.trouble("dialplan: not loaded: movidesk-queue"))
        admin.wait_well()
        assert path.read_text().count("#include movidesk/*.conf\n") == 1
    finally:
        admin.rehearsal.write_dialplan()


def test_a_dialplan_that_asterisk_has_not_loaded_anew(admin):
    path = admin.pbx.etc_dir / "movidesk" / "queue.conf"
    text = path.read_text()
    path.write_text(text.replace("Wait(0.3)", "Wait(0.4)"))
    try:
        admin.mend(admin.trouble("dialplan: Asterisk has not loaded the files in ", "as they are: movidesk-phone"))
        admin.wait_well()
    finally:
        path.write_text(text)
        admin.pbx.reload_dialplan()


def test_scripts_that_are_not_executable(admin):
    (admin.pbx.agi_dir / "movidesk" / "hangup").chmod(0o644)
    admin.mend(admin.trouble("scripts in ", "not executable: hangup"))
    admin.wait_well()


def test_scripts_without_their_python(admin):
    path = admin.pbx.agi_dir / "movidesk" / "canceled"
    text = path.read_text()
    path.write_text("#!/nonexistent/python3\n" + text.partition("\n")[2])
    try:
        assert "make install again" in admin.trouble("they do not run: ", "No such file or directory")
    finally:
        path.write_text(text)
    admin.wait_well()


def test_recordings_in_another_folder_than_asterisks(admin, tmp_path):
    admin.restart(recordings=[admin.link, f"folder = {tmp_path}/none"])
    admin.trouble(f"recordings in {tmp_path}/none: No such file or directory")
    admin.restart(recordings=[admin.link, f"folder = {tmp_path}"])
    theirs = admin.pbx.spool_dir / "monitor"
    assert f"folder = {theirs} in " in admin.trouble(f"recordings in {tmp_path}: Asterisk writes them to {theirs}")
    admin.restart(recordings=[admin.link, f"folder = {theirs}"])
    admin.wait_well()


# -- what calls show ---------------------------------------------------------------------------------------------------

def answered_call(admin) -> None:
    """A call that an agent answers, all of it told."""
    with Agent(admin.pbx, "5252", answers()), admin.call() as caller:
        caller.wait_answered()
        wait_for("the agent has the call", lambda: admin.model.in_call)
        caller.hang_up()
        caller.wait()
    wait_for("its end is told", lambda: "asterisk_completedCall" in [entry["endpoint"] for entry in list(admin.model.log)],
             instead=lambda: (admin.rehearsal.cli("calls").stdout, admin.rehearsal.service_log(), list(admin.model.log)))


def test_phones_of_agents_that_are_off(admin):
    with admin.call() as caller:
        wait_for("Movidesk names an agent", lambda: bool(admin.journal().agents.known()))
        caller.hang_up()
    wait_for("the call is over", lambda: not admin.journal().overview.open_calls())
    assert "switch the phones on" in admin.trouble("agents' phones: not registered: 525")
    with Agent(admin.pbx, "5252", answers()), Agent(admin.pbx, "5253", answers()), admin.call() as caller:
        caller.wait_answered()
        admin.wait_well()
        assert "are registered" in admin.check()[1]
        caller.hang_up()


def test_an_agent_whose_phone_asterisk_does_not_know(admin):
    admin.model.add_group(77, ["6001"])
    with admin.call() as caller:
        wait_for("Movidesk names an agent", lambda: bool(admin.journal().agents.known()))
        caller.hang_up()
    assert "or set MOVIDESK_DIAL_PREFIX (now PJSIP/)" in admin.trouble("agents' phones: Asterisk knows no phone 6001")
    admin.model.add_group(77, ["5252", "5253"])


def test_an_extension_pattern_that_is_too_narrow(admin):
    admin.restart(pbx=["extension_pattern = [0-9]{3}"])
    with admin.call() as caller:
        wait_for("the answer is rejected", lambda: "neither a code nor an extension" in admin.pbx.log())
        assert admin.rehearsal.cli("status").returncode == 1
        finding = admin.trouble("alarm extension: '525", "does not match extension_pattern = [0-9]{3}")
        assert f"extension_pattern in {admin.rehearsal.config_path} (then: systemctl restart movidesk)" in finding
        admin.restart()
        admin.wait_well()
        caller.hang_up()


def test_a_queue_that_movidesk_does_not_know(admin):
    with admin.call("78") as caller:
        wait_for("Movidesk rejects it", lambda: any(entry["status"] == 400 for entry in list(admin.model.log)))
        finding = admin.trouble("queue 78: Movidesk rejects each of its calls (HTTP 400: queueId: no telephony group has the id ")
        assert "ID de fila" in finding
        caller.hang_up()
    answered_call(admin)
    wait_for("its arrival is set aside", lambda: admin.journal().overview.totals()["refused"], 60,
             lambda: admin.rehearsal.cli("outbox").stdout)
    admin.trouble("queue 78: ")
    assert "--dismiss all" in finding
    admin.rehearsal.cli("outbox", "--dismiss", "all")
    with Agent(admin.pbx, "5252", answers()), Agent(admin.pbx, "5253", answers()):
        admin.wait_well()


def test_another_pbx_has_the_same_name(admin):
    theirs = {"token": admin.model.token, "id": "pbx1-1795240000.1"}
    date = "2026-11-21T10:00:00"
    asked = {**theirs, "queueId": "77", "clientNumber": "4733990001", "callDate": date}
    admin.model.request("POST", "asterisk_receivedCall", asked)
    admin.model.request("POST", "asterisk_canceledCall", {**theirs, "canceledDate": date})
    book = admin.journal()
    call = book.calls.arrive("pbx1", "1795240000.1", "77", "4733990002")
    book.calls.hang_up(call.call_id)
    answered_call(admin)
    finding = admin.trouble("name of this PBX ([pbx] name): Movidesk rejects received of pbx1-1795240000.1, ", "another call's")
    assert "name = pbx1-2 in " in finding
    admin.restart(pbx=["name = pbx1-2"])
    wait_for("its arrival is set aside", lambda: book.overview.totals()["refused"], 60,
             lambda: admin.rehearsal.cli("outbox").stdout)
    admin.rehearsal.cli("outbox", "--dismiss", "all")
    with Agent(admin.pbx, "5252", answers()), Agent(admin.pbx, "5253", answers()):
        admin.wait_well()

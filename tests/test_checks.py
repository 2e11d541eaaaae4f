"""`movidesk check` without Asterisk: each finding's line, that its remedy mends it, and the support archive.

tests/pbx/test_check.py has what concerns Asterisk and calls.
"""
from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import ssl
import stat
import subprocess
import tarfile
import tempfile
import threading
import time
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from movidesk import __version__, alarms, cli, config
from movidesk.agi.listener import Listener
from movidesk.checks import all_findings, bundle, dialplan, files, network, service, standing, user
from movidesk.checks.finding import NOTE, OK, TROUBLE, Finding
from movidesk.context import Context
from movidesk.delivery.api import Delivered, Retry
from movidesk.housekeeping import Housekeeping, at_work
from movidesk.journal import Job, Journal, standby_folder
from movidesk.pbx import liveness
from movidesk.service import FastAGI
from movidesk_sim.model import EXAMPLE_TOKEN
from support.processes import as_nobody

GOOD, IN_TROUBLE = 0, 1
NOBODY = "nobody"


@pytest.fixture
def settings(write_config, simulator, tmp_path, monkeypatch):
    """settings(section={...}): a configuration with which nothing is in trouble but what the test breaks."""
    monkeypatch.setenv(user.VARIABLE, pwd.getpwuid(os.geteuid()).pw_name)
    monkeypatch.setattr(user, "DEFAULT", "nobody-of-that-name")
    console = tmp_path / "console"
    console.write_text("#!/bin/sh\ncase $2 in *settings) echo '  Version:   22.0.0'; echo '  AGI Scripts directory:  /none'; "
                       "esac\n")
    console.chmod(0o755)

    def write(**sections) -> config.Config:
        sections = {**sections, "movidesk": {"url": simulator.url, **sections.get("movidesk", {})},
                    "pbx": {"name": "pbx1", "asterisk": f"{console} -rx", **sections.get("pbx", {})}}
        path = write_config(**sections)
        os.chmod(path, 0o640)
        return config.load(path)

    return write


def found(settings: config.Config, *words: str) -> Finding:
    """The one finding of `check` whose line has these words."""
    results = list(all_findings(settings))
    matching = [finding for finding in results if all(word in f"{finding.subject}: {finding.text}" for word in words)]
    assert len(matching) == 1, results
    return matching[0]


def states(findings) -> list[str]:
    return [finding.state for finding in findings]


# -- the configuration, the token --------------------------------------------------------------------------------------

def test_without_a_configuration_nothing_else_is_looked_at(tmp_path):
    finding, = all_findings(config.load(str(tmp_path / "none.conf")))
    assert finding.state == TROUBLE and "No such file or directory" in finding.text
    assert "make install creates it" in finding.remedy


def test_a_configuration_that_may_not_be_read(settings):
    path = settings().path
    os.chmod(path, 0)
    finding, = as_nobody(lambda: list(all_findings(config.load(path))))
    assert finding.state == TROUBLE and "Permission denied" in finding.text and "copy" not in finding.text + finding.remedy
    assert finding.remedy.startswith("run movidesk check as root")


def test_each_problem_of_the_configuration_is_a_finding(settings):
    broken = settings(pbx={"name": "a b"}, movidesk={"token": "x"})
    for words in ("[pbx] name: 'a b' must be 1 to 64 letters", "[movidesk] token: 1 characters is not a GUID"):
        assert found(broken, words).state == TROUBLE


def test_a_secret_that_everybody_can_read_and_its_remedy(settings, tmp_path):
    secret = tmp_path / "token"
    secret.write_text(EXAMPLE_TOKEN)
    secret.chmod(0o604)
    known = settings(movidesk={"token": None, "token_file": str(secret)})
    finding = found(known, f"secrets in {secret}", "mode 0604")
    subprocess.run(finding.remedy, shell=True, check=True)
    assert found(known, "secrets").state == OK


def test_the_last_answer_to_the_token(settings):
    known = settings()
    assert found(known, "token: no request was sent with it yet").state == NOTE
    context = Context(known)
    context.apply_outcome(Delivered(""))
    assert found(known, "token: Movidesk has accepted it").state == OK
    for call in "1.1", "1.2":
        context.apply_outcome(Retry(None, "HTTP 401: no", 401), name=call)
    assert found(known, "alarm token: ").state == TROUBLE
    assert found(known, "token: Movidesk refuses it since", "HTTP 401: no").state == TROUBLE
    assert found(settings(movidesk={"token": "00000000-0000-0000-0000-00000000cafe"}), "token: no request").state == NOTE


@pytest.mark.parametrize("name, state", [("freepbx.example.com", NOTE), ("localhost", NOTE), ("sao-paulo", OK)])
def test_a_name_that_many_machines_have(settings, monkeypatch, name, state):
    monkeypatch.setattr("socket.gethostname", lambda: name)
    assert found(settings(pbx={"name": name}), "name of this PBX").state == state


def test_check_is_never_content_while_status_is_not(settings, capsys):
    known = settings()
    book = Journal(known["journal", "path"])
    call = book.calls.arrive("pbx1", "1.1", "77", "4733990777")
    book.calls.hang_up(call.call_id)
    book.outbox.rejected(Job(book.calls.events(call)[0], call), "too long")
    assert cli.main(["--config", known.path, "status"]) == IN_TROUBLE
    finding = found(known, "alarm refused: 1 event is set aside")
    assert finding.state == TROUBLE and "movidesk outbox --replay all" in finding.remedy
    book.outbox.dismiss(book.calls.events(call)[0].id)
    assert "alarm" not in " ".join(finding.subject for finding in all_findings(known) if finding.state == TROUBLE)


@pytest.mark.parametrize("remedy", ["mend it", ""])
@pytest.mark.parametrize("name", [name for name in alarms.NAMES if name != "config"])
def test_check_says_once_what_to_do_about_an_alarm(settings, monkeypatch, name, remedy):
    monkeypatch.setattr(alarms, "standing", lambda context: [alarms.of(name, "it is broken", remedy)])
    monkeypatch.setattr("movidesk.checks.PARTS", (standing.findings,))
    finding = found(settings(), f"alarm {name}")
    assert finding.text == "it is broken" and finding.why and finding.remedy
    assert "movidesk check" not in finding.remedy


def test_an_old_textfile_has_its_causes_in_other_lines(settings, tmp_path):
    """Which may be another folder, a package that is missing, or the service's unit."""
    textfile = tmp_path / "movidesk.prom"
    textfile.touch()
    os.utime(textfile, (time.time() - 1000,) * 2)
    known = settings(metrics={"textfile": str(textfile)})
    Path(liveness.delivery_path(known["journal", "path"])).touch()
    finding = found(known, "alarm metrics")
    assert re.fullmatch(re.escape(f"[metrics] textfile = {textfile} was last written at ") + "[-0-9]+ [:0-9]+", finding.text)
    assert "the configuration, metrics and the systemd unit" in finding.remedy


# -- the network -------------------------------------------------------------------------------------------------------

@contextmanager
def web_server(status: int = 404, date: float | None = 0.0, cert=None):
    """The address of a server that answers HEAD with this status, and a Date that differs by so many seconds (None: without)."""
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response_only(status)
            if date is not None:
                self.send_header("Date", formatdate(time.time() + date, usegmt=True))
            self.send_header("Location", "https://login.example.com/")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    if cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"{'https' if cert else 'http'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("status, state", [(500, TROUBLE), (503, TROUBLE), (407, TROUBLE), (404, OK), (302, OK), (200, OK)])
def test_the_answer_of_the_api(settings, status, state):
    with web_server(status) as address:
        known = settings(movidesk={"url": f"{address}/public/v1"})
        assert found(known, f"Movidesk at {address}/public/v1: HTTP {status}").state == state


@pytest.mark.parametrize("seconds, text", [(-3600, "36.. s ahead of"), (3600, "3... s behind"), (30, None), (-30, None)])
def test_the_clock(settings, seconds, text):
    with web_server(date=seconds) as address:
        finding = found(settings(movidesk={"url": address}), "clock: ")
        assert finding.state == (TROUBLE if text else OK)
        assert not text or re.search(text, finding.text) and finding.remedy == "timedatectl set-ntp true"


@pytest.mark.parametrize("date", ["", "yesterday", "Sat, 99 Nov 2026 20:00:00 GMT"])
def test_a_date_that_makes_no_sense_says_nothing_of_the_clock(date):
    assert network._clock(date, time.time()) == []


@pytest.mark.parametrize("url, words", [
    ("https://api.movidesk.invalid/public/v1", "DNS of api.movidesk.invalid: the name cannot be resolved"),
    ("http://127.0.0.1:1/public/v1", "connection to 127.0.0.1:1: Connection refused")])
def test_the_first_step_that_fails_is_the_last(settings, url, words):
    known = settings(movidesk={"url": url})
    assert found(known, words).state == TROUBLE
    assert not [finding for finding in all_findings(known) if finding.subject.startswith("Movidesk at")]


def test_a_certificate_that_nobody_has_signed(settings, tmp_path):
    cert = tmp_path / "cert.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-keyout", cert, "-out",
                    tmp_path / "c"], check=True, capture_output=True)
    cert.write_text(cert.read_text() + (tmp_path / "c").read_text())
    with web_server(cert=cert) as address:
        finding = found(settings(movidesk={"url": address}), "TLS with 127.0.0.1: this machine does not trust its certificate")
        assert finding.state == TROUBLE and "REQUESTS_CA_BUNDLE" in finding.remedy


def test_a_port_that_does_not_speak_tls(settings):
    with web_server() as address:
        url = address.replace("http:", "https:")
        assert found(settings(movidesk={"url": url}), "TLS with 127.0.0.1: the handshake failed").state == TROUBLE


def test_a_proxy_is_what_must_be_reached(settings, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    finding = found(settings(movidesk={"url": "https://api.movidesk.invalid/"}), "proxy 127.0.0.1:1: Connection refused")
    assert finding.state == TROUBLE and "HTTPS_PROXY" in finding.remedy


def test_what_never_answers_is_not_waited_for():
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        network.within(0.05, lambda: time.sleep(5))
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize("status, state", [(404, OK), (403, OK), (502, TROUBLE)])
def test_the_public_link(status, state):
    with web_server(status) as address:
        finding, = network.public_link(address + "/rec/{file}?{id}", 2)
        assert (finding.state, finding.text) == (state, f"HTTP {status}")


def test_a_public_link_that_only_outsiders_reach_or_nobody():
    assert states(network.public_link("http://127.0.0.1:1/{file}", 2)) == [NOTE]
    assert states(network.public_link("https://pbx.invalid/{file}", 2)) == [TROUBLE]
    assert network.public_link("", 2) == []


# -- the service, systemd ----------------------------------------------------------------------------------------------

@contextmanager
def fastagi(known: config.Config, server=None):
    """A service that listens for FastAGI, as far as `check` asks it."""
    server = server or FastAGI(("127.0.0.1", 0), Context(known))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_service_that_answers(settings):
    known = settings()
    with fastagi(known) as port:
        listening = settings(agid={"listen": f"127.0.0.1:{port}"})
        os.utime(listening.path, (known.modified + 5,) * 2)
        listening = config.load(listening.path)
        assert found(listening, f"service at 127.0.0.1:{port}", "was changed after it started").state == TROUBLE
        os.utime(listening.path, (known.modified,) * 2)
        assert found(config.load(listening.path), f"service at 127.0.0.1:{port}").text == f"version {__version__}"


class Answers(Listener):
    """Answers each connection with one line."""

    def __init__(self, line: bytes):
        from socketserver import StreamRequestHandler

        class Handler(StreamRequestHandler):
            def handle(self):
                self.wfile.write(line)

        super().__init__("[agid] listen", ("127.0.0.1", 0), Handler, 9)


@pytest.mark.parametrize("line, words", [
    (b"movidesk-agi 0.0.9 9999999999.0\n", "it runs version 0.0.9, installed is"),
    (b"SSH-2.0-OpenSSH_9.2\r\n", "another program, or an older movidesk serve, answers: 'SSH-2.0-OpenSSH_9.2'"),
    (b"", "another program"), (b'VERBOSE "movidesk: ping failed" 1\n', "an older movidesk serve")])
def test_something_else_answers(settings, line, words):
    with fastagi(None, Answers(line)) as port:
        finding = found(settings(agid={"listen": f"127.0.0.1:{port}"}), "service at ", words)
        assert finding.state == TROUBLE and "systemctl restart movidesk" in finding.remedy


def test_cron_delivers_in_place_of_the_service(settings):
    known = settings(agid={"listen": "127.0.0.1:1"})
    assert found(known, "service at 127.0.0.1:1", "movidesk serve does not run").state == TROUBLE, "also right after it has ended"
    Housekeeping(Context(known)).recover()
    assert found(known, "service at 127.0.0.1:1", "movidesk deliver sends").state == NOTE
    Context(known).journal.notes.set(liveness.ROUND, "0")
    assert found(known, "service at 127.0.0.1:1", "movidesk serve does not run").state == TROUBLE
    with at_work(known["journal", "path"], once=False):
        assert found(known, "service at 127.0.0.1:1", "movidesk deliver sends").state == NOTE


UNIT = {"LoadState": "loaded", "ActiveState": "active", "UnitFileState": "enabled", "NRestarts": "0", "NeedDaemonReload": "no",
        "ReadWritePaths": "/var/lib/movidesk /var/tmp -/var/spool/asterisk/monitor"}


@pytest.mark.parametrize("shown, states_, words", [
    ({}, [OK], "active, 0 restarts"), ({"LoadState": "not-found"}, [NOTE], "not-found"),
    ({"ActiveState": "failed"}, [TROUBLE], "systemctl start movidesk"),
    ({"UnitFileState": "disabled"}, [TROUBLE], "systemctl enable movidesk"),
    ({"NeedDaemonReload": "yes"}, [TROUBLE], "systemctl daemon-reload"), ({"User": "bob"}, [TROUBLE], "make install ASTUSER="),
    ({"ReadWritePaths": "/var/lib/movidesk"}, [TROUBLE], "ReadWritePaths=-/var/spool/asterisk/monitor"),
    ({"ReadWritePaths": "-/var/spool/asterisk/monitor"}, [TROUBLE], "ReadWritePaths=-/var/lib/movidesk")])
def test_the_systemd_unit(settings, shown, states_, words):
    known = settings(recordings={"keep_days": "30"}, metrics={"textfile": "/var/lib/movidesk/movidesk.prom"})
    results = service.of_unit(known, {**UNIT, "User": pwd.getpwuid(os.geteuid()).pw_name, **shown})
    assert states(results) == states_ and words in results[0].text + results[0].remedy


def test_the_folder_for_node_exporter(settings, tmp_path):
    known = settings(metrics={"textfile": str(tmp_path / "node" / "movidesk.prom")})
    finding = found(known, f"metrics in {tmp_path}/node/movidesk.prom", "No such file or directory ([metrics] textfile)")
    assert finding.state == TROUBLE and f"-m 755 {tmp_path}/node" in finding.remedy
    (tmp_path / "node").mkdir()
    assert found(known, f"metrics in {tmp_path}/node/movidesk.prom", "written").state == OK


# -- files, and whose they are -----------------------------------------------------------------------------------------

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")


@pytest.fixture
def public_folder():
    """A folder that other users reach."""
    folder = Path(tempfile.mkdtemp(prefix="movidesk-check-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def as_asterisk(known: config.Config) -> list[Finding]:
    """What `check` finds when root runs it."""
    def run():
        user.become(known)
        assert os.geteuid() != 0
        return [*files.findings(config.load(known.path))]

    from support.processes import in_processes

    return in_processes(run)[0]


@needs_root
def test_a_journals_folder_that_belongs_to_root_and_its_remedy(settings, public_folder, monkeypatch):
    monkeypatch.setenv(user.VARIABLE, NOBODY)
    state = public_folder / "state"
    state.mkdir(mode=0o755)
    known = settings(journal={"path": str(state / "journal.db"), "standby": "/dev/shm"})
    shutil.copy(known.path, public_folder / "movidesk.conf")
    known.path = str(public_folder / "movidesk.conf")
    os.chmod(known.path, 0o644)
    results = as_asterisk(known)
    owner, = [finding for finding in results if finding.subject == "user" and finding.state == TROUBLE]
    assert owner.text == f"{state} belongs to root, but Asterisk's user is {NOBODY}"
    assert owner.remedy == f"chown -R {NOBODY}: {state}"
    assert [finding.state for finding in results if finding.subject.startswith("journal ")] == [TROUBLE]
    subprocess.run(owner.remedy, shell=True, check=True)
    assert TROUBLE not in states(as_asterisk(known))


@needs_root
def test_root_becomes_asterisks_user_and_else_the_folders_owner(settings, public_folder, monkeypatch):
    known = settings(journal={"path": str(public_folder / "journal.db")})
    monkeypatch.delenv(user.VARIABLE)
    monkeypatch.setattr(user, "asterisk_user", lambda: None)
    user.become(known)
    assert os.geteuid() == 0, "nobody else is known"
    os.chown(public_folder, 65534, 65534)

    def who():
        user.become(known)
        return os.getuid(), os.geteuid(), os.getgid(), os.getgroups()

    from support.processes import in_processes

    assert in_processes(who)[0][:3] == (65534, 65534, 65534)


@pytest.mark.parametrize("line, console", [
    ("/usr/sbin/asterisk -g -f -p -U asterisk", False), ("asterisk -cvvvg -U asterisk -G asterisk", False), ("asterisk", False),
    ("asterisk -rx core show channels", True), ("asterisk -rvvvv", True), ("asterisk -vvvvr", True), ("asterisk -R", True)])
def test_a_console_that_root_has_open_is_not_asterisk(line, console):
    assert user.is_console(line.split()) == console


def test_a_folder_that_is_missing_and_its_remedy(settings, tmp_path, monkeypatch):
    known = settings(journal={"path": str(tmp_path / "none" / "journal.db")})
    finding, = [finding for finding in all_findings(known) if finding.subject == f"journal {tmp_path}/none/journal.db"]
    assert finding.state == TROUBLE and "does not exist" in finding.text
    me = pwd.getpwuid(os.geteuid()).pw_name
    assert finding.remedy == f"install -d -o {me} -g {me} -m 750 {tmp_path}/none"
    subprocess.run(finding.remedy, shell=True, check=True)
    assert found(known, f"journal {tmp_path}/none/journal.db: written").state == OK


@needs_root
def test_a_full_disk_and_its_remedy(settings, public_folder):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", public_folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr}")
    try:
        known = settings(journal={"path": str(public_folder / "journal.db")})
        assert found(known, "no alarm stands").state == OK
        with open(public_folder / "ballast", "wb", buffering=0) as ballast, pytest.raises(OSError):
            while True:
                ballast.write(b"0" * 4096)
        assert found(known, "alarm disk: only 0.0 MB").state == TROUBLE
        assert found(known, f"journal {public_folder}/journal.db: ", "full").state == TROUBLE
        assert cli.main(["--config", known.path, "status"]) == IN_TROUBLE
        (public_folder / "ballast").unlink()
        assert found(known, "no alarm stands").state == OK
        assert found(known, f"journal {public_folder}/journal.db: written").state == OK
    finally:
        subprocess.run(["umount", "--lazy", public_folder], check=True)


@pytest.mark.parametrize("state", ["missing", "a file", "another's"])
def test_a_place_for_the_standby_that_cannot_serve(settings, tmp_path, caplog, state):
    place = tmp_path / "memory"
    known = settings(journal={"path": str(tmp_path / "journal.db"), "standby": str(place)})
    if state == "a file":
        place.write_text("")
    elif state == "another's":
        place.mkdir()
        os.mkdir(standby_folder.folder(known), 0o777)
        os.chmod(standby_folder.folder(known), 0o777)
    finding = found(known, f"second journal in {place}: {place}", "must be a folder in memory")
    assert finding.state == TROUBLE and "standby = /dev/shm in " in finding.remedy
    housekeeping = Housekeeping(Context(known))
    housekeeping.start()
    housekeeping._stop.set()
    assert f"[journal] standby: {place}" in caplog.text


@pytest.mark.parametrize("recordings, state", [({}, None), ({"keep_days": "3"}, TROUBLE), ({"convert": "mp3"}, TROUBLE)])
def test_a_folder_of_recordings_matters_if_something_uses_it(settings, tmp_path, recordings, state):
    known = settings(recordings={"folder": str(tmp_path / "none"), **recordings})
    results = [finding.state for finding in files.findings(known) if finding.subject.startswith("recordings in ")]
    assert results == ([state] if state else [])


# -- FreePBX -----------------------------------------------------------------------------------------------------------

def test_the_files_of_freepbx(settings, tmp_path, monkeypatch):
    known, generated = settings(), tmp_path / "extensions_additional.conf"
    assert dialplan._freepbx(known, str(tmp_path)) == []
    generated.touch()
    (tmp_path / "extensions.conf").write_text("#include movidesk/*.conf\n")
    finding, = dialplan._freepbx(known, str(tmp_path))
    assert finding.state == TROUBLE and finding.remedy == f"move the line to the end of {tmp_path}/extensions_custom.conf"
    (tmp_path / "extensions_custom.conf").write_text("#include movidesk/*.conf\n")
    assert states(dialplan._freepbx(known, str(tmp_path))) == [OK]
    monkeypatch.setattr(dialplan, "FREEPBX", str(generated))
    finding, = dialplan._freepbx(known, str(tmp_path))
    subprocess.run(finding.remedy, shell=True, check=True)
    assert states(dialplan._freepbx(known, str(tmp_path))) == [OK]
    assert (tmp_path / "freepbx_chown.conf").read_text() == f"[custom]\nfile = {known.path},0640,root,asterisk\n"


@pytest.mark.parametrize("version, given, states_", [
    ("22.1.0", {"MOVIDESK_AGID": ""}, [NOTE]), ("16.28.0~dfsg-1", {"MOVIDESK_AGID": ""}, [OK]), ("22.1.0", {}, [OK]),
    ("22.1.0", {"MOVIDESK_AGID": "127.0.0.1:1"}, [TROUBLE]), ("22.1.0", {"MOVIDESK_AGID": "localhost:4573"}, [OK])])
def test_where_the_dialplan_looks_for_the_service(settings, version, given, states_):
    asterisk = SimpleNamespace(settings={"Version": version}, globals=given)
    assert states(dialplan._agid(settings(agid={"listen": "127.0.0.1:4573"}), asterisk, "/etc/asterisk")) == states_


# -- the command -------------------------------------------------------------------------------------------------------

def test_the_command_prints_what_is_wrong_why_and_what_mends_it(settings, capsys, monkeypatch):
    known = settings()
    os.chmod(known.path, 0o644)
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main(["--config", known.path, "check"]) == IN_TROUBLE
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if len(line) > 80 and " " in line[9:].strip()] == [], "a path stays whole"
    trouble = " ".join(out.partition("TROUBLE  secrets in")[2].split())
    assert "why: it contains the token" in trouble and f"mend: chmod 0640 {known.path} " in trouble


def test_the_command_for_programs(settings, capsys):
    assert cli.main(["--config", settings().path, "check", "--json"]) == IN_TROUBLE  # there is no Asterisk
    results = json.loads(capsys.readouterr().out)
    assert {"subject", "state", "text", "why", "remedy"} == set(results[0])
    assert [each for each in results if each["state"] == TROUBLE and not (each["why"] and each["remedy"])] == []


def test_a_part_that_fails_hides_nothing(settings, monkeypatch):
    monkeypatch.setattr(network, "public_link", lambda *_: 1 / 0)
    known = settings()
    assert found(known, "check itself (network): ZeroDivisionError").state == TROUBLE
    assert found(known, "journal ", "written").state == OK


# -- the support archive -----------------------------------------------------------------------------------------------

NUMBERS = ("4733998642", "+5547988887777", "1133334444", "08001234567")
SECRETS = ("0123456789abcdef-SECRET", "the-password-of-made-calls", "ami-secret-of-20-chars", "token-of-made-calls-1")


def test_the_support_archive_has_no_secret_and_no_number(settings, tmp_path, monkeypatch, capsys):
    known = settings(recordings={"secret": SECRETS[0], "link": "https://pbx.invalid/{file}"},
                     made_calls={"listen": "127.0.0.1:0", "auth": "login", "user": "movidesk", "password": SECRETS[1],
                                 "token": SECRETS[3], "ami_user": "movidesk", "ami_secret": SECRETS[2], "caller_id": NUMBERS[2],
                                 "tokem": "mistyped-but-secret"})
    book = Journal(known["journal", "path"])
    for index, number in enumerate(NUMBERS):
        call = book.calls.arrive("pbx1", f"1795240965.{index}", "77", number)
        book.calls.record(call.call_id, "lost", link=f"https://pbx.invalid/x.wav?expires=1&signature={SECRETS[0]}")
        book.outbox.rejected(Job(book.calls.events(call)[0], call), f"HTTP 400: {number.lstrip('+')} {EXAMPLE_TOKEN.upper()}")
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "journalctl").write_text(f"#!/bin/sh\necho 'called {NUMBERS[3]}: sip:{NUMBERS[0]}@x, https://x/?token={EXAMPLE_TOKEN}'\n")
    (tools / "journalctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    archive = tmp_path / "bundle.tar.gz"
    assert cli.main(["--config", known.path, "check", "--bundle", str(archive)]) == IN_TROUBLE
    capsys.readouterr()
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    with tarfile.open(archive) as tar:
        parts = {member.name.rpartition("/")[2]: tar.extractfile(member).read().decode() for member in tar}
    assert {"check.txt", "status.json", "movidesk.conf", "dialplan.txt", "calls.txt", "outbox.txt", "journal.txt", "service.log",
            "versions.txt", "disks.txt", "README.txt"} == set(parts)
    for hidden in (*SECRETS, *(number.lstrip("+") for number in NUMBERS), EXAMPLE_TOKEN, "mistyped-but-secret"):
        assert [name for name, text in parts.items() if hidden.lower() in text.lower()] == [], hidden
    assert "***8642" in parts["calls.txt"] and "pbx1-1795240965.0" in parts["calls.txt"]
    assert "user = movidesk" in parts["movidesk.conf"] and "tokem = ***" in parts["movidesk.conf"]
    assert "called ***4567" in parts["service.log"]
    assert "CREATE TABLE calls" in parts["journal.txt"] and "calls: 4 rows" in parts["journal.txt"]
    assert f"movidesk-agi {__version__}" in parts["versions.txt"] and "secrets" in parts["check.txt"]


@pytest.mark.parametrize("text, shown", [
    ("pbx1-1795240965.12 of 4733998642", "pbx1-1795240965.12 of ***8642"), ("5252 and 123456", "5252 and 123456"),
    ("+55 (47) 99999", "+55 (47) 99999"), ("port=+554799998888,", "port=***8888,"),
    ("2026-11-21 20:00:00", "2026-11-21 20:00:00"),
    ("http://user:pass@proxy:3128/", "http://user:***@proxy:3128/"), ("f7c3-9a", "f7c3-9a")])
def test_what_is_masked(settings, text, shown):
    assert bundle.Masker(settings())(text) == shown


def test_an_archive_without_a_journal_says_why(settings, tmp_path):
    known = settings(journal={"path": str(tmp_path / "none" / "journal.db")})
    with open(tmp_path / "a.tar.gz", "wb") as file:
        bundle.write(file, known, [], "")
    with tarfile.open(tmp_path / "a.tar.gz") as tar:
        assert b"does not exist" in tar.extractfile("movidesk-bundle/calls.txt").read()

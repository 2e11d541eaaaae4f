"""Recordings: signed links, who may fetch what, parts of a file, retention, conversion."""
from __future__ import annotations

import http.client
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from urllib.parse import quote, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from movidesk.agi import runner
from movidesk.checks import all_checks
from movidesk.config import load
from movidesk.config.options import Secret
from movidesk.context import Context
from movidesk.journal import HOLD, PENDING, Journal
from movidesk.made_calls import dialler
from movidesk.recordings import conversion, files, links, signatures
from movidesk.rules import call_states
from movidesk.web import recordings as web_recordings
from movidesk.web import server
from movidesk.web.recordings import Refused, part
from support.journals import deliver_now
from support.peer import Peer
from support.recordings import NAME, talk
from support.waits import free_port, until_it_listens

SECRET = "0123456789abcdef0123456789abcdef"
DAY = 86400
SOUND = bytes(range(256)) * 40


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "monitor"
    path.mkdir()
    (path / NAME).write_bytes(SOUND)
    (tmp_path / "secret.txt").write_text("not for you")
    return path


@pytest.fixture
def settings(write_config, folder):
    """settings(keep_days=3): a configuration with a secret and a publisher on a free port."""
    def make(**more):
        return load(write_config(recordings={"link": "https://pbx.example.com/rec/{file}", "folder": str(folder),
                                             "publish": "127.0.0.1:0", "secret": SECRET, **more}))
    return make


@pytest.fixture
def context(settings, clock):
    return Context(settings(), clock)


@contextmanager
def publishing(config, clock):
    web = server.Web()
    _, port = web.listen("[recordings] publish", config["recordings", "publish"], web_recordings.create_app(config, clock))
    thread = threading.Thread(target=web.run, daemon=True)
    thread.start()
    yield port
    web.close()
    thread.join(5)
    assert not thread.is_alive()


@pytest.fixture
def port(settings, clock):
    with publishing(settings(), clock) as number:
        yield number


def ask(port: int, target: str, method: str = "GET", **headers: str):
    """(status, headers without Date, body) of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest(method, target, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, {name: value for name, value in answer.getheaders() if name != "Date"}, body


def link(context, name: str = NAME) -> str:
    """A link's path and query, as a ticket bears it."""
    parts = urlsplit(links.link(context.config, None, name, context.clock()))
    return f"{parts.path}?{parts.query}"


# -- links -----------------------------------------------------------------------------------------------------------

def test_the_signature_is_nginxs(context, clock):
    """As nginx documents secure_link_md5: openssl md5 -binary | openssl base64 | tr +/ -_ | tr -d =."""
    expires = int(clock()) + 365 * DAY
    text = f"{expires}/{NAME} {SECRET}"
    pipe = "printf %s \"$1\" | openssl md5 -binary | openssl base64 | tr +/ -_ | tr -d ="
    expected = subprocess.run(["sh", "-c", pipe, "sh", text], stdout=subprocess.PIPE, text=True).stdout.strip()
    assert links.link(context.config, None, NAME, context.clock()) == (
        f"https://pbx.example.com/rec/{NAME}?expires={expires}&signature={expected}")


def test_a_template_with_a_query_keeps_it(settings, clock):
    context = Context(settings(link="https://pbx.example.com/?f={file}"), clock)
    assert links.link(context.config, None, NAME, context.clock()).startswith(f"https://pbx.example.com/?f={NAME}&expires=")


def test_without_a_secret_links_are_as_they_were(settings, clock):
    context = Context(settings(secret="", publish=""), clock)
    assert links.link(context.config, None, NAME, context.clock()) == "https://pbx.example.com/rec/" + NAME


def test_the_secret_does_not_print(settings, write_config, tmp_path):
    config = settings()
    assert SECRET not in repr(config["recordings", "secret"]) + repr(config.__dict__)
    (tmp_path / "secret").write_text(SECRET + "\n")
    assert settings(secret="", secret_file=str(tmp_path / "secret"))["recordings", "secret"].reveal() == SECRET
    problem, = settings(secret="short, and 'quoted'").all_problems()
    assert "short" not in problem and "19 characters must be 16 to 128" in problem


@pytest.mark.parametrize("missing", ["secret", "link"])
def test_publishing_needs_secret_and_link(settings, missing):
    assert "publish needs " + missing in settings(**{missing: ""}).all_problems()[0]


# -- who may fetch what ----------------------------------------------------------------------------------------------

def test_a_valid_link(port, context):
    status, headers, body = ask(port, link(context))
    assert (status, body) == (200, SOUND)
    assert headers["Content-Type"] == "audio/wav" and headers["Accept-Ranges"] == "bytes"
    status, headers, body = ask(port, link(context), "HEAD")
    assert (status, headers["Content-Length"], body) == (200, str(len(SOUND)), b"")


def refused_links(context, clock, folder) -> dict[str, str]:
    valid = link(context)
    (folder / "other.wav").write_bytes(SOUND)
    expired = int(clock()) - 1
    foreign = signatures.signature(NAME, int(clock()) + DAY, Secret("f" * 32))
    return {
        "none": "/rec/" + NAME,
        "expired": f"/rec/{NAME}?expires={expired}&signature={signatures.signature(NAME, expired, Secret(SECRET))}",
        "prolonged": re.sub(r"expires=\d+", f"expires={int(clock()) + 10_000 * DAY}", valid),
        # The first letter: the last one has bits that mean nothing, and nginx does not look at them.
        "altered": re.sub("signature=(.)", lambda found: "signature=" + ("B" if found[1] == "A" else "A"), valid),
        "shortened": valid[:-1],
        "of another file": valid.replace(NAME, "other.wav"),
        "of no file": valid.replace(NAME, "nothing.wav"),
        "of another secret": f"/rec/{NAME}?expires={int(clock()) + DAY}&signature={foreign}",
        "not ASCII": valid.partition("signature=")[0] + "signature=%E4%BD%A0",
        "no date": re.sub(r"expires=\d+", "expires=%D9%A1", valid),
        "the folder": "/rec/.",
    }


def test_whatever_is_wrong_with_a_link_the_answer_is_the_same(port, context, clock, folder):
    more = {"the root": "/", "the folder's listing": "/rec/", "many fields": link(context) + "&a=1" * 50}
    answers = {why: ask(port, target) for why, target in {**refused_links(context, clock, folder), **more}.items()}
    first = answers["none"]
    assert first[0] == 403 and NAME.encode() not in first[2]
    assert {why: answer for why, answer in answers.items() if answer != first} == {}


def test_a_link_is_valid_until_it_expires(settings, clock):
    context = Context(settings(valid_days=1), clock)
    target = link(context)
    with publishing(context.config, clock) as port:
        clock.advance(DAY)
        assert ask(port, target)[0] == 200
        clock.advance(1)
        assert ask(port, target)[0] == 403


def signed(name: str, clock) -> str:
    expires = int(clock()) + DAY
    return f"?expires={expires}&signature={signatures.signature(name, expires, Secret(SECRET))}"


@pytest.mark.parametrize("name", ["../secret.txt", "..", ".", "", "/etc/passwd", "a\0b", "monitor/../" + NAME, "link.wav",
                                  "folder", "pipe"])
def test_a_valid_signature_leads_only_to_plain_files_of_the_folder(port, clock, folder, name):
    (folder / "link.wav").symlink_to(folder.parent / "secret.txt")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    status, _, body = ask(port, "/" + quote(name, safe="") + signed(name, clock))
    assert status in (403, 404) and b"not for you" not in body


@pytest.fixture(scope="module")
def shared_port(tmp_path_factory):
    """A publisher of an empty folder that hypothesis may ask often."""
    home = tmp_path_factory.mktemp("shared")
    (home / "monitor").mkdir()
    (home / "secret.txt").write_text("not for you")
    (home / "movidesk.conf").write_text(
        f"[recordings]\nlink = https://x/{{file}}\nfolder = {home}/monitor\npublish = 127.0.0.1:0\nsecret = {SECRET}\n")
    with publishing(load(str(home / "movidesk.conf")), lambda: 1e9) as number:
        yield number


_PIECES = st.sampled_from(["..", ".", "/", "%2f", "%2e%2e", "%00", "\\", "%5c", "secret.txt", "monitor", "%252f", "//"])


@given(st.lists(_PIECES | st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=5), max_size=8).map("".join))
def test_no_path_leads_anywhere(shared_port, path):
    path = "/" + path.replace("?", "").replace("#", "")
    name = unquote(path.rpartition("/")[2])
    status, _, body = ask(shared_port, path + signed(name, lambda: 1e9))
    assert status in (403, 404) and b"not for you" not in body


# -- HTTP ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("wanted, begin, end", [
    ("bytes=0-0", 0, 0), ("bytes=10-19", 10, 19), ("bytes=10000-", 10000, 10239), ("bytes=-5", 10235, 10239),
    ("bytes=-99999", 0, 10239), ("bytes=10-99999", 10, 10239)])
def test_parts(port, context, wanted, begin, end):
    status, headers, body = ask(port, link(context), Range=wanted)
    assert (status, body) == (206, SOUND[begin:end + 1])
    assert headers["Content-Range"] == f"bytes {begin}-{end}/10240"


@pytest.mark.parametrize("wanted", ["bytes=10240-", "bytes=99999-100000", "bytes=-0"])
def test_parts_behind_the_end(port, context, wanted):
    status, headers, _ = ask(port, link(context), Range=wanted)
    assert (status, headers["Content-Range"]) == (416, "bytes */10240")


@pytest.mark.parametrize("headers", [{"Range": "bytes=5-1"}, {"Range": "lines=1-2"}, {"Range": "bytes=-"},
                                     {"Range": "bytes=0-1,5-6"}, {"Range": "bytes=0-1", "If_Range": "x"}], ids=str)
def test_what_is_no_single_part_is_the_whole(port, context, headers):
    assert ask(port, link(context), **headers)[::2] == (200, SOUND)


@given(st.text(max_size=12) | st.from_regex(r"bytes=[0-9]{0,4}-[0-9]{0,4}", fullmatch=True), st.integers(0, 2000))
def test_a_part_lies_in_the_file(wanted, size):
    try:
        span = part(wanted, size)
    except Refused as refused:
        assert refused.status == 416
    else:
        assert span is None or 0 <= span[0] <= span[1] < size


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "X"])
def test_only_get_and_head(port, context, method):
    status, headers, body = ask(port, link(context), method)
    assert (status, headers["Allow"], body) == (405, "GET, HEAD", b"Only GET and HEAD.\n")


@pytest.mark.parametrize("sent", [b"\r\n\r\n", b"GET\r\n\r\n", b"\xff\xfe\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
                                  b"GET /" + b"x" * 70000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200])
def test_no_http(port, context, sent):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
        with suppress(OSError):  # it may have closed the connection at the first line
            peer.sendall(sent)
            peer.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            assert b"200 OK" not in peer.recv(1000)
    assert ask(port, link(context))[0] == 200


def test_slow_requests_are_cut(port, context, monkeypatch):
    monkeypatch.setattr("movidesk.web.server.REQUEST_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
        peer.sendall(b"GET / HTTP/1.1\r\n")
        assert peer.recv(100) == b""


def test_more_connections_than_allowed_are_closed(settings, context, clock, monkeypatch):
    monkeypatch.setattr("movidesk.web.server.MAX_CONNECTIONS", 1)
    with publishing(settings(), clock) as port, socket.create_connection(("127.0.0.1", port)) as first:
        first.sendall(b"GET")
        with socket.create_connection(("127.0.0.1", port), timeout=10) as second:
            assert second.recv(100) == b""


def test_the_access_log_has_no_signature(port, context, caplog):
    caplog.set_level("INFO")
    target = link(context)
    ask(port, target)
    ask(port, target, "POST")
    ask(port, "/", "X" + target.partition("?")[2])
    ask(port, target.replace("?", "%3F"))  # as some programs mangle links
    ask(port, target.replace("?", ""))
    assert f"GET '/rec/{NAME}' 200" in caplog.text
    assert "signature" not in caplog.text and target[-10:] not in caplog.text


@pytest.mark.skipif(not shutil.which("nginx"), reason="no nginx")
def test_nginx_alone_serves_the_same_links(tmp_path, folder, context, clock):
    clock.now = time.time()  # nginx has a clock of its own
    port = free_port()
    config = NGINX % {"home": tmp_path, "port": port, "location": nginx_location()
                      .replace("/var/spool/asterisk/monitor", str(folder)).replace("THE-SECRET", SECRET)}
    (tmp_path / "nginx.conf").write_text(config)
    os.chmod(tmp_path, 0o755)
    process = subprocess.Popen(["nginx", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"), "-g", "daemon off;"])
    try:
        until_it_listens(port)
        assert ask(port, link(context))[::2] == (200, SOUND)
        answers = {why: ask(port, target)[0] for why, target in refused_links(context, clock, folder).items()}
        assert {why: status for why, status in answers.items() if status != 403 and why != "the folder"} == {}
    finally:
        process.terminate()
        process.wait(10)


NGINX = """
user root; pid %(home)s/nginx.pid; error_log %(home)s/error.log;
events {}
http { access_log off; types { audio/wav wav; }
  server { listen 127.0.0.1:%(port)d; %(location)s }
}
"""


def nginx_location() -> str:
    """The lines that docs/operations.md gives to admins."""
    text = (os.path.join(os.path.dirname(__file__), "..", "docs", "operations.md"))
    with open(text, encoding="utf-8") as file:
        return re.search(r"```nginx\n(.*?)```", file.read(), re.DOTALL).group(1)


# -- files -----------------------------------------------------------------------------------------------------------

OURS = ["pbx1-1700000000.1.wav", "pbx1-1700000000.1-2.wav", "pbx1-1700000000.1-message.wav", "pbx1-1700000000.1.mp3",
        "pbx1-asterisk7-1700000000.12.opus", "pbx1-1700000000.0a1b2c3d4e5f.wav", "pbx1-1700000000.012345678901.mp3",
        "pbx1-1700000000.1-3-message.gsm", "pbx1-1700000000.1-message.wav.part", ".pbx1-1700000000.1-2.mp3",
        ".pbx1-1700000000.0a1b2c3d4e5f.opus", "movidesk-1700000000.1.wav", "movidesk-asterisk7-1700000000.1-message.wav"]
FOREIGN = ["1700000000.1.wav", "pbx2-1700000000.1.wav", "pbx1-1700000000.1.txt", "pbx1-notes.wav", "q-77-pbx1.wav",
           "pbx1-1700000000.0a1b2c3d4e5.wav", "pbx1-1700000000.0a1b2c3d4e5f6.wav", "pbx1-1700000000.abc.wav", "pbx1-1.wav",
           "pbx1-1700000000.0A1B2C3D4E5F.wav", "..pbx1-1700000000.1.mp3", "pbx1-1700000000.1.wav.bak",
           "out-pbx1-1700000000.1.wav"]


def test_retention_deletes_only_what_is_old_and_ours(settings, clock, folder):
    for name in OURS + FOREIGN + ["pbx1-1700000009.9.wav"]:
        (folder / name).write_bytes(b"x")
        age = 2 * DAY if name.endswith("9.9.wav") else 4 * DAY
        os.utime(folder / name, (clock() - age,) * 2)
    (folder / "pbx1-1700000008.8.wav").symlink_to(folder / FOREIGN[0])
    assert sorted(files.delete_old(settings(keep_days=3), clock())) == sorted(OURS)
    assert {path.name for path in folder.iterdir()} == {*FOREIGN, "pbx1-1700000009.9.wav", "pbx1-1700000008.8.wav"}
    assert files.delete_old(settings(keep_days=0), clock() + 1000 * DAY) == []


def test_a_file_that_cannot_be_deleted_keeps_no_other(settings, clock, folder, monkeypatch):
    """Somebody has deleted one already; another is on a disk that is mounted read-only."""
    for name in OURS:
        (folder / name).write_bytes(b"x")
        os.utime(folder / name, (clock() - 4 * DAY,) * 2)
    troubles = {OURS[0]: FileNotFoundError(2, "gone"), OURS[3]: PermissionError(1, "not permitted")}
    unlink = os.unlink

    def delete(path):
        if os.path.basename(path) in troubles:
            raise troubles[os.path.basename(path)]
        unlink(path)

    monkeypatch.setattr(files.os, "unlink", delete)
    with pytest.raises(PermissionError):
        files.delete_old(settings(keep_days=3), clock())
    assert {path.name for path in folder.iterdir()} == set(troubles)


def test_the_names_of_calls_are_ours(settings, clock):
    """Of each sort, as the product itself gives them."""
    ours = files.own_names(settings())
    for uniqueid in ("1700000000.1", "pbx1-1700000000.1", "pbx7-1700000000.1", "Head Office-1700000000.1",
                     "a_b.c-1700000000.327"):
        journal = Journal(":memory:", clock)
        first = journal.calls.arrive("pbx1", uniqueid, "77", "1")
        watched = journal.calls.arrive("pbx1", uniqueid, "77", "1", call_states.WATCH)
        third = journal.calls.arrive("pbx1", uniqueid, "78", "1")
        assert third.call_id.endswith("-3")
        for call in (first, watched, third):
            name = re.sub("[^0-9A-Za-z_.-]", "", call.call_id)  # FILTER() in movidesk-file
            assert all(ours.fullmatch(name + ending) for ending in (".wav", "-message.wav", ".mp3", ".opus")), name
    call = journal.calls.dial("pbx1", dialler._channel_id(), "5252", "1")
    assert ours.fullmatch(call.call_id + ".wav") and ours.fullmatch(call.call_id + ".mp3")


@pytest.mark.parametrize("ending, named", [(".wav", ".wav"), (".WAV", ".wav"), (".gsm", ".gsm")])
def test_a_message_of_a_box_gets_a_name_of_its_own(tmp_path, folder, ending, named):
    for name in "msg0000.txt", "msg0000" + ending:
        (tmp_path / name).write_bytes(SOUND)
    path = files.own_message(str(tmp_path / "msg0000"), str(folder), "pbx1-1.1")
    assert path == str(folder / ("pbx1-1.1-message" + named))
    (tmp_path / ("msg0000" + ending)).write_bytes(b"what the next caller said")
    assert files.own_message(str(tmp_path / "msg0000"), str(folder), "pbx1-1.1") == path
    assert (folder / os.path.basename(path)).read_bytes() == SOUND


def test_no_message_in_the_box(tmp_path, folder):
    assert files.own_message(str(tmp_path / "msg0000"), str(folder), "pbx1-1.1") == ""


@pytest.mark.parametrize("said, linked", [(SOUND, "/rec/pbx1-1700000000.1-message.wav"), (b"", "")], ids=["a message", "none"])
def test_a_hangup_links_the_boxs_message(context, tmp_path, folder, said, linked):
    if said:
        (tmp_path / "msg0000.wav").write_bytes(said)
    for verb, *arguments in ("received", "77"), ("lost",), ("hangup", str(tmp_path / "msg0000")):
        peer = Peer(variables={"MOVIDESK_ENDING": "message"})
        with peer.channel(*arguments) as channel:
            assert runner.run(verb, channel, context, channel.arguments) == "ok"
    lost = context.journal.calls.events(context.journal.calls.find("pbx1-1700000000.1"))[-1]
    assert (lost.kind, urlsplit(lost.link).path, lost.note) == ("lost", linked, "")


def test_a_message_that_cannot_be_copied_costs_the_call_only_its_link(settings, clock, tmp_path):
    (tmp_path / "msg0000.wav").write_bytes(SOUND)
    context = Context(settings(folder=str(tmp_path / "msg0000.wav")), clock)
    for verb, *arguments in ("received", "77"), ("hangup", str(tmp_path / "msg0000")):
        peer = Peer()
        with peer.channel(*arguments) as channel:
            assert runner.run(verb, channel, context, channel.arguments) == "ok"
    assert "its message stays in the voicemail box" in "".join(peer.console)


# -- conversion ------------------------------------------------------------------------------------------------------

def end_call(context, folder, kinds=("received", "transferred", "hangup")) -> None:
    """A call whose recording is there at its end."""
    talk(folder)
    for verb in kinds:
        peer = Peer(variables={"MOVIDESK_RECORDING": str(folder / NAME)})
        with peer.channel(*{"received": ["77"]}.get(verb, [])) as channel:
            assert runner.run(verb, channel, context, channel.arguments) == "ok"


def told_links(context) -> list[tuple[str, str, float]]:
    call = context.journal.calls.find("pbx1-1700000000.1")
    return [(event.kind, urlsplit(event.link).path[5:], event.due) for event in context.journal.calls.events(call)
            if event.kind in (call_states.COMPLETED, call_states.LINK)]


@pytest.fixture
def converting(settings, clock, folder):
    return Context(settings(convert="mp3"), clock, wake=lambda: None)


def test_the_end_is_told_at_once_and_the_link_when_its_file_is_converted(converting, folder, clock, monkeypatch):
    monkeypatch.setitem(conversion.TOOLS, "mp3", ("cp IN OUT",))
    end_call(converting, folder)
    assert told_links(converting) == [("completed", "", 0.0), ("link", NAME, clock() + HOLD)]
    assert conversion.work_off(converting) == 1
    assert told_links(converting) == [("completed", "", 0.0), ("link", NAME[:-4] + ".mp3", 0.0)]
    assert [path.name for path in folder.iterdir()] == [NAME[:-4] + ".mp3"]
    assert conversion.work_off(converting) == 0


def test_after_a_crash_between_the_file_and_its_link(converting, folder, monkeypatch):
    monkeypatch.setitem(conversion.TOOLS, "mp3", ("cp IN OUT",))
    end_call(converting, folder)
    (folder / NAME).rename(folder / (NAME[:-4] + ".mp3"))
    conversion.work_off(converting)
    assert told_links(converting)[1][1:] == (NAME[:-4] + ".mp3", 0.0)


@pytest.mark.parametrize("tools, said", [(("no-such-tool IN OUT",), "install no-such-tool"), (("false IN OUT",), "exit status 1"),
                                         (("true IN OUT",), "No such file")])
def test_where_it_cannot_be_converted_the_link_names_the_file_as_it_is(converting, folder, monkeypatch, caplog, tools, said):
    monkeypatch.setitem(conversion.TOOLS, "mp3", tools)
    end_call(converting, folder)
    conversion.work_off(converting)
    assert told_links(converting) == [("completed", "", 0.0), ("link", NAME, 0.0)]
    assert said in caplog.text and (folder / NAME).exists()


def test_an_event_whose_link_may_be_out_keeps_its_file(converting, folder, clock, monkeypatch):
    """HOLD is over, and the delivery takes the event while its file is about to be converted."""
    monkeypatch.setitem(conversion.TOOLS, "mp3", ("cp IN OUT",))
    end_call(converting, folder)
    assert [job.event.kind for job in deliver_now(converting.journal)] == ["received", "transferred", "completed"]
    waiting, = converting.journal.outbox.conversions()
    clock.advance(HOLD)
    taken, _ = converting.journal.outbox.take(1000)
    assert taken.event.kind == "link"
    assert converting.journal.outbox.claim_conversion(*waiting, conversion.CLAIM) is None and conversion.work_off(converting) == 0
    converting.journal.outbox.retry(taken, 0, "HTTP 500")
    assert conversion.work_off(converting) == 0 and (folder / NAME).exists()


def test_while_a_file_is_converted_its_event_is_nobody_elses(converting, folder, clock, monkeypatch):
    monkeypatch.setitem(conversion.TOOLS, "mp3", ("cp IN OUT",))
    end_call(converting, folder)
    journal, (waiting,) = converting.journal, converting.journal.outbox.conversions()
    clock.advance(HOLD - 1)
    claimed = journal.outbox.claim_conversion(*waiting, conversion.CLAIM)
    assert claimed and journal.outbox.claim_conversion(*waiting, conversion.CLAIM) is None and journal.outbox.conversions() == []
    clock.advance(conversion.TIMEOUT)
    assert [job.event.kind for job in deliver_now(journal)] == ["received", "transferred", "completed"]
    assert journal.outbox.conversions() == []
    assert journal.outbox.end_conversion(claimed, "https://pbx.example.com/rec/new.mp3")
    assert [job.event.link for job in deliver_now(journal)] == ["https://pbx.example.com/rec/new.mp3"]


@pytest.mark.parametrize("first", ["another converts it", "it is delivered"])
@pytest.mark.parametrize("dies_at", ["the tool", "its name", "the journal", "the old file"])
def test_whoever_dies_converting_leaves_a_link_that_plays(converting, folder, clock, monkeypatch, dies_at, first):
    monkeypatch.setitem(conversion.TOOLS, "mp3", ("cp IN OUT",))
    end_call(converting, folder)
    with monkeypatch.context() as fatal:
        def die(*_, **__):
            raise KeyboardInterrupt
        fatal.setattr(*{"the tool": (conversion.subprocess, "run"), "its name": (conversion.os, "replace"),
                        "the journal": (converting.journal.outbox, "end_conversion"),
                        "the old file": (conversion.os, "unlink")}[dies_at],
                      die)
        with pytest.raises(KeyboardInterrupt):
            conversion.work_off(converting)
    clock.advance(conversion.CLAIM)
    if first == "another converts it":
        conversion.work_off(converting)
    told = [job.event for job in deliver_now(converting.journal)]
    assert conversion.work_off(converting) == 0
    assert [event.kind for event in told] == ["received", "transferred", "completed", "link"]
    assert (folder / os.path.basename(urlsplit(told[-1].link).path)).exists()
    assert all(files.own_names(converting.config).fullmatch(path.name) for path in folder.iterdir())


def test_a_reboot_leaves_the_conversion_its_time(settings, clock, folder, monkeypatch):
    monkeypatch.setitem(conversion.TOOLS, "mp3", ("cp IN OUT",))
    config = settings(convert="mp3")
    monkeypatch.setattr("movidesk.journal.store._boot_id", lambda: "one")
    before = Context(config, clock, wake=lambda: None)
    end_call(before, folder)
    before.journal.outbox.claim_conversion(*before.journal.outbox.conversions()[0], conversion.CLAIM)
    before.journal.close()
    monkeypatch.setattr("movidesk.journal.store._boot_id", lambda: "two")
    after = Context(config, clock, wake=lambda: None)
    clock.advance(70)
    assert [job.event.kind for job in deliver_now(after.journal)] == ["received", "transferred", "completed"]
    assert conversion.work_off(after) == 1 and told_links(after)[1][1] == NAME[:-4] + ".mp3"


def test_no_file_is_begun_when_the_time_is_over(converting, folder, monkeypatch):
    monkeypatch.setitem(conversion.TOOLS, "mp3", ("cp IN OUT",))
    end_call(converting, folder)
    assert conversion.work_off(converting, 0) == 0 and len(converting.journal.outbox.conversions()) == 1


def test_check_names_the_missing_tool(settings, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    problems = dict(all_checks(settings(convert="opus")))
    assert problems["recordings as .opus"].startswith("no tool for .opus files: install opusenc or ffmpeg")


def test_a_message_that_is_converted_is_told_with_its_link(converting, folder, monkeypatch):
    """Nobody waits for the end of such a call: one request is enough."""
    monkeypatch.setitem(conversion.TOOLS, "mp3", ("cp IN OUT",))
    talk(folder)
    for verb in "received", "lost", "hangup":
        peer = Peer(variables={"MOVIDESK_RECORDING": str(folder / NAME), "MOVIDESK_ENDING": "message"})
        with peer.channel(*{"received": ["77"]}.get(verb, [])) as channel:
            runner.run(verb, channel, converting, channel.arguments)
    conversion.work_off(converting)
    calls = converting.journal.calls
    lost, = [event for event in calls.events(calls.find("pbx1-1700000000.1")) if event.kind == "lost"]
    assert (urlsplit(lost.link).path, lost.due, lost.status) == ("/rec/pbx1-1700000000.1.mp3", 0.0, PENDING)


@pytest.mark.parametrize("ending", ["mp3", "opus"])
def test_the_machines_own_tool(folder, ending):
    try:
        conversion.tool(ending)
    except conversion.NotConverted as error:
        pytest.skip(str(error))
    talk(folder)
    path = conversion.convert(str(folder / NAME), ending)
    assert os.path.getsize(path) > 100 and sorted(os.listdir(folder)) == sorted([NAME, NAME[:-4] + "." + ending])

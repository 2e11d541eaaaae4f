"""The recordings' server: who may fetch what, parts of a file, nginx in its place."""
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

from movidesk.config import load
from movidesk.config.options import Secret
from movidesk.context import Context
from movidesk.recordings import links, signatures
from movidesk.web import recordings as web_recordings
from movidesk.web import server
from movidesk.web.recordings import Refused, part
from support.recordings import NAME, SECRET, SOUND
from support.waits import free_port, until_it_listens

DAY = 86400


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
def port(configured, clock):
    with publishing(configured(), clock) as number:
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


def link(publisher, name: str = NAME) -> str:
    """A link's path and query, as a ticket bears it."""
    parts = urlsplit(links.link(publisher.config, None, name, publisher.clock()))
    return f"{parts.path}?{parts.query}"


# -- who may fetch what ----------------------------------------------------------------------------------------------

def test_a_valid_link(port, publisher):
    status, headers, body = ask(port, link(publisher))
    assert (status, body) == (200, SOUND)
    assert headers["Content-Type"] == "audio/wav" and headers["Accept-Ranges"] == "bytes"
    status, headers, body = ask(port, link(publisher), "HEAD")
    assert (status, headers["Content-Length"], body) == (200, str(len(SOUND)), b"")


def refused_links(publisher, clock, monitor) -> dict[str, str]:
    valid = link(publisher)
    (monitor / "other.wav").write_bytes(SOUND)
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


def test_whatever_is_wrong_with_a_link_the_answer_is_the_same(port, publisher, clock, monitor):
    more = {"the root": "/", "the folder's listing": "/rec/", "many fields": link(publisher) + "&a=1" * 50}
    answers = {why: ask(port, target) for why, target in {**refused_links(publisher, clock, monitor), **more}.items()}
    first = answers["none"]
    assert first[0] == 403 and NAME.encode() not in first[2]
    assert {why: answer for why, answer in answers.items() if answer != first} == {}


def test_a_link_is_valid_until_it_expires(configured, clock):
    publisher = Context(configured(valid_days=1), clock)
    target = link(publisher)
    with publishing(publisher.config, clock) as port:
        clock.advance(DAY)
        assert ask(port, target)[0] == 200
        clock.advance(1)
        assert ask(port, target)[0] == 403


def signed(name: str, clock) -> str:
    expires = int(clock()) + DAY
    return f"?expires={expires}&signature={signatures.signature(name, expires, Secret(SECRET))}"


@pytest.mark.parametrize("name", ["../secret.txt", "..", ".", "", "/etc/passwd", "a\0b", "monitor/../" + NAME, "link.wav",
                                  "folder", "pipe"])
def test_a_valid_signature_leads_only_to_plain_files_of_the_folder(port, clock, monitor, name):
    (monitor / "link.wav").symlink_to(monitor.parent / "secret.txt")
    (monitor / "folder").mkdir()
    os.mkfifo(monitor / "pipe")
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
def test_parts(port, publisher, wanted, begin, end):
    status, headers, body = ask(port, link(publisher), Range=wanted)
    assert (status, body) == (206, SOUND[begin:end + 1])
    assert headers["Content-Range"] == f"bytes {begin}-{end}/10240"


@pytest.mark.parametrize("wanted", ["bytes=10240-", "bytes=99999-100000", "bytes=-0"])
def test_parts_behind_the_end(port, publisher, wanted):
    status, headers, _ = ask(port, link(publisher), Range=wanted)
    assert (status, headers["Content-Range"]) == (416, "bytes */10240")


@pytest.mark.parametrize("headers", [{"Range": "bytes=5-1"}, {"Range": "lines=1-2"}, {"Range": "bytes=-"},
                                     {"Range": "bytes=0-1,5-6"}, {"Range": "bytes=0-1", "If_Range": "x"}], ids=str)
def test_what_is_no_single_part_is_the_whole(port, publisher, headers):
    assert ask(port, link(publisher), **headers)[::2] == (200, SOUND)


@given(st.text(max_size=12) | st.from_regex(r"bytes=[0-9]{0,4}-[0-9]{0,4}", fullmatch=True), st.integers(0, 2000))
def test_a_part_lies_in_the_file(wanted, size):
    try:
        span = part(wanted, size)
    except Refused as refused:
        assert refused.status == 416
    else:
        assert span is None or 0 <= span[0] <= span[1] < size


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "X"])
def test_only_get_and_head(port, publisher, method):
    status, headers, body = ask(port, link(publisher), method)
    assert (status, headers["Allow"], body) == (405, "GET, HEAD", b"Only GET and HEAD.\n")


@pytest.mark.parametrize("sent", [b"\r\n\r\n", b"GET\r\n\r\n", b"\xff\xfe\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
                                  b"GET /" + b"x" * 70000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200])
def test_no_http(port, publisher, sent):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
        with suppress(OSError):  # it may have closed the connection at the first line
            peer.sendall(sent)
            peer.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            assert b"200 OK" not in peer.recv(1000)
    assert ask(port, link(publisher))[0] == 200


def test_the_access_log_has_no_signature(port, publisher, caplog):
    caplog.set_level("INFO")
    target = link(publisher)
    ask(port, target)
    ask(port, target, "POST")
    ask(port, "/", "X" + target.partition("?")[2])
    ask(port, target.replace("?", "%3F"))  # as some programs mangle links
    ask(port, target.replace("?", ""))
    assert f"GET '/rec/{NAME}' 200" in caplog.text
    assert "signature" not in caplog.text and target[-10:] not in caplog.text


@pytest.mark.skipif(not shutil.which("nginx"), reason="no nginx")
def test_nginx_alone_serves_the_same_links(tmp_path, monitor, publisher, clock):
    clock.now = time.time()  # nginx has a clock of its own
    port = free_port()
    config = NGINX % {"home": tmp_path, "port": port, "location": nginx_location()
                      .replace("/var/spool/asterisk/monitor", str(monitor)).replace("THE-SECRET", SECRET)}
    (tmp_path / "nginx.conf").write_text(config)
    os.chmod(tmp_path, 0o755)
    process = subprocess.Popen(["nginx", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"), "-g", "daemon off;"])
    try:
        until_it_listens(port)
        assert ask(port, link(publisher))[::2] == (200, SOUND)
        answers = {why: ask(port, target)[0] for why, target in refused_links(publisher, clock, monitor).items()}
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

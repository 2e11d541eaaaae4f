"""The panel over HTTP: its paths, who is let in, headers, streams that keep nobody else waiting."""
from __future__ import annotations

import configparser
import json
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from movidesk.config import load
from movidesk.journal import Journal
from movidesk.web import server
from movidesk.web.panel import app, board, login
from support.journals import arrive
from support.waits import until

PASSWORD = "a-good-password"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(login, "ROUNDS", 1)
    monkeypatch.setattr(board, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(board, "BEAT", 60.0)  # nobody is found out by a message that cannot be sent


@pytest.fixture
def panel(write_config):
    """panel(password=...): the application with these settings of [panel]."""
    opened = []

    def make(pbx=None, **settings) -> app.Panel:
        config = load(write_config(panel={"listen": "127.0.0.1:0", **settings}, pbx=pbx or {})).require()
        Journal(config["journal", "path"]).close()
        opened.append(app.Panel(config))
        opened[-1].config = config
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def client(panel: app.Panel, **more):
    found = panel.app.test_client(**more)
    found.environ_base.update({"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "127.0.0.1"})
    return found


def log_in(panel: app.Panel):
    found = client(panel)
    assert found.post("/login", data={"password": PASSWORD}).status_code == 303
    return found


# -- pages -------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("accepts, tag, word", [
    ("pt-BR,pt;q=0.9", "pt-BR", "Maior espera"), ("es-AR", "es", "Espera más larga"), ("en-GB", "en", "Longest wait"),
    ("de,fr;q=0.8", "en", "Longest wait"), ("fr,es;q=0.5,en;q=0.3", "es", "Espera más larga"), ("", "en", "Longest wait")])
def test_the_page_is_in_the_browsers_language(panel, accepts, tag, word):
    text = client(panel()).get("/", headers={"Accept-Language": accepts}).text
    assert f'<html lang="{tag}">' in text and word in text


def test_every_answer_has_the_headers(panel):
    found = client(panel(password=PASSWORD))
    for path in ("/", "/login", "/panel.js", "/panel.css", "/icon.svg", "/events", "/nothing", "/search"):
        headers = found.get(path).headers
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; ") and "unsafe" not in policy
        assert "require-trusted-types-for 'script'" in policy and "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["Cache-Control"] == "no-store"
        assert headers["Referrer-Policy"] == "no-referrer" and headers["X-Frame-Options"] == "DENY"
        assert "Access-Control-Allow-Origin" not in headers


def test_pages_have_no_script_and_no_style_inside(panel):
    """The policy would forbid it; what is in the page besides is text that Jinja quotes."""
    found = client(panel(pbx={"name": "pbx1"}))
    for path in ("/", "/login"):
        text = found.get(path).text
        assert not re.search(r"\son\w+=|\sstyle=|<style|javascript:", text)
        assert all(re.match(r'<script (src="panel.js" defer|type="application/json")', tag)
                   for tag in re.findall(r"<script[^>]*>", text))


def test_a_page_stays_that_of_its_service_during_an_upgrade(panel, monkeypatch):
    """The files are replaced while the old service runs."""
    found = client(panel(password=PASSWORD))
    monkeypatch.setattr("jinja2.loaders.FileSystemLoader.get_source", None)
    monkeypatch.setattr("builtins.open", None)
    for path in ("/login", "/panel.js", "/panel.css", "/icon.svg"):
        assert found.get(path).status_code == 200


def test_words_that_look_like_markup_stay_text(panel):
    found = panel(pbx={"queue_names": "77 </script><b>x"})
    text = client(found).get("/").text
    assert text.count("</script>") == 2 and json.loads(re.search(r'json" id="data">(.*?)</script>', text)[1])["texts"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_it_is_read_only(panel, method):
    found = client(panel())
    for path in ("/", "/events", "/panel.js"):
        answer = found.open(path, method=method)
        assert answer.status_code == 405 or method == "OPTIONS" and not answer.data


def test_nothing_else_is_served(panel):
    found = client(panel())
    for path in ("/panel.html", "/login.html", "/assets/panel.js", "/../app.py", "/static/panel.js", "/Events"):
        assert found.get(path).status_code in (404, 405)


def test_its_files_are_part_of_the_package():
    root, setup = Path(__file__).parent.parent, configparser.ConfigParser()
    setup.read(root / "setup.cfg")
    folder = root / "lib" / "movidesk"
    packed = {path for pattern in setup["options.package_data"]["movidesk"].split() for path in folder.glob(pattern)}
    assert set(Path(app.ASSETS).iterdir()) <= packed and len(list(Path(app.ASSETS).iterdir())) == 5


# -- who is let in -----------------------------------------------------------------------------------------------------

def test_strangers_get_the_login_and_nothing_else(panel):
    found = client(panel(password=PASSWORD))
    answer = found.get("/")
    assert (answer.status_code, answer.headers["Location"]) == (303, "login")
    for method, path in (("GET", "/events"), ("HEAD", "/events"), ("POST", "/search"), ("POST", "/logout"), ("GET", "/none")):
        assert found.open(path, method=method).status_code == 401
    assert found.get("/login").status_code == found.get("/panel.css").status_code == 200


def test_log_in_look_and_log_out(panel):
    shown = panel(password=PASSWORD)
    found = log_in(shown)
    page = found.get("/")
    assert page.status_code == 200 and login.COOKIE in page.headers["Set-Cookie"]
    assert found.post("/logout").headers["Location"] == "login"
    assert found.get("/").status_code == 303


def test_wrong_passwords_are_counted_and_logged(panel, caplog):
    shown = panel(password=PASSWORD)
    found = client(shown)
    for _ in range(login.OF_ONE[0]):
        assert found.post("/login", data={"password": "wrong\n2026 forged"}).status_code == 403
    answer = found.post("/login", data={"password": PASSWORD})
    assert answer.status_code == 429 and int(answer.headers["Retry-After"]) > 0
    assert caplog.messages.count("panel: failed login from 127.0.0.1") == login.OF_ONE[0]
    assert caplog.messages[-1] == "panel: too many logins from 127.0.0.1: not tried" and "not the password" not in answer.text
    assert "wrong" not in caplog.text and PASSWORD not in caplog.text


def test_a_stranger_behind_no_proxy_is_told_why(panel):
    found = client(panel(proxy_user_header="X-Remote-User"))
    assert found.get("/").status_code == 403 and "docs/panel.md" in found.get("/").text
    assert found.get("/", headers={"X-Remote-User": "ana"}).status_code == 200


# -- search ------------------------------------------------------------------------------------------------------------

def test_a_number_is_searched_without_being_in_an_address(panel, caplog):
    shown = panel()
    arrive(Journal(shown.config["journal", "path"]))
    found = client(shown).post("/search", data={"number": "0777"}).get_json()
    assert [call["number"] for call in found["calls"]] == ["4733990777"]
    assert client(shown).get("/search?number=0777").status_code == 405
    assert "0777" not in caplog.text


def test_searches_do_not_take_all_threads(panel, monkeypatch):
    shown = panel()
    begun, goes_on = threading.Semaphore(0), threading.Event()

    def search(*_arguments):
        begun.release()
        assert goes_on.wait(30)
        return {"calls": [], "too_short": False}

    monkeypatch.setattr(shown._maker, "search", search)
    with ThreadPoolExecutor() as pool:
        under_way = [pool.submit(client(shown).post, "/search", data={"number": "1"}) for _ in range(app.SEARCHES)]
        for _ in under_way:
            assert begun.acquire(timeout=30)
        assert client(shown).post("/search", data={"number": "1"}).status_code == 503
        goes_on.set()
        assert [done.result().status_code for done in under_way] == [200] * app.SEARCHES
    assert client(shown).post("/search", data={"number": "1"}).status_code == 200


def test_the_search_says_why_the_journal_cannot_be_read(panel, tmp_path):
    shown = panel()
    (tmp_path / "journal.db").unlink()
    answer = client(shown).post("/search", data={"number": "1"})
    assert answer.status_code == 503 and "no journal yet" in answer.text


# -- streams, through the server ---------------------------------------------------------------------------------------

@pytest.fixture
def served(panel):
    """served(...): a panel behind the web server; gives it with its address."""
    running = []

    def start(**settings):
        shown, web = panel(**settings), server.Web()
        _, port = web.listen("[panel] listen", ("127.0.0.1", 0), shown.app, app.WAITING, sees_clients_leave=True)
        shown.board.start()
        thread = threading.Thread(target=web.run, daemon=True)
        thread.start()
        running.append((shown, web, thread))
        return shown, port

    yield start
    for shown, web, thread in running:
        shown.close()
        web.close()
        thread.join(20)


def look(port: int, language: str = "en") -> socket.socket:
    """A stream that has been opened; nothing of it is read."""
    connection = socket.create_connection(("127.0.0.1", port), 30)
    connection.sendall(f"GET /events?lang={language} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    return connection


def read_until(connection: socket.socket, text: bytes) -> bytes:
    found = b""
    while text not in found:
        data = connection.recv(65536)
        assert data, found
        found += data
    return found


def test_a_stream_is_live(served):
    shown, port = served()
    with look(port, "pt") as connection:
        head = read_until(connection, b'"calls":')
        assert b"text/event-stream" in head and b"X-Accel-Buffering: no" in head
        arrive(Journal(shown.config["journal", "path"]), mode="watch")
        assert b'"waiting":1' in read_until(connection, b'"queues"')


def test_viewers_keep_nobody_waiting_and_one_too_many_is_told(served):
    shown, port = served()
    viewers = [look(port) for _ in range(app.MAX_VIEWERS)]
    for viewer in viewers:
        read_until(viewer, b'"calls":')
    begin = time.monotonic()
    assert requests.get(f"http://127.0.0.1:{port}/", timeout=20).status_code == 200
    assert time.monotonic() - begin < 20
    for method in ("GET", "HEAD"):
        refused = requests.request(method, f"http://127.0.0.1:{port}/events", timeout=20)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "30")
    for viewer in viewers:
        viewer.close()

    until(lambda: requests.head(f"http://127.0.0.1:{port}/events", timeout=20).status_code == 200, 30)


def test_the_end_of_the_service_does_not_wait_for_viewers(served):
    shown, port = served()
    with look(port) as connection:
        read_until(connection, b'"calls":')
        begin = time.monotonic()
        shown.close()
        while connection.recv(65536):
            pass
        assert time.monotonic() - begin < 20


def test_a_malformed_request_is_refused(served):
    _, port = served()
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")

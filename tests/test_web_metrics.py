"""Metrics over HTTP: who may ask, what they get, and what it costs."""
from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest
import requests

from movidesk.config import load
from movidesk.context import Context
from movidesk.journal import Journal
from movidesk.metrics import collector
from movidesk.web import metrics as web_metrics
from movidesk.web import server
from support.journals import arrive
from support.prometheus import samples

TOKEN = "0123456789abcdef0123"


@contextmanager
def serving(path: str):
    """The server of this configuration; its address."""
    context = Context(load(path))
    web = server.Web()
    _, port = web.listen("[metrics] listen", ("127.0.0.1", 0), web_metrics.create_app(context), web_metrics.WAITING)
    thread = threading.Thread(target=web.run, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        web.close()
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture
def home(write_config):
    with serving(write_config(metrics={"listen": "127.0.0.1:0"})) as address:
        yield address


def test_prometheus_gets_its_text(home, tmp_path):
    with closing(Journal(str(tmp_path / "journal.db"))) as journal:
        arrive(journal)
    answer = requests.get(home + "/metrics", timeout=20)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert samples(answer.text)["movidesk_calls_open",] == 1
    assert answer.headers["Cache-Control"] == "no-store" and answer.headers["X-Content-Type-Options"] == "nosniff"
    head = requests.head(home + "/metrics", timeout=20)
    assert (head.status_code, head.text) == (200, "")


@pytest.mark.parametrize("method, path, status", [
    ("GET", "/", 404), ("GET", "/metrics/", 404), ("GET", "/metrics/../etc/passwd", 404), ("POST", "/metrics", 405),
    ("DELETE", "/metrics", 405), ("GET", "/metrics?name[]=movidesk_build_info", 200)])
def test_one_path_and_two_methods(home, method, path, status):
    assert requests.request(method, home + path, timeout=20).status_code == status


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, "Bearer \xe9",
                                    f"Bearer x {TOKEN}"])
def test_without_the_token_there_is_nothing(write_config, caplog, header):
    with serving(write_config(metrics={"token": TOKEN})) as home:
        for path in ("/metrics", "/other"):
            answer = requests.get(home + path, headers={} if header is None else {"Authorization": header.encode("latin-1")},
                                  timeout=20)
            assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
            assert "movidesk_" not in answer.text
        assert TOKEN not in caplog.text and "401" in caplog.text


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_with_the_token_prometheus_gets_its_text(write_config, scheme):
    with serving(write_config(metrics={"token": TOKEN})) as home:
        answer = requests.get(home + "/metrics", headers={"Authorization": f"{scheme} {TOKEN}"}, timeout=20)
        assert answer.status_code == 200 and "movidesk_build_info" in answer.text


def test_who_asks_at_the_same_time_gets_the_same_text(home, monkeypatch):
    made = []
    text = collector.text

    def slow(context: Context) -> bytes:
        made.append(1)
        time.sleep(0.2)
        return text(context)
    monkeypatch.setattr(collector, "text", slow)
    monkeypatch.setattr(web_metrics, "FRESH", 60.0)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: requests.get(home + "/metrics", timeout=20).text, range(20)))
    assert len(made) == 1 and len(set(answers)) == 1


def test_each_scrape_is_a_new_one(home, tmp_path, monkeypatch):
    monkeypatch.setattr(web_metrics, "FRESH", 0.0)
    with closing(Journal(str(tmp_path / "journal.db"))) as journal:
        for number in (1, 2):
            arrive(journal, number)
            assert samples(requests.get(home + "/metrics", timeout=20).text)["movidesk_calls_open",] == number


def test_a_defect_is_a_500_that_tells_nothing(home, monkeypatch, caplog):
    def fail(context: Context) -> bytes:
        raise ZeroDivisionError("secret")
    monkeypatch.setattr(collector, "text", fail)
    answer = requests.get(home + "/metrics", timeout=20)
    assert (answer.status_code, answer.text) == (500, "The PBX failed: see its log.\n")
    assert "ZeroDivisionError" in caplog.text

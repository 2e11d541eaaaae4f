"""The panel's page in Chromium: what it shows, that nothing of callers and Movidesk is executed, how it comes back."""
from __future__ import annotations

import re
import threading
import time

import pytest
from playwright.sync_api import expect

from movidesk.config import load
from movidesk.journal import Journal
from movidesk.web import server
from movidesk.web.panel import app, login
from support.browser import check_accessible, check_fits
from support.journals import arrive
from support.waits import free_port, until

PASSWORD = "a-good-password"
HOSTILE = "<img src=x onerror=\"document.title='executed'\"><script>document.title='executed'</script>"


class Office:
    """A panel that is served, and its journal."""

    def __init__(self, path: str):
        self.path = path
        self.config = load(path).require()
        self.journal = Journal(self.config["journal", "path"])
        self.url = f"http://127.0.0.1:{self.config['panel', 'listen'][1]}/"
        self.start()

    def start(self, version: str = "") -> None:
        self._panel, self._web = app.Panel(self.config), server.Web()
        if version:
            self._panel.board.version = version
        self._web.listen("[panel] listen", self.config["panel", "listen"], self._panel.app, app.WAITING,
                         sees_clients_leave=True)
        self._panel.board.start()
        self._thread = threading.Thread(target=self._web.run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._panel.close()
        self._web.close()
        self._thread.join(20)

    def wait_in_line(self, number: int = 1, ago: float = 0, caller: str = "4733990777", queue: str = "77"):
        call = self.journal.calls.arrive("pbx1", f"17.{number}", queue, caller, arrived=time.time() - ago)
        with self.journal.store.transaction():
            self.journal.store.execute("UPDATE calls SET seen_until = 1e12, state = 'waiting' WHERE id = :call", call=call.id)
        return call

    def talk(self, number: int, extension: str = "5252", ago: float = 60):
        call = arrive(self.journal, f"19.{number}", arrived=time.time() - ago - 20)
        self.journal.scheduler.turn(call, 1000)
        self.journal.scheduler.answered(self.journal.calls.get(call.call_id), extension, "", extension)
        self.journal.calls.record(call.call_id, "transferred", extension, at=time.time() - ago)
        return call

    def refuse(self, note: str) -> None:
        """Movidesk refuses the next event that is due with this text."""
        self.journal.outbox.rejected(self.journal.outbox.take(1000)[0], note)


@pytest.fixture
def office(write_config, monkeypatch):
    """office(panel={...}, pbx={...}): a panel with these settings."""
    monkeypatch.setattr(login, "ROUNDS", 1)
    opened = []

    def make(panel=None, pbx=None) -> Office:
        opened.append(Office(write_config(panel={"listen": f"127.0.0.1:{free_port()}", **(panel or {})}, pbx=pbx or {})))
        return opened[-1]

    yield make
    for each in opened:
        each.stop()


def busy(office) -> Office:
    """An office in which every part of the page has something to show."""
    found = office(pbx={"queue_names": "77 Suporte, 78 Vendas", "agent_names": "5252 Ana Lima"})
    for number in range(3):
        found.wait_in_line(number, ago=100 * number, queue="77" if number else "78")
    ended = found.talk(8)
    found.journal.calls.record(ended.call_id, "completed")
    found.journal.calls.record(arrive(found.journal, "20.1").call_id, "canceled")
    found.refuse("HTTP 400: clientNumber")
    found.talk(9)
    return found


def logged_in(browser, shown: Office):
    """The page of a panel with PASSWORD."""
    page = browser.open(shown.url)
    page.get_by_label("Senha").fill(PASSWORD)
    page.keyboard.press("Enter")
    live(page)
    return page


def live(page) -> None:
    expect(page.locator("#contact")).to_have_class(re.compile("live"))


# -- what it shows -----------------------------------------------------------------------------------------------------

def test_a_caller_comes_is_answered_and_goes(browser, office):
    shown = office(pbx={"agent_names": "5252 Ana Lima"})
    page = browser.open(shown.url)
    live(page)
    expect(page.locator("#queues")).to_have_text("Ninguém na fila.")
    call = shown.wait_in_line(ago=65)
    row = page.locator("#queues tbody tr")
    expect(row).to_contain_text("4733990777")
    expect(row.locator("[data-since]")).to_have_text(re.compile(r"^1:[0-5]\d$"))
    expect(page.locator("#tile-waiting dd")).to_have_text("1")
    assert page.title().startswith("(1) ")
    shown.journal.scheduler.answered(shown.journal.calls.get(call.call_id), "5252", "", "5252")
    expect(page.locator("#agents tbody tr")).to_contain_text("tocando")
    shown.journal.calls.record(call.call_id, "transferred", "5252")
    expect(page.locator("#agents tbody tr")).to_contain_text(re.compile(r"Ana Lima \(5252\).*falando"))
    expect(page.locator("#queues")).to_have_text("Ninguém na fila.")
    shown.journal.calls.record(call.call_id, "completed")
    expect(page.locator("#agents")).to_have_text("Nenhum agente em chamada.")
    expect(page.locator("#calls tbody tr")).to_contain_text("concluída")


def test_what_a_supervisor_searches_stays_out_of_the_address(browser, office):
    shown = office()
    shown.wait_in_line()
    page = browser.open(shown.url, language="es")
    page.get_by_role("searchbox", name="Número").fill("0777")
    page.get_by_role("button", name="Buscar").click()
    expect(page.locator("#found tbody tr")).to_contain_text("4733990777")
    page.get_by_role("searchbox", name="Número").fill("111")
    page.keyboard.press("Enter")
    expect(page.locator("#found-text")).to_have_text("Ninguna llamada con este número.")
    expect(page.locator("#found tbody tr")).to_have_count(0)
    assert page.url == shown.url


def test_opened_details_stay_open_while_news_come(browser, office):
    shown = busy(office)
    page = browser.open(shown.url)
    details = page.locator("#calls details").last
    details.locator("summary").click()
    shown.wait_in_line(7)
    expect(page.locator("#tile-waiting dd")).to_have_text("4")
    expect(page.locator("#calls details[open]")).to_have_count(1)


# -- hostile texts -----------------------------------------------------------------------------------------------------

def test_nothing_that_others_wrote_is_executed(browser, office):
    shown = office(pbx={"queue_names": f"77 {HOSTILE[:27]}", "agent_names": "5252 <b>Ana</b>"})
    shown.wait_in_line(1, caller=HOSTILE, queue="<script>alert(1)</script>")
    shown.wait_in_line(2, caller="javascript:alert(1)")
    shown.talk(3)
    shown.journal.calls.record(shown.talk(4, "5252").call_id, "completed", link="javascript:document.title='executed'")
    shown.refuse("HTTP 400: " + HOSTILE)
    page = browser.open(shown.url)
    expect(page.locator("#alarm-list")).to_contain_text("<img src=x onerror=")
    expect(page.locator("#queues")).to_contain_text("<script>alert(1)")
    expect(page.locator("#agents")).to_contain_text("<b>Ana</b>")
    for details in page.locator("#calls summary").all():
        details.click()
    expect(page.locator("#calls q").filter(has_text="<script>").first).to_be_visible()
    page.get_by_role("searchbox", name="Número").fill("javascript")
    assert page.locator("main img, main script, main b:text('Ana'), main a").count() == 0
    assert "executed" not in page.title()


# -- for everybody -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_accessible_and_fits(browser, office, width, scheme):
    page = browser.open(busy(office).url, width, scheme)
    live(page)
    expect(page.locator("#calls tbody tr")).to_have_count(6)
    expect(page.locator("#today svg")).to_be_visible()
    expect(page.locator("#alarm-list li").first).to_be_visible()
    page.locator("#calls summary").first.click()
    check_accessible(page)
    check_fits(page)


@pytest.mark.parametrize("width, times", [(1280, ["0:20", "1:00"]), (390, ["Espera 0:20", "Conversa 1:00"])])
def test_a_call_has_its_wait_and_its_talk(browser, office, width, times):
    """A narrow page has no room for the headings: there each time has its name."""
    shown = office()
    call = shown.talk(1)
    shown.journal.calls.record(call.call_id, "completed", at=call.arrived + 80)
    page = browser.open(shown.url, width)
    live(page)
    numbers = page.locator("#calls tbody td.number")  # the first is the arrival
    for place, text in enumerate(times, 1):
        expect(numbers.nth(place)).to_be_visible()
        expect(numbers.nth(place)).to_have_text(text, use_inner_text=True)
    check_fits(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_login_is_accessible_and_lets_in(browser, office, scheme):
    shown = office(panel={"password": PASSWORD})
    browser.allow("403")
    page = browser.open(shown.url, 390, scheme)
    page.get_by_label("Senha").fill("not-the-password")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("A senha não é essa.")
    check_accessible(page)
    check_fits(page)
    page.get_by_label("Senha").fill(PASSWORD)
    page.get_by_role("button", name="Entrar").click()
    live(page)
    page.get_by_role("button", name="Sair").click()
    expect(page.get_by_label("Senha")).to_be_visible()


def test_the_browsers_clock_and_zone_do_not_matter(browser, office):
    shown = office()
    shown.wait_in_line(ago=65)
    page = browser.open("about:blank", timezone_id="Pacific/Kiritimati")
    page.clock.set_system_time("2001-01-01")
    page.goto(shown.url)
    expect(page.locator("#queues [data-since]")).to_have_text(re.compile(r"^1:[0-5]\d$"))
    hour = time.strftime("%H:%M", time.localtime())
    until(lambda: page.locator("#clock").text_content()[:5] in (hour, time.strftime("%H:%M", time.localtime())), 30)
    expect(page.locator("#calls tbody td").first).to_have_text(re.compile(r"(\d\d/\d\d )?\d\d:\d\d$"))


# -- a screen that stays open for weeks ---------------------------------------------------------------------------------

def test_it_comes_back_after_a_restart(browser, office):
    browser.allow("ERR_|Failed to load resource")
    shown = office(panel={"password": PASSWORD})
    page = logged_in(browser, shown)
    shown.stop()
    shown.wait_in_line()
    shown.start()
    expect(page.locator("#tile-waiting dd")).to_have_text("1")


def test_another_version_loads_the_page_again(browser, office):
    browser.allow("ERR_|Failed to load resource")
    shown = office()
    page = browser.open(shown.url)
    live(page)
    page.evaluate("document.body.dataset.old = 1")
    shown.stop()
    shown.start("another")
    expect(page.locator("body[data-old]")).to_have_count(0)
    live(page)


def test_a_login_in_front_that_ends_is_asked_for(browser, office):
    """The web server in front answers with a redirect to its own login."""
    browser.allow("ERR_|Failed to load resource|EventSource")
    shown = office()
    page = browser.open(shown.url)
    live(page)
    page.route("**/events*", lambda route: route.fulfill(status=302, headers={"Location": "/login-elsewhere"}))
    page.route(shown.url, lambda route: route.fulfill(body="<title>Log in first</title>", content_type="text/html"))
    shown.stop()
    shown.start()
    expect(page).to_have_title("Log in first")


def test_another_password_asks_for_it(browser, office, write_config):
    browser.allow("ERR_|Failed to load resource")
    shown = office(panel={"password": PASSWORD})
    page = logged_in(browser, shown)
    shown.stop()
    port = shown.config["panel", "listen"][1]
    shown.config = load(write_config(panel={"listen": f"127.0.0.1:{port}", "password": "another-password"})).require()
    shown.start()
    expect(page.get_by_label("Senha")).to_be_visible()

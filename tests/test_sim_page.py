"""The simulator's page: what it shows, its buttons, and that nobody else presses them. tests/pbx/test_page.py has a real call."""
from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
import requests
from babel.messages.extract import extract_from_dir
from playwright.sync_api import Page, expect

import movidesk_sim
from movidesk_sim import faults, links, texts
from movidesk_sim.command import add_agents
from movidesk_sim.links import CHECKING, Look, Looks
from movidesk_sim.made_calls import CallUrl
from movidesk_sim.model import Limit, Movidesk
from movidesk_sim.view import view
from movidesk_sim.web import serve
from support.browser import check_accessible, check_fits
from support.waits import until

STATIC = Path(movidesk_sim.__file__).parent / "static"
HOSTILE = "<img src=x onerror=\"document.title='broken in'\"><script>document.title='broken in'</script>"


@pytest.fixture
def model():
    model = Movidesk(time.time, limit=Limit(1000))
    add_agents(model, 77, "5252=Ana Souza,5253=Bruno Lima")
    return model


@pytest.fixture
def running(model):
    with serve(model) as running:
        yield running


@pytest.fixture
def page(running, browser):
    page = browser.open(running.home, language="en-US")
    expect(page.locator("#live")).to_have_text("live")
    return page


def ask(model: Movidesk, endpoint: str = "receivedCall", call: str = "c1", **params) -> str:
    """A request that Movidesk takes; its answer."""
    if endpoint == "receivedCall":
        params = {"queueId": "77", "clientNumber": "4733990777", **params}
    name = endpoint if endpoint == "setMadeCallLink" else "asterisk_" + endpoint
    answer = model.request("POST", name, {"token": model.token, "id": call, **params})
    assert answer.status == 200, answer
    return answer.body.strip('"')


def answered(model: Movidesk, call: str, link: str = "", **params) -> None:
    extension = ask(model, call=call, callDate="2026-01-31T10:00:00", **params)
    ask(model, "transferedCall", call, branchLine=extension, transferDate="2026-01-31T10:00:09")
    ask(model, "completedCall", call, link=link, completedDate="2026-01-31T10:03:13")


def agent(page: Page, extension: str = "5252"):
    return page.locator(f"#agents [data-extension='{extension}']")


# What it shows

def test_a_caller_waits_rings_and_opens_the_screen(model, page):
    page.get_by_role("switch", name="Online: Bruno Lima").click()
    until(lambda: not model.agents["5253"].online)  # else the call could come before the click
    model.in_call["5252"] = "elsewhere"
    ask(model)
    expect(page.locator("#waiting li")).to_contain_text("4733990777")
    expect(page.locator("#waiting li")).to_contain_text("all agents are in calls")
    expect(page.locator("#waiting .clock")).to_have_text(re.compile(r"^(?!0:00)\d+:\d\d$"))  # it runs
    model.in_call.clear()
    ask(model)
    expect(agent(page)).to_have_attribute("data-state", "ringing")
    ask(model, "transferedCall", branchLine="5252")
    expect(agent(page).locator(".screen")).to_contain_text("4733990777")
    expect(agent(page).locator(".badge")).to_have_text("In a call")
    expect(page.locator("#news")).to_have_text("Ana Souza talks to 4733990777")
    expect(page.locator("#waiting-empty")).to_be_visible()
    ask(model, "completedCall")
    expect(agent(page).locator(".screen")).to_be_hidden()
    expect(page.locator("#tickets li.row")).to_contain_text("Received call")


def test_tickets_have_their_origin_in_words_and_durations(model, page):
    answered(model, "c1")
    ask(model, call="c2", clientNumber="anonymous", callDate="2026-01-31T10:10:00")
    ask(model, "canceledCall", "c2", canceledDate="2026-01-31T11:11:05")
    model.groups[77].closes = "00:00"
    ask(model, call="c3")
    ask(model, "lostCall", "c3")
    model.made("m1", "5253", "47991122334")
    rows = page.locator("#tickets li.row")
    expect(rows).to_have_count(4)
    for row, words in zip(rows.all(), [("47991122334 Made call", "Bruno Lima"), ("4733990777 Lost call", "Queue 77"),
                                       ("anonymous Abandoned call", "waited 1:01:05"),
                                       ("4733990777 Received call", "Ana Souza", "waited 0:09", "talked 3:04", "Ticket c1")]):
        for word in words:
            expect(row).to_contain_text(word)


def test_callers_without_a_number_are_not_one_person(model, running, browser):
    running.call_url = CallUrl("http://127.0.0.1:9/")
    for number in range(2):
        answered(model, f"a{number}", clientNumber="anonymous")
        answered(model, f"c{number}")
    page = browser.open(running.home, language="en")
    expect(page.locator("#tickets li.row")).to_have_count(4)
    expect(page.get_by_role("button", name="Call back")).to_have_count(2)  # nobody can call an unknown number
    ask(model, call="a2", clientNumber="anonymous")
    ask(model, "transferedCall", "a2", branchLine="5252")
    expect(agent(page).locator(".facts")).to_have_text("Queue 77 · number unknown")
    ask(model, call="c2")
    ask(model, "transferedCall", "c2", branchLine="5253")
    expect(agent(page, "5253").locator(".facts")).to_have_text("Queue 77 · has called before: 2")


@pytest.mark.parametrize("zone", ["America/Sao_Paulo", "Asia/Tokyo"])
def test_every_time_on_the_page_is_utc(model, running, browser, zone):
    """As the dates in the requests, the business hours and Movidesk's own clock."""
    model.clock = lambda: 1769864409.0  # 2026-01-31T13:00:09
    answered(model, "c1")
    page = browser.open(running.home, language="en-US", timezone_id=zone)
    expect(page.locator("#tickets .facts")).to_contain_text("10:00:00 · ")
    expect(page.locator("#requests .time").first).to_have_text("13:00:09")
    expect(page.locator("header")).to_contain_text("times are UTC")


def test_requests_against_the_documents_come_first(model, page):
    ask(model)
    expect(page.locator("#problems-none")).to_be_visible()
    model.request("POST", "asterisk_lostCall", {"token": model.token, "id": "nobody's"})
    expect(page.locator("#problems-box")).to_contain_text("asterisk_lostCall nobody's: id: no such call")
    expect(page.locator("#problems-none")).to_be_hidden()
    expect(page.locator("#requests li").first).to_contain_text("400POST asterisk_lostCall")
    expect(page.locator("#requests li")).to_have_count(2)
    above, below = (page.locator(name).bounding_box()["y"] for name in ("#problems-box", "#requests"))
    assert above < below
    expect(page.locator("#count-problems")).to_have_text("1")


def test_the_gauge_shows_the_window(model, page):
    model.limit = Limit(4, seconds=300)
    for number in range(4):
        ask(model, call=f"c{number}")
    gauge = page.get_by_role("meter", name="Limit of requests")
    expect(gauge).to_have_attribute("aria-valuenow", "4")
    expect(gauge).to_have_attribute("data-full", "full")
    expect(page.locator("#gauge-text")).to_have_text("4 of 4")
    expect(page.locator("#gauge-note")).to_contain_text(re.compile(r"Full: the next one is taken in [45]:"))
    expect(page.locator("#strip i")).to_have_count(4)


def test_what_stays_is_not_drawn_again(model, page):
    """Else a button loses the focus, and a recording stops, whenever something happens."""
    answered(model, "c1")
    page.locator("#tickets li.row").evaluate("row => { row.mark = 'the same' }")
    page.get_by_role("switch", name="Telephony: Bruno Lima").focus()
    for number in range(2, 6):
        answered(model, f"c{number}")
    expect(page.locator("#tickets li.row")).to_have_count(5)
    assert page.locator("#tickets li.row").last.evaluate("row => row.mark") == "the same"
    expect(page.get_by_role("switch", name="Telephony: Bruno Lima")).to_be_focused()


def test_hostile_callers_and_answers_are_text(model, running, page):
    model.agents["5252"].name = HOSTILE
    ask(model, clientNumber=HOSTILE[:128], call="<b>1</b>")
    answered(model, "<b>2</b>", link="javascript:document.title='broken in'", clientNumber="\"'<svg onload=alert(1)>")
    answered(model, "c3", link="http://127.0.0.1:9/\"onerror=\"document.title='broken in'")
    ask(model, "setMadeCallLink", "c4", Link="data:text/html,<script>alert(1)</script>")
    model.request("POST", HOSTILE, {"token": model.token, "id": HOSTILE, HOSTILE: HOSTILE})
    running.faults.set_mode("nonsense", 1)
    requests.post(running.url + "/asterisk_receivedCall", params={"token": model.token}, timeout=30)
    expect(page.locator("#requests li")).to_have_count(10)
    expect(page.locator("#waiting")).to_contain_text(HOSTILE[:60])
    expect(page.locator("#tickets")).to_contain_text("its link is no web address")
    assert page.locator("main :is(img, script, b, iframe)").count() == 0 and page.locator("main svg[onload]").count() == 0
    assert page.title() == "Movidesk simulator"


def test_a_recording_that_cannot_be_played_says_why(model, running, page):
    answered(model, "gone", link=running.home + "/nowhere.wav")
    answered(model, "text", link=running.home + "/")
    answered(model, "dead", link="http://127.0.0.1:9/x.wav")
    for call, why in (("gone", "its server answers 404"), ("text", "what is at its link is no sound"),
                      ("dead", "its server does not answer")):
        expect(page.locator(f"#tickets [data-id={call}]")).to_contain_text("The recording cannot be played: " + why)
        expect(page.locator(f"#tickets [data-id={call}] button")).to_be_hidden()


def test_a_simulator_that_is_gone_is_said(running, page, browser):
    browser.allow("Failed to load resource")
    running.close()
    expect(page.locator("#live")).to_have_text("The simulator does not answer")
    page.get_by_role("switch", name="Online: Ana Souza").click()
    expect(page.get_by_role("switch", name="Online: Ana Souza")).to_have_attribute("aria-checked", "true")


@pytest.mark.parametrize("language, title", [("pt-BR", "Simulador do Movidesk"), ("es-AR,es;q=0.9", "Simulador de Movidesk"),
                                             ("en-GB", "Movidesk simulator"), ("de-DE", "Movidesk simulator"),
                                             ("de-DE,pt-PT;q=0.8,en;q=0.7", "Simulador do Movidesk")])
def test_the_page_has_the_language_of_the_browser(running, language, title):
    answer = requests.get(running.home, headers={"Accept-Language": language}, timeout=30)
    assert f"<title>{title}</title>" in answer.text and "Accept-Language" in answer.headers["Vary"]


def test_the_scripts_have_the_language_of_the_page(running, browser):
    page = browser.open(running.home, language="pt-BR")
    expect(page.locator("#mode-note")).to_have_text("O Movidesk responde como diz a documentação.")
    expect(page.get_by_role("switch", name="Telefonia: Ana Souza")).to_be_visible()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_read_it(model, running, browser, width, scheme):
    """Contrast, names of buttons, order of headings: with something in each part of the page."""
    running.call_url = CallUrl("http://127.0.0.1:9/")
    answered(model, "c1", link="http://127.0.0.1:9/x.wav")
    ask(model, call="c2")
    ask(model, "transferedCall", "c2", branchLine="5253")
    ask(model, call="c3")
    ask(model, call="c4", clientNumber="4" * 128)
    model.groups[77].holidays.append(model.groups[77].today(time.time()))
    model.request("POST", "asterisk_lostCall", {"token": model.token, "id": "x" * 200})
    running.faults.set_mode("outage", 1)
    page = browser.open(running.home, width, scheme)
    expect(page.locator("#tickets li.row")).to_have_count(1)
    expect(page.locator("#problems-box")).to_be_visible()
    check_accessible(page)
    check_fits(page)
    page.locator("#call-somebody").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    check_accessible(page, "dialog")


# Its buttons

def test_an_agent_goes_offline_and_online(model, page):
    online = page.get_by_role("switch", name="Online: Ana Souza")
    expect(online).to_have_attribute("aria-checked", "true")
    online.click()
    expect(online).to_have_attribute("aria-checked", "false")
    expect(agent(page).locator(".badge")).to_have_text("Offline")
    assert not model.agents["5252"].online and model.agents["5253"].online
    page.get_by_role("switch", name="Telephony: Bruno Lima").press("Space")
    expect(agent(page, "5253").locator(".badge")).to_have_text("Telephony off")
    assert ask(model) == "3"
    online.click()
    expect(agent(page).locator(".badge")).to_have_text("Free")
    assert ask(model) == "5252"


def test_switches_for_faults(model, running, page):
    def send(call: str) -> requests.Response | None:
        try:
            return requests.post(running.url + "/asterisk_receivedCall", timeout=30,
                                 params={"token": model.token, "queueId": "77", "clientNumber": "4733990777", "id": call})
        except requests.ConnectionError:
            return None

    for label, status, taken in (("429", 429, False), ("500", 500, False), ("Nonsense", 200, True), ("Answer lost", 0, True),
                                 ("Outage", 0, False)):
        page.get_by_role("radio", name=label).click()
        expect(page.get_by_role("radio", name=label)).to_have_attribute("aria-checked", "true")
        for _ in range(2):
            answer = send(label)
            assert (answer.status_code if answer is not None else 0) == status, label
            assert answer is None or not answer.text.startswith('"')
        assert (label in model.tickets) == taken
        expect(page.locator("#requests li").first).to_contain_text(f"switch: {label}")
    page.get_by_role("radio", name="As usual").click()
    expect(page.locator("#modes")).to_have_attribute("data-mode", "")
    assert send("c1").status_code == 200


def test_a_fault_for_the_next_request_only(running, page):
    page.get_by_label("only the next request").check()
    page.get_by_role("radio", name="As usual").focus()
    page.keyboard.press("ArrowRight")  # to 429
    expect(page.get_by_role("radio", name="429")).to_be_focused()
    until(lambda: running.faults.mode == "429")
    assert [requests.post(running.url + "/setMadeCallLink", params={"token": running.model.token, "id": "m"},
                          timeout=30).status_code for _ in range(2)] == [429, 200]
    expect(page.get_by_role("radio", name="As usual")).to_have_attribute("aria-checked", "true")


def test_slow_answers_and_those_of_tests_stay_apart(running):
    running.faults.rules.append(faults.Fault(status=503, count=2))
    running.faults.set_mode("slow", 5)
    assert [(rule.name, rule.delay, rule.count) for rule in running.faults.rules] == [("", 0.0, 2), ("slow", 8.0, 5)]
    running.faults.set_mode("", 1)
    assert [rule.status for rule in running.faults.rules] == [503] and running.faults.mode == ""


def test_business_hours_and_holidays(model, page):
    group = page.locator("#groups [data-queue='77']")
    expect(group.locator(".badge")).to_have_text("Open now")
    page.get_by_role("switch", name="Holiday today").click()
    expect(group.locator(".badge")).to_have_text("Holiday")
    assert ask(model) == "0"
    page.get_by_role("switch", name="Holiday today").click()
    page.get_by_role("switch", name="Closed").click()
    expect(group.locator(".badge")).to_have_text("Closed now")
    assert ask(model) == "1"
    page.get_by_label("Closes at").fill("24:00")
    page.get_by_label("Closes at").press("Tab")
    expect(group.locator(".badge")).to_have_text("Open now")
    assert ask(model) == "5252" and (model.groups[77].opens, model.groups[77].closes) == ("00:00", "24:00")
    page.get_by_label("Opens at").fill("25:00")
    page.get_by_label("Opens at").press("Tab")
    assert page.get_by_label("Opens at").evaluate("field => !field.validity.valid")
    page.get_by_role("switch", name="Holiday today").click()  # whose request goes after it
    expect(group.locator(".badge")).to_have_text("Holiday")
    assert model.groups[77].opens == "00:00"


def test_a_customer_is_called(model, running, browser):
    """Without an address for calls there is no such button."""
    page = browser.open(running.home, language="en")
    expect(page.locator("#live")).to_have_text("live")
    expect(page.locator("#call-somebody")).to_be_hidden()
    running.call_url = CallUrl(running.control + "/nothing?{call.source.number}-{call.destination.number}")
    page.reload()
    page.locator("#call-somebody").click()
    page.get_by_label("Number").fill("47 99112-2334")
    page.locator("#call-agent").select_option("5253")
    page.get_by_role("button", name="Call", exact=True).click()
    expect(page.locator("#call-answer")).to_contain_text("The PBX refused: 404")
    page.get_by_role("button", name="Close").click()
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_once_the_agent_has_answered_the_page_is_free(model, running, browser):
    """The ticket tells the rest."""
    running.call_url = CallUrl("http://127.0.0.1:9/")
    page = browser.open(running.home, language="en")
    page.route("**/page/call", lambda route: route.fulfill(json={"status": 200, "text": "", "call_id": "pbx1-1.2"}))
    page.locator("#call-somebody").click()
    page.get_by_label("Number").fill("47991122334")
    page.get_by_role("button", name="Call", exact=True).click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.locator("#news")).to_have_text("The customer is called: pbx1-1.2")


def test_calling_back_knows_number_and_agent(model, running, browser):
    running.call_url = CallUrl("http://127.0.0.1:9/")
    model.agents["5252"].online = False
    answered(model, "c1")
    page = browser.open(running.home, language="en")
    page.get_by_role("button", name="Call back").click()
    expect(page.get_by_label("Number")).to_have_value("4733990777")
    expect(page.locator("#call-agent")).to_have_value("5253")
    page.get_by_role("button", name="Call", exact=True).click()
    expect(page.locator("#call-answer")).to_contain_text("The PBX does not answer")


# Who presses them

@pytest.mark.parametrize("path, body", [("agents/5252", {"online": False}), ("mode", {"mode": "500"}),
                                        ("groups/77", {"holiday": True}), ("call", {"extension": "5252", "number": "47"})])
@pytest.mark.parametrize("headers, status", [
    ({"Origin": "http://evil.example"}, 403), ({"Origin": "null"}, 403), ({"Sec-Fetch-Site": "cross-site"}, 403),
    ({"Sec-Fetch-Site": "same-site"}, 403), ({"Content-Type": "text/plain"}, 415),
    ({"Content-Type": "application/x-www-form-urlencoded"}, 415), ({"Host": "evil.example"}, 421)])
def test_another_site_changes_nothing(running, path, body, headers, status):
    before = requests.get(running.control + "/state", timeout=30).json()
    answer = requests.post(f"{running.home}/page/{path}", data=json.dumps(body), timeout=30,
                           headers={"Content-Type": "application/json", **headers})
    assert answer.status_code == status and "Access-Control-Allow-Origin" not in answer.headers
    assert {**requests.get(running.control + "/state", timeout=30).json(), "time": 0} == {**before, "time": 0}


def test_nothing_is_changed_by_a_get(running):
    for path in ("agents/5252", "mode", "groups/77", "call"):
        assert requests.get(f"{running.home}/page/{path}?online=false&mode=500", timeout=30).status_code in (404, 405)


def test_a_name_of_somebody_elses_shows_nothing(running):
    """DNS can give any name our address."""
    for path in ("/", "/page/state", "/static/page.js"):
        answer = requests.get(running.home + path, headers={"Host": "evil.example"}, timeout=30)
        assert answer.status_code == 421 and "5252" not in answer.text
        assert requests.get(running.home + path, headers={"Host": "localhost:8080"}, timeout=30).status_code == 200


@pytest.mark.parametrize("path, body, status", [
    ("agents/5252", {"online": "no"}, 400), ("agents/9999", {"online": True}, 404), ("agents/5252", [], 400),
    ("mode", {"mode": "rain"}, 400), ("mode", {}, 400), ("groups/1", {"holiday": True}, 404),
    ("groups/77", {"opens": "8", "closes": "18"}, 400), ("groups/77", {"opens": "08:00"}, 400),
    ("groups/77", {"opens": 8}, 400), ("call", {"number": "1"}, 409)])
def test_misuse_is_answered_with_a_text(running, path, body, status):
    answer = requests.post(f"{running.home}/page/{path}", json=body, timeout=30)
    assert answer.status_code == status and answer.json()["error"]


def test_every_answer_has_a_strict_policy(running):
    for path in ("/", "/page/state", "/static/page.js", "/static/page.css"):
        headers = requests.get(running.home + path, timeout=30).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"
    assert running.model.token not in requests.get(running.home + "/", timeout=30).text


# What it is made of

def test_the_state_is_small_after_many_calls(model, running):
    model.limit = Limit(100_000)
    for number in range(300):
        answered(model, f"c{number}", clientNumber="4733990777")
    shown = view(model, running.faults, lambda link: CHECKING)
    assert len(json.dumps(shown)) < 60_000 and shown["counts"]["tickets"] == 300
    assert shown["tickets"][0]["id"] == "c299" and shown["requests"][0]["n"] == 900


def test_a_link_is_looked_at_once_until_it_failed_long_ago(clock):
    seen, answers = [], [Look("status", 404), Look("", 200, 8044)]

    def fetch(link: str) -> Look:
        seen.append(link)
        return answers[len(seen) - 1]

    looks = Looks(fetch, clock)
    assert looks.at("http://x/1.wav") == CHECKING
    until(lambda: looks.at("http://x/1.wav").status == 404)
    assert looks.at("http://x/1.wav").fault == "status" and len(seen) == 1
    clock.now += links.AGAIN + 1
    until(lambda: looks.at("http://x/1.wav") == Look("", 200, 8044))
    clock.now += 10 * links.AGAIN
    assert looks.at("http://x/1.wav").fault == "" and len(seen) == 2


def test_the_page_has_a_button_for_every_mode():
    modes = re.search(r"const MODES = new Map\(\[(.*?)^\]\);", (STATIC / "switches.js").read_text(), re.DOTALL | re.MULTILINE)
    assert re.findall(r'^  \["(\w*)",', modes[1], re.MULTILINE) == ["", *faults.MODES]


def test_the_scripts_are_given_all_their_texts():
    found = {text for _, _, text, _, _ in extract_from_dir(str(STATIC), [("**.js", "javascript")])}
    assert texts.of_scripts() == found and len(found) > 50
    assert texts.translations("pt-BR")["Free"] == "Livre" and texts.translations("en")["Free"] == "Free"


def test_an_answer_that_was_overtaken_is_not_shown(running, page):
    """Else a switch jumps back for a moment."""
    old = requests.get(running.home + "/page/state", timeout=30)
    page.get_by_role("switch", name="Online: Ana Souza").click()
    expect(agent(page).locator(".badge")).to_have_text("Offline")
    page.route("**/page/state", lambda route: route.fulfill(body=old.content, content_type="application/json"))
    page.wait_for_event("response", lambda response: response.url.endswith("/page/state"))
    page.wait_for_event("response", lambda response: response.url.endswith("/page/state"))
    assert agent(page).locator(".badge").text_content() == "Offline"


def test_scripts_parse_no_markup():
    for path in STATIC.glob("*.js"):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|Function\(", path.read_text()), path

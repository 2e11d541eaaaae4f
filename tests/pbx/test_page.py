"""The simulator's page in Chromium, while a real Asterisk makes a call: what a supervisor would see and click."""
from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from movidesk_rehearsal.phones import Agent, Caller, answers
from movidesk_rehearsal.rehearsal import Rehearsal, wait_for
from office import SETTINGS, VARIABLES

NUMBER = "4733990777"


@pytest.fixture(scope="module")
def rehearsal(tree, tmp_path_factory):
    """One whose service publishes the recordings."""
    rehearsal = Rehearsal(tree, tmp_path_factory.mktemp("page"), settings=SETTINGS,
                          variables={**VARIABLES, "MOVIDESK_RECORD": "yes"})
    rehearsal.publish_recordings()
    with rehearsal:
        yield rehearsal


def test_a_call_is_seen_and_its_recording_plays(rehearsal, browser):
    """Nobody is online at first; a click mends that. The caller's screen opens at the agent who answers, and only there."""
    model = rehearsal.model
    for extension, name in (("5252", "Ana Souza"), ("5253", "Bruno Lima")):
        model.agents[extension].name, model.agents[extension].online = name, False
    page = browser.open(rehearsal.simulator.home, language="en")
    ana, bruno = (page.locator(f"#agents [data-extension='{extension}']") for extension in ("5252", "5253"))
    expect(ana.locator(".badge")).to_have_text("Offline")
    page.get_by_role("switch", name="Online: Ana Souza").click()
    expect(ana.locator(".badge")).to_have_text("Free")

    with Agent(rehearsal.pbx, "5252", answers(after=1), audio=True) as phone, Caller(rehearsal.pbx, "77", NUMBER) as caller:
        expect(page.locator("#waiting")).to_contain_text(NUMBER)
        phone.wait_event("answered")
        expect(ana.locator(".badge")).to_have_text("In a call")
        expect(ana.locator(".screen")).to_contain_text(NUMBER)
        expect(ana.locator(".screen .clock")).to_have_text(re.compile(r"^(?!0:0[01])\d+:\d\d$"))  # so much is recorded, too
        assert bruno.locator(".screen").is_hidden()
        phone.hang_up()
        caller.wait()

    ticket = page.locator("#tickets li.row")
    expect(ticket).to_contain_text("Received call")
    expect(ticket).to_contain_text("Ana Souza")
    expect(ana.locator(".badge")).to_have_text("Free")
    page.get_by_role("button", name="Play the recording").click()
    player = page.locator("#tickets audio")
    wait_for("the recording plays", lambda: player.evaluate("player => player.currentTime") > 0,
             instead=lambda: player.evaluate("player => player.error && player.error.message"))
    assert player.evaluate("player => player.duration") > 1
    assert "signature=" in player.get_attribute("src")
    expect(page.locator("#problems-box")).to_be_hidden()

"""The life of a call, as one table: what is not in it is refused."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from movidesk.rules import call_states

MODES = ("control", "watch", "made")
STATES = ("received", "waiting", "offered", "arrived", "dialled", "transferred",
          "completed", "canceled", "lost", "start_canceled", "ended")
ENDINGS = ("completed", "canceled", "lost", "start_canceled", "ended")
EVENTS = ("received", "transferred", "completed", "lost", "canceled", "start_transferred", "start_canceled", "ended")

#: (mode, state, event) -> the next state.
MOVES = {
    ("control", "received", "transferred"): "transferred",
    ("control", "received", "lost"): "lost",
    ("control", "received", "canceled"): "canceled",
    ("control", "waiting", "transferred"): "transferred",
    ("control", "waiting", "lost"): "lost",
    ("control", "waiting", "canceled"): "canceled",
    ("control", "offered", "transferred"): "transferred",
    ("control", "offered", "lost"): "lost",
    ("control", "offered", "canceled"): "canceled",
    ("control", "transferred", "completed"): "completed",
    ("watch", "arrived", "start_transferred"): "transferred",
    ("watch", "arrived", "start_canceled"): "start_canceled",
    ("watch", "transferred", "completed"): "completed",
    ("made", "dialled", "ended"): "ended",
}


def test_every_move_is_in_the_table_and_no_other_is_allowed():
    found = {key: call_states.move(*key) for key in product(MODES, STATES, EVENTS)}
    assert {key: state for key, state in found.items() if state is not None} == MOVES


@pytest.mark.parametrize("mode, state", list(product(MODES, STATES)))
def test_a_link_fits_every_state_and_moves_nothing(mode, state):
    assert call_states.move(mode, state, "link") == state


def test_an_ending_is_final():
    assert set(ENDINGS) == call_states.ENDED
    assert not [key for key in product(MODES, ENDINGS, EVENTS) if call_states.move(*key) is not None]


@pytest.mark.parametrize("mode, state", [("control", "received"), ("watch", "arrived"), ("made", "dialled")])
def test_the_first_state(mode, state):
    assert call_states.first_state(mode) == state


@pytest.mark.parametrize("mode, state, code, ending", [
    ("control", "received", "", "canceled"),
    *[("control", "waiting", code, "lost") for code in "012"],
    *[("control", "waiting", code, "canceled") for code in ("3", "4", "")],
    ("control", "offered", "", "canceled"),
    ("control", "transferred", "", "completed"),
    ("control", "transferred", "1", "completed"),
    ("watch", "arrived", "", "start_canceled"),
    ("watch", "transferred", "", "completed"),
    ("made", "dialled", "", "ended"),
])
def test_what_a_hangup_means(mode, state, code, ending):
    assert call_states.ending_at_hangup(mode, state, code) == ending


@pytest.mark.parametrize("mode, state", list(product(MODES, ENDINGS)))
def test_a_hangup_after_the_end_means_nothing(mode, state):
    assert call_states.ending_at_hangup(mode, state, "1") is None


@pytest.mark.parametrize("event, mode, state", [
    ("transferred", "control", "received"), ("completed", "control", "transferred"), ("lost", "control", "received"),
    ("canceled", "control", "received"), ("start_transferred", "watch", "arrived"),
    ("start_canceled", "watch", "arrived"), ("link", "made", "ended"),
])
def test_an_event_of_an_unknown_call_finds_the_state_that_it_needs(event, mode, state):
    assert (call_states.mode_of(event), call_states.state_before(event)) == (mode, state)
    assert call_states.move(mode, state, event) is not None


@pytest.mark.parametrize("pbx, uniqueid, visit, expected", [
    ("pbx1", "1795232380.327", 1, "pbx1-1795232380.327"),
    ("pbx1", "1795232380.327", 2, "pbx1-1795232380.327-2"),
    ("pbx1", "1795232380.327", 3, "pbx1-1795232380.327-3"),
    ("pbx1", "pbx1-1795232380.327", 1, "pbx1-1795232380.327"),     # systemname is the prefix already
    ("pbx1", "pbx10-1795232380.327", 1, "pbx1-pbx10-1795232380.327"),  # it only looks like it
    ("pbx1", "1" * 251, 1, "pbx1-" + "1" * 251),
])
def test_call_ids(pbx, uniqueid, visit, expected):
    assert call_states.call_id(pbx, uniqueid, visit) == expected


@pytest.mark.parametrize("uniqueid, visit, words", [("", 1, "no unique id"), ("1" * 252, 1, "257 characters"),
                                                    ("1" * 251, 2, "258 characters")])
def test_no_call_id_from_what_cannot_be_one(uniqueid, visit, words):
    with pytest.raises(ValueError, match=words):
        call_states.call_id("pbx1", uniqueid, visit)


@pytest.mark.parametrize("caller_id, expected", [
    ("4733990777", "4733990777"), ("+55 (47) 3399-0777", "+554733990777"), ("  +5547", "+5547"), ("55+47", "5547"),
    ("", "anonymous"), ("anonymous", "anonymous"), ("+", "anonymous"), ("unknown", "anonymous"),
    ("47\r\n339\x1b[31m", "4733931"), ("٤٧", "anonymous"), ("²³", "anonymous"), ("1" * 500, "1" * 128),
    ("+" + "1" * 500, "+" + "1" * 127),
])
def test_client_numbers(caller_id, expected):
    assert call_states.client_number(caller_id) == expected


@pytest.mark.parametrize("presentation, expected", [
    ("prohib_not_screened", "anonymous"), ("prohib_passed_screen", "anonymous"), ("prohib_failed_screen", "anonymous"),
    ("prohib", "anonymous"), ("allowed_not_screened", "4733990777"), ("unavailable", "4733990777"), ("", "4733990777")])
def test_a_number_that_the_caller_withholds_is_anonymous(presentation, expected):
    assert call_states.client_number("4733990777", presentation) == expected


@given(st.text())
def test_a_client_number_is_digits_with_a_leading_plus_or_anonymous(caller_id):
    number = call_states.client_number(caller_id)
    assert number == "anonymous" or set(number.lstrip("+")) <= set("0123456789") and number.count("+") <= 1
    assert 1 <= len(number) <= 128


@pytest.mark.parametrize("number, shown", [
    ("4733998642", "***8642"), ("+5547933998642", "***8642"), ("47339986", "***9986"), ("4733998", "***98"), ("5252", "***52"),
    ("1", "***1"), ("anonymous", "anonymous"), ("", "")])
def test_a_masked_number_has_its_last_digits(number, shown):
    assert call_states.masked(number) == shown

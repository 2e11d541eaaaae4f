"""The desk: what verbs, delivery and the service share."""
from __future__ import annotations

from movidesk.api import Delivered, Retry
from movidesk.config import load
from movidesk.desk import Desk
from movidesk.sending import REST_AFTER, TRY_TOKEN_AGAIN

OTHER = "00000000-1111-2222-3333-444444444444"
REFUSED = Retry(None, "HTTP 401", 401)


def test_a_refused_token_silences_and_a_new_one_in_the_file_is_taken_up_without_a_restart(write_config, clock):
    desk = Desk(load(write_config()), clock)
    old = desk.client
    desk.heard(REFUSED)
    assert desk.silence() == TRY_TOKEN_AGAIN
    write_config(movidesk={"token": OTHER})
    assert desk.silence() == 0.0
    assert desk.config["movidesk", "token"].reveal() == OTHER and desk.client is not old


def test_a_configuration_that_is_being_edited_changes_nothing(write_config, clock):
    desk = Desk(load(write_config()), clock)
    desk.heard(REFUSED)
    write_config(movidesk={"token": "half a tok"})
    assert desk.silence() == TRY_TOKEN_AGAIN


def test_a_clock_set_back_does_not_lengthen_the_silence(write_config, clock):
    desk = Desk(load(write_config()), clock)
    desk.heard(REFUSED)
    clock.now -= 3600
    assert desk.silence() == 0.0


def test_a_movidesk_that_does_not_answer_is_tried_more_and_more_seldom(write_config, clock):
    desk = Desk(load(write_config()), clock)
    away = Retry(None, "no answer within 5 s", None)
    for lasts, rests in ((0, 0.0), (REST_AFTER - 1, 0.0), (1, 30.0), (340, 200.0), (10_000, 300.0)):
        clock.advance(lasts)
        desk.heard(away)
        assert desk.rest(300.0) == rests
    clock.advance(100)
    assert (desk.rest(300.0), desk.rest(30.0)) == (200.0, 0.0)
    desk.heard(Delivered(""))
    assert desk.rest(300.0) == 0.0

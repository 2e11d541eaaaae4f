"""The context: what verbs, delivery and the service share."""
from __future__ import annotations

from movidesk.config import load
from movidesk.context import Context
from movidesk.delivery.api import Delivered, Retry
from movidesk.delivery.availability import BACKOFF_AFTER, TRY_TOKEN_AGAIN
from movidesk.fleet.membership import account_key

OTHER = "00000000-1111-2222-3333-444444444444"
REFUSED = Retry(None, "HTTP 401", 401)


def test_a_new_token_in_the_file_ends_the_silence_without_a_restart(write_config, clock):
    context = Context(load(write_config()), clock)
    old = context.client
    context.apply_outcome(REFUSED)
    assert context.auth_backoff() == TRY_TOKEN_AGAIN
    write_config(movidesk={"token": OTHER})
    assert context.auth_backoff() == 0.0
    assert context.config["movidesk", "token"].reveal() == OTHER and context.client is not old


def test_a_new_token_in_the_file_is_one_for_the_fleet_too(write_config, clock):
    fleet = {"redis": "redis://127.0.0.1:1", "pbxs": "2"}
    context = Context(load(write_config(fleet=fleet)), clock)
    old = context.journal.pool.member.client.key
    context.apply_outcome(REFUSED)
    path = write_config(movidesk={"token": OTHER}, fleet=fleet)
    assert context.auth_backoff() == 0.0
    assert context.journal.pool.member.client.key == account_key(load(path)) != old


def test_after_a_repair_everything_is_tried_at_once(write_config, clock):
    woken = []
    context = Context(load(write_config()), clock, wake=lambda: woken.append(True))
    context.journal.calls.record("pbx1-1.1", "lost")
    context.journal.outbox.retry(context.journal.outbox.take(10)[0], 300, "HTTP 401")
    for _ in range(2):
        context.apply_outcome(REFUSED)
        clock.now += BACKOFF_AFTER
        context.apply_outcome(Retry(None, "HTTP 500", 500))
        context.apply_outcome(REFUSED)
    assert context.auth_backoff() and not context.journal.outbox.take(10)[0]
    assert context.retry_now() == 1 and woken
    assert not context.auth_backoff() and context.journal.outbox.take(10)[0]


def test_a_configuration_that_is_being_edited_changes_nothing(write_config, clock):
    context = Context(load(write_config()), clock)
    context.apply_outcome(REFUSED)
    write_config(movidesk={"token": "half a tok"})
    assert context.auth_backoff() == TRY_TOKEN_AGAIN


def test_a_clock_set_back_does_not_lengthen_the_silence(write_config, clock):
    context = Context(load(write_config()), clock)
    context.apply_outcome(REFUSED)
    clock.now -= 3600
    assert context.auth_backoff() == 0.0


def test_a_movidesk_that_does_not_answer_is_tried_more_and_more_seldom(write_config, clock):
    context = Context(load(write_config()), clock)
    away = Retry(None, "no answer within 5 s", None)
    for lasts, rests in ((0, 0.0), (BACKOFF_AFTER - 1, 0.0), (1, 30.0), (340, 200.0), (10_000, 300.0)):
        clock.advance(lasts)
        context.apply_outcome(away)
        assert context.outage_backoff(300.0) == rests
    clock.advance(100)
    assert (context.outage_backoff(300.0), context.outage_backoff(30.0)) == (200.0, 0.0)
    context.apply_outcome(Delivered(""))
    assert context.outage_backoff(300.0) == 0.0


def test_the_fleet_is_told_of_an_outage(write_config, clock, monkeypatch):
    context, told = Context(load(write_config(fleet={"redis": "redis://127.0.0.1:9", "pbxs": "2"})), clock), []
    monkeypatch.setattr(context.journal.pool, "set_outage", told.append)
    for _ in range(2):
        context.apply_outcome(Retry(None, "no answer within 5 s", None))
        clock.advance(BACKOFF_AFTER)
    context.apply_outcome(Retry(None, "no answer within 5 s", None))
    context.outage_backoff(300.0)
    context.apply_outcome(Delivered(""))
    context.outage_backoff(300.0)
    assert told == [60.0, 0.0]

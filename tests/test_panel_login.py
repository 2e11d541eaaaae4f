"""Who may look at the panel; guessing its password takes long."""
from __future__ import annotations

import pytest
from flask import Flask, Response, request
from hypothesis import given
from hypothesis import strategies as st

from movidesk.config import load
from movidesk.web.panel import login
from movidesk.web.panel.login import ADDRESSES, OF_ALL, OF_ONE, Door, Guesses
from support.clocks import Clock

PASSWORD = "a-good-password"


# -- guessing ----------------------------------------------------------------------------------------------------------

def test_one_address_has_a_few_tries_then_one_now_and_then():
    clock = Clock()
    guesses = Guesses(clock)
    tries, every = OF_ONE
    assert [guesses.attempt("a") for _ in range(tries)] == [0.0] * tries
    assert guesses.attempt("a") == pytest.approx(every)
    assert guesses.attempt("b") == 0.0
    clock.advance(every / 2)
    assert guesses.attempt("a") == pytest.approx(every / 2)
    clock.advance(every / 2)
    assert guesses.attempt("a") == 0.0 and guesses.attempt("a") > 0


def test_whoever_knows_the_password_has_all_tries_again():
    guesses = Guesses(Clock())
    for _ in range(OF_ONE[0]):
        guesses.attempt("a")
    guesses.worked("a")
    assert guesses.attempt("a") == 0.0


@given(st.lists(st.tuples(st.integers(0, 3000), st.floats(0, 3)), min_size=1, max_size=400))
def test_however_many_addresses_guess(steps):
    """All together never get more tries than OF_ALL gives back, and the memory stays small."""
    clock = Clock(0.0)
    guesses, made = Guesses(clock), 0
    for address, seconds in steps:
        clock.advance(seconds)
        made += guesses.attempt(str(address)) == 0.0
        assert made <= OF_ALL[0] + clock() / OF_ALL[1] + 1
    assert len(guesses._free) <= ADDRESSES + 1


# -- the door ----------------------------------------------------------------------------------------------------------

@pytest.fixture
def door(write_config, monkeypatch):
    """door(password=...): of these settings of [panel]."""
    monkeypatch.setattr(login, "ROUNDS", 1)

    def make(**panel) -> Door:
        return Door(load(write_config(panel={"listen": "127.0.0.1:0", **panel})).require())

    return make


def asked(address: str = "127.0.0.1", **headers):
    """A request from this address; headers: User_Agent for User-Agent."""
    return Flask("tests").test_request_context("/", environ_base={"REMOTE_ADDR": address},
                                               headers={name.replace("_", "-"): value for name, value in headers.items()})


def cookie_of(door: Door, **headers) -> str:
    with asked(**headers):
        response = Response()
        door.let_in(request, response)
        return response.headers.get("Set-Cookie", "")


@pytest.mark.parametrize("host, user", [
    ("localhost:4576", ""), ("127.0.0.1", ""), ("192.168.0.5:4576", ""), ("evil.example", None),
    ("evil.example:4576", None), ("127.0.0.1.evil.example", None), ("", None)])
def test_without_a_password_only_this_machine_itself(door, host, user):
    """A page whose name leads to 127.0.0.1 must not read it."""
    with asked(Host=host):
        assert door().user(request) == user


def test_the_password_opens_and_nothing_else(door):
    found = door(password=PASSWORD)
    assert found.is_password(PASSWORD)
    assert not any(found.is_password(given) for given in ("", PASSWORD[:-1], PASSWORD + " ", PASSWORD.upper(), "ã", "\ud800"))
    assert not door().is_password("")
    with asked():
        assert found.user(request) is None


def test_a_login_lasts_over_a_restart_and_ends_with_another_password(door):
    cookie = cookie_of(door(password=PASSWORD)).partition(";")[0]
    for password, user in ((PASSWORD, ""), ("another-password", None)):
        with asked(Cookie=cookie):
            assert door(password=password).user(request) == user


def test_a_login_ends_where_it_was_not_used(door, monkeypatch):
    found = door(password=PASSWORD)
    cookie = cookie_of(found).partition(";")[0]
    now = login.time.time()
    for days, user in ((29, ""), (31, None)):
        monkeypatch.setattr("itsdangerous.timed.time.time", lambda days=days: now + days * 86400)
        with asked(Cookie=cookie):
            assert found.user(request) == user


@pytest.mark.parametrize("cookie", ["", "viewer", "viewer.x.y", "viewer.aaaa.bbbb", "\xff", "a" * 5000])
def test_a_cookie_that_was_made_up(door, cookie):
    with asked(Cookie=f"{login.COOKIE}={cookie}"):
        assert door(password=PASSWORD).user(request) is None


def test_the_cookie_is_for_this_page_alone(door):
    found = door(password=PASSWORD)
    plain, behind_tls = cookie_of(found), cookie_of(found, X_Forwarded_Proto="https")
    for part in ("HttpOnly", "SameSite=Lax", "Max-Age=2592000"):
        assert part in plain
    assert "Secure" in behind_tls and "Secure" not in plain and "Path=" not in plain and "Domain=" not in plain
    assert cookie_of(door()) == ""


@pytest.mark.parametrize("address, given, user", [
    ("127.0.0.1", {"X_Remote_User": "ana"}, "ana"), ("127.0.0.1", {}, None), ("127.0.0.1", {"X_Remote_User": " "}, None),
    ("10.0.0.9", {"X_Remote_User": "ana"}, None), ("127.0.0.1", {"X_Other_User": "ana"}, None)])
def test_the_login_of_a_web_server_in_front(door, address, given, user):
    with asked(address, **given):
        assert door(proxy_user_header="X-Remote-User").user(request) == user


def test_another_proxy_that_is_trusted(door):
    found = door(proxy_user_header="X-Remote-User", proxies="10.0.0.9, 10.0.0.10")
    for address, user in (("10.0.0.10", "ana"), ("127.0.0.1", None)):
        with asked(address, X_Remote_User="ana"):
            assert found.user(request) == user


def test_either_login_is_enough_where_both_are_set(door):
    found = door(proxy_user_header="X-Remote-User", password=PASSWORD)
    for headers, user in (({"X_Remote_User": "ana"}, "ana"), ({"Cookie": cookie_of(found).partition(";")[0]}, ""), ({}, None)):
        with asked(**headers):
            assert found.user(request) == user


@pytest.mark.parametrize("address, forwarded, client", [
    ("10.0.0.9", "192.0.2.7", "10.0.0.9"), ("127.0.0.1", "192.0.2.7", "192.0.2.7"),
    ("127.0.0.1", "1.1.1.1, 192.0.2.7", "192.0.2.7"),
    ("127.0.0.1", "", "127.0.0.1"), ("127.0.0.1", "x\x1b[31m", "127.0.0.1"), ("127.0.0.1", "2001:db8::1", "2001:db8::1")])
def test_whose_guess_it_was(door, address, forwarded, client):
    with asked(address, X_Forwarded_For=forwarded):
        assert door().client(request) == client

"""Who may look at the panel; guessing its password takes long."""
from __future__ import annotations

import pytest
from flask import Flask, Response, request
from hypothesis import given
from hypothesis import strategies as st

from movidesk.config import load
from movidesk.web.panel import login
from movidesk.web.panel.login import ADDRESSES, OF_ALL, OF_ONE, Attempts, Login
from support.clocks import Clock

PASSWORD = "a-good-password"


# -- guessing ----------------------------------------------------------------------------------------------------------

def test_one_address_has_a_few_tries_then_one_now_and_then():
    clock = Clock()
    attempts = Attempts(clock)
    tries, every = OF_ONE
    assert [attempts.attempt("a") for _ in range(tries)] == [0.0] * tries
    assert attempts.attempt("a") == pytest.approx(every)
    assert attempts.attempt("b") == 0.0
    clock.advance(every / 2)
    assert attempts.attempt("a") == pytest.approx(every / 2)
    clock.advance(every / 2)
    assert attempts.attempt("a") == 0.0 and attempts.attempt("a") > 0


def test_whoever_knows_the_password_has_all_tries_again():
    attempts = Attempts(Clock())
    for _ in range(OF_ONE[0]):
        attempts.attempt("a")
    attempts.worked("a")
    assert attempts.attempt("a") == 0.0


@given(st.lists(st.tuples(st.integers(0, 3000), st.floats(0, 3)), min_size=1, max_size=400))
def test_however_many_addresses_guess(steps):
    """All together never get more tries than OF_ALL gives back, and the memory stays small."""
    clock = Clock(0.0)
    attempts, made = Attempts(clock), 0
    for address, seconds in steps:
        clock.advance(seconds)
        made += attempts.attempt(str(address)) == 0.0
        assert made <= OF_ALL[0] + clock() / OF_ALL[1] + 1
    assert len(attempts._free) <= ADDRESSES + 1


# -- who may look ----------------------------------------------------------------------------------------------------------

@pytest.fixture
def login_of(write_config, monkeypatch):
    """login_of(password=...): of these settings of [panel]."""
    monkeypatch.setattr(login, "ROUNDS", 1)

    def make(**panel) -> Login:
        return Login(load(write_config(panel={"listen": "127.0.0.1:0", **panel})).require())

    return make


def asked(address: str = "127.0.0.1", **headers):
    """A request from this address; headers: User_Agent for User-Agent."""
    return Flask("tests").test_request_context("/", environ_base={"REMOTE_ADDR": address},
                                               headers={name.replace("_", "-"): value for name, value in headers.items()})


def cookie_of(found: Login, **headers) -> str:
    with asked(**headers):
        response = Response()
        found.set_cookie(request, response)
        return response.headers.get("Set-Cookie", "")


@pytest.mark.parametrize("host, user", [
    ("localhost:4576", ""), ("127.0.0.1", ""), ("192.168.0.5:4576", ""), ("evil.example", None),
    ("evil.example:4576", None), ("127.0.0.1.evil.example", None), ("", None)])
def test_without_a_password_only_this_machine_itself(login_of, host, user):
    """A page whose name leads to 127.0.0.1 must not read it."""
    with asked(Host=host):
        assert login_of().user(request) == user


@pytest.mark.parametrize("header", login.FORWARDED)
def test_without_a_password_nobody_through_a_web_server(login_of, header):
    """nginx asks as 127.0.0.1, unless it is told otherwise, and shows the answer to everybody."""
    with asked(**{header: "203.0.113.7"}):
        assert login_of().user(request) is None


def test_the_password_opens_and_nothing_else(login_of):
    found = login_of(password=PASSWORD)
    assert found.is_password(PASSWORD)
    assert not any(found.is_password(given) for given in ("", PASSWORD[:-1], PASSWORD + " ", PASSWORD.upper(), "ã", "\ud800"))
    assert not login_of().is_password("")
    with asked():
        assert found.user(request) is None


def test_a_login_lasts_over_a_restart_and_ends_with_another_password(login_of):
    cookie = cookie_of(login_of(password=PASSWORD)).partition(";")[0]
    for password, user in ((PASSWORD, ""), ("another-password", None)):
        with asked(Cookie=cookie):
            assert login_of(password=password).user(request) == user


def test_a_login_ends_where_it_was_not_used(login_of, monkeypatch):
    found = login_of(password=PASSWORD)
    cookie = cookie_of(found).partition(";")[0]
    now = login.time.time()
    for days, user in ((29, ""), (31, None)):
        monkeypatch.setattr(login.time, "time", lambda days=days: now + days * 86400)
        with asked(Cookie=cookie):
            assert found.user(request) == user


def test_a_clock_that_was_set_back_ends_no_login(login_of, monkeypatch):
    found = login_of(password=PASSWORD)
    cookie = cookie_of(found).partition(";")[0]
    now = login.time.time()
    monkeypatch.setattr(login.time, "time", lambda: now - 300)
    with asked(Cookie=cookie):
        assert found.user(request) == ""


def test_panels_of_two_pbxs_under_one_host_name_have_a_cookie_each(write_config, monkeypatch):
    monkeypatch.setattr(login, "ROUNDS", 1)
    panels = [Login(load(write_config(panel={"listen": "127.0.0.1:0", "password": PASSWORD}, pbx={"name": name})).require())
              for name in ("pbx1", "pbx2")]
    with asked(Cookie="; ".join(cookie_of(found).partition(";")[0] for found in panels)):
        assert [found.user(request) for found in panels] == ["", ""]


@pytest.mark.parametrize("cookie", ["", "viewer", "viewer.x.y", "viewer.aaaa.bbbb", "\xff", "a" * 5000])
def test_a_cookie_that_was_made_up(login_of, cookie):
    with asked(Cookie=f"{login_of(password=PASSWORD).cookie}={cookie}"):
        assert login_of(password=PASSWORD).user(request) is None


def test_the_cookie_is_for_this_page_alone(login_of):
    found = login_of(password=PASSWORD)
    plain, behind_tls = cookie_of(found), cookie_of(found, X_Forwarded_Proto="https")
    for part in ("HttpOnly", "SameSite=Lax", "Max-Age=2592000"):
        assert part in plain
    assert "Secure" in behind_tls and "Secure" not in plain and "Path=" not in plain and "Domain=" not in plain
    assert cookie_of(login_of()) == ""


@pytest.mark.parametrize("address, given, user", [
    ("127.0.0.1", {"X_Remote_User": "ana"}, "ana"), ("127.0.0.1", {}, None), ("127.0.0.1", {"X_Remote_User": " "}, None),
    ("10.0.0.9", {"X_Remote_User": "ana"}, None), ("127.0.0.1", {"X_Other_User": "ana"}, None)])
def test_the_login_of_a_web_server_in_front(login_of, address, given, user):
    with asked(address, **given):
        assert login_of(proxy_user_header="X-Remote-User").user(request) == user


def test_another_proxy_that_is_trusted(login_of):
    found = login_of(proxy_user_header="X-Remote-User", proxies="10.0.0.9, 10.0.0.10")
    for address, user in (("10.0.0.10", "ana"), ("127.0.0.1", None)):
        with asked(address, X_Remote_User="ana"):
            assert found.user(request) == user


def test_either_login_is_enough_where_both_are_set(login_of):
    found = login_of(proxy_user_header="X-Remote-User", password=PASSWORD)
    for headers, user in (({"X_Remote_User": "ana"}, "ana"), ({"Cookie": cookie_of(found).partition(";")[0]}, ""), ({}, None)):
        with asked(**headers):
            assert found.user(request) == user


@pytest.mark.parametrize("address, forwarded, client", [
    ("10.0.0.9", "192.0.2.7", "10.0.0.9"), ("127.0.0.1", "192.0.2.7", "192.0.2.7"),
    ("127.0.0.1", "1.1.1.1, 192.0.2.7", "192.0.2.7"),
    ("127.0.0.1", "", "127.0.0.1"), ("127.0.0.1", "x\x1b[31m", "127.0.0.1"), ("127.0.0.1", "2001:db8::1", "2001:db8::1")])
def test_whose_guess_it_was(login_of, address, forwarded, client):
    with asked(address, X_Forwarded_For=forwarded):
        assert login_of().client(request) == client

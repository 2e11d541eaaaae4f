"""What `movidesk check` finds out about Redis, each on a real one."""
from __future__ import annotations

import json
import re
import socket
import time
from pathlib import Path

import pytest

from movidesk.checks import fleet
from movidesk.checks.finding import NOTE, OK, TROUBLE
from movidesk.config import load
from movidesk.fleet.membership import Membership, account_key
from movidesk_rehearsal.redis_server import PrivateRedis
from support.waits import until

ROOT = Path(__file__).parents[1]
PASSWORD = "a-long-password"


@pytest.fixture
def look(write_config):
    """look(url, **fleet): the findings of a PBX with this Redis, {subject: finding}."""
    def findings(url, **more):
        config = load(write_config(fleet={"redis": url, "pbxs": "2", **more})).require()
        return {finding.subject: finding for finding in fleet.findings(config)}
    return findings


@pytest.fixture(scope="module")
def certified(tmp_path_factory):
    with PrivateRedis(tmp_path_factory.mktemp("tls"), tls=True) as running:
        yield running


def documented() -> list[str]:
    """The rights of the user in docs/fleet.md."""
    line, = re.findall(r"^    user pbx on >a-long-password (.*)$", (ROOT / "docs" / "fleet.md").read_text(), re.MULTILINE)
    return line.split()


def test_nothing_is_asked_without_a_fleet(write_config):
    assert fleet.findings(load(write_config()).require()) == []


def test_all_is_well(redis, look):
    found = look(redis.url)
    assert {finding.state for finding in found.values()} == {OK, NOTE}
    about = found[f"Redis at 127.0.0.1:{redis.port}"]
    assert re.fullmatch(r"(Redis|Valkey) \d+\.\d+\.\d+ \(\d+\.\d ms\)", about.text)
    assert found["PBXs of this account"].text == "0 of 2 there: none"
    assert redis.cli("DBSIZE") == "0", "the check has left something behind"


def test_the_user_of_the_docs_has_exactly_the_rights_needed(certified, look):
    rights = documented()
    assert " ".join(right for right in rights if right.startswith("+")) == fleet.RIGHTS
    certified.add_user("pbx", PASSWORD, *rights)
    certified.close_door()
    url = certified.url_at(certified.port, "pbx", PASSWORD)
    found = look(url, ca_file=str(certified.certificate))
    assert [finding for finding in found.values() if finding.state == TROUBLE] == []
    assert found["rights in Redis"].state == found["TLS to Redis"].state == OK
    certified.restart()


@pytest.mark.parametrize("right", [right for right in fleet.RIGHTS.split() if right not in ("+ping", "+select")])
def test_a_right_that_is_missing_is_named(redis, look, right):
    redis.add_user("pbx", PASSWORD, *(rule for rule in documented() if rule != right))
    found = look(redis.url_at(redis.port, "pbx", PASSWORD))["rights in Redis"]
    assert (found.state, found.text) == (TROUBLE, "refused: " + right[1:])
    assert fleet.RIGHTS in found.remedy


def test_a_database_of_its_own(redis, look):
    redis.add_user("pbx", PASSWORD, *documented())
    url = redis.url_at(redis.port, "pbx", PASSWORD).replace("/0", "/1")
    assert look(url)["rights in Redis"].state == OK
    redis.add_user("pbx", PASSWORD, *(rule for rule in documented() if rule != "+select"))
    found = look(url)[f"Redis at 127.0.0.1:{redis.port}"]
    assert found.state == TROUBLE and "select" in found.text and fleet.RIGHTS in found.remedy


def test_a_user_without_any_right(redis, look):
    redis.add_user("pbx", PASSWORD)
    found = look(redis.url_at(redis.port, "pbx", PASSWORD))[f"Redis at 127.0.0.1:{redis.port}"]
    assert found.state == TROUBLE and fleet.RIGHTS in found.remedy


@pytest.mark.parametrize(("user", "password", "text"), [
    ("pbx", "wrong", "it refuses the user or the password"), ("", "", "it wants a user and a password")])
def test_who_may_not_enter(redis, look, user, password, text):
    redis.add_user("pbx", PASSWORD, *documented())
    redis.close_door()
    found, = look(redis.url_at(redis.port, user, password)).values()
    assert (found.state, found.text) == (TROUBLE, text)
    assert PASSWORD not in str(found) and "wrong" not in str(found)


def test_a_redis_that_is_not_there(redis, look):
    redis.stop()
    found, = look(redis.url).values()
    assert (found.state, found.text) == (TROUBLE, "nobody listens there")


def test_a_redis_that_does_not_answer(redis, look):
    redis.pause()
    found, = look(redis.url).values()
    assert (found.state, found.text) == (TROUBLE, "no answer")


@pytest.mark.parametrize("answer", [b"+OK\r\n", b":5\r\n", b"$-1\r\n", b"*0\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_another_program_listens_there(other_program, look, answer):
    port = other_program(answer)
    found = look(f"redis://127.0.0.1:{port}")
    last = list(found.values())[-1]
    assert last.subject == f"Redis at 127.0.0.1:{port}" and last.state == TROUBLE
    assert "does not answer as Redis does" in last.text


def test_a_redis_that_goes_away_meanwhile(redis, redis_proxy, look, monkeypatch):
    monkeypatch.setattr(fleet, "_role", lambda about: [redis_proxy.cut()][1:])
    found = look(redis.url_at(redis_proxy.port))
    assert found["Redis' memory"].state == OK
    assert found[f"Redis at 127.0.0.1:{redis_proxy.port}"].state == TROUBLE


def test_a_name_that_is_not_known(look):
    found, = look("redis://redis.invalid").values()
    assert found.subject == "Redis at redis.invalid:6379"
    assert found.state == TROUBLE and found.text in ("its name cannot be resolved", "no answer")


def test_a_certificate_that_is_not_trusted(certified, look):
    found, = look(certified.url).values()
    assert found.text == "this machine does not trust its certificate" and "ca_file" in found.remedy


def test_an_authority_that_is_not_there(certified, look):
    found, = look(certified.url, ca_file="/nonexistent/ca.crt").values()
    assert found.text == "[fleet] ca_file = /nonexistent/ca.crt cannot be read by this user"


def test_a_certificate_for_another_name(certified, look, monkeypatch):
    addresses = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: addresses("127.0.0.1", *rest, **more))
    found, = look(certified.url.replace("127.0.0.1", "redis.example.com"), ca_file=str(certified.certificate)).values()
    assert found.text == "its certificate is for another name"


def test_tls_asked_of_a_port_without(redis, look):
    found, = look(redis.url.replace("redis:", "rediss:")).values()  # Redis waits for the end of a line
    assert found.text == "no answer" and "rediss://" in found.remedy


def test_no_tls_asked_of_a_port_with_it(certified, look):
    found, = look(certified.url.replace("rediss:", "redis:")).values()
    assert found.state == TROUBLE and "rediss://" in found.remedy


def test_a_password_in_the_open_is_noted(monkeypatch, redis, look):
    addresses = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: addresses("127.0.0.1", *rest, **more))
    found = look(redis.url.replace("127.0.0.1", "redis.example.com"))
    assert found["TLS to Redis"].state == NOTE and "rediss://" in found["TLS to Redis"].text


def test_a_policy_that_throws_keys_away(redis, look):
    redis.set(maxmemory_policy="allkeys-lru")
    found = look(redis.url)["Redis' memory"]
    assert (found.state, found.text) == (TROUBLE, "maxmemory-policy is allkeys-lru")


def test_a_full_redis(redis, look):
    redis.set(maxmemory="100kb")  # less than an empty one takes
    found = look(redis.url)
    assert found["Redis' memory"].state == TROUBLE and "MB are used" in found["Redis' memory"].text
    assert "hset" in found["rights in Redis"].text


def test_a_replica(redis, look):
    redis.cli("REPLICAOF", "127.0.0.1", "1")
    found = look(redis.url)
    assert found["Redis' role"].text == "a replica, which takes no writes"


def test_a_slow_redis(redis, redis_proxy, look):
    redis_proxy.delay = 0.06
    found = look(redis.url_at(redis_proxy.port))["Redis' answers"]
    assert found.state == TROUBLE and "a script" in found.why


@pytest.fixture
def there(redis, write_config):
    """there(name, **more): this PBX has joined."""
    def join(name, **more):
        key, now = account_key(load(write_config(fleet={"redis": redis.url, "pbxs": "2"})).require()), 1000 * time.time()
        redis.cli("HSET", key, f"pbx:{name}", json.dumps({
            "version": "0.0.9", "seen": now, "lease": now + 60000, "pbxs": 2, "limit": 10, "share": "limit", "line": {}, **more}))
    return join


@pytest.mark.parametrize(("option", "value", "said"), [
    ("pbxs", 3, "pbx2 (0.0.9): [fleet] pbxs is 2 here, 3 elsewhere"),
    ("share", "none", "pbx2 (0.0.9): [fleet] share is limit here, none elsewhere")])
def test_who_else_is_there(redis, look, there, option, value, said):
    there("pbx2", **{option: value})
    found = look(redis.url)["PBXs of this account"]
    assert (found.state, found.text) == (TROUBLE, said)


def test_a_pbx_that_is_refused(redis, look, write_config, tmp_path):
    fleet_options = {"redis": redis.url, "pbxs": "2"}
    (tmp_path / "other").mkdir()
    other, this = (Membership(load(write_config(fleet=fleet_options, **more)).require(), time.monotonic, time.time)
                   for more in ({"journal": {"path": str(tmp_path / "other" / "journal.db")}}, {}))
    until(lambda: other.is_well() or other.remembered()["well"], 30)
    until(lambda: (other.is_well(), this.is_well()) and this.is_refused(), 30)
    for member in other, this:
        member.close()
    found = look(redis.url)["PBXs of this account"]
    assert (found.state, found.why) == (TROUBLE, "this PBX sends nothing until that is mended")
    assert "another PBX of this account is called" in found.text


def test_limits_that_differ(redis, look, there):
    there("pbx1")
    there("pbx2", limit=20)
    found = look(redis.url)["PBXs of this account"]
    assert (found.state, found.text) == (TROUBLE, "[movidesk] requests_per_minute differs: pbx1 10, pbx2 20")

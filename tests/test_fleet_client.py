"""The client of the fleet's Redis: what it costs, and that it ends in time."""
from __future__ import annotations

import socket
import threading
import time

import pytest

from movidesk.config.options import Secret
from movidesk.fleet import Away
from movidesk.fleet.client import MOST_CONNECTIONS, Client


def test_a_name_that_cannot_be_resolved_costs_a_second_at_most(monkeypatch):
    """getaddrinfo has no time-out: with DNS away it takes 10 to 30 seconds."""
    over = threading.Event()

    def getaddrinfo(*_args, **_options):
        over.wait(60)
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    client, began = Client(Secret("redis://redis.example:6379/0"), "k"), time.monotonic()
    try:
        with pytest.raises(Away, match="does DNS work"):
            client.decide({})
        assert time.monotonic() - began < 20
    finally:
        over.set()


def test_a_connection_costs_no_round_trip_but_the_call(redis):
    """A branch's Redis is far, and each script of the dialplan has a connection of its own."""
    client, sent = Client(Secret(redis.url), "k"), []
    connection = client.redis.connection_pool.make_connection()
    connection.send_packed_command = lambda command, **_options: sent.append(command)
    connection.on_connect()
    assert sent == []
    client.close()


def test_more_callers_than_connections_wait_for_one(redis):
    client, errors = Client(Secret(redis.url), "k"), []
    client.longest = 60.0

    def look():
        try:
            client.state()
        except Away as error:
            errors.append(str(error))

    threads = [threading.Thread(target=look) for _ in range(2 * MOST_CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.close()
    assert not [error for error in errors if "connections" in error.lower()]


@pytest.mark.parametrize("reply", [b"+OK", b":5", b"HTTP/1.1 400 Bad Request", b"$-1", b"*0", b"$2\r\n[]", b"$1\r\n5",
                                   b"*1\r\n$1\r\nx"])
def test_what_is_not_redis_counts_as_away(other_program, reply):
    port = other_program(reply + b"\r\n")
    client = Client(Secret(f"redis://127.0.0.1:{port}/0"), "k")
    for action in (lambda: client.decide({}), client.state):
        with pytest.raises(Away):
            action()
    client.close()


def test_the_certificate_is_for_the_name_that_was_given():
    client = Client(Secret("rediss://redis.example:6379/0"), "k")
    assert client.redis.connection_pool.make_connection().check_hostname is True

"""The Redis of the tests and the demo, and the network in front of it, do to their clients what they say."""
from __future__ import annotations

import os
import socket
import ssl
import threading
import time

import pytest

from movidesk_rehearsal.redis_server import PrivateRedis, RedisFailed
from support.proxy import TO_CLIENT, TO_SERVER
from support.waits import until

PONG = b"+PONG\r\n"


@pytest.fixture
def dial():
    """dial(port): a connection there, which ends with the test."""
    made = []

    def connect(port, seconds=10.0):
        made.append(socket.create_connection(("127.0.0.1", port), seconds))
        return made[-1]

    yield connect
    for connection in made:
        connection.close()


def ask(connection, command=b"PING"):
    connection.sendall(command + b"\r\n")
    return connection.recv(100)


def silent(connection, command=b"PING", seconds=0.3):
    """Whether no answer comes in this time."""
    connection.settimeout(seconds)
    try:
        ask(connection, command)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(10.0)
    return False


def test_it_keeps_its_port_and_forgets_what_it_knew(redis, dial):
    redis.cli("SET", "a", "1")
    port = redis.port
    for end in (redis.stop, redis.kill):
        connection = dial(port)
        ask(connection)  # so that it is accepted
        end()
        assert connection.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            dial(port)
        redis.start()
        assert (redis.port, ask(dial(port)), redis.cli("DBSIZE")) == (port, PONG, "0")


def test_a_paused_redis_is_silent_and_answers_later(redis, dial):
    connection = dial(redis.port)
    redis.pause()
    assert silent(connection)
    redis.resume()
    assert connection.recv(100) == PONG


def test_a_paused_redis_can_be_stopped(redis):
    redis.pause()
    redis.stop()
    assert not redis.running


def test_a_user_may_do_what_its_rules_say(redis, dial):
    redis.add_user("pbx", "secret", "~movidesk:*", "+get")
    connection = dial(redis.port)
    assert ask(connection, b"AUTH pbx secret") == b"+OK\r\n"
    assert ask(connection, b"GET movidesk:a") == b"$-1\r\n"
    assert ask(connection, b"GET other").startswith(b"-NOPERM")
    assert ask(connection, b"SET movidesk:a 1").startswith(b"-NOPERM")


def test_a_closed_door_wants_a_user(redis, dial):
    redis.close_door()
    assert ask(dial(redis.port)).startswith(b"-NOAUTH")
    redis.restart()
    assert ask(dial(redis.port)) == PONG


def test_a_full_redis_refuses_to_write(redis, dial):
    redis.set(maxmemory="1")
    assert ask(dial(redis.port), b"SET a 1").startswith(b"-OOM")


def test_scripts_and_keys_are_forgotten(redis):
    sha = redis.cli("SCRIPT", "LOAD", "return 1")
    redis.cli("SET", "a", "1")
    redis.forget_scripts()
    assert redis.cli("SCRIPT", "EXISTS", sha) == "0"
    redis.forget_everything()
    assert redis.cli("DBSIZE") == "0"


def test_it_can_stand_still(redis, dial):
    connection = dial(redis.port)
    begun = time.monotonic()
    sleeping = threading.Thread(target=redis.sleep, args=(0.5,))
    sleeping.start()
    until(lambda: silent(connection, seconds=0.2))
    sleeping.join()
    assert time.monotonic() - begun >= 0.5


def test_a_command_that_it_refuses_is_told(redis):
    with pytest.raises(RedisFailed, match="NOSUCH"):
        redis.cli("NOSUCH")


def test_tls_is_proved_by_its_certificate(tmp_path, dial):
    with PrivateRedis(tmp_path, tls=True) as redis:
        assert redis.url == f"rediss://127.0.0.1:{redis.port}/0"
        trusting = ssl.create_default_context(cafile=str(redis.certificate))
        with trusting.wrap_socket(dial(redis.port), server_hostname="127.0.0.1") as connection:
            assert ask(connection) == PONG
        with pytest.raises(ssl.SSLError):
            ssl.create_default_context().wrap_socket(dial(redis.port), server_hostname="127.0.0.1")
        assert redis.cli("PING") == "PONG"


def test_nothing_is_left_outside_its_folder(tmp_path):
    with PrivateRedis(tmp_path) as redis:
        pid, outside = redis.pid, redis._socket_folder
    assert not os.path.exists(outside)
    assert not os.path.exists(f"/proc/{pid}")


def test_the_proxy_passes_what_it_gets(redis_proxy, dial):
    connection = dial(redis_proxy.port)
    assert [ask(connection), ask(connection)] == [PONG, PONG]
    connection.shutdown(socket.SHUT_WR)
    assert connection.recv(1) == b""


def test_the_proxy_delays(redis_proxy, dial):
    connection = dial(redis_proxy.port)
    assert ask(connection) == PONG
    redis_proxy.delay = 0.2
    begun = time.monotonic()
    assert ask(connection) == PONG
    assert time.monotonic() - begun >= 0.4


def test_held_packets_arrive_after_all(redis_proxy, dial):
    connection = dial(redis_proxy.port)
    redis_proxy.hold()
    assert silent(connection)
    redis_proxy.release()
    assert connection.recv(100) == PONG


def test_a_cut_of_one_direction_lets_requests_through(redis, redis_proxy, dial):
    connection = dial(redis_proxy.port)
    redis_proxy.hold(TO_CLIENT)
    assert silent(connection, b"SET a 1")
    until(lambda: redis.cli("GET", "a") == "1")
    redis_proxy.release()
    redis_proxy.hold(TO_SERVER)
    assert connection.recv(100) == b"+OK\r\n"
    assert silent(connection, b"SET a 2")
    assert redis.cli("GET", "a") == "1"


def test_a_request_arrives_though_its_client_gave_up(redis, redis_proxy, dial):
    connection = dial(redis_proxy.port)
    ask(connection)
    redis_proxy.hold()
    connection.sendall(b"SET late 1\r\n")
    connection.close()
    redis_proxy.release()
    until(lambda: redis.cli("GET", "late") == "1")


def test_a_cut_ends_connections_and_refuses_new_ones(redis_proxy, dial):
    connection = dial(redis_proxy.port)
    assert ask(connection) == PONG
    redis_proxy.cut()
    with pytest.raises(ConnectionResetError):
        connection.recv(1)
    with pytest.raises(ConnectionRefusedError):
        dial(redis_proxy.port)
    redis_proxy.mend()
    assert ask(dial(redis_proxy.port)) == PONG


def test_a_client_of_a_server_that_is_gone_is_reset(redis, redis_proxy, dial):
    redis.kill()
    with pytest.raises(ConnectionResetError):
        ask(dial(redis_proxy.port))

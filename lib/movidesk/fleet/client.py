"""Calls of the script in Redis. An answer counts only if it comes within TIMEOUT seconds, and no call is repeated."""

from __future__ import annotations

import inspect
import json
import re
import threading
from typing import TYPE_CHECKING, Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from movidesk.fleet import script
from movidesk.fleet.records import Away

if TYPE_CHECKING:
    from collections.abc import Callable

    from movidesk.config.options import Secret

#: Seconds for the connection, and for each answer. A later answer counts for nothing.
TIMEOUT = 0.3
#: Seconds for a whole call. It may have to resolve a name, to which no socket time-out applies, connect with TLS, and log in.
LONGEST = 0.9
#: Connections at most, also those of calls that were given up and still wait for name resolution. One call more waits for a free
#: one, for TIMEOUT.
MOST_CONNECTIONS = 32
#: What redis-py or we raise at an answer that is not Redis'.
NOT_AN_ANSWER = (ValueError, TypeError, LookupError, AttributeError)


class Client:
    """A Redis. Several threads may use it; each call takes a connection, and a failed one is closed.

    key: of the account's state; it may change, and counts for the calls that begin afterwards. ca_file: the certificate of the
    authority that signed Redis' own; '' means the system's. text: the script, if not the product's: tests move its clock.
    """

    def __init__(self, address: Secret, key: str, ca_file: str = "", text: str = ""):
        self._address, self.key = address.reveal(), key
        options: dict[str, Any] = {"protocol": 2, **_no_driver_info()}  # else each connection costs four more round trips
        if self._address.startswith("rediss:"):
            options["ssl_check_hostname"] = True
            if ca_file:
                options["ssl_ca_certs"] = ca_file
        # Left to itself, redis-py repeats calls of which nobody knows whether Redis has executed them.
        pool = redis.BlockingConnectionPool.from_url(
            self._address, max_connections=MOST_CONNECTIONS, timeout=TIMEOUT, socket_timeout=TIMEOUT,
            socket_connect_timeout=TIMEOUT, retry=Retry(NoBackoff(), 0), health_check_interval=0, decode_responses=True,
            **options)
        self._free, self.longest = threading.BoundedSemaphore(MOST_CONNECTIONS), LONGEST
        self.redis = redis.Redis(connection_pool=pool)
        self.more: tuple[int, ...] = ()  # further arguments, if the script is not the product's
        self._script = self.redis.register_script(text or script.text())

    def decide(self, asked: dict[str, object]) -> dict[str, Any]:
        """Run the script (fleet/decide.lua) and return its answer. Raises Away if Redis does not answer, or refuses to run it."""
        arguments: list[str | int] = [json.dumps(asked), *self.more]
        answer: dict[str, Any] = self._safely(lambda: _object(self._script([self.key], arguments)))
        return answer

    def state(self) -> tuple[float, dict[str, dict[str, Any]]]:
        """Redis' clock (epoch seconds), and the fields of the account's state. Raises Away."""
        clock: float = self._safely(self._time)
        fields: dict[str, dict[str, Any]] = self._safely(
            lambda: {name: _object(value) for name, value in self.redis.hgetall(self.key).items()})
        return clock, fields

    def close(self) -> None:
        """Close all connections."""
        self.redis.connection_pool.disconnect()

    def _time(self) -> float:
        seconds, micros = self.redis.time()
        return float(seconds + micros / 1e6)

    def _safely(self, action: Callable[[], Any]) -> Any:
        """What the action returns, after LONGEST seconds at most. Raises Away, whatever is wrong with Redis."""
        if not self._free.acquire(timeout=TIMEOUT):
            raise Away(f"{MOST_CONNECTIONS} calls wait for Redis already (does DNS work?)")
        call = _Call(action, self._free.release)
        try:
            call.start()
        except RuntimeError as error:  # no memory, or too many threads
            self._free.release()
            raise Away(str(error)) from None
        call.join(self.longest)
        if call.is_alive():
            raise Away(f"no answer within {self.longest:g} s (does DNS work?)")
        if isinstance(call.error, NOT_AN_ANSWER):
            raise Away(f"not an answer of Redis ({type(call.error).__name__}): another program listens there") from call.error
        if isinstance(call.error, (redis.RedisError, OSError)):
            raise Away(self._mask(f"{type(call.error).__name__}: {call.error}")) from None
        if call.error is not None:
            raise call.error
        return call.result

    def _mask(self, text: str) -> str:
        """The text in one line, without the user and the password that stand before the @ of the address."""
        found = re.match(r"\w+://([^@/]*)@", self._address)
        for part in found.group(1).split(":") if found else ():
            text = text.replace(part, "***") if len(part) > 3 else text
        return " ".join(text.split())[:200]


def _object(text: str | bytes) -> dict[str, Any]:
    """The JSON object in an answer. Raises ValueError, TypeError."""
    found = json.loads(text)
    if not isinstance(found, dict):
        raise TypeError(type(found).__name__)
    return found


class _Call(threading.Thread):
    """An action in its own thread, which nobody needs to wait for. When it has ended, `result` or `error` tells how."""

    def __init__(self, action: Callable[[], Any], release: Callable[[], None]):
        super().__init__(name="redis", daemon=True)
        self._action, self._release = action, release
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.result = self._action()
        except BaseException as error:  # the caller raises it
            self.error = error
        finally:
            self._release()


def _no_driver_info() -> dict[str, None]:
    """The options by which a connection does not tell Redis which library it is: other ones from redis-py 7 on."""
    known = inspect.signature(redis.Connection.__init__).parameters.keys() | inspect.signature(
        redis.connection.AbstractConnection.__init__).parameters.keys()
    return {"driver_info": None} if "driver_info" in known else {"lib_name": None, "lib_version": None}

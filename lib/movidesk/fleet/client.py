"""Calls of the script in Redis: one at a time, each answered in TIMEOUT seconds, and none repeated."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from movidesk.fleet import script
from movidesk.fleet.records import Away

if TYPE_CHECKING:
    from movidesk.config.options import Secret

#: Seconds for the connection, and for each answer. A later answer counts for nothing.
TIMEOUT = 0.3
MOST_CONNECTIONS = 32


class Client:
    """A Redis. Several threads may use it; each call takes a connection, and a failed one is closed.

    ca_file: the certificate of the authority that signed Redis' own; '' means the system's.
    """

    def __init__(self, address: Secret, key: str, ca_file: str = "", text: str = ""):
        self._address, self._key = address.reveal(), key
        options: dict[str, Any] = {"ssl_ca_certs": ca_file} if ca_file and self._address.startswith("rediss:") else {}
        # Left to itself, redis-py repeats calls of which nobody knows whether Redis has executed them.
        pool = redis.ConnectionPool.from_url(
            self._address, max_connections=MOST_CONNECTIONS, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT,
            retry=Retry(NoBackoff(), 0), health_check_interval=0, decode_responses=True, client_name="movidesk", **options)
        self.redis = redis.Redis(connection_pool=pool)
        self.more: tuple[int, ...] = ()  # further arguments, for a script that takes them
        self._script = self.redis.register_script(text or script.text())

    def decide(self, asked: dict[str, object]) -> dict[str, Any]:
        """Run the script (fleet/decide.lua). Raises Away where Redis does not answer, or does not take it."""
        return dict(json.loads(self._safely(lambda: self._script([self._key], [json.dumps(asked), *self.more]))))

    def state(self) -> tuple[float, dict[str, dict[str, Any]]]:
        """Redis' clock (epoch seconds), and the fields of the account's state. Raises Away."""
        seconds, micros = self._safely(self.redis.time)
        found = self._safely(lambda: self.redis.hgetall(self._key))
        return seconds + micros / 1e6, {name: dict(json.loads(value)) for name, value in found.items()}

    def close(self) -> None:
        """Close all connections."""
        self.redis.connection_pool.disconnect()

    def _safely(self, action: Any) -> Any:
        try:
            return action()
        except (redis.RedisError, OSError, ValueError) as error:
            raise Away(self._mask(f"{type(error).__name__}: {error}")) from None

    def _mask(self, text: str) -> str:
        """The text without what stands before the @ of the address: a user and a password."""
        found = re.match(r"\w+://([^@/]*)@", self._address)
        for part in found.group(1).split(":") if found else ():
            text = text.replace(part, "***") if len(part) > 3 else text
        return " ".join(text.split())[:200]

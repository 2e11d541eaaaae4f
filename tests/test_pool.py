"""The waiting line and the limit of a fleet: the property tests of one PBX, decided in a real Redis."""
from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize

from movidesk_rehearsal.redis_server import PrivateRedis
from support.fleet_history import World
from support.fleets import VirtualRedis, member_journal
from support.line_machine import LineMachine


@pytest.fixture(scope="module", autouse=True)
def redis(tmp_path_factory):
    with PrivateRedis(tmp_path_factory.mktemp("redis")) as running:
        FleetLineMachine.redis = running
        yield running


class FleetLineMachine(LineMachine):
    """One PBX with a Redis: what holds for the journal alone holds for both."""

    redis: PrivateRedis

    @initialize(limit=st.integers(1, 12))
    def begin(self, limit: int) -> None:
        super().begin(limit)
        self.journal.close()
        self.redis.forget_everything()
        self.folder = tempfile.TemporaryDirectory()
        self.client = VirtualRedis(self.redis.url, self.clock, ahead=1000.0)
        self.journal = member_journal(Path(self.folder.name), self.client, self.clock)
        for _ in range(32):
            assert self.journal.pool.beat(limit)
            self.clock.now += 2.0

    def hear(self, call, answer: str) -> None:
        self.over()
        super().hear(call, answer)

    def over(self) -> None:
        with self.journal.store.transaction():
            self.journal.store.execute("UPDATE requests SET finished = :now WHERE grant_id != ''", now=self.clock.now)

    def teardown(self) -> None:
        if hasattr(self, "client"):
            self.client.close()
            self.folder.cleanup()
        super().teardown()


TestFleetLineMachine = FleetLineMachine.TestCase
TestFleetLineMachine.settings = settings(max_examples=25, stateful_step_count=30, deadline=None,
                                         suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4, 173])
def test_never_over_the_limit_whatever_fails(redis, tmp_path, seed):
    """And no two heads, nobody overtaken, and all get on afterwards; bench/fleet_histories.py runs 2,000 such histories."""
    world = World(redis, tmp_path, random.Random(seed))
    world.play(steps=15)
    world.close()

"""The rules of the waiting line."""
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from movidesk.rules import rate_limit, waiting_line


def test_a_phone_that_refused_and_then_answers_shows_one_more_agent(clock):
    """One agent talks, the other has refused lately: Movidesk said 4 with one taken. When the second answers, two are taken."""
    queue = waiting_line.Queue("77", changed=False, busy_agents=1)
    after = waiting_line.after_answer(queue, "5253", "", 2, clock(), waiting_line.PACE, doubtful=True)
    assert after.busy_agents == waiting_line.UNKNOWN
    assert waiting_line.after_answer(queue, "5253", "", 1, clock(), waiting_line.PACE, doubtful=True).busy_agents == 1


def looks(limit: int, script: bool = False, until: float = 9.0, places=(1, 2, 3, 4, 5, 50, 500)) -> list[float]:
    return [waiting_line.look_again(place, until, script, limit) for place in places]


def test_callers_look_every_one_to_five_seconds_at_ten_a_minute():
    assert looks(10) == [5, 5, 3, 4, 5, 5, 5] == looks(10, script=True)
    assert looks(10, until=1.7)[:3] == [1, 1, 3] and looks(10, until=0.1)[:3] == [0.2, 1, 3]
    assert looks(10, until=0.331)[:3] == [0.34, 1, 3], "the head looks as soon as a request is free"
    assert looks(10, script=True, until=0.1)[:3] == [3, 3, 3]


def test_at_a_raised_limit_a_free_agent_waits_less_than_a_second():
    assert all(max(looks(limit)[:2]) < 1 for limit in (300, 1000, rate_limit.UNLIMITED))
    assert min(looks(rate_limit.UNLIMITED)) >= 0.2, "Asterisk hears no key while `received` runs"
    assert looks(1000, script=True) == [1, 1, 3, 3, 3, 4, 8], "a script costs forty milliseconds"


@given(st.integers(1, rate_limit.UNLIMITED), st.floats(-1, 100), st.booleans(), st.integers(1, 600))
def test_a_look_is_whole_seconds_or_less_than_one(limit, until, script, place):
    wait = waiting_line.look_again(place, until, script, limit)
    assert wait == int(wait) or 0.2 <= wait < 1
    assert "e" not in str(wait) and len(str(wait)) <= 4, "WaitExten() reads it"
    assert wait <= waiting_line.look_again(place + 1, until, script, limit) or place < 3
    assert wait >= waiting_line.look_again(place, until, script, limit + 1) or place > 2, "a higher limit, a shorter look"


@given(st.integers(1, rate_limit.UNLIMITED))
def test_500_callers_cost_about_the_same_at_every_limit(limit):
    """Movidesk has said that all agents are busy: the first asks again in 30 s."""
    assert sum(1 / wait for wait in looks(limit, until=30.0, places=range(1, 501))) < 110


def test_who_may_ask_while_others_ask():
    def most(free: int, taken: int = 0, limit: int = 100, **queue) -> int:
        """How many callers may ask beside the first."""
        return max((asking for asking in range(1, 20) if waiting_line.may_ask_beside(
            waiting_line.Queue("77", **queue), asking, free, taken, limit)), default=0)

    assert [most(free) for free in (0, 3, 4, 6, 16, 100)] == [0, 0, 1, 2, 7, 7]
    assert most(100, limit=99) == 0, "only at a raised limit"
    assert most(100, changed=False) == 0, "Movidesk has said that all are busy"
    assert most(100, taken=38, busy_agents=40) == 0, "all 40 were busy, and two of them are free"
    assert most(100, taken=34, busy_agents=40) == 2


def test_while_all_phones_are_busy_the_head_asks_at_its_longest_interval():
    queue = waiting_line.Queue("77", asked=100.0, pace=6.0, changed=True)
    assert waiting_line.request_class(queue, 0, 100.0, waiting_line.Phones(2, 1), 30.0) == rate_limit.HEAD
    assert waiting_line.request_class(queue, 0, 129.0, waiting_line.Phones(2, 0), 30.0) is None
    assert waiting_line.request_class(queue, 0, 130.0, waiting_line.Phones(2, 0), 30.0) == rate_limit.PROBE
    assert waiting_line.request_class(queue, 0, 100.0, waiting_line.Phones(0, 0), 30.0) == rate_limit.HEAD, "nobody is known"
    assert waiting_line.request_class(queue, 0, 100.0, waiting_line.Phones(1, 0), 30.0, at_once=True) == rate_limit.HEAD


LEFT = [118.0, 119.0, 120.0, 120.0, 120.0, 121.0, 122.0]


@pytest.mark.parametrize("waited, left, stayed, expected", [
    (117.0, LEFT, [], True),
    (117.0, LEFT, [130.0] * 2, True),
    (117.0, LEFT, [130.0] * 6, False),   # as many stay
    (100.0, LEFT, [], False),            # they leave later
    (121.5, LEFT, [], False),            # too few have waited so long
    (117.0, LEFT[:4], [], False),        # too few are known
    (10.0, [11.0] * 50, [], False),      # a new caller asks at once
    (60.0, [wait / 10 for wait in range(560, 700)], [], False),  # they leave at any time: nobody is held back for ever
])
def test_who_is_about_to_leave(waited, left, stayed, expected):
    assert waiting_line.is_about_to_leave(waited, 4.0, left, stayed) is expected

"""The rules of the waiting line."""
from __future__ import annotations

from movidesk.rules import waiting_line


def test_a_phone_that_refused_and_then_answers_shows_one_more_agent(clock):
    """One agent talks, the other has refused lately: Movidesk said 4 with one taken. When the second answers, two are taken."""
    queue = waiting_line.Queue("77", changed=False, busy_agents=1)
    after = waiting_line.after_answer(queue, "5253", "", 2, clock(), waiting_line.PACE, doubtful=True)
    assert after.busy_agents == waiting_line.UNKNOWN
    assert waiting_line.after_answer(queue, "5253", "", 1, clock(), waiting_line.PACE, doubtful=True).busy_agents == 1

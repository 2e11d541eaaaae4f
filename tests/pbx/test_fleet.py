"""Two PBXs of one account, each with its own service: one line, one limit."""
from __future__ import annotations

from contextlib import ExitStack

from movidesk_rehearsal.fleet import Fleet
from movidesk_rehearsal.phones import Agent, Caller, answers
from office import ANSWERED, VARIABLES


def test_two_pbxs_that_do_not_know_each_other_share_movidesk(tree, tmp_path):
    with Fleet(tree, tmp_path, shared=False, limit=1000, variables=VARIABLES) as fleet, ExitStack() as phones:
        for number, pbx in enumerate(fleet.pbxs):
            phones.enter_context(Agent(pbx.pbx, f"525{2 + number}", answers(hang_up_after=0.2)))
            phones.enter_context(Agent(pbx.pbx, f"525{3 - number}", answers(hang_up_after=0.2)))
        callers = [phones.enter_context(Caller(pbx.pbx, "77", f"47339901{n:02}")) for n, pbx in enumerate(fleet.pbxs)]
        assert [caller.wait().status for caller in callers] == [200, 200]
        tickets = fleet.pbxs[0].wait_for_tickets(2)
        assert sorted(ticket.id.partition("-")[0] for ticket in tickets) == ["pbx1", "pbx2"]
        assert [pbx.requests(ticket.id) for ticket in tickets for pbx in fleet.pbxs] == [ANSWERED] * 4
        assert fleet.redis.cli("DBSIZE") == "0"

"""What the page shows: the model as Movidesk's people would see it, as JSON. Times are seconds since 1970."""
from __future__ import annotations

from itertools import islice
from typing import Any, Callable

from movidesk_sim.documents import epoch
from movidesk_sim.faults import Faults
from movidesk_sim.links import Look
from movidesk_sim.model import CANCELED, LOST, MADE, RECEIVED, Agent, Group, Movidesk, Ticket

ENDED = 40        # tickets that are shown
REQUESTS = 40
PROBLEMS = 20
MAX_TEXT = 300    # characters of a parameter or an answer
ORIGINS = {RECEIVED: "received", MADE: "made", LOST: "lost", CANCELED: "abandoned"}


def view(model: Movidesk, faults: Faults, look: Callable[[str], Look]) -> dict[str, Any]:
    """Everything on the page. `look` says what is at a link, without waiting."""
    now = model.clock()
    open_tickets = [ticket for ticket in model.tickets.values() if ticket.state in ("waiting", "offered")]
    ended = (ticket for ticket in reversed(model.tickets.values()) if ticket.complete or ticket.state == "made")
    return {
        "now": now,
        "agents": [_agent(model, agent) for agent in model.agents.values()],
        "waiting": [_waiting(model, ticket) for ticket in open_tickets],
        "tickets": [_ended(model, ticket, look) for ticket in islice(ended, ENDED)],
        "counts": {"tickets": len(model.tickets), "problems": len(model.problems), "duplicates": model.duplicates},
        "requests": _requests(model),
        "problems": [{"n": number, "time": problem["time"], "text": problem["text"][:MAX_TEXT]} for number, problem
                     in reversed(list(enumerate(model.problems))[-PROBLEMS:])],
        "limit": {"seconds": model.limit.seconds, "requests": model.limit.at(now), "taken": model.limit.window(now),
                  "free_at": now + max(0.0, model.limit.wait(now))},
        "groups": [_group(group, now) for group in model.groups.values()],
        "mode": faults.mode,
        "more_faults": sum(not rule.name for rule in faults.rules),
    }


def _agent(model: Movidesk, agent: Agent) -> dict[str, Any]:
    ticket = model.tickets.get(model.in_call.get(agent.extension, ""))
    offered = model.tickets.get(model.held_for(agent.extension) or "")
    state = ("call" if agent.extension in model.in_call else "ringing" if offered
             else "offline" if not agent.online else "free" if agent.telephony else "no_telephony")
    shown = ticket or (offered if state == "ringing" else None)
    return {"extension": agent.extension, "name": agent.name, "online": agent.online, "telephony": agent.telephony,
            "state": state, "call": shown and _call(model, shown)}


def _begin(ticket: Ticket) -> float:
    """When the caller came, as the PBX reports it; else when Movidesk heard of the call."""
    return epoch(ticket.dates.get("callDate", "")) or ticket.heard


def _answered(ticket: Ticket) -> float | None:
    return epoch(ticket.dates.get("transferDate", ""))


def _over(ticket: Ticket) -> float | None:
    return epoch(ticket.dates.get("completedDate", "")) or epoch(ticket.dates.get("canceledDate", ""))


def _is_known(ticket: Ticket) -> bool:
    """Whether the caller has a number; `anonymous` is none, and several callers share it."""
    return any(character.isdigit() for character in ticket.number)


def _call(model: Movidesk, ticket: Ticket) -> dict[str, Any]:
    """What is on the agent's screen. earlier: how many other calls have this number; None if nobody knows who calls."""
    answered = _answered(ticket)
    earlier = sum(other.number == ticket.number for other in model.tickets.values()) - 1 if _is_known(ticket) else None
    return {"id": ticket.id, "number": ticket.number, "queue": ticket.queue, "since": answered or _begin(ticket),
            "waited": max(0.0, answered - _begin(ticket)) if answered else None, "earlier": earlier}


def _waiting(model: Movidesk, ticket: Ticket) -> dict[str, Any]:
    """offered: the extension whose phone rings; '' if none does, or not any more."""
    rings = not model.switches.reserve or model.held_for(ticket.offered) == ticket.id
    return {"id": ticket.id, "number": ticket.number, "queue": ticket.queue, "since": _begin(ticket),
            "offered": ticket.offered if rings else "", "code": ticket.code}


def _ended(model: Movidesk, ticket: Ticket, look: Callable[[str], Look]) -> dict[str, Any]:
    begin, answered, over = _begin(ticket), _answered(ticket), _over(ticket)
    agent = model.agents.get(ticket.agent)
    left_line = answered or over
    return {"id": ticket.id, "number": ticket.number, "origin": ORIGINS[ticket.origin], "state": ticket.state,
            "known": _is_known(ticket), "queue": ticket.queue, "agent": ticket.agent, "agent_name": agent.name if agent else "",
            "time": begin,
            "waited": max(0.0, left_line - begin) if left_line else None,
            "talked": max(0.0, over - answered) if answered and over else None,
            "recordings": [{"link": link, **look(link)._asdict()} for link in ticket.links]}


def _requests(model: Movidesk) -> list[dict[str, Any]]:
    """The newest requests first, each with a number that stays."""
    newest = islice(reversed(model.log), REQUESTS)
    return [{"n": model.recorded - place, "time": entry["time"], "method": entry["method"],
             "endpoint": entry["endpoint"][:MAX_TEXT], "status": entry["status"], "answer": entry["answer"][:MAX_TEXT],
             "fault": entry.get("fault", ""),
             "params": [(name[:MAX_TEXT], value[:MAX_TEXT]) for name, value in entry["params"].items()]}
            for place, entry in enumerate(newest)]


def _group(group: Group, now: float) -> dict[str, Any]:
    return {"queue_id": group.queue_id, "opens": group.opens, "closes": group.closes, "today": group.today(now),
            "holiday": group.today(now) in group.holidays, "closed": group.closed(now)}

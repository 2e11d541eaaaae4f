"""The control interface, JSON under /control/: tests and rehearsals set the scene and see what arrived."""
from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import asdict, fields, replace
from typing import Any

from flask import Blueprint, Response, jsonify, request

from movidesk_sim.faults import Fault, Faults
from movidesk_sim.guard import Refused, check_request
from movidesk_sim.links import check_links
from movidesk_sim.made_calls import make_call
from movidesk_sim.model import Agent, Group, Movidesk


def create_control(model: Movidesk, faults: Faults, lock: AbstractContextManager, host: str = "127.0.0.1") -> Blueprint:
    """GET shows, POST changes: an object or a list of them, with only the fields to change. Misuse: 400.

    host: the name or address under which it is asked, besides this machine's own; pages of other sites are refused.
    """
    control = Blueprint("control", __name__, url_prefix="/control")
    control.before_request(lambda: check_request(host))
    control.register_error_handler(Refused, lambda error: (jsonify(error=str(error)), error.status))

    @control.get("/<what>")
    def show(what: str) -> Any:
        with lock:
            shown = state(model, faults)
        if what == "state":
            return shown
        return jsonify(shown[what]) if what in shown else ({"error": "no such thing to show"}, 404)

    @control.get("/links")
    def links() -> Any:
        with lock:
            tickets = list(model.tickets.values())
        return jsonify(check_links(tickets))  # without the lock: it may take its time

    @control.post("/make_call")
    def call_now() -> Any:
        return make_call(model, lock, **request.get_json())  # without the lock: the PBX answers when the agent has

    @control.post("/<what>")
    def change(what: str) -> Any:
        if what not in CHANGES:
            return {"error": "no such thing to change"}, 404
        body = request.get_json()
        with lock:
            for item in body if isinstance(body, list) else [body]:
                CHANGES[what](model, faults, item)
            return jsonify(state(model, faults).get(what, {}))

    @control.errorhandler(ValueError)
    @control.errorhandler(TypeError)
    @control.errorhandler(KeyError)
    def misuse(error: Exception) -> Response:
        return jsonify({"error": f"{type(error).__name__}: {error}"}), 400

    return control


def state(model: Movidesk, faults: Faults) -> dict[str, Any]:
    """Everything there is to see, without the token."""
    return {
        "time": model.clock(),
        "agents": [{**asdict(agent), "in_call": model.in_call.get(agent.extension),
                    "offered_to": model.held_for(agent.extension)} for agent in model.agents.values()],
        "groups": [asdict(group) for group in model.groups.values()],
        "tickets": [ticket.to_json() for ticket in model.tickets.values()],
        "requests": list(model.log),
        "problems": model.problems,
        "duplicates": model.duplicates,
        "faults": [asdict(rule) for rule in faults.rules],
        "limit": asdict(model.limit),
        "switches": asdict(model.switches),
    }


def change_agents(model: Movidesk, faults: Faults, item: dict) -> None:
    """Add or change an agent; `queues` puts it last in those groups (new or old) that it is not yet in."""
    item = dict(item)
    queues = [int(queue_id) for queue_id in item.pop("queues", [])]
    agent = typed(model.agents.get(item["extension"], Agent("new")), item)
    model.agents[agent.extension] = agent
    for queue_id in queues:
        group = model.groups.get(queue_id) or model.add_group(queue_id)
        if agent.extension not in group.agents:
            group.agents.append(agent.extension)


def change_groups(model: Movidesk, faults: Faults, item: dict) -> None:
    """Add or change a group; agents that do not exist yet are added, online."""
    group = typed(model.groups.get(item["queue_id"], Group(0)), item)
    new = [Agent(extension) for extension in group.agents if extension not in model.agents]
    model.agents.update((agent.extension, agent) for agent in new)
    model.groups[group.queue_id] = group


def change_faults(model: Movidesk, faults: Faults, item: dict) -> None:
    """Add a fault at the end; {"clear": true} takes all away."""
    if item.get("clear"):
        faults.rules = []
    else:
        faults.rules.append(typed(Fault(), item))


def change_limit(model: Movidesk, faults: Faults, item: dict) -> None:
    """Starts with an empty window."""
    model.limit = typed(model.limit, item)


def change_switches(model: Movidesk, faults: Faults, item: dict) -> None:
    model.switches = typed(model.switches, item)


def reset(model: Movidesk, faults: Faults, item: dict) -> None:
    faults.rules = []
    model.reset()


CHANGES = {"agents": change_agents, "groups": change_groups, "faults": change_faults, "limit": change_limit,
           "switches": change_switches, "reset": reset}


def typed(old: Any, changes: dict[str, Any]) -> Any:
    """A copy of a dataclass with `changes`, each of the old value's type (a whole number does for a float)."""
    known = {field.name for field in fields(old)}
    for name, value in changes.items():
        if name not in known:
            raise ValueError(f"{name}: unknown")
        now = getattr(old, name)
        wanted = (int, float) if isinstance(now, float) else str if now is None else type(now)
        if not isinstance(value, wanted) or isinstance(value, bool) != isinstance(now, bool):
            raise ValueError(f"{name}: {value!r} is of the wrong type")
    return replace(old, **changes)

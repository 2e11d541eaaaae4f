"""Movidesk's telephony API as its two documents describe it, in one process and without a network.

What the documents leave open is decided the strict way and can be switched (`Switches`, `Limit`).
"""
from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Callable, NamedTuple

from movidesk_sim.documents import ENDPOINTS, Refused, check
from movidesk_sim.limit import Limit

EXAMPLE_TOKEN = "155cac97-f203-4bb8-86e1-aa4cb8781f3e"  # the one in the documents' examples
GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
REASONS = {
    "0": "holiday",
    "1": "outside opening hours",
    "2": "no agent online in Movidesk",
    "3": "no agent online in telephony",
    "4": "all agents in a call",
}
RECEIVED, MADE, LOST, CANCELED = 13, 14, 15, 16  # ticket origins
CUT = 0       # as a status: the connection was closed unanswered


class Answer(NamedTuple):
    status: int
    body: str = ""
    headers: Mapping[str, str] = {}


@dataclass
class Switches:
    """What is not known of the real API."""

    reserve: bool = True         # an offered agent is offered to nobody else ...
    offer_seconds: float = 30.0  # ... for this long, or until the call goes on or ends
    reassign: bool = False       # receivedCall after transferedCall frees that agent and offers another
    answer: str = "json"         # receivedCall's body: json "5252", bare 5252, or named "5252 Maria"
    latency: float = 0.0         # seconds from a request to its answer; half of them before Movidesk sees it

    def __post_init__(self) -> None:
        if not 0.0 <= self.latency <= 60.0:
            raise ValueError(f"latency: {self.latency} is not between 0 and 60 seconds")
        if self.answer not in ("json", "bare", "named"):
            raise ValueError(f"answer: {self.answer!r} is neither json, bare nor named")


@dataclass
class Agent:
    extension: str
    name: str = ""
    online: bool = True      # in Movidesk
    telephony: bool = True   # in Movidesk's telephony

    def __post_init__(self) -> None:
        if not self.extension or self.extension in REASONS:
            raise ValueError(f"extension: {self.extension!r} cannot be told from a code")


@dataclass
class Group:
    """A telephony group: its agents in order and when it is open, in its own time zone."""

    queue_id: int
    agents: list[str] = field(default_factory=list)
    opens: str = "00:00"
    closes: str = "24:00"    # earlier than `opens`: past midnight; equal: never open
    weekdays: list[int] = field(default_factory=lambda: list(range(7)))  # 0 = Monday
    holidays: list[str] = field(default_factory=list)                    # YYYY-MM-DD
    utc_offset: float = 0.0  # hours
    last_offered: str = ""

    def closed(self, now: float) -> str | None:
        """The code that says why nobody is served at `now`, or None."""
        local = self._local(now)
        if self.today(now) in self.holidays:
            return "0"
        time = f"{local.hour:02}:{local.minute:02}"
        in_hours = (self.opens <= time < self.closes if self.opens <= self.closes
                    else time >= self.opens or time < self.closes)
        return None if in_hours and local.weekday() in self.weekdays else "1"

    def today(self, now: float) -> str:
        """The day, YYYY-MM-DD."""
        return self._local(now).date().isoformat()

    def _local(self, now: float) -> datetime:
        return datetime.fromtimestamp(now, timezone.utc) + timedelta(hours=self.utc_offset)

    def turn(self) -> list[str]:
        """The agents in order, starting after the one that was offered last."""
        start = self.agents.index(self.last_offered) + 1 if self.last_offered in self.agents else 0
        return self.agents[start:] + self.agents[:start]


@dataclass
class Ticket:
    """One call id and all that was told of it."""

    id: str
    origin: int
    number: str = ""
    queue: int | None = None
    queue_control: bool = True
    state: str = "waiting"  # waiting, offered, transferred, completed, lost, canceled; made
    agent: str = ""
    links: list[str] = field(default_factory=list)
    dates: dict[str, str] = field(default_factory=dict)
    offered: str = ""       # the extension that receivedCall answered last
    # all that it answered; a question that came late may follow the one that counts
    offers: set[str] = field(default_factory=set)
    seen: set[tuple] = field(default_factory=set)
    heard: float = 0.0      # when Movidesk heard of it first, by the model's clock
    code: str = ""          # what receivedCall answered last in place of an extension

    @property
    def complete(self) -> bool:
        """Nothing is missing: the call has its ending, a made call its link."""
        return self.state in ("completed", "lost", "canceled") or (self.state == "made" and bool(self.links))

    def to_json(self) -> dict:
        names = ("id", "origin", "number", "queue", "state", "agent", "links", "dates", "offered")
        return {"complete": self.complete, **{name: getattr(self, name) for name in names}}


class Movidesk:
    """The account. Not safe for threads: whoever serves it holds a lock around each call.

    `problems` lists what a correct connector never does; `duplicates` counts events repeated word for word,
    which a connector that delivers at least once may send.
    """

    def __init__(self, clock: Callable[[], float], *, token: str = EXAMPLE_TOKEN,
                 limit: Limit | None = None, switches: Switches | None = None) -> None:
        if not GUID.fullmatch(token):
            raise ValueError("the token is not a GUID")
        self.clock = clock
        self.token = token
        self.limit = limit or Limit()
        self.switches = switches or Switches()
        self.agents: dict[str, Agent] = {}
        self.groups: dict[int, Group] = {}
        self.reset()

    def reset(self) -> None:
        """Forget calls, log, problems and the limit's window; groups, agents and switches stay."""
        self.tickets: dict[str, Ticket] = {}
        self.log: deque[dict] = deque(maxlen=100_000)
        self.recorded = 0                                # requests in all
        self.problems: list[dict] = []
        self.duplicates = 0
        self.in_call: dict[str, str] = {}                # extension: call id
        self._held: dict[str, tuple[str, float]] = {}    # extension: call id, until
        self.limit = replace(self.limit)

    def add_group(self, queue_id: int, agents: Iterable[str] = (), **opening: object) -> Group:
        """Add or replace a group; agents that do not exist yet are added, online."""
        group = Group(queue_id, list(agents), **opening)
        for extension in group.agents:
            self.agents.setdefault(extension, Agent(extension))
        self.groups[queue_id] = group
        return group

    def held_for(self, extension: str) -> str | None:
        """The call that this agent is offered to and kept for, if any."""
        call_id, until = self._held.get(extension, (None, 0.0))
        return call_id if until > self.clock() else None

    def request(self, method: str, endpoint: str, params: Mapping[str, str]) -> Answer:
        """One request to `/public/v1/<endpoint>`; `params` is its query string, decoded. Never raises. Status CUT: no answer."""
        now = self.clock()
        wait = self.limit.admit(now)
        if wait > 0:
            answer = (Answer(CUT) if self.limit.refuses == "cut"
                      else Answer(429, "too many requests", self.limit.headers(now, wait)))
        else:
            answer = self._checked(method, endpoint, params)
        self.record(method, endpoint, params, answer)
        return answer

    def record(self, method: str, endpoint: str, params: Mapping[str, str], answer: Answer) -> None:
        """Log a request, without its token."""
        shown = {name: value for name, value in params.items() if name != "token"}
        self.recorded += 1
        self.log.append({"time": self.clock(), "method": method, "endpoint": endpoint, "params": shown,
                         "status": answer.status, "answer": answer.body})

    def problem(self, text: str) -> None:
        self.problems.append({"time": self.clock(), "text": text})

    def _checked(self, method: str, endpoint: str, params: Mapping[str, str]) -> Answer:
        known = ENDPOINTS.get((method, endpoint))
        if known is None:
            exists = any(endpoint == name for _, name in ENDPOINTS)
            self.problem(f"{method} {endpoint}: no such {'method' if exists else 'endpoint'}")
            return Answer(405 if exists else 404)
        if params.get("token", "").lower() != self.token.lower():
            return Answer(401, "token: not this account's")
        try:
            for parameter in known:
                check(parameter, params.get(parameter.name))
            for name in set(params) - {"token"} - {parameter.name for parameter in known}:
                self.problem(f"{endpoint}: unknown parameter {name!r}")
            return Answer(200, self._handle(method, endpoint, params))
        except Refused as refusal:
            self.problem(f"{endpoint} {params.get('id', '')}: {refusal}")
            return Answer(400, str(refusal))

    def _handle(self, method: str, endpoint: str, params: Mapping[str, str]) -> str:
        if endpoint == "asterisk_receivedCall":  # not an event: asked again, it offers another agent
            return self._received(params)
        event = (method, endpoint, *sorted((k, v) for k, v in params.items() if k != "token"))
        ticket = self.tickets.get(params["id"])
        if ticket and event in ticket.seen:
            self.duplicates += 1
            return ""
        if endpoint in ("asterisk_startTransferedCall", "asterisk_startCanceledCall"):
            ticket = self._new_without_control(endpoint, ticket, params)
        elif endpoint == "setMadeCallLink":
            ticket = self._made_link(ticket, params)
        elif ticket is None:
            raise Refused("id: no such call")
        elif endpoint == "asterisk_transferedCall":
            self._transferred(ticket, params)
        else:
            self._ended(ticket, method, endpoint, params)
        ticket.dates.update({k: v for k, v in params.items() if k.endswith("Date")})
        ticket.seen.add(event)
        return ""

    def _received(self, params: Mapping[str, str]) -> str:
        group = self._group(params)
        ticket = self.tickets.get(params["id"])
        if ticket is None:
            ticket = Ticket(params["id"], RECEIVED, params["clientNumber"], group.queue_id, heard=self.clock())
            self.tickets[ticket.id] = ticket
        elif (ticket.number, ticket.queue) != (params["clientNumber"], group.queue_id):
            raise Refused("id: already another call's")
        elif ticket.state not in ("waiting", "offered", "transferred" if self.switches.reassign else ""):
            raise Refused(f"id: this call is already {ticket.state}")
        if "callDate" in params:
            ticket.dates["callDate"] = params["callDate"]
        self._free(ticket)
        word = self._next(group, ticket)
        ticket.offered, ticket.code = ("", word) if word in REASONS else (word, "")
        ticket.state = "offered" if ticket.offered else "waiting"
        ticket.offers.add(ticket.offered)
        if self.switches.answer == "named":
            word += " " + (REASONS.get(word) or self.agents[word].name)
        return word if self.switches.answer == "bare" else json.dumps(word)

    def _next(self, group: Group, ticket: Ticket) -> str:
        """The next extension in the group's order, kept for this call, or the code for why there is none."""
        code = group.closed(self.clock())
        if code:
            return code
        online = [extension for extension in group.turn() if self.agents[extension].online]
        reachable = [extension for extension in online if self.agents[extension].telephony]
        free = [extension for extension in reachable
                if extension not in self.in_call and not self.held_for(extension)]
        if not free:
            return "4" if reachable else "3" if online else "2"
        chosen = free[1] if free[0] == ticket.offered and len(free) > 1 else free[0]
        group.last_offered = chosen
        if self.switches.reserve:
            self._held[chosen] = (ticket.id, self.clock() + self.switches.offer_seconds)
        return chosen

    def _transferred(self, ticket: Ticket, params: Mapping[str, str]) -> None:
        if ticket.state not in ("waiting", "offered") or not ticket.offers - {""}:
            raise Refused(f"id: this call is {ticket.state}, not offered to an agent")
        extension = params["branchLine"]
        if extension not in ticket.offers:
            raise Refused(f"branchLine: {extension} is no extension that was offered")
        if extension in self.in_call:
            self.problem(f"{ticket.id}: {extension} is still in call {self.in_call[extension]}")
        self._free(ticket)
        self._put_in_call(ticket, extension)

    def _ended(self, ticket: Ticket, method: str, endpoint: str, params: Mapping[str, str]) -> None:
        state, origin, after = {
            "asterisk_completedCall": ("completed", ticket.origin, ("transferred",)),
            "asterisk_lostCall": ("lost", LOST, ("waiting", "offered")),
            "asterisk_canceledCall": ("canceled", CANCELED, ("waiting", "offered")),
        }[endpoint]
        if ticket.state not in after:
            raise Refused(f"id: this call is {ticket.state}, it cannot become {state}")
        if ticket.queue_control != (method == "POST"):
            self.problem(f"{ticket.id}: ended by {method}, which belongs to the other document")
        self._free(ticket)
        ticket.state, ticket.origin = state, origin
        ticket.links += filter(None, [params.get("link")])

    def _new_without_control(self, endpoint: str, ticket: Ticket | None,
                             params: Mapping[str, str]) -> Ticket:
        group = self._group(params)
        if ticket:
            raise Refused(f"id: already that of a call that is {ticket.state}")
        extension = params.get("branchLine", "")
        if extension and extension not in self.agents:
            raise Refused(f"branchLine: no agent has the extension {extension}")
        origin = RECEIVED if extension else CANCELED
        ticket = Ticket(params["id"], origin, params["clientNumber"], group.queue_id, queue_control=False, heard=self.clock())
        self.tickets[ticket.id] = ticket
        if endpoint == "asterisk_startCanceledCall":
            ticket.state = "canceled"
        else:
            self._put_in_call(ticket, extension)
        return ticket

    def made(self, call_id: str, source: str, destination: str) -> Ticket:
        """The PBX answered with this id when it was asked to call `destination` from the extension `source`."""
        ticket = self.tickets.get(call_id) or Ticket(call_id, MADE, queue_control=False, state="made", heard=self.clock())
        if ticket.agent and (ticket.agent, ticket.number) != (source, destination):
            self.problem(f"{call_id}: the id of two made calls")
        ticket.agent, ticket.number = source, destination
        self.tickets[call_id] = ticket
        return ticket

    def _made_link(self, ticket: Ticket | None, params: Mapping[str, str]) -> Ticket:
        if ticket is None:
            ticket = Ticket(params["id"], MADE, queue_control=False, state="made", heard=self.clock())
            self.tickets[ticket.id] = ticket
        ticket.links += filter(None, [params.get("Link")])
        return ticket

    def _group(self, params: Mapping[str, str]) -> Group:
        try:
            return self.groups[int(params["queueId"])]
        except KeyError:
            raise Refused(f"queueId: no telephony group has the id {params['queueId']}") from None

    def _put_in_call(self, ticket: Ticket, extension: str) -> None:
        """An agent talks to one caller: whoever had this agent before has not any more."""
        self._held.pop(extension, None)
        self.in_call[extension] = ticket.id
        ticket.state, ticket.agent = "transferred", extension

    def _free(self, ticket: Ticket) -> None:
        """The agent that this call talks to or is offered to is free again."""
        if self.in_call.get(ticket.agent) == ticket.id:
            del self.in_call[ticket.agent]
        if self._held.get(ticket.offered, ("", 0.0))[0] == ticket.id:
            del self._held[ticket.offered]

"""This PBX as a member of its fleet (movidesk.fleet): what the journal reports to Redis, and what it takes in from there.

A decision has three parts: a transaction that looks, one call of Redis without any lock, and a transaction that records what
became of it. The journal keeps the truth of this PBX's calls. Redis decides who goes next. What it tells of the others is kept
here too, in `elsewhere`, `shared_queues`, `members` and `refusals`, for the rules and for the time when Redis is away.

While the note ALONE_NOTE stands, the journal decides by itself, within this PBX's part of the limit. It is set and removed in
transactions of its own, together with `alone` in the fleet's memory file, and each claim looks at it in its own transaction: so
whoever reports after its removal reports all that was sent, and an answer that comes after it was set grants nothing.
"""

from __future__ import annotations

import json

from movidesk import NamedTuple
from movidesk.fleet.records import ALONE, POOL, REFUSED, WAITS, Away, Refused, Standing, ms
from movidesk.journal.limits import PAUSES
from movidesk.journal.next_events import FREEING, SCREEN
from movidesk.journal.records import WAITS as STANDS_IN_LINE
from movidesk.rules import rate_limit, waiting_line
from movidesk.rules.rate_limit import WINDOW

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

    from movidesk.fleet.membership import Membership
    from movidesk.journal.agents import Agents
    from movidesk.journal.demands import Demands
    from movidesk.journal.limits import Limits
    from movidesk.journal.next_events import NextEvents
    from movidesk.journal.records import Call
    from movidesk.journal.store import Store

    Answer = Optional[dict[str, Any]]  # of the script (fleet/decide.lua); None: Redis is away

#: A note: since when (steady time) the journal decides by itself.
ALONE_NOTE = "fleet_alone"
#: Seconds for which Redis may keep a caller's place without hearing of it: the longest wait between two looks, and GRACE.
SEEN = waiting_line.RAISED_FAR_LOOK + waiting_line.GRACE
#: Seconds of failure during which callers wait as before; after that they are told that Movidesk cannot be asked.
HICCUP = 3.0
#: Two reports of one moment differ by less than this, in seconds.
SAME = 5.0
#: Seconds until the next question, if the answer does not tell when a request may go.
UNKNOWN_WAIT = 5.0
#: The columns of a waiting_line.Queue.
_QUEUE = 'name, asked, pace, news, "full", code'
#: More events than this are not counted.
_ENOUGH = 1000


class Told(NamedTuple):
    """What was reported."""

    report: dict[str, Any]  # as fleet/decide.lua takes it
    queues: dict[str, waiting_line.Queue]  # the rows of the queues whose state was reported


class Pool:
    """Reports to Redis, asks it, and keeps what it answers."""

    def __init__(self, store: Store, member: Membership, limits: Limits, demands: Demands, next_events: NextEvents,
                 agents: Agents):
        self._store, self.member, self._limits, self._demands = store, member, limits, demands
        self._next_events, self._agents = next_events, agents
        self.why = ""  # why Redis is away, as far as this process knows
        self.silent_until, self.silent_because, self._outage_until = 0.0, "", 0.0
        self._number = 0  # of the last report
        self._granted = 0, 0  # how full the window of all was after this process's last grant, and its limit
        limits.in_fleet = self._in_window

    def set_silence(self, seconds: float, why: str) -> None:
        """For so many seconds this PBX sends nothing because Movidesk refuses the token; 0.0: it may send."""
        self.silent_until, self.silent_because = self._store.steady() + seconds if seconds else 0.0, why

    def set_outage(self, seconds: float) -> None:
        """For so many seconds this PBX tries no request because Movidesk does not answer it; 0.0: it tries. Meanwhile its callers
        stand aside for those of other PBXs, whom Movidesk may answer."""
        self._outage_until = self._store.steady() + seconds if seconds else 0.0

    def _in_window(self, ours: int, limit: int) -> tuple[int, int]:
        """See Limits.in_window."""
        if self.is_alone():
            return ours, max(1, self.member.part(limit, self._limits.rate(limit)))
        used, most = self._granted
        return max(ours, used), min(limit, most or limit)

    def is_alone(self) -> bool:
        """Whether the journal decides by itself."""
        return self._store.note(ALONE_NOTE) is not None

    def ask(self, told: Told, question: dict[str, object], limit: int) -> Answer:
        """One call of Redis; None if it is away. Then `is_alone` may have become true. Not within a transaction."""
        try:
            return self.member.call(told.report, question, self._limits.rate(limit))
        except Refused as error:
            self.why = str(error)
        except Away as error:
            self.why = f"Redis cannot be used: {error}"
            if self.member.until_alone() <= 0.0:
                with self._store.transaction():
                    if self.member.go_alone():
                        self._store.set_note(ALONE_NOTE, repr(self._store.steady()))
                        self._store.execute("DELETE FROM elsewhere")
        return None

    def beat(self, limit: int) -> bool:
        """Report, keep the lease, and take in what the others reported; come back from being alone once Redis answers steadily.
        False if Redis is away. Not within a transaction."""
        if self.is_alone() and not self._come_back():
            return False
        with self._store.transaction():
            told = self.report()
        answer = self.ask(told, {}, limit)
        if answer is None:
            return False
        with self._store.transaction():
            self.take_in(answer, told)
        return True

    def _come_back(self) -> bool:
        """End the time alone if Redis answers steadily, or refuses this PBX; returns whether it has ended."""
        if not self.member.is_well() and not self.member.is_refused():
            return False
        try:
            with self._store.transaction():
                self._store.remove_note(ALONE_NOTE)
                self.member.come_back()
        except Away:  # a process holds the memory file: the next beat tries again
            return False
        return True

    def standing(self) -> Standing:
        """How this PBX stands now. Asks nobody."""
        remembered = self.member.remembered()
        part = self.member.part(self.member.last_limit)
        mode = (ALONE if self.is_alone() else POOL if not remembered["since"] else REFUSED if remembered["refused"] else WAITS)
        return Standing(mode, remembered["since"], remembered["why"], part, self.member.until_alone() if mode == WAITS else 0.0)

    def fails_open(self) -> bool:
        """Whether Redis has been away for longer than a HICCUP, so that callers are told that Movidesk cannot be asked."""
        fails = self.member.remembered()["fails"]
        return bool(fails and self._store.steady() - fails > HICCUP) or self.member.asks_nobody()

    # -- a grant ----------------------------------------------------------------------------------------------------

    def add_grant(self, answer: dict[str, Any]) -> int:
        """Record the request that Redis has granted, and drop old ones; returns its number. Within a transaction."""
        now = self._store.steady()
        self._granted = answer["window"]["used"] + 1, answer["window"]["limit"]
        self._store.execute("DELETE FROM requests WHERE at < :long_ago AND rowid < (SELECT max(rowid) FROM requests)",
                            long_ago=now - 10 * WINDOW)
        return self._store.insert("INSERT INTO requests (at, class, grant_id, called) VALUES (:now, :klass, :grant, :called)",
                                  now=now, klass=answer["class"], grant=answer["id"], called=answer["begun"])

    def wait(self, answer: dict[str, Any], klass: int, aged: bool = False, places: int = 1) -> float:
        """Seconds until a request of this class that was not granted may go, if nothing else changes."""
        if answer.get("why"):
            return float(max(0.05, answer["ends"] / 1000))
        if not answer.get("window"):
            return UNKNOWN_WAIT
        window, demand = _window(answer["window"]), _demand(answer["demand"])
        if klass in (rate_limit.FREEING, rate_limit.COMPLETED):
            klass = rate_limit.FREEING if demand.anybody else rate_limit.COMPLETED
        step = rate_limit.until_may_go(klass, window, demand, aged, places) if window.limit else None
        return max(0.05, step or (window.opens[0] if window.opens else UNKNOWN_WAIT))

    def reason(self, answer: dict[str, Any]) -> str:
        """Why a request was not granted."""
        if answer.get("why") == "token":
            return f"Movidesk refuses the token: {answer['token'][2]}"
        if answer.get("why"):
            return PAUSES.get(str(answer["closed"][2]), PAUSES["429"])
        if answer["window"].get("full"):
            return "Redis does not know what was sent in the last minute: nothing is sent until that is over"
        return f"{answer['window']['used']} requests were sent in the last minute by all PBXs"

    # -- the report -------------------------------------------------------------------------------------------------

    def report(self, asker: Call | None = None) -> Told:
        """What Redis is to know of this PBX; asker: a caller who stands in line in any case. Within a transaction."""
        now, store = self._store.steady(), self._store
        self._next_events.wake(now)
        if asker:  # other reports tell of it, too, before its turn is over
            store.execute("UPDATE calls SET seen_until = :until WHERE id = :asker AND seen_until < :soon", until=now + SEEN,
                          asker=asker.id, soon=now + waiting_line.GRACE)
        queues = {queue.name: queue for queue in store.rows(waiting_line.Queue, f"""
            SELECT {_QUEUE} FROM queues EXCEPT SELECT {_QUEUE} FROM shared_queues""")}
        versions = dict(store.rows(lambda *row: row, "SELECT name, version FROM shared_queues"))
        pause, lowered = self._limits.pause(), store.note("lowered")
        rate, of, at = lowered[0].split() if lowered else ("0", "0", "0")
        taken = self._limits.last_taken()
        return Told({
            "number": self._next_number(now),
            "callers": self._callers(now, asker),
            "over": [[grant, finished - called <= rate_limit.SLOW, ms(now - finished)] for grant, called, finished in store.rows(
                lambda *row: row, "SELECT grant_id, called, finished FROM requests WHERE grant_id > '-' AND finished > 0")],
            "alone": [[f"{self.member.instance}-{number}", klass, ms(now - at)] for number, klass, at in store.rows(
                lambda *row: row, "SELECT rowid, class, at FROM requests WHERE grant_id = '' AND at > :begin",
                begin=now - WINDOW)],
            "queues": [[queue.name, versions.get(queue.name, 0), ms(now - queue.asked), ms(queue.pace), bool(queue.changed),
                        queue.busy_agents, queue.code] for queue in queues.values()],
            "ringing": [ms(now - since) for since in self._demands.ringing(now)],
            "closed": [ms(pause.left), pause.strikes, pause.cause] if pause.left else [],
            "token": [ms(self.silent_until - now), 0, self.silent_because] if self.silent_until > now else [],
            "lowered": [int(rate), int(of), ms(now - float(at))] if lowered else [],
            "taken": ms(now - taken) if taken else 10 ** 12,
            "clock": ms(store.clock()),
            "outbox": store.count("SELECT count(*) FROM next_events"),
            "screens": self._next_events.ready(SCREEN, _ENOUGH),
            "freeing": self._next_events.ready(FREEING, _ENOUGH),
            "aged": self._next_events.aged(now),
            "offered": self._demands.offered(),
            "facts": json.dumps(self._facts(now)),
        }, queues)

    def _next_number(self, now: float) -> int:
        """A number higher than that of each report before: calls of Redis overtake each other, and an older report must not
        replace a newer one. The steady clock gives it, which all processes share: a look of a caller then writes nothing."""
        self._number = max(self._number + 1, round(10000 * now))
        return self._number

    def _callers(self, now: float, asker: Call | None) -> list[list[object]]:
        """Those in line, and those for whom a phone rings, who keep their places: id, queue, priority, age, and for how long they
        are seen (0: not in line) and stand aside; the class that they want."""
        # By an index, because each look reads this: the journal may hold 100,000 ended calls.
        found: list[list[object]] = []
        for call_id, queue, priority, rank, seen, aside_until, wants, arrived in self._store.rows(
                lambda *row: row, f"""
                SELECT call_id, queue, priority, rank, CASE WHEN {STANDS_IN_LINE} OR id = :asker THEN seen_until ELSE :now END,
                       aside_until, wants, arrived FROM calls
                WHERE id IN (SELECT id FROM calls INDEXED BY calls_line
                             WHERE ended IS NULL AND ({STANDS_IN_LINE} OR state = 'offered') UNION SELECT :asker)
                ORDER BY rank, id""",
                now=now, asker=asker.id if asker else 0):
            came = waiting_line.arrived(rank, priority) if rank else now - (self._store.clock() - arrived)
            aside = max(0, ms(max(aside_until, self._outage_until) - now))
            found.append([call_id, queue, priority, max(0, ms(now - came)), ms(seen - now), aside,
                          wants if self._outage_until <= now else 0])
        return found

    def _facts(self, now: float) -> dict[str, object]:
        """What the others' journals take in (`take_in`), with ages in milliseconds."""
        return {
            "busy": self._agents.own_callers(),
            "members": [[queue, extension, ms(now - named)] for queue, extension, named in self._agents.members()],
            "refusals": [[refusal.extension, refusal.reason, refusal.since, ms(now - refusal.at), refusal.times]
                         for refusal in self._agents.refusals() if refusal.call]}

    # -- what Redis answers -----------------------------------------------------------------------------------------

    def take_in(self, answer: dict[str, Any], told: Told) -> None:
        """Keep what Redis tells; told: what was reported in the same call. Within a transaction."""
        now, store = self._store.steady(), self._store
        for grant, _quick, _age in told.report["over"]:
            store.execute("UPDATE requests SET grant_id = '-' WHERE grant_id = :grant", grant=grant)
        self._take_queues(answer, told, now)
        facts = [(age / 1000, json.loads(text)) for age, text in dict(answer["facts"]).values() if text]
        self._take_elsewhere(answer, facts)
        self._agents.heard_of_members([(queue, extension, now - age - named / 1000) for age, fact in facts
                                       for queue, extension, named in fact["members"]], SAME)
        self._agents.take_refusals([waiting_line.Refusal(extension, reason, since, now - age - at / 1000, times, 0)
                                    for age, fact in facts for extension, reason, since, at, times in fact["refusals"]], SAME)
        self._limits.take_pause(answer["closed"], answer["lowered"], SAME)

    def _take_queues(self, answer: dict[str, Any], told: Told, now: float) -> None:
        versions = dict(self._store.rows(lambda *row: row, "SELECT name, version FROM shared_queues"))
        heard = set()
        for name, version, age, pace, changed, full, code in answer["queues"]:
            heard.add(name)
            mine = self._store.row(waiting_line.Queue, f"SELECT {_QUEUE} FROM queues WHERE name = :name", name=name)
            known = self._store.row(waiting_line.Queue, f"SELECT {_QUEUE} FROM shared_queues WHERE name = :name", name=name)
            if versions.get(name) == version or mine not in (None, known, told.queues.get(name)):
                continue  # nothing new; or it has changed here since the report, and the next one says so
            queue = waiting_line.Queue(name, now - age / 1000, pace / 1000, changed, full, code)
            for table, more, value in (("queues", "", ""), ("shared_queues", ", version", ", :version")):
                self._store.execute(f"REPLACE INTO {table} ({_QUEUE}{more})"
                                    f" VALUES (:name, :asked, :pace, :changed, :busy_agents, :code{value})",
                                    **queue._asdict(), **({"version": version} if more else {}))
        for name in versions.keys() - heard:  # Redis has begun anew
            self._store.execute("DELETE FROM shared_queues WHERE name = :name", name=name)

    def _take_elsewhere(self, answer: dict[str, Any], facts: list[tuple[float, dict[str, Any]]]) -> None:
        """Who has a caller at another PBX, and how many wait there."""
        wanted = {("agent", extension, 1) for _, fact in facts for extension in fact["busy"]}
        wanted |= {("line", queue, count) for queue, count in dict(answer["waiting"]).items()}
        known = set(self._store.rows(lambda *row: row, "SELECT kind, name, value FROM elsewhere"))
        for kind, name, _value in known - wanted:
            self._store.execute("DELETE FROM elsewhere WHERE kind = :kind AND name = :name", kind=kind, name=name)
        for kind, name, value in wanted - known:
            self._store.execute("REPLACE INTO elsewhere (kind, name, value) VALUES (:kind, :name, :value)",
                                kind=kind, name=name, value=value)


def _window(told: dict[str, Any]) -> rate_limit.Window:
    return rate_limit.Window(told["limit"], told["free"], tuple(opens / 1000 for opens in told["opens"]))


def _demand(told: dict[str, Any]) -> rate_limit.Demand:
    return rate_limit.Demand(told["screens"], told["heads"], told["freeing"], told["anybody"], told["aged"], told["lately"],
                             told["passed"], tuple(pickup / 1000 for pickup in told["pickups"]), told["ring"] / 1000)

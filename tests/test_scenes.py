"""Offices in a virtual clock: callers, agents and their phones, the product's verbs and delivery, and Movidesk's model.

Each scene is one that a line got wrong: agents who are busy elsewhere, who serve several queues, whose phones are off."""
from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent / "bench"))
import _day  # noqa: E402
from _agents import Agent  # noqa: E402
from _day import BEGIN, Caller  # noqa: E402
from _product import Product, VirtualChannel  # noqa: E402
from movidesk import alarms
from movidesk.agi import variables
from movidesk.delivery import api  # noqa: E402
from movidesk.journal import REFUSED

FOR_EVER = 9e9


class Scene(Product):
    """groups: the agents of each queue; callers: (queue, seconds at which it comes, seconds of its talk, patience).

    `phones` says why an extension does not take a call; who is not in it answers after the ring time."""

    def __init__(self, groups: dict[int, list[str]], callers: list[tuple]):
        super().__init__(_day.Scene(1.0, 0, 1.0), 0)
        for queue, agents in groups.items():
            self.movidesk.add_group(queue, agents)
            self.agents.update((extension, Agent(self, extension, random.Random(0))) for extension in agents)
        self.callers = [Caller(number, queue, BEGIN + at, talk, patience)
                        for number, (queue, at, talk, patience) in enumerate(callers)]
        self.phones: dict[str, str] = {}
        self.rung: list[str] = []

    def in_call_until(self, extension: str, seconds: float) -> None:
        """The agent is busy elsewhere, as Movidesk knows."""
        self.movidesk.in_call[extension] = "elsewhere"
        self.at(BEGIN + seconds, self.movidesk.in_call.pop, extension)

    def offer(self, caller: Caller, extension: str) -> None:
        reason = self.phones.get(extension)
        if reason is None:
            super().offer(caller, extension)
            return
        self.rung.append(extension)
        self.channels[caller.number][variables.REFUSAL] = reason
        self.at(self.now + 0.05, self.look, caller)

    def asked(self, since: float, until: float, queue: int = 0) -> list[float]:
        """When Movidesk was asked for an agent between two times, in seconds since the beginning."""
        return [entry["time"] - BEGIN for entry in self.movidesk.log if entry["endpoint"] == "asterisk_receivedCall"
                and queue in (0, int(entry["params"]["queueId"])) and since <= entry["time"] - BEGIN < until]

    def canceled(self) -> list[float]:
        return [entry["time"] - BEGIN for entry in self.movidesk.log if entry["endpoint"] == "asterisk_canceledCall"]

    def answered(self) -> list[float]:
        return [caller.answered and caller.answered - BEGIN for caller in self.callers]

    def run(self) -> Scene:
        super().run()
        assert [entry for entry in self.movidesk.log if entry["status"] == 429] == []
        assert self.movidesk.problems == [] and self.overtakings() == 0
        return self


def test_an_agent_who_was_busy_elsewhere_is_news_once_it_was_offered():
    """Six callers and one agent: Movidesk says 4 while none of the queue's calls is with an agent. 18 requests, the first
    questions, and a second place for each question fit into 130 s."""
    scene = Scene({77: ["5252"]}, [(77, number * 0.5, 1.0, FOR_EVER) for number in range(6)])
    scene.in_call_until("5252", 20)
    answered = scene.run().answered()
    print(answered)
    assert answered == sorted(answered) and answered[-1] < 135


def test_a_quiet_queue_is_asked_for_beside_a_busy_one():
    """The head of queue 78 has no reason to ask: its agent is busy elsewhere, and free again after 5 minutes."""
    busy = [(77, number * 25.0, 40.0, 120.0) for number in range(40)]
    scene = Scene({77: ["5001", "5002", "5003", "5004"], 78: ["5252"]}, [(78, 1.0, 30.0, FOR_EVER)] + busy)
    scene.in_call_until("5252", 300)
    scene.run()
    asked = [0.0] + scene.asked(0, scene.answered()[0], 78)
    print(asked, scene.answered()[0], sum(c.answered is not None for c in scene.callers))
    assert max(later - earlier for earlier, later in zip(asked, asked[1:])) < 110
    assert scene.answered()[0] < 300 + 110


def test_the_end_of_a_call_is_news_for_every_queue_that_the_agent_serves():
    """5252 serves both queues: it is offered in 78 as soon as Movidesk has heard that its call in 77 is over."""
    scene = Scene({77: ["5252"], 78: ["5252"]}, [(78, 0, 10.0, FOR_EVER), (77, 60, 100.0, FOR_EVER), (78, 70, 10.0, FOR_EVER)])
    answered = scene.run().answered()
    print(answered)
    over = scene.callers[1].left - BEGIN
    assert answered[2] < over + 10, "a look every 5 s, and 4 s of ringing"


def test_two_phones_that_are_off_do_not_use_up_the_limit():
    scene = Scene({77: ["5252", "5253"]}, [(77, 0, 10, 5.0), (77, 20, 10, 5.0)])
    scene.phones = {"5252": "UNAVAILABLE", "5253": "UNAVAILABLE"}
    scene.run()
    assert len(scene.asked(0, 6)) <= 3 and len(scene.asked(20, 26)) == 1, "the next caller's one question is its registration"
    assert len(scene.rung) == 3
    first, second = scene.canceled()
    assert first < 5.1 and second < 25.1


def test_another_queue_knows_which_phones_are_off():
    scene = Scene({77: ["5252", "5253"], 78: ["5252", "5253"]}, [(77, 0, 10, 5.0), (78, 90, 10, 5.0)])
    scene.phones = {"5252": "UNAVAILABLE", "5253": "UNAVAILABLE"}
    scene.run()
    assert len(scene.asked(90, 96)) == 1


def test_phones_that_are_off_hold_up_no_agent_who_is_there():
    """5252 and 5253 are off, 5254 works: it takes each call at once."""
    scene = Scene({77: ["5252", "5253", "5254"]}, [(77, number * 60.0, 20.0, FOR_EVER) for number in range(10)])
    scene.phones = {"5252": "UNAVAILABLE", "5253": "CHANUNAVAIL"}
    scene.run()
    waits = [caller.answered - caller.arrived for caller in scene.callers]
    print(waits, len(scene.movidesk.log))
    assert max(waits) < 5


def test_a_phone_that_is_on_again_takes_calls_within_the_longest_pace():
    scene = Scene({77: ["5252", "5253"]}, [(77, 0, 10, FOR_EVER), (77, 1, 10, FOR_EVER)])
    scene.phones = {"5252": "UNAVAILABLE", "5253": "UNAVAILABLE"}
    scene.at(BEGIN + 200, scene.phones.clear)
    first, second = scene.run().answered()
    print(first, second)
    assert 200 < first < 240 and second < first + 15


@pytest.mark.parametrize("seconds", [60, 200, 400])
def test_agents_in_calls_of_their_own_are_asked_for_again_soon(seconds):
    """Movidesk does not know of these calls, and nothing tells us when they end."""
    scene = Scene({77: ["5252", "5253"]}, [(77, 0, 10, FOR_EVER)])
    scene.phones = {"5252": "INUSE", "5253": "INUSE"}
    scene.at(BEGIN + seconds, scene.phones.clear)
    answered, = scene.run().answered()
    asked = scene.asked(0, seconds)
    print(answered, asked)
    assert answered < seconds + 45
    assert len(asked) <= 4 + seconds / 20


# -- a caller whose own questions fail ---------------------------------------------------------------------------------

FAILURES = {"500": (500, ""), "403": (403, ""), "400": (400, "clientNumber"), "404": (404, "no such page"),
            "cut": (None, "the connection was cut")}


class Heard(VirtualChannel):
    """A channel that keeps what is said on the console."""

    def __init__(self, caller, agents, console):
        super().__init__(caller, agents)
        self._console = console

    def say(self, text, level=1, of_caller=True):
        self._console += [text] if level < 3 else []


class Failing(Scene):
    """Movidesk fails every request about some callers between two times, or all requests in an outage."""

    def __init__(self, groups, callers, failing=(), how="500", since=0.0, until=FOR_EVER, outage=(0.0, 0.0)):
        super().__init__(groups, callers)
        self.console, self.tried = [], []  # of the latter: seconds, number
        self.channels = {caller.number: Heard(caller, self.agents, self.console) for caller in self.callers}
        send = self.context.virtual_client.send

        def may_fail(event, **fields):
            at, number = self.now - BEGIN, int(fields["id"].rpartition("-")[2])
            if event == "received":
                self.tried.append((at, number))
            if number in failing and since <= at < until or outage[0] <= at < outage[1]:
                return api.outcome(*FAILURES[how])
            return send(event, **fields)
        self.context.virtual_client.send = may_fail
        self.names: set[str] = set()  # of alarms that stood while the others called
        for second in range(0, 330, 10):
            self.at(BEGIN + second, lambda: self.names.update(alarm.name for alarm in alarms.standing(self.context)))

    def run(self):
        super(Scene, self).run()
        return self

    def set_aside(self):
        return [(job.event.kind, int(job.call.call_id.rpartition("-")[2])) for job in self.context.journal.outbox.jobs(REFUSED)]

    def stepped_aside(self):
        return [text for text in self.console if "the callers behind it ask first" in text]


@pytest.mark.parametrize("how", FAILURES)
def test_who_is_behind_a_caller_whose_questions_fail_is_served(how):
    """Another queue is busy, so that Movidesk is known to answer."""
    others = [(78, number * 20.0, 30.0, FOR_EVER) for number in range(15)]
    scene = Failing({77: ["5252"], 78: ["5001", "5002", "5003", "5004", "5005"]},
                    [(77, 2, 10, 400.0), (77, 3, 10, FOR_EVER), (77, 130, 10, FOR_EVER)] + others, failing={0}, how=how).run()
    answered = scene.answered()
    print(answered[:3], scene.tried[:40], scene.console)
    assert answered[0] is None and answered[1] < 80 and answered[2] < 130 + 60
    assert len(scene.stepped_aside()) == 1 and FAILURES[how][1] in scene.stepped_aside()[0]
    asked = [at for at, number in scene.tried if number == 0 and at < 400]
    assert 400 / 60 < len(asked) < 400 / 25 + 4 and max(b - a for a, b in zip(asked, asked[1:])) < 65
    assert not {"away", "token"} & scene.names
    if how in ("400", "404"):
        assert scene.set_aside()[0] == ("received", 0)
    assert max(caller.answered - caller.arrived for caller in scene.callers[3:]) < 90, "a window of requests, and some"


@pytest.mark.parametrize("how", ["500", "403", "cut"])
def test_where_only_one_fails_the_next_caller_shows_whose_failure_it_is(how):
    scene = Failing({77: ["5252"], 78: ["5001"]}, [(78, 0, 1, FOR_EVER), (77, 20, 10, 400.0), (77, 23, 10, FOR_EVER)],
                    failing={1}, how=how).run()
    print(scene.answered(), scene.tried[:20])
    assert scene.answered()[1] is None and scene.answered()[2] < 20 + 80 and len(scene.stepped_aside()) == 1


@pytest.mark.parametrize("how", ["500", "cut"])
def test_in_an_outage_nobody_loses_its_place(how):
    scene = Failing({77: ["5252"]}, [(77, number * 3.0, 10, FOR_EVER) for number in range(4)], how=how, outage=(0, 300)).run()
    answered = scene.answered()
    print(answered, scene.tried[:30])
    assert answered == sorted(answered) and answered[0] > 300 and "away" in scene.names


def test_who_is_behind_a_closed_ticket_is_served_after_three_refusals():
    """Movidesk has answered the first caller with 4, then refuses each question for it; nobody else asks."""
    scene = Failing({77: ["5252"]}, [(77, 0, 10, 400.0), (77, 3, 10, FOR_EVER)], failing={0}, since=1, how="404")
    scene.in_call_until("5252", 2)
    answered = scene.run().answered()
    print(answered, scene.tried[:20], scene.console)
    assert answered[0] is None and answered[1] < 40 and len(scene.stepped_aside()) == 1
    assert [at for at, number in scene.tried if number == 0 and at > 1][2] < answered[1], "not before the third refusal"


@pytest.mark.parametrize("how", ["400", "404"])
def test_an_arrival_is_not_set_aside_by_what_every_request_meets(how):
    """Such as a wrong path in url. Those who leave meanwhile are told when it is over, as any arrival that nobody asked for."""
    scene = Failing({77: ["5252"], 78: ["5001"]},
                    [(77, number * 40.0, 10, 170.0) for number in range(6)] + [(78, 250, 10, FOR_EVER)],
                    how=how, outage=(0, 300)).run()
    print(scene.answered(), scene.tried, scene.set_aside())
    assert scene.set_aside() == [] and "away" in scene.names and "refused" not in scene.names
    assert scene.answered()[0] is None and scene.answered()[6] > 300
    complete = [ticket.id for ticket in scene.movidesk.tickets.values() if ticket.complete]
    assert sorted(int(call_id.rpartition("-")[2]) for call_id in complete) == list(range(7))


def test_who_is_taken_again_has_its_place_again():
    others = [(78, number * 20.0, 30.0, FOR_EVER) for number in range(15)]
    scene = Failing({77: ["5252"], 78: ["5001", "5002", "5003", "5004", "5005"]},
                    [(77, 2, 10, FOR_EVER), (77, 3, 70, FOR_EVER), (77, 6, 10, FOR_EVER)] + others, failing={0}, until=60).run()
    first, second, third = scene.answered()[:3]
    print(first, second, third)
    assert second < first < third

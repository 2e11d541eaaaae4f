"""What callers and agents do in one call of bench/faults.py --asterisk; each scene says what its caller's visits were."""
from __future__ import annotations

import time
from contextlib import contextmanager
from typing import Callable

from _stage import CLOSE, PATIENCE, Stage
from movidesk_rehearsal.phones import Caller, PhoneFailed


def plain(stage: Stage) -> None:
    """A caller who hangs up at whatever stage that is."""
    visit = stage.visit(77)
    with stage.office.calling("77", stage.number) as caller:
        began = caller.started_at
        seconds = stage.draw.uniform(0.2, 4.0)
        stage.wait(lambda: caller.ended, seconds)
        seen = bool(caller.events("ringing") or caller.events("answered"))
        ended = stage.leave(caller)
        stage.settle(visit, began, ended, seen)


def answered(stage: Stage, play: Callable) -> None:
    """A caller whom an agent of 77 takes; play(caller, leg) goes on from there and returns when the caller's time in 77 ended."""
    visit = stage.visit(77)
    with stage.office.calling("77", stage.number) as caller:
        began, until = caller.started_at, None
        leg = stage.taker(caller, began, PATIENCE)
        if leg:
            stage.pause(CLOSE, CLOSE + 0.3)
            until = None if stage.cut or caller.ended else play(caller, leg)
        else:
            stage.office.counts["callers whom nobody took in time"] += not stage.cut
        seen = bool(caller.events("ringing") or caller.events("answered"))
        ended = stage.leave(caller)
        stage.settle(visit, began, ended, seen, until=until or float("inf"))


def blind(stage: Stage) -> None:
    """The agent passes the caller to a colleague's extension; one of the two ends the call."""
    def play(caller: Caller, leg) -> None:
        to = stage.draw.choice(("5264", "5265"))
        if stage.pass_on(leg, lambda: leg.phone.transfer(to, leg.call_id)):
            colleague = stage.taker(caller, 0.0, 5.0, extensions={to})
            stage.pause(0.1, 0.5)
            if colleague and not stage.cut and stage.draw.random() < 0.5:
                colleague.phone.hang_up(colleague.call_id)
                stage.wait(lambda: caller.ended, 5.0)

    answered(stage, play)


def blind_to_nobody(stage: Stage) -> None:
    """The agent passes the caller to a phone that refuses: the caller is out."""
    def play(caller: Caller, leg) -> None:
        if stage.pass_on(leg, lambda: leg.phone.transfer("5255", leg.call_id)):
            stage.wait(lambda: caller.ended, 5.0)

    answered(stage, play)


def into_sales(stage: Stage) -> None:
    """The agent passes the caller into another queue, whose agent may pass it back."""
    def play(caller: Caller, leg):
        left_77 = time.time()
        if not stage.pass_on(leg, lambda: leg.phone.transfer("78", leg.call_id)):
            return None
        sales = stage.visit(78)
        began, until = left_77, None
        second = stage.taker(caller, began, stage.draw.choice((1.0, PATIENCE)))
        stage.pause(CLOSE, CLOSE + 0.3)
        if second and not stage.cut and not caller.ended and stage.draw.random() < 0.4:
            left_78 = time.time()
            if stage.pass_on(second, lambda: second.phone.transfer("77", second.call_id)):
                until = left_78
                back = stage.visit(77)
                stage.taker(caller, left_78, stage.draw.choice((1.0, PATIENCE)))
                stage.pause(CLOSE, CLOSE + 0.3)
                stage.settle(back, left_78, stage.leave(caller), begun=False)
        stage.settle(sales, began, stage.leave(caller), until=until or float("inf"), begun=False)
        return left_77

    answered(stage, play)


def into_nobody(stage: Stage) -> None:
    """The agent passes the caller into a queue where nobody is free; the caller hangs up there."""
    def play(caller: Caller, leg):
        with context(stage) as place:
            left = time.time()
            if not stage.pass_on(leg, lambda: leg.phone.transfer(str(place.queue), leg.call_id)):
                return None
            visit = stage.visit(place.queue)
            stage.pause(CLOSE, 2.0)
            stage.settle(visit, left, stage.leave(caller), begun=False)
        return left

    answered(stage, play)


def attended(stage: Stage) -> None:
    """The agent calls a colleague, and connects the caller with him."""
    def play(caller: Caller, leg) -> None:
        to = stage.draw.choice(("5264", "5265"))
        with own_call(stage, to, leg.phone.extension) as consultation:
            if consultation.wait_answered():
                stage.pass_on(leg, lambda: leg.phone.transfer_attended(consultation, leg.call_id))
                stage.wait(lambda: consultation.ended, 5.0)
        stage.pause(0.1, 0.5)

    answered(stage, play)


@contextmanager
def own_call(stage: Stage, to: str, extension: str, name: str = ""):
    """A call that a phone of the office makes; its time is noted."""
    with stage.office.calling(to, extension, name) as call:
        try:
            yield call
        finally:
            if call.events("answered"):
                over = [event.at for event in call.events() if event.name in ("ended", "cancelled", "failed")]
                end = min([*over, stage.cut or time.time()])
                stage.office.in_own_call(extension, call.events("answered")[0].at, end)
            stage.leave(call)


def own(stage: Stage) -> None:
    """An agent makes a call of his own: his phone must not ring meanwhile, and nothing is told."""
    extension = stage.draw.choice(("5252", "5253", "5254", "5256", "5257", "5258"))
    with own_call(stage, "601", extension):
        stage.pause(1.0, 4.0)


def reception(stage: Stage) -> None:
    """A receptionist calls a queue, waits there, and puts the customer into her place: while she waits, while the agent's phone
    rings, or when the agent has answered."""
    with context(stage) as place, stage.office.calling(place.phone.extension, stage.number) as customer:
        leg = stage.taker(customer, customer.started_at, PATIENCE)
        if leg:
            into_desk(stage, customer, leg, place)
        stage.leave(customer)


def from_queue_to_queue(stage: Stage) -> None:
    """An agent of 77 calls another queue, and puts the caller into his place there."""
    def play(caller: Caller, leg):
        with context(stage) as place:
            return into_desk(stage, caller, leg, place)

    answered(stage, play)


@contextmanager
def context(stage: Stage):
    """A receptionist's context, until the scene is over. Its queue's agent is away at first."""
    place = stage.office.contexts.get()
    try:
        steer(stage, place, False)
        yield place
    finally:
        stage.office.contexts.put(place)


def steer(stage: Stage, place, online: bool) -> None:
    """Whether the agent of a context's queue is there: without him the queue plays music."""
    stage.office.rehearsal.model.agents[place.agent.extension].telephony = online


def into_desk(stage: Stage, customer: Caller, leg, place):
    """The one whose phone `leg` is calls the context's queue and passes the customer on; when that was, None where it failed."""
    stands_in = "48" + stage.number[2:]
    stage.story.numbers.add(stands_in)
    visit = stage.visit(place.queue)
    moment, passed = stage.draw.choice(("waiting", "ringing", "talking")), None
    with own_call(stage, str(place.queue), leg.phone.extension, stands_in) as consultation:
        began = consultation.started_at
        try:
            consultation.wait_answered(20.0)  # by the music
            if moment != "waiting":
                steer(stage, place, True)
                stage.wait(lambda: [rung for rung in stage.office.legs({stands_in}, began, {place.agent.extension})
                                    if rung.answered or moment == "ringing"], PATIENCE)
                stage.wait(lambda: False, 0.1)
        except PhoneFailed:
            if not stage.cut:
                raise
        if not stage.cut and not customer.ended and not consultation.ended:
            passing = time.time()
            if stage.pass_on(leg, lambda: leg.phone.transfer_attended(consultation, leg.call_id)):
                passed = passing
                stage.wait(lambda: consultation.ended, 5.0)
        if passed and stage.draw.random() < 0.7:
            steer(stage, place, True)
            stage.taker(customer, began, PATIENCE, stage.story.numbers)
            stage.pause(CLOSE, CLOSE + 0.3)
        ended = stage.leave(customer)
    stage.office.counts["passed into a queue while " + moment] += passed is not None
    stage.settle(visit, began, ended if passed else time.time(), seen=bool(consultation.events("answered")))
    return passed


def watched(stage: Stage) -> None:
    """No queue control: Asterisk's own Dial(); the caller may be passed on, to a colleague or into a queue."""
    visit = stage.visit(90)
    with stage.office.calling("watched", stage.number) as caller:
        began, until = caller.started_at, None
        fate = stage.draw.choice(("leave", "blind", "attended", "queue"))
        leg = stage.taker(caller, began, 0.3 if fate == "leave" and stage.draw.random() < 0.5 else PATIENCE)
        stage.pause(0.0 if fate == "leave" else CLOSE, CLOSE + 0.3)
        if leg and not stage.cut and not caller.ended:
            if fate == "blind":
                stage.pass_on(leg, lambda: leg.phone.transfer("5264", leg.call_id))
                stage.pause(0.1, 0.5)
            elif fate == "attended":
                with own_call(stage, "5265", leg.phone.extension) as consultation:
                    consultation.wait_answered()
                    stage.pass_on(leg, lambda: leg.phone.transfer_attended(consultation, leg.call_id))
                    stage.wait(lambda: consultation.ended, 5.0)
            elif fate == "queue":
                left = time.time()
                if stage.pass_on(leg, lambda: leg.phone.transfer("78", leg.call_id)):
                    until, second = left, stage.visit(78)
                    stage.taker(caller, left, stage.draw.choice((1.0, PATIENCE)))
                    stage.pause(CLOSE, CLOSE + 0.3)
                    stage.settle(second, left, stage.leave(caller), begun=False)
        seen = bool(caller.events("ringing") or caller.events("answered"))
        ended = stage.leave(caller)
        stage.settle(visit, began, ended, seen, until=until or float("inf"))


#: How often each is drawn, and what is played.
SCENES = {
    "a caller": (40, plain),
    "blind transfer to a colleague": (8, blind),
    "blind transfer to a phone that refuses": (4, blind_to_nobody),
    "blind transfer into another queue": (10, into_sales),
    "blind transfer to where nobody is free": (6, into_nobody),
    "attended transfer to a colleague": (8, attended),
    "a receptionist's attended transfer into a queue": (10, reception),
    "attended transfer from queue to queue": (6, from_queue_to_queue),
    "watched call": (12, watched),
    "an agent's own call": (8, own),
}

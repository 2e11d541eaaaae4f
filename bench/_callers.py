"""The line on a real Asterisk, for bench/callers.py: callers and agents on SIP phones, beside our line or a polling dialplan."""
from __future__ import annotations

import asyncio
import itertools
import random
import time
from dataclasses import dataclass
from pathlib import Path

from _sip import AgentPhone, CallerPhone, Message, Socket
from _table import median, percentile
from movidesk_rehearsal import asterisk_config
from movidesk_rehearsal.asterisk import PrivateAsterisk
from movidesk_rehearsal.asterisk_tree import AsteriskTree
from movidesk_rehearsal.rehearsal import QUEUE, Rehearsal
from movidesk_sim.model import Limit, Movidesk
from movidesk_sim.web import Simulator, serve

POLL = 5  # seconds between two questions of a polling caller
#: Seconds between two arrivals, or two offers, below which their order is chance: Asterisk runs each call in its own thread.
AT_ONCE = 0.1

#: What an integrator writes first: every caller asks on its own, and a report that Movidesk refuses is forgotten.
POLLING = """
[from-trunk]
exten => 77,1,Answer()
 same => n,Set(CURLOPT(httptimeout)=15)
 same => n,Set(__ID=${UNIQUEID})
 same => n,Set(ENDING=asterisk_canceledCall)
 same => n,Set(DATE=canceledDate)
 same => n,Set(CHANNEL(hangup_handler_push)=gone,s,1)
 same => n,Set(ARRIVED=${STRFTIME(,UTC,%Y-%m-%dT%H:%M:%S)})
 same => n,Set(CALL=queueId=77&clientNumber=${CALLERID(num)}&id=${ID}&callDate=${ARRIVED})
 same => n,StartMusicOnHold()
 same => n(ask),Set(ANSWER=${CURL(${URL}/asterisk_receivedCall?token=${TOKEN}&${CALL},)})
 same => n,Set(AGENT=${FILTER(0-9,${ANSWER})})
 same => n,GotoIf($[${LEN(${AGENT})} > 1]?ring)
 same => n(wait),Wait(${POLL})
 same => n,Goto(ask)
 same => n(ring),StopMusicOnHold()
 same => n,Dial(PJSIP/${AGENT},20,gU(answered^${AGENT}))
 same => n,GotoIf($["${DIALSTATUS}" = "ANSWER"]?done)
 same => n,StartMusicOnHold()
 same => n,Goto(wait)
 same => n(done),Hangup()

[answered]
exten => s,1,Set(MASTER_CHANNEL(ENDING)=asterisk_completedCall)
 same => n,Set(MASTER_CHANNEL(DATE)=completedDate)
 same => n,Set(CURLOPT(httptimeout)=15)
 same => n,Set(CALL=id=${ID}&branchLine=${ARG1}&transferDate=${STRFTIME(,UTC,%Y-%m-%dT%H:%M:%S)})
 same => n,Set(ANSWER=${CURL(${URL}/asterisk_transferedCall?token=${TOKEN}&${CALL},)})
 same => n,Return()

[gone]
exten => s,1,Set(CALL=id=${ID}&${DATE}=${STRFTIME(,UTC,%Y-%m-%dT%H:%M:%S)})
 same => n,Set(ANSWER=${CURL(${URL}/${ENDING}?token=${TOKEN}&${CALL},)})
 same => n,Return()
"""


@dataclass
class Caller:
    """What one caller does, in seconds, and (epoch seconds, 0.0: never) what happened to it."""

    number: str
    arrives: float   # since the scene began
    patience: float
    ring: float      # until the agent picks up
    talk: float
    arrived: float = 0.0
    offered: float = 0.0  # when Movidesk first named an agent
    answered: float = 0.0  # when an agent picked up
    left: float = 0.0

    def waits_at(self, at: float) -> bool:
        return self.arrived <= at and not (0.0 < self.offered <= at or 0.0 < self.left <= at)


def traffic(calls_a_minute: float, seconds: float, seed: int, talk: float, patience: float, ring: tuple[float, float],
            ) -> list[Caller]:
    """Callers who arrive at random; talk and patience are exponential with these means, rings are even between these."""
    draw, found, at = random.Random(seed), [], 0.0
    for number in itertools.count():
        at += draw.expovariate(calls_a_minute / 60)
        if at >= seconds:
            return found
        patient, rings, talks = draw.expovariate(1 / patience), draw.uniform(*ring), draw.expovariate(1 / talk)
        found.append(Caller(f"47{number:08d}", at, patient, rings, talks))
    raise AssertionError("arrivals have no end")


class Office:
    """One PBX with its Movidesk, its agents' phones and its callers. Subclasses start and close the PBX."""

    name = ""
    pbx: PrivateAsterisk
    model: Movidesk
    simulator: Simulator

    def __init__(self, callers: list[Caller], agents: list[str]):
        self.callers = {caller.number: caller for caller in callers}
        self.agents = agents
        self.rung_in_a_call = 0  # how often a phone was rung in a call
        self._busy: set[str] = set()  # agents whose phones ring or are in a call
        self._phones: dict[str, CallerPhone] = {}

    def start(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def _use_phones(self, port: int) -> None:
        """Agents do not register: Asterisk knows their address."""
        text = asterisk_config.pjsip_conf(self.agents, "from-trunk", "from-internal")
        for agent in self.agents:
            text = text.replace(f"[{agent}]\ntype = aor\n", f"[{agent}]\ntype = aor\ncontact = sip:{agent}@127.0.0.1:{port}\n")
        self.pbx.agents = tuple(self.agents)
        self.pbx.use_pjsip(text)

    async def play(self, seconds: float) -> None:
        """The scene: everybody calls in time. Then who is left still talks or waits (`leave`)."""
        self._agents = await Socket(asterisk_config.PHONES, self.pbx.sip_port, self._invited).open()
        self._trunk = await Socket(asterisk_config.TRUNK, self.pbx.sip_port).open()
        self._use_phones(self._agents.port)
        await asyncio.get_running_loop().run_in_executor(None, self.start)
        self._agents.pbx = self._trunk.pbx = (asterisk_config.PHONES, self.pbx.sip_port)  # it may have taken another port
        self.began = time.time()
        loop, begin = asyncio.get_running_loop(), asyncio.get_running_loop().time()
        for caller in self.callers.values():
            loop.call_at(begin + caller.arrives, self._arrive, caller)
        await asyncio.sleep(seconds)
        self.ended = time.time()

    async def leave(self) -> None:
        """Everybody hangs up."""
        for phone in list(self._phones.values()):
            phone.leave()
        await asyncio.sleep(1.0)
        self._agents.close()
        self._trunk.close()

    def _arrive(self, caller: Caller) -> None:
        def gone() -> None:
            caller.left = caller.left or time.time()
            self._phones.pop(caller.number, None)

        phone = self._phones[caller.number] = CallerPhone(self._trunk, str(QUEUE), caller.number, gone)
        caller.arrived = time.time()
        phone.call()
        asyncio.get_running_loop().call_later(caller.patience, self._give_up, caller)

    def _give_up(self, caller: Caller) -> None:
        if not caller.answered and caller.number in self._phones:
            caller.left = caller.left or time.time()
            self._phones[caller.number].leave()

    def _invited(self, message: Message) -> AgentPhone:
        agent, caller = message.first.partition("sip:")[2].partition("@")[0], self.callers[message.user("from")]
        busy = agent in self._busy
        self.rung_in_a_call += busy

        def picked_up(at: float) -> None:
            caller.answered = at
            asyncio.get_running_loop().call_later(caller.talk, self._hang_up, caller)

        def ended() -> None:
            if not busy:
                self._busy.remove(agent)

        self._busy.add(agent)
        return AgentPhone(self._agents, message, caller.ring, picked_up, ended, busy)

    def _hang_up(self, caller: Caller) -> None:
        if caller.number in self._phones:
            self._phones[caller.number].leave()

    # -- what came of it --------------------------------------------------------------------------------------------

    def figures(self, warm: float = 0.0) -> dict[str, float]:
        """Callers answered an hour; seconds of waits, of screens (pick-up until Movidesk accepts `transferred`), and from arrival
        to the screen; requests, 429s, overtakings. warm: without those who arrived in so many seconds of the beginning."""
        callers = [caller for caller in self.callers.values() if self.began + warm <= caller.arrived]
        served = [caller for caller in callers if 0 < caller.answered <= self.ended]
        screens = self._accepted("asterisk_transferedCall")
        shown = [caller for caller in served if caller.number in screens]
        found = {"callers": len(callers), "answered an hour": len(served) / (self.ended - self.began - warm) * 3600,
                 "gave up": sum(not caller.answered and 0 < caller.left <= self.ended for caller in callers)}
        for name, values in {
                "wait": [caller.answered - caller.arrived for caller in served],
                "screen after pick-up": [screens[caller.number] - caller.answered for caller in shown],
                "arrival to screen, less the ring": [screens[caller.number] - caller.arrived - caller.ring for caller in shown],
                }.items():
            found |= {f"{name}, median s": median(values), f"{name}, 95 % s": percentile(values or [float("nan")], 0.95),
                      f"{name}, worst s": max(values, default=float("nan"))}
        log = [entry for entry in list(self.model.log) if entry["time"] <= self.ended]
        return {**found, "answered, no screen": len(served) - len(shown),
                "requests a minute": sum(entry["status"] != 429 for entry in log) / (self.ended - self.began) * 60,
                "429s": sum(entry["status"] == 429 for entry in log), "overtakings": self._overtakings(),
                "phones rung in a call": self.rung_in_a_call}

    def _accepted(self, endpoint: str, at_least: int = 0) -> dict[str, float]:
        """When Movidesk first accepted such a request of each caller, by its number, with an answer of so many characters."""
        found: dict[str, float] = {}
        for entry in list(self.model.log):
            if entry["endpoint"] == endpoint and entry["status"] == 200 and len(entry["answer"]) >= at_least:
                found.setdefault(self.model.tickets[entry["params"]["id"]].number, entry["time"])
        return found

    def _overtakings(self) -> int:
        """How many callers were offered an agent while one who had come earlier was still waiting (see AT_ONCE)."""
        callers = [caller for caller in self.callers.values() if caller.arrived]
        offers = self._accepted("asterisk_receivedCall", at_least=len('"5200"'))
        for caller in callers:
            caller.offered = offers.get(caller.number, 0.0)
        return sum(any(other.arrived < caller.arrived - AT_ONCE and other.waits_at(caller.offered + AT_ONCE)
                       for other in callers[:n]) for n, caller in enumerate(callers) if caller.offered)


class OurLine(Office):
    """movidesk-queue, as installed."""

    name = "movidesk-agi"

    def __init__(self, callers: list[Caller], agents: list[str], folder: Path, tree: AsteriskTree, limit: int, latency: float):
        super().__init__(callers, agents)
        self.rehearsal = Rehearsal(tree, folder, agents=agents, limit=limit,
                                   variables={"MOVIDESK_ANNOUNCE": "0", "MOVIDESK_MAX_WAIT": "3600", "MOVIDESK_MESSAGE": "no"})
        self.pbx, self.model, self.simulator = self.rehearsal.pbx, self.rehearsal.model, self.rehearsal.simulator
        self.model.switches.latency = latency

    def start(self) -> None:
        self.rehearsal.__enter__()

    def close(self) -> None:
        self.rehearsal.__exit__()


class Polling(Office):
    """The dialplan POLLING: CURL() every POLL seconds."""

    name = f"CURL() every {POLL} s"

    def __init__(self, callers: list[Caller], agents: list[str], folder: Path, tree: AsteriskTree, limit: int, latency: float):
        super().__init__(callers, agents)
        self.model = Movidesk(time.time, limit=Limit(limit))
        self.model.switches.latency = latency
        self.model.add_group(QUEUE, agents)
        self.simulator = serve(self.model)
        self.pbx = PrivateAsterisk(tree, folder)
        self.pbx.write("extensions.conf", f"[globals]\nURL = {self.simulator.url}\nTOKEN = {self.model.token}\nPOLL = {POLL}\n"
                                          + POLLING)

    def start(self) -> None:
        self.simulator.start()
        self.pbx.start()

    def close(self) -> None:
        self.pbx.close()
        self.simulator.close()

"""Scripted callers for bench/faults.py: they run the verbs as the dialplan does, without an Asterisk."""
from __future__ import annotations

import os
import random
import re
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import _chaos
from _judge import TOKEN_PARTS, Story, Visit
from movidesk_rehearsal.rehearsal import QUEUE, Rehearsal

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from support import peer as peers  # noqa: E402 (the scripted Asterisk that the tests use)
from support.peer import Peer  # noqa: E402

peers.TIMEOUT = 60  # seconds: AGI() has none of its own, and waits in a frozen service until that goes on or is killed


SALES = 78
#: How often each kind of call is drawn.
KINDS = {"a caller": 60, "a second visit in another queue": 16, "passed into a queue while waiting": 12,
         "passed on in a talk": 12}


class Variables(dict):
    """A channel's variables, and the functions by which it sees those of others. others: channel's name -> its Peer."""

    others: dict[str, Peer] = {}

    def get(self, name, default=None):
        found = re.fullmatch(r"IMPORT\(([^,]+),(.+)\)", name)
        if found:
            return self.others[found[1]].variables.get(found[2], "") if found[1] in self.others else ""
        return " ".join(self.others) if name.startswith("CHANNELS(") else super().get(name, default)


class ScriptedCallers:
    """A PBX of scripted peers: which channels live, and what each caller did."""

    clock_jumps = True
    at_once = 6

    def __init__(self, folder: Path, seed: int, counts: Counter):
        self.counts = counts
        self.stories: list[Story] = []
        self._live: set[str] = set()
        self._live_file, self._orders = folder / "live", folder / "orders"
        self._draw, self._lock = random.Random(seed), threading.Lock()
        self._live_file.write_text("")
        self._orders.write_text("")
        self._environment: dict[str, str] = {}
        console = folder / "console"
        console.write_text(f"#!/bin/sh\ncase $1 in 'dialplan set'*) printf '%s\\n' \"$1\" >> {self._orders} ;; *) exec cat "
                           f"{self._live_file} ;; esac\n")
        console.chmod(0o755)
        self.settings = {"pbx": [f"asterisk = {console}"], "line": ["ask_every = 1", "ask_at_least_every = 1"]}
        self.agents = [str(5000 + number) for number in range(400)]

    def open(self, rehearsal: Rehearsal) -> None:
        self.rehearsal = rehearsal
        rehearsal.model.add_group(SALES, [str(5400 + number) for number in range(200)])
        self._beat = rehearsal.journal_path.with_name("journal.db.alive")
        self._environment = {**rehearsal.env, "PATH": "/usr/bin:/bin"}

    def close(self) -> None:
        pass  # nothing of it runs

    def breakers(self, chaos: _chaos.Chaos) -> list:
        return []

    def call(self, number: int) -> None:
        """One caller: waits for an agent with some patience, talks or gives up, is passed on or not, hangs up."""
        with self._lock:
            kind, = self._draw.choices(list(KINDS), list(KINDS.values()))
        self.counts["scene: " + kind] += 1
        caller = self._channel(f"1700000000.{number}", f"47{number:08d}")
        self._begin(caller, QUEUE)
        story = Story({caller.environment["agi_callerid"]})
        self.stories.append(story)
        if kind == "passed into a queue while waiting":
            self._verb(caller, "received", str(QUEUE))
            caller = self._replaced(caller, number, story)
        agent = self._serve(caller, QUEUE)
        story.visits.append(self._visit(QUEUE, agent))
        if kind == "a second visit in another queue" and agent:
            self._verb(caller, "hangup", MOVIDESK_NEXT=f"control-{SALES}")
            self._begin(caller, SALES)
            story.visits.append(self._visit(SALES, self._serve(caller, SALES)))
        if kind == "passed on in a talk" and agent:
            caller = self._replaced_beside(caller, agent, number)
        if caller:
            self._verb(caller, "hangup")
            self._set_live(caller, False)

    @staticmethod
    def _visit(queue: int, agent: str) -> Visit:
        return Visit(queue, {"completed" if agent else "canceled"}, {agent})

    def _channel(self, uniqueid: str, number: str) -> Peer:
        peer = Peer(uniqueid, number)
        peer.variables = Variables({"UNIQUEID": uniqueid, "CHANNEL(name)": "PJSIP/trunk-" + uniqueid, "CALLERID(num)": number})
        self._set_live(peer, True)
        return peer

    @staticmethod
    def _begin(caller: Peer, queue: int) -> None:
        """[movidesk-queue], with [movidesk-fresh]."""
        caller.variables.update({
            "MOVIDESK_HANDLER": caller["UNIQUEID"], "MOVIDESK_CHANNEL": caller["UNIQUEID"], "MOVIDESK_QUEUE": str(queue),
            "MOVIDESK_ARRIVED": f"{time.time():.3f}", "MOVIDESK_ID": "", "MOVIDESK_ANSWERED_BY": "", "MOVIDESK_AGENT": "",
            "MOVIDESK_RECORDING": "", "MOVIDESK_ENDING": "", "MOVIDESK_REFUSAL": ""})

    def _serve(self, caller: Peer, queue: int) -> str:
        """[movidesk-line]: ask until an agent answers or the caller gives up; the extension that answered, or ''."""
        for _look in range(8):
            caller.variables["MOVIDESK_EXT"] = ""  # else a verb that is killed leaves the agent of the look before
            self._verb(caller, "received", str(queue))
            extension = caller.variables.get("MOVIDESK_EXT", "")
            if not extension:
                if self._chance(0.15):
                    self.counts["callers who gave up waiting"] += 1
                    return ""
                time.sleep(0.2)
            elif self._chance(0.2):
                refusal = self._one_of("INUSE", "ONHOLD", "UNAVAILABLE", "BUSY", "NOANSWER")
                caller.variables["MOVIDESK_REFUSAL"] = refusal
                self.counts["phones that did not take it: " + refusal] += 1
            elif self._chance(0.2):
                self.counts["callers who hung up while it rang"] += 1
                return ""
            else:
                self.counts["callers whom an agent took"] += 1
                agent = self._channel(caller["UNIQUEID"] + "9", "")
                agent.variables.update({name: caller[name] for name in ("MOVIDESK_ID", "MOVIDESK_HANDLER")})
                caller.variables.update({"MOVIDESK_ANSWERED_BY": extension, "MOVIDESK_AGENT": agent["CHANNEL(name)"]})
                self._verb(agent, "transferred", extension)
                self._set_live(agent, False)
                return extension
        return ""

    def _replaced(self, waiting: Peer, number: int, story: Story) -> Peer:
        """A customer's channel takes the place of the channel that waits: it goes on with its variables and without a handler,
        while the handler of the other runs."""
        heir = self._channel(f"1700000000.{number + 10 ** 6}", f"48{number:08d}")
        story.numbers.add(heir.environment["agi_callerid"])
        heir.variables.update({name: value for name, value in waiting.variables.items() if name.startswith("MOVIDESK_")})
        waiting.variables.others = {heir["CHANNEL(name)"]: heir}
        handler = threading.Thread(target=self._leave, args=[waiting])
        handler.start()
        self._verb(heir, "received", str(QUEUE))
        handler.join()
        return heir

    def _leave(self, channel: Peer, peer: str = "") -> None:
        self._verb(channel, "moved", peer)
        self._set_live(channel, False)

    def _replaced_beside(self, talking: Peer, agent: str, number: int) -> Peer | None:
        """A customer's channel takes the place beside the agent; None where the service has not made it the caller's."""
        heir = self._channel(f"1700000000.{number + 10 ** 6}", f"48{number:08d}")
        name = heir["CHANNEL(name)"]
        talking.variables.others = {name: heir}
        self._leave(talking, name)
        order = re.compile(rf'^dialplan set chanvar {re.escape(name)} (\S+) "(.*)"$', re.M)
        for variable, value in order.findall(self._orders.read_text()):
            heir.variables[variable.lstrip("_")] = value
        if "CHANNEL(hangup_handler_push)" in heir.variables:
            return heir
        self._set_live(heir, False)
        self.counts["heirs without a handler, left to the sweep"] += 1
        return None

    def _one_of(self, *things: str) -> str:
        with self._lock:
            return self._draw.choice(things)

    def _chance(self, of: float) -> bool:
        with self._lock:
            return self._draw.random() < of

    def _set_live(self, peer: Peer, alive: bool) -> None:
        """Keep the list that the sweep reads in Asterisk's place."""
        with self._lock:
            self._live.add(peer["UNIQUEID"]) if alive else self._live.discard(peer["UNIQUEID"])
            new = self._live_file.with_suffix(".new")
            new.write_text("".join("!" * 13 + channel + "\n" for channel in self._live))
            new.rename(self._live_file)

    def _verb(self, peer: Peer, name: str, *arguments: str, **local: str) -> None:
        """[movidesk-verb] of dialplan/verb.conf. local: variables for this verb alone."""
        peer.variables.pop("MOVIDESK_RESULT", None)
        peer.variables.update(local)
        arguments = (*arguments, "", "")[:2]
        if self._is_frozen():
            self.counts["verbs beside a frozen service"] += 1
        else:
            try:
                peer.call(int(self.rehearsal.agid.split(":")[1]), name, *arguments)
            except OSError:
                self.counts["FastAGI away or slow"] += 1
        for _ in range(2):
            if "MOVIDESK_RESULT" not in peer.variables:
                self._script(peer, name, arguments)
        if "MOVIDESK_RESULT" not in peer.variables:
            self.counts["a verb killed three times"] += 1
        self.counts["IS LOST on the console"] += sum("IS LOST" in line for line in peer.console)
        peer.console.clear()
        for variable in local:
            del peer.variables[variable]

    def _is_frozen(self) -> bool:
        try:
            return abs(int(time.time()) - int(os.stat(self._beat).st_mtime)) > 3
        except FileNotFoundError:
            return False

    def _script(self, peer: Peer, name: str, arguments) -> None:
        peer.environment.pop("agi_network_script", None)
        peer.process = None
        killer = threading.Timer(0.005 + 0.08 * random.random(), self._kill, [peer])
        self.counts["scripts run"] += 1
        if self._chance(0.1):
            self.counts["scripts killed -9"] += 1
            killer.start()
        done = peer.script([str(self.rehearsal.pbx.agi_dir / "movidesk" / name)], *arguments, env=self._environment)
        killer.cancel()
        if any(part.decode() in done.stderr for part in TOKEN_PARTS):
            self.counts["LEAK: a script's stderr"] += 1

    @staticmethod
    def _kill(peer: Peer) -> None:
        if peer.process is not None:
            peer.process.kill()

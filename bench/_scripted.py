"""Scripted callers for bench/faults.py: they run the verbs as the dialplan does, without an Asterisk."""
from __future__ import annotations

import random
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import _chaos
from _judge import TOKEN_PARTS, Story, Visit
from movidesk_sim.rehearsal import QUEUE, Rehearsal

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import peer as peers  # noqa: E402 (the scripted Asterisk that the tests use)
from peer import Peer  # noqa: E402

peers.TIMEOUT = 60  # seconds: AGI() has none of its own, and waits in a frozen service until that goes on or is killed


class ScriptedCallers:
    """A PBX of scripted peers: which channels live, and what each caller did."""

    clock_jumps = True
    at_once = 6

    def __init__(self, folder: Path, seed: int, counts: Counter):
        self.counts = counts
        self.stories: list[Story] = []
        self._live: set[str] = set()
        self._live_file = folder / "live"
        self._draw, self._lock = random.Random(seed), threading.Lock()
        self._live_file.write_text("")
        self._environment: dict[str, str] = {}
        console = folder / "console"
        console.write_text("#!/bin/sh\nexec cat %s\n" % self._live_file)
        console.chmod(0o755)
        self.settings = {"pbx": ["asterisk = %s" % console]}
        self.agents = [str(5000 + number) for number in range(400)]

    def open(self, rehearsal: Rehearsal) -> None:
        self.rehearsal = rehearsal
        self._environment = {**rehearsal.env, "PATH": "/usr/bin:/bin"}

    def close(self) -> None:
        pass  # nothing of it runs

    def breakers(self, chaos: _chaos.Chaos) -> list:
        return []

    def call(self, number: int) -> None:
        """One caller: waits for an agent with some patience, talks or gives up, hangs up."""
        uniqueid = "1700000000.%d" % number
        caller = Peer(uniqueid, "47%08d" % number, {"MOVIDESK_QUEUE": str(QUEUE), "MOVIDESK_ARRIVED": "%.3f" % time.time()})
        self._set_live(uniqueid, True)
        answered = False
        for _look in range(3):
            self._verb(caller, "received", str(QUEUE))
            if caller.variables.get("MOVIDESK_EXT") or self._chance(0.3):
                break
            time.sleep(0.2)
        if caller.variables.get("MOVIDESK_EXT") and self._chance(0.8):
            agent = Peer(uniqueid + "9", variables={"MOVIDESK_ID": caller.variables.get("MOVIDESK_ID", "")})
            caller.variables["MOVIDESK_ANSWERED_BY"] = caller["MOVIDESK_EXT"]
            self._verb(agent, "transferred", caller["MOVIDESK_EXT"])
            answered = True
        self._verb(caller, "hangup")
        self._set_live(uniqueid, False)
        agent = caller["MOVIDESK_EXT"] if answered else ""
        visit = Visit(QUEUE, {"completed" if answered else "canceled"}, {agent}, call_id="pbx1-" + uniqueid)
        self.stories.append(Story({caller.environment["agi_callerid"]}, [visit]))

    def _chance(self, of: float) -> bool:
        with self._lock:
            return self._draw.random() < of

    def _set_live(self, uniqueid: str, alive: bool) -> None:
        """Keep the list that the sweep reads in Asterisk's place."""
        with self._lock:
            self._live.add(uniqueid) if alive else self._live.discard(uniqueid)
            new = self._live_file.with_suffix(".new")
            new.write_text("".join("!" * 13 + channel + "\n" for channel in self._live))
            new.rename(self._live_file)

    def _verb(self, peer: Peer, name: str, *arguments: str) -> None:
        """[movidesk-verb] of dialplan/verb.conf."""
        peer.variables.pop("MOVIDESK_RESULT", None)
        arguments = (*arguments, "", "")[:2]
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

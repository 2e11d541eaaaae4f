"""Several PBXs on this machine, each a Rehearsal, with one Movidesk account and one Redis."""
from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from movidesk_rehearsal.asterisk_tree import AsteriskTree
from movidesk_rehearsal.redis_server import PrivateRedis
from movidesk_rehearsal.rehearsal import Rehearsal, account
from movidesk_sim.model import Limit
from movidesk_sim.web import Simulator, serve


class Fleet:
    """`pbxs` rehearsals, named pbx1, pbx2, ..., in folders of `folder`, as a context manager.

    Each PBX has its own SIP phones; a phone that every PBX shall reach is switched on at each. redis: started and closed here.
    redis_ports: where each PBX connects to Redis, if not at the Redis itself. shared: whether the PBXs know of it; else each has
    its own line, and the whole limit. settings: lines for sections of each movidesk.conf. options: as Rehearsal takes them.
    """

    def __init__(self, tree: AsteriskTree, folder: os.PathLike, *, pbxs: int = 2, agents: Sequence[str] = ("5252", "5253"),
                 limit: int | Limit = 10, redis: PrivateRedis | None = None, redis_ports: Sequence[int] = (), shared: bool = True,
                 settings: Mapping[str, Sequence[str]] | None = None, **options: Any) -> None:
        self.folder = Path(folder).resolve()
        self.redis = redis or PrivateRedis(self.folder / "redis")
        self.simulator: Simulator = serve(account(agents, limit))
        self.model = self.simulator.model
        ports = redis_ports or [self.redis.port] * pbxs
        self.pbxs = [Rehearsal(tree, self.folder / f"pbx{number}", name=f"pbx{number}", simulator=self.simulator,
                               settings={**(settings or {}), **(self._fleet(port, pbxs) if shared else {})}, **options)
                     for number, port in enumerate(ports, 1)]
        self._open = ExitStack()

    def _fleet(self, port: int, pbxs: int) -> dict[str, Sequence[str]]:
        return {"fleet": [f"redis = {self.redis.url_at(port)}", f"pbxs = {pbxs}"]}

    def __enter__(self) -> Fleet:
        with ExitStack() as opened:
            opened.enter_context(self.redis)
            opened.enter_context(self.simulator)
            for pbx in self.pbxs:
                opened.enter_context(pbx)
            self._open = opened.pop_all()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._open.close()

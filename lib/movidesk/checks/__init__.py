"""The checks of `movidesk check`: each finding says what is wrong, why that matters, and what mends it.

The parts, each a module with a function that returns its findings, run at the same time: what asks the network or Asterisk
waits a few seconds at most. None of them sends the token: the last answer to it is in the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from movidesk.checks import asterisk, calls, configuration, files, fleet, network, service, standing
from movidesk.checks.finding import Finding, trouble
from movidesk.config import Config
from movidesk.messages import _

Part = Callable[[Config], "list[Finding]"]

#: In the order in which an admin should mend what is wrong. Alarms come first.
PARTS: tuple[Part, ...] = (
    standing.findings,
    files.findings,
    service.findings,
    network.findings,
    fleet.findings,
    asterisk.findings,
    calls.findings,
)


def all_findings(config: Config) -> Iterator[Finding]:
    """The findings of all parts, in order. Without a configuration that can be read only the reason."""
    found = configuration.findings(config)
    yield from found
    if not config.modified:
        return  # the other checks would look at the defaults
    with ThreadPoolExecutor(len(PARTS), "check") as pool:
        for running in [pool.submit(_safely, part, config) for part in PARTS]:
            yield from running.result()


def _safely(part: Part, config: Config) -> list[Finding]:
    try:
        return part(config)
    except Exception as error:  # the edge: what one part does not expect must not hide what the others find
        name = part.__module__.rpartition(".")[2]
        return [
            trouble(
                _("check itself ({part})").format(part=name),
                f"{type(error).__name__}: {error}",
                _("a part of the checks did not run"),
                _("report this to the maintainers, with movidesk check --bundle FILE"),
            )
        ]

"""What goes wrong with requests: rules that a test or the page sets, used up one by one."""
from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Fault:
    """What goes wrong with the next `count` requests to `endpoint` (empty = any)."""

    endpoint: str = ""
    count: int = 1
    delay: float = 0.0          # seconds before anything else happens
    status: int = 0             # answered without Movidesk having seen the request; 0 = it sees it
    body: str | None = None  # in place of the real answer's
    retry_after: str = ""       # header of that answer, as given: seconds, a date, nonsense
    cut: str = ""               # close the connection unanswered: before or after Movidesk saw the request
    name: str = ""              # of MODES, by which the page knows its own

    def __post_init__(self) -> None:
        if self.cut not in ("", "before", "after"):
            raise ValueError(f"cut: {self.cut!r} is neither before nor after")


class Faults:
    """The faults still to come; the first that fits a request is used, once for each of its `count`."""

    def __init__(self) -> None:
        self.rules: list[Fault] = []

    def take(self, endpoint: str) -> Fault | None:
        for rule in self.rules:
            if rule.endpoint in ("", endpoint):
                rule.count -= 1
                self.rules = [each for each in self.rules if each.count > 0]
                return rule
        return None

    @property
    def mode(self) -> str:
        """The mode that is on, '' for none."""
        return next((rule.name for rule in self.rules if rule.name), "")

    def set_mode(self, name: str, count: int) -> None:
        """Let the next `count` requests meet this fault of MODES; '' takes it away. Others stay. Raises ValueError."""
        if name and name not in MODES:
            raise ValueError(f"mode: {name!r} is none of {', '.join(MODES)}")
        if count < 1:
            raise ValueError(f"count: {count} is less than 1")
        self.rules = [rule for rule in self.rules if not rule.name]
        if name:
            self.rules.append(Fault(name=name, count=count, **MODES[name]))


#: How the page can let Movidesk answer: the fault of each mode, as fields of Fault.
MODES: dict[str, dict] = {
    "429": {"status": 429, "retry_after": "20"},
    "500": {"status": 500},
    "slow": {"delay": 8.0},
    "nonsense": {"body": "<html><h1>Service under maintenance</h1></html>"},
    "cut": {"cut": "after"},
    "outage": {"cut": "before"},
}

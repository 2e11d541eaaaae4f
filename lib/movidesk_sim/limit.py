"""The limit of requests: so many in a sliding window."""
from __future__ import annotations

import math
import re
from collections import deque
from dataclasses import dataclass
from email.utils import formatdate


@dataclass
class Limit:
    """At most `requests` accepted in any `seconds` (a sliding window), whatever their answer; at night another number."""

    requests: int = 10
    seconds: float = 60.0
    retry_after: str = "seconds"  # form of the header: seconds, date or none
    count_refused: bool = False   # a refused request takes a place in the window too
    lockout: float = 0.0          # the n-th refusal in a row blocks everything for n times as many seconds
    refuses: str = "429"          # how: with a 429, or cut = the connection is closed unanswered (some clients saw that)
    night: str = ""               # hours with another limit, such as 19:00-07:00 (help center, article 518701)
    night_requests: int = 0       # the limit then; 0 = none
    utc_offset: float = 0.0       # hours, of the night's times

    def __post_init__(self) -> None:
        if (self.requests < 1 or self.seconds <= 0 or self.retry_after not in ("seconds", "date", "none")
                or self.refuses not in ("429", "cut")):
            raise ValueError(f"not a limit: {self}")
        times = re.fullmatch(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)", self.night or "00:00-00:00", re.ASCII)
        if not times or self.night_requests < 0:
            raise ValueError(f"not a limit: {self}")
        begins_h, begins_m, ends_h, ends_m = (int(part) for part in times.groups())
        self._night = (60 * begins_h + begins_m, 60 * ends_h + ends_m)
        self._window: deque[float] = deque()
        self._refusals = 0
        self._blocked_until = 0.0

    def admit(self, now: float) -> float:
        """Take a place and return 0, or return the seconds until there is one."""
        if self.wait(now) <= 0:
            self._window.append(now)
            self._refusals = 0
            return 0.0
        self._refusals += 1
        self._blocked_until = max(self._blocked_until, now + self.lockout * self._refusals)
        if self.count_refused:
            self._window.append(now)
        return self.wait(now)

    def window(self, now: float) -> list[float]:
        """When the requests were taken that still count, oldest first."""
        return [at for at in self._window if at > now - self.seconds]

    def headers(self, now: float, wait: float) -> dict[str, str]:
        if self.retry_after == "none":
            return {}
        if self.retry_after == "date":
            return {"Retry-After": formatdate(math.ceil(now + wait), usegmt=True)}
        return {"Retry-After": str(math.ceil(wait))}

    def wait(self, now: float) -> float:
        """Seconds until a request would be taken; 0 or less: at once."""
        while self._window and self._window[0] <= now - self.seconds:
            self._window.popleft()
        limit = self.at(now)
        full = 0 < limit <= len(self._window)
        return max(self._window[-limit] + self.seconds - now if full else 0.0, self._blocked_until - now)

    def at(self, now: float) -> int:
        """The limit at `now`; 0 for none."""
        begins, ends = self._night
        minute = (now / 60 + 60 * self.utc_offset) % 1440
        return self.night_requests if (minute - begins) % 1440 < (ends - begins) % 1440 else self.requests

"""The request limit by time of day: Movidesk's help center (article 518701) names 10 requests a minute by day, none at night.

It names no time zone. The day limit is applied strictly: in any 60 seconds that end by day, even if they began at night. So the
night limit ends one window early. A minute is added at both ends, because the clocks may differ.
"""

from __future__ import annotations

from movidesk.rules.rate_limit import WINDOW

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from movidesk.config.loader import Config

CLOCKS = 60.0  # seconds by which the clocks of this machine and of Movidesk may differ


def is_night(now: float, night: tuple[int, int], minute_of_day: Callable[[float], int]) -> bool:
    """Whether the night limit may be used at `now`. night: (begins, ends), minutes of the day (options.SHORTEST_NIGHT);
    minute_of_day: epoch seconds -> minute of the day in the time zone."""
    begins, ends = night
    return all((minute_of_day(now + seconds) - begins) % 1440 < (ends - begins) % 1440
               for seconds in (-CLOCKS, 0.0, WINDOW, WINDOW + CLOCKS))


def limit_at(config: Config, now: float) -> int:
    """The configured limit of requests a minute at `now`; rate_limit.UNLIMITED: no limit."""
    if is_night_at(config, now):
        return config["movidesk", "night_requests_per_minute"]
    return config["movidesk", "requests_per_minute"]


def is_night_at(config: Config, now: float) -> bool:
    """Whether the configured night limit applies at `now`."""
    night = config["movidesk", "night"]
    return night != "" and is_night(now, night, in_zone(config["movidesk", "time_zone"]))


def in_zone(name: str) -> Callable[[float], int]:
    """minute_of_day for is_night in a time zone. Raises ValueError if this machine does not know the zone."""
    from datetime import datetime
    from zoneinfo import ZoneInfo  # imported only if needed: the import takes a script some milliseconds

    try:
        zone = ZoneInfo(name)
    except (LookupError, ValueError, OSError):  # LookupError: no such file, and no package tzdata
        raise ValueError("is not a time zone that this machine knows: see timedatectl list-timezones; if none is known, install "
                         "tzdata") from None

    def minute_of_day(epoch: float) -> int:
        local = datetime.fromtimestamp(epoch, zone)
        return 60 * local.hour + local.minute

    return minute_of_day

"""`movidesk status --nagios`: one line, performance data and exit status, as Nagios, Icinga, Zabbix and Checkmk take them.

https://www.monitoring-plugins.org/doc/guidelines.html
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from types import FrameType

from movidesk import messages
from movidesk.alarms import MILD
from movidesk.cli import status
from movidesk.cli.parameters import METRICS
from movidesk.cli.terminal import clean
from movidesk.config import Config, ConfigError
from movidesk.facts import Facts
from movidesk.journal import JournalError

OK, WARNING, CRITICAL, UNKNOWN = range(4)
WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")

Thresholds = Mapping[str, float]  # of METRICS


class _TimeOut(Exception):
    pass


def run(settings: Config, warning: Thresholds, critical: Thresholds, seconds: float) -> int:
    """Print the line; returns its status. A number above its threshold is reported. seconds: after them the status is UNKNOWN."""
    messages.use_english()
    before = signal.signal(signal.SIGALRM, _time_out)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return _report(status.read(settings), warning, critical)
    except JournalError as error:
        return say(CRITICAL, str(error))
    except _TimeOut:
        return say(UNKNOWN, f"no answer within {seconds:g} s")
    except (ConfigError, OSError) as error:
        return say(UNKNOWN, str(error))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _time_out(number: int, frame: FrameType | None) -> None:
    raise _TimeOut


def say(state: int, text: str, performance: str = "") -> int:
    """Print a line; returns the state."""
    text = clean(text).replace("|", "/")
    print(f"MOVIDESK {WORDS[state]}: {text}{' | ' + performance if performance else ''}")
    return state


def _report(facts: Facts, warning: Thresholds, critical: Thresholds) -> int:
    found = [(WARNING if alarm["name"] in MILD else CRITICAL, alarm["text"]) for alarm in facts["alarms"]]
    values = numbers(facts)
    for name, value in values.items():
        for state, thresholds in ((CRITICAL, critical), (WARNING, warning)):
            if name in thresholds and value > thresholds[name]:
                found.append((state, f"{name} is {value:g}{METRICS[name]}, more than {thresholds[name]:g}"))
                break
    state = max((state for state, _ in found), default=OK)
    texts = [text for _, text in sorted(found, key=lambda one: -one[0])] or [_all_is_well(values)]
    performance = " ".join(f"{name}={value:g}{METRICS[name]};{_shown(warning, name)};{_shown(critical, name)};0"
                           for name, value in values.items())
    return say(state, "; ".join(texts), performance)


def numbers(facts: Facts) -> dict[str, float]:
    """The metrics; none where the journal cannot be read."""
    line, calls, requests, outbox = facts["line"], facts["calls"], facts["requests"], facts["outbox"]
    if line is None or calls is None or requests is None or outbox is None:
        return {}
    longest = max((each["longest"] for each in line), default=0)
    found = {"waiting": sum(each["waiting"] for each in line), "longest": round(longest), "open": calls["open"],
             "with_agents": calls["with_agents"], "requests": requests["used"],
             "outbox": outbox["pending"], "outbox_age": round(outbox["age"]), "refused": outbox["refused"]}
    return {name: found[name] for name in METRICS}


def _all_is_well(values: Mapping[str, float]) -> str:
    return f"{values['waiting']:g} waiting, {values['with_agents']:g} with agents, {values['outbox']:g} in the outbox"


def _shown(thresholds: Thresholds, name: str) -> str:
    return f"{thresholds[name]:g}" if name in thresholds else ""

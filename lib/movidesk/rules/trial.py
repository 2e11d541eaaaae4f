"""Decides whether a failure is caused by the event itself or by Movidesk. Pure functions; the journal applies them.

If all requests fail, that is an outage or an invalid token: every event waits until it is over, however long it lasts. If one
event fails while Movidesk accepts others, the event itself is the cause. A try counts against an event (`blamed`) if Movidesk
accepted another request since the previous try. After TRIES such tries, over at least SPAN seconds, the event is set aside. While
requests of other calls fail as well, it is set aside only if Movidesk accepted RATIO requests for each such call
(`watched_since`). So no event is set aside because Movidesk fails on every second request, but two events that always fail are.
In any case an event that fails for LAST_SPAN seconds, while others are accepted between its tries, does not delay its call any
longer.

A rejection (400, 404) is final after REJECT_TRIES if Movidesk has accepted a request since the first. If every request is
rejected, the address is wrong, or another server answers.

If an event fails and nothing else was sent, the two cases cannot be told apart. After PROBE_AFTER seconds the next event of the
same call is then sent as a probe (Delivery): if Movidesk accepts it, the first event was the cause; if it fails as well, it is an
outage.

The requests of a waiting caller (receivedCall) are judged by similar rules, but sooner (`stands_aside`), because the callers
behind it wait meanwhile, and it loses little if they ask first. Whether the caller's `received` event is set aside after a
rejection is decided as for other events.
"""

from __future__ import annotations

from movidesk import NamedTuple

ASIDE_TRIES = 2        # tries that count against a caller's request
FIRST_RETRY = 2.0      # seconds; doubles with each try
LONGEST_RETRY = 300.0  # seconds
TRIES, SPAN = 3, 90.0
RATIO, PERIOD = 6, 300.0  # accepted requests per other failing call; over how many seconds they are counted
LAST_TRIES, LAST_SPAN = 12, 3600.0
REJECT_TRIES = 3
PROBE_AFTER = 45.0     # seconds
SHORT_RETRY = 20.0     # seconds; the longest interval at first, so that TRIES fit into three minutes
TOKEN_RETRY = 30.0     # seconds; the shortest interval after 401 and 403: Movidesk is said to block clients that go on


class Trial(NamedTuple):
    """The failed tries of one event; times are steady time, in seconds."""

    began: float   # the first
    failed: float  # the last
    blamed: int    # how many count against it
    since: float   # the first that counts; `began` if none does


def after_failure(trial: Trial | None, taken: float, now: float) -> Trial:
    """The trial after one more failed try; `trial` is None before the first. taken: when Movidesk last accepted any request, 0.0
    if never."""
    if trial is None:
        return Trial(now, now, 0, now)
    if taken >= trial.failed:
        return trial._replace(failed=now, blamed=trial.blamed + 1, since=trial.since if trial.blamed else now)
    return trial._replace(failed=now)


def after_refused_probe(trial: Trial) -> Trial:
    """The trial after Movidesk rejected a probe: the next failed try decides."""
    return trial._replace(blamed=max(trial.blamed, TRIES - 1), since=min(trial.since, trial.failed - SPAN))


def is_set_aside(trial: Trial, taken: int = 0, others: int = 0) -> bool:
    """Whether the event has failed so often that it is set aside, and the later events of its call go on.

    taken: how many requests Movidesk accepted since `watched_since`; others: how many other calls had a failed request since
    then.
    """
    if trial.blamed >= LAST_TRIES and age(trial) >= LAST_SPAN:
        return True
    return trial.blamed >= TRIES and age(trial) >= SPAN and taken >= RATIO * others


def watched_since(trial: Trial) -> float:
    """The time from which other requests are counted: the first failure of this event, at most PERIOD seconds before the last."""
    return max(trial.began, trial.failed - PERIOD)


def is_believed(trial: Trial, attempts: int, taken: float) -> bool:
    """Whether a rejection of the event is final after this many attempts; taken: when Movidesk last accepted any request."""
    return attempts >= REJECT_TRIES and taken >= trial.began


def may_probe(before: Trial | None, after: Trial) -> bool:
    """Whether the call's next event may be sent as a probe before this one. before, after: the trial of this one before and after
    its last try. It must have failed for PROBE_AFTER seconds, and this try did not show the cause."""
    return before is not None and before.blamed == after.blamed and age(after) >= PROBE_AFTER


def stands_aside(trial: Trial, alone: bool, refusals: int = 0) -> bool:
    """Whether a caller whose request fails lets the callers behind it ask first. alone: no other request has failed since
    Movidesk last accepted one; then theirs show the cause. refusals: how often Movidesk has rejected the caller's request."""
    return is_own(trial) or refusals >= REJECT_TRIES or alone and age(trial) >= PROBE_AFTER


def is_own(trial: Trial) -> bool:
    """Whether a caller's request fails so often while others are accepted that the request itself is the cause."""
    return trial.blamed >= ASIDE_TRIES


def age(trial: Trial) -> float:
    """For how many seconds the event has failed, counted from the first try that counts against it, if any."""
    return trial.failed - trial.since


def until_retry(attempts: int, trial: Trial, jitter: float) -> float:
    """Seconds until the next try after this many attempts; jitter in [0, 1) varies them from 75 % to 125 %.

    They double with each attempt, up to half of the event's age and LONGEST_RETRY.
    """
    longest = min(LONGEST_RETRY, max(SHORT_RETRY, age(trial) / 2))
    return backoff(attempts, jitter, longest)


def backoff(attempts: int, jitter: float, longest: float = LONGEST_RETRY) -> float:
    """Exponential backoff: seconds that double with each attempt, up to `longest`, varied by the jitter."""
    return min(longest, FIRST_RETRY * 2.0 ** min(attempts - 1, 20)) * (0.75 + jitter / 2)

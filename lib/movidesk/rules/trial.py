"""Whose failure it is when an event is not taken: its own, or Movidesk's. Pure; the journal applies it.

What every request meets is an outage, or a refused token: every event waits for its end, however long it lasts. What one event
meets while others are taken is its own failure. A try counts against an event (`blamed`) if Movidesk took another request
since the try before. After TRIES such tries, over SPAN seconds at least, the event is set aside, unless other calls fail as
well: Movidesk must have taken RATIO requests for each other call of which one failed (`watched_since`). A Movidesk that fails at
every second request is no reason to set events aside; two events that fail for ever are. Whatever the others meet, an event that
fails for LAST_SPAN seconds, while others are taken between its tries, does not hold up its call any longer.

A refusal (400, 404) is believed after REJECT_TRIES if Movidesk has taken a request since the first: where every request meets it,
the address is wrong, or something else answers in Movidesk's place.

Where an event fails alone, because nothing else was sent, nothing tells the two cases apart. After PROBE_AFTER seconds the
next event of the same call is then sent as a probe (Delivery): if Movidesk takes it, the failure was the first event's own;
if it fails as well, it is an outage.

The questions of a live caller (receivedCall) are judged alike, only sooner (`stands_aside`): those behind it in its line wait for
it meanwhile, and it loses little where they ask first. Whether a refused question's arrival is set aside is decided as for
events.
"""

from __future__ import annotations

from movidesk import NamedTuple

ASIDE_TRIES = 2        # tries that count against a question
FIRST_RETRY = 2.0      # seconds; doubles with each try
LONGEST_RETRY = 300.0  # seconds
TRIES, SPAN = 3, 90.0
RATIO, PERIOD = 6, 300.0  # requests taken for each other call that fails; the seconds of which they are counted
LAST_TRIES, LAST_SPAN = 12, 3600.0
REJECT_TRIES = 3
PROBE_AFTER = 45.0     # seconds
SHORT_RETRY = 20.0     # seconds; the longest retry where TRIES must fit into three minutes
TOKEN_RETRY = 30.0     # seconds; the shortest after 401 and 403: Movidesk is said to block those who go on


class Trial(NamedTuple):
    """The failed tries of one event; times are steady time, in seconds."""

    began: float   # the first
    failed: float  # the last
    blamed: int    # how many count against it
    since: float   # the first that counts; while none does, `began`


def after_failure(trial: Trial | None, taken: float, now: float) -> Trial:
    """The trial after one more failed try (None: after the first). taken: when Movidesk last took any request, 0.0 if never."""
    if trial is None:
        return Trial(now, now, 0, now)
    if taken >= trial.failed:
        return trial._replace(failed=now, blamed=trial.blamed + 1, since=trial.since if trial.blamed else now)
    return trial._replace(failed=now)


def after_refused_probe(trial: Trial) -> Trial:
    """The trial after Movidesk answered a probe with a refusal: the next failed try decides."""
    return trial._replace(blamed=max(trial.blamed, TRIES - 1), since=min(trial.since, trial.failed - SPAN))


def is_set_aside(trial: Trial, taken: int = 0, others: int = 0) -> bool:
    """Whether the event has failed by itself so often that the later ones of its call go on without it.

    taken: how many requests Movidesk took since `watched_since`; others: of how many other calls one failed since then.
    """
    if trial.blamed >= LAST_TRIES and age(trial) >= LAST_SPAN:
        return True
    return trial.blamed >= TRIES and age(trial) >= SPAN and taken >= RATIO * others


def watched_since(trial: Trial) -> float:
    """Since when what others meet tells whose failure it is: that of this event, the last PERIOD seconds of it at most."""
    return max(trial.began, trial.failed - PERIOD)


def is_believed(trial: Trial, attempts: int, taken: float) -> bool:
    """Whether a refusal of the event, after so many attempts, is meant for it; taken: when Movidesk last took any request."""
    return attempts >= REJECT_TRIES and taken >= trial.began


def may_probe(before: Trial | None, after: Trial) -> bool:
    """Whether the next event of the call may be sent before this one, whose trial went from `before` to `after`: it has failed
    for PROBE_AFTER seconds, and this try did not show whose failure it is."""
    return before is not None and before.blamed == after.blamed and age(after) >= PROBE_AFTER


def stands_aside(trial: Trial, alone: bool, refusals: int = 0) -> bool:
    """Whether a caller whose question fails lets those behind it ask first. alone: nobody else's request has failed since
    Movidesk last took any; then theirs shows whose failure it is. refusals: how often Movidesk has refused its arrival."""
    return is_own(trial) or refusals >= REJECT_TRIES or alone and age(trial) >= PROBE_AFTER


def is_own(trial: Trial) -> bool:
    """Whether a question fails so often while other requests are taken that the failure is its own."""
    return trial.blamed >= ASIDE_TRIES


def age(trial: Trial) -> float:
    """Seconds for which the event has failed, counted from the first try that counts against it if there is one."""
    return trial.failed - trial.since


def until_retry(attempts: int, trial: Trial, jitter: float) -> float:
    """Seconds until the next try after so many; jitter in [0, 1) spreads them over 75 % to 125 %.

    They double, up to half of the event's age and LONGEST_RETRY.
    """
    longest = min(LONGEST_RETRY, max(SHORT_RETRY, age(trial) / 2))
    return backoff(attempts, jitter, longest)


def backoff(attempts: int, jitter: float, longest: float = LONGEST_RETRY) -> float:
    """Seconds that double with each try, up to `longest`, spread by the jitter."""
    return min(longest, FIRST_RETRY * 2.0 ** min(attempts - 1, 20)) * (0.75 + jitter / 2)

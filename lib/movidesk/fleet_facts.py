"""The facts of `movidesk status --fleet`: each PBX with this account, and the Redis between them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypedDict

from movidesk import alarms
from movidesk.config import Config, nights
from movidesk.context import Context
from movidesk.facts import AlarmFacts, span
from movidesk.fleet.records import Away, Overview
from movidesk.journal import Journal
from movidesk.messages import _
from movidesk.rules.rate_limit import UNLIMITED

if TYPE_CHECKING:
    from movidesk.fleet.membership import Membership

#: The alarms that are about the fleet.
OURS = ("redis", "fleet", "clocks")


class Pbx(TypedDict):
    """A PBX, as Redis knows it."""

    name: str
    version: str  # of movidesk-agi
    there: bool   # whether it is in the fleet now
    seen: float   # seconds since it last asked Redis
    waiting: int  # callers
    share: int    # requests a minute that it may send by itself while Redis is away; 0: fewer than one
    outbox: int   # calls with an event that Movidesk has not been told
    clock: float  # seconds by which its clock is ahead of Redis' clock


class Shared(TypedDict):
    """What the PBXs share."""

    limit: int     # requests a minute of the account
    pool: int      # how many of them those that are there share; the rest is the part of those that are not, or have just joined
    used: int      # how many of them the last minute has used
    opens: float   # seconds until any request may be sent; above 0.0 after a restart of Redis
    paused: float  # seconds that are left of a pause after a 429


class Fleet(TypedDict):
    """What `movidesk status --fleet --json` prints. If Redis does not answer, `shared` is None, and `pbxs` empty."""

    pbx: str                     # this one
    expected: int                # [fleet] pbxs
    shared: Shared | None
    pbxs: list[Pbx]
    why: str                     # why this PBX cannot use Redis; '' if it can
    refused: bool                # whether that is because Redis does not let it join; then it sends nothing
    alone_in: float | None       # else, if it cannot: seconds until it uses its own share
    share: int                   # requests a minute that this PBX may send by itself
    alarms: list[AlarmFacts]     # those about the fleet


def read(settings: Config, journal: Journal, membership: Membership) -> Fleet:
    """All facts; asks Redis. Raises JournalError."""
    limit = nights.limit_at(settings, time.time())
    standing: list[AlarmFacts] = [{"name": alarm.name, "text": alarm.text}
                                  for alarm in alarms.standing(Context(settings, journal=journal)) if alarm.name in OURS]
    why, refused, alone = "", False, None
    shared: Shared | None = None
    pbxs: list[Pbx] = []
    try:
        why, refused, alone = str(membership.remembered()["why"]), membership.is_refused(), membership.until_alone()
        overview = membership.overview()
        shared, pbxs = _shared(overview, limit), _pbxs(overview)
    except Away as error:
        why = why or str(error)
    return {"pbx": settings["pbx", "name"], "expected": settings["fleet", "pbxs"], "shared": shared, "pbxs": pbxs, "why": why,
            "refused": refused, "alone_in": alone if why and not refused else None, "share": membership.part(limit),
            "alarms": standing}


def _shared(overview: Overview, limit: int) -> Shared:
    return {"limit": limit, "pool": overview.pool, "used": overview.used, "opens": overview.opens_in, "paused": overview.paused}


def _pbxs(overview: Overview) -> list[Pbx]:
    return [{"name": member.name, "version": member.version, "there": member.leased, "seen": member.seen,
             "waiting": member.waiting, "share": member.part, "outbox": member.outbox, "clock": member.clock}
            for member in overview.members]


def rows(fleet: Fleet) -> list[tuple[str, str]]:
    """What holds for all, as headings and texts, in the reader's language; trouble first."""
    found = [(_("trouble"), alarm["text"]) for alarm in fleet["alarms"]]
    if fleet["why"]:
        text = _("cannot be used: {why}").format(why=fleet["why"])
        if fleet["refused"]:
            text = _("this PBX may not join, and sends nothing: {why}").format(why=fleet["why"])
        elif fleet["alone_in"]:
            text += _("; this PBX sends nothing for {seconds:.0f} s, because the others may still use its share").format(
                seconds=fleet["alone_in"])
        elif fleet["share"]:
            text += _("; this PBX sends up to {share} requests a minute, its share").format(share=fleet["share"])
        found.append(("Redis", text))
    shared = fleet["shared"]
    if shared is None:
        return found
    there = sum(pbx["there"] for pbx in fleet["pbxs"])
    found.append(("PBXs", _("{there} of {expected}; this is {pbx}").format(
        there=there, expected=fleet["expected"], pbx=fleet["pbx"])))
    texts = [_("{used} of {pool} in the last minute").format(**shared) if shared["limit"] < UNLIMITED
             else _("{used} in the last minute, no limit").format(used=shared["used"])]
    if shared["pool"] < shared["limit"]:
        texts.append(_("the other {rest} are the share of PBXs that are not there, or have just joined").format(
            rest=shared["limit"] - shared["pool"]))
    if shared["opens"]:
        texts.append(_("Redis does not know what was sent in the last minute, so nothing is sent for {seconds:.0f} s").format(
            seconds=shared["opens"]))
    if shared["paused"]:
        texts.append(_("no request is sent for {seconds:.0f} s: Movidesk answered 429").format(seconds=shared["paused"]))
    return [*found, *((_("requests") if not place else "", text) for place, text in enumerate(texts))]


def table(fleet: Fleet) -> list[tuple[str, ...]]:
    """A line for each PBX, under these headings: `headings`."""
    limited = fleet["shared"] is not None and fleet["shared"]["limit"] < UNLIMITED
    return [(pbx["name"] + (" *" if pbx["name"] == fleet["pbx"] else ""), pbx["version"], str(pbx["waiting"]),
             str(pbx["share"]) if limited else "", str(pbx["outbox"]), f"{round(pbx['clock'], 1) + 0.0:+.1f} s",
             _("now") if pbx["there"] and pbx["seen"] < 60 else _("{time} ago").format(time=span(pbx["seen"])))
            for pbx in fleet["pbxs"]]


def headings() -> list[str]:
    """What each column of `table` is."""
    return ["PBX", _("version"), _("waiting"), _("share"), _("outbox"), _("clock"), _("seen")]

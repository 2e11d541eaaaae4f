"""Several PBXs with one Movidesk account: the request limit and the waiting line that they share in one Redis.

The model, its invariants and why each holds: docs/architecture.md, "Several PBXs". Only questions and deliveries need Redis: a
verb that records an event loads nothing of this package.
"""

from __future__ import annotations

from movidesk.fleet.records import ALONE, POOL, REFUSED, WAITS, Away, Member, Overview, Refused, Standing

__all__ = ["ALONE", "POOL", "REFUSED", "WAITS", "Away", "Member", "Overview", "Refused", "Standing"]

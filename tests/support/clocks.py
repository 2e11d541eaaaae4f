"""A clock that only its test moves."""
from __future__ import annotations


class Clock:
    """Epoch seconds, or steady ones."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds

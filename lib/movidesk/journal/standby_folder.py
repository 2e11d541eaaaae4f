"""Where the standby is (movidesk.journal.standby), and whether it is in use. Every verb looks, so this loads little."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from movidesk.config import Config


def folder(config: Config) -> str:
    """The standby's own folder. Once made it stays, with the lock in it."""
    return os.path.join(config["journal", "standby"], config.own_name + ".standby")


def journal(config: Config) -> str:
    """The standby's journal file."""
    return os.path.join(folder(config), "journal.db")


def in_use(config: Config) -> bool:
    """Whether the standby takes the journal's place now. Costs one look at a file."""
    return os.path.exists(journal(config))

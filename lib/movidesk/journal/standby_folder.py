"""The folder of the standby (movidesk.journal.standby), and whether it is in use. Every verb checks, so this imports little."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from movidesk.config import Config


def folder(config: Config) -> str:
    """The standby's own folder. Once created it stays, with the lock in it."""
    return os.path.join(config["journal", "standby"], config.own_name + ".standby")


def journal(config: Config) -> str:
    """The standby's journal file."""
    return os.path.join(folder(config), "journal.db")


def in_use(config: Config) -> bool:
    """Whether the standby is in use now. Only checks whether a file exists."""
    return os.path.exists(journal(config))

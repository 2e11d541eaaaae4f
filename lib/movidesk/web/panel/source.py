"""The journal that is in use: the configured one, or the standby that replaces it. It is only looked at, and never created."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from movidesk.config import Config
from movidesk.journal import Journal, JournalError, standby
from movidesk.messages import _


class Source:
    """Opens the journal for one thread. It stays open between two looks, until `close`."""

    def __init__(self, config: Config):
        self._config, self._path = config, config["journal", "path"]
        self._journal: Journal | None = None
        self._file = (0, 0)  # device and number of the open file: a damaged journal is renamed, and a new one takes its place

    @contextmanager
    def opened(self) -> Iterator[Journal]:
        """The journal for one look. Raises JournalError if it cannot be read, or begins or ends to be the standby."""
        try:
            with standby.to_read(self._config) as replacement:
                yield replacement or self._own()
        except OSError as error:
            raise JournalError(f"{self._path}: {error.strerror or error}") from None

    def close(self) -> None:
        """Close the file; `opened` opens it again."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def _own(self) -> Journal:
        try:
            about = os.stat(self._path)
        except FileNotFoundError:
            raise JournalError(_("{path}: no journal yet; the first call, or movidesk serve, creates it").format(
                path=self._path)) from None
        if self._journal is None or self._file != (about.st_dev, about.st_ino):
            self.close()
            self._journal, self._file = Journal(self._path), (about.st_dev, about.st_ino)
        return self._journal

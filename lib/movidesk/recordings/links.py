"""The address of a recording, for the ticket."""

from __future__ import annotations

import os
import time

from movidesk.config import Config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from movidesk.journal import Call

WAV_HEADER = 44  # bytes; a recording of this size contains no sound


def link(config: Config, call: Call | None, recording: str, now: float) -> str:
    """The address of a recording: `recording` itself if it is an address, otherwise the file's name inserted in [recordings]
    link; '' if there is none.

    call: the journal's Call, None if it is not known. now: epoch seconds.
    """
    recording = recording.strip()
    template = config["recordings", "link"]
    if recording.startswith(("http://", "https://")):
        return recording.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if not recording or not template or is_silent(recording):
        return ""
    from urllib.parse import quote

    address = template.format(
        file=quote(os.path.basename(recording), errors="surrogateescape"), id=quote(call.call_id if call else ""),
        date=time.strftime("%Y-%m-%d", time.localtime(call.arrived if call else now)),
        queue=quote(call.queue if call else ""), extension=quote(call.extension if call else ""))
    if not config["recordings", "secret"]:
        return address
    from movidesk.recordings import signatures

    return signatures.sign(address, os.path.basename(recording), config, now)


def is_silent(path: str) -> bool:
    """Whether a recording on this machine is missing or contains no sound. Only absolute paths are checked."""
    if not os.path.isabs(path):
        return False
    try:
        return os.path.getsize(path) <= WAV_HEADER
    except FileNotFoundError:
        return True
    except OSError:
        return False  # we may not read it, but the web server may

"""Recordings as Asterisk writes them."""
from __future__ import annotations

import wave
from pathlib import Path

NAME = "pbx1-1700000000.1.wav"  # of the call pbx1-1700000000.1
SOUND = bytes(range(256)) * 40
SECRET = "0123456789abcdef0123456789abcdef"  # with which links are signed


def talk(folder: Path, name: str = NAME) -> None:
    """A second of silence, in a WAV file of this name."""
    with wave.open(str(folder / name), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(16000))

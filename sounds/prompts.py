#!/usr/bin/env python3
"""The prompts for callers: records them with espeak-ng, and installs them for Asterisk.

    prompts.py record [FOLDER]     texts.ini as FOLDER/LANGUAGE/NAME.wav (default: beside this file). Needs espeak-ng and sox
    prompts.py install FOLDER      the recorded ones, to FOLDER/LANGUAGE/, as WAV and µ-law

Only the WAV files are committed. They are synthetic speech. espeak-ng is under the GPL 3, which in general does not cover what a
program writes (https://www.gnu.org/licenses/gpl-faq.html#WhatCaseIsOutputGPL). MBROLA voices are not used: most are not free.
"""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import wave
from array import array
from pathlib import Path

HERE = Path(__file__).resolve().parent
SPEED = "160"  # words a minute
#: The numbers that are recorded for a language with "and" in texts.ini; dialplan/prompts.conf makes those up to 59 of them.
NUMBERS = (*range(1, 30), 30, 40, 50)
#: Another name of a language in CHANNEL(language).
ALSO = {"pt": "pt_BR"}


def read() -> configparser.ConfigParser:
    """texts.ini."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(HERE / "texts.ini", encoding="utf-8")
    return parser


def texts() -> dict[str, dict[str, str]]:
    """Language -> name of the prompt -> what is said."""
    found = {}
    parser = read()
    for language in parser.sections():
        said = {name: text for name, text in parser[language].items() if name not in ("voice", "and")}
        if "and" in parser[language]:
            said.update({f"numbers/{number}": str(number) for number in NUMBERS})
            said["numbers/and"] = parser[language]["and"]
        found[language] = said
    return found


def record(path: Path, voice: str, text: str) -> None:
    """Record one prompt as 8 kHz, 16 bit, mono, without the silence around it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    espeak = ["espeak-ng", "-v", voice, "-s", SPEED, "--stdout", text]
    spoken = subprocess.run(espeak, check=True, stdout=subprocess.PIPE).stdout
    trim = ["silence", "1", "0.01", "0.5%", "reverse"]  # twice: before, and after
    subprocess.run(["sox", "-q", "-D", "-t", "wav", "--ignore-length", "-", "-r", "8000", "-c", "1", "-b", "16", str(path),
                    *trim, *trim, "pad", "0.05", "0.15", "norm", "-3"], input=spoken, check=True)


def ulaw(samples: array[int]) -> bytes:
    """16-bit samples as µ-law (G.711)."""
    codes = bytearray()
    for sample in samples:
        magnitude = min(abs(sample), 32635) + 132
        exponent = magnitude.bit_length() - 8
        codes.append(~((0x80 if sample < 0 else 0) | exponent << 4 | magnitude >> (exponent + 3) & 0x0F) & 0xFF)
    return bytes(codes)


def install(folder: Path) -> None:
    """Replace the folder by one with all prompts. A language of ALSO is a link to the other."""
    os.umask(0o022)  # Asterisk's user reads them
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    for source in sorted(HERE.glob("*/**/*.wav")):
        target = new / source.relative_to(HERE)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        with wave.open(str(source)) as sound:
            samples = array("h", sound.readframes(sound.getnframes()))
        if sys.byteorder == "big":
            samples.byteswap()
        target.with_suffix(".ulaw").write_bytes(ulaw(samples))
    for also, language in ALSO.items():
        os.symlink(language, new / also)
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["record"] and len(arguments) <= 2:
        missing = [program for program in ("espeak-ng", "sox") if not shutil.which(program)]
        if missing:
            print(f"prompts.py: {' and '.join(missing)} missing: apt-get install {' '.join(missing)}", file=sys.stderr)
            return 1
        folder = Path(arguments[1]) if arguments[1:] else HERE
        for language, said in texts().items():
            for name, text in said.items():
                record(folder / language / f"{name}.wav", read()[language]["voice"], text)
        return 0
    if arguments[:1] == ["install"] and len(arguments) == 2:
        install(Path(arguments[1]))
        return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

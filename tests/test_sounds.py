"""sounds/: each text is recorded, in the form that Asterisk plays, and is installed as WAV and µ-law."""
from __future__ import annotations

import re
import runpy
import shutil
import stat
import subprocess
import sys
import wave
from array import array
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOUNDS = ROOT / "sounds"
PROMPTS = runpy.run_path(str(SOUNDS / "prompts.py"))
TEXTS = PROMPTS["texts"]()
FILES = {f"{language}/{name}": SOUNDS / language / f"{name}.wav" for language, said in TEXTS.items() for name in said}


def samples(path: Path) -> array[int]:
    with wave.open(str(path)) as sound:
        assert (sound.getframerate(), sound.getsampwidth(), sound.getnchannels()) == (8000, 2, 1), path
        return array("h", sound.readframes(sound.getnframes()))


def decoded(code: int) -> int:
    """A sample of µ-law, by the table of G.711."""
    code = ~code & 0xFF
    value = ((code & 0x0F) * 8 + 132 << (code >> 4 & 7)) - 132
    return -value if code & 0x80 else value


def test_each_text_is_recorded_and_nothing_else():
    assert set(SOUNDS.glob("*/**/*.wav")) == set(FILES.values()) and len(FILES) > 60


def test_each_language_says_the_same():
    said = {language: {name for name in names if not name.startswith("numbers/")} for language, names in TEXTS.items()}
    assert set(TEXTS) == {"en", "es", "pt_BR"} and len(said["en"]) > 10
    assert said["en"] == said["es"] == said["pt_BR"]


def test_the_dialplan_says_what_there_is():
    dialplan = "".join(path.read_text() for path in (ROOT / "dialplan").glob("*.conf"))
    named = set(re.findall(r"Gosub\(movidesk-(?:prompt|there),s,1\(([\w-]+),", dialplan))
    named |= set(re.findall(r"MOVIDESK_WHY=(\w+)", dialplan))
    assert len(named) > 7 and named - {"asked"} <= set(TEXTS["en"])
    assert {f"numbers/{number}" for number in (*range(1, 30), 30, 40, 50, "and")} < set(TEXTS["pt_BR"])


@pytest.mark.parametrize("name", FILES)
def test_a_recording_is_short_loud_and_without_silence_around_it(name):
    found = samples(FILES[name])
    assert 0.2 < len(found) / 8000 < 8
    assert 15000 < max(map(abs, found)) < 32767
    loud = [index for index, sample in enumerate(found) if abs(sample) > 300]
    assert loud[0] < 0.2 * 8000 and len(found) - loud[-1] < 0.4 * 8000


def test_all_together_are_no_burden_for_the_repository():
    assert sum(path.stat().st_size for path in FILES.values()) < 2_000_000


def test_install_writes_wav_and_ulaw_and_removes_what_was_there(tmp_path):
    folder = tmp_path / "sounds" / "movidesk"
    (folder / "pt").mkdir(parents=True)
    (folder / "pt" / "gone.wav").write_text("of the version before")
    for _ in range(2):
        subprocess.run([sys.executable, SOUNDS / "prompts.py", "install", folder], check=True)
    assert [path.name for path in folder.parent.iterdir()] == ["movidesk"]
    for name, source in FILES.items():
        assert (folder / f"{name}.wav").read_bytes() == source.read_bytes()
        codes = (folder / f"{name}.ulaw").read_bytes()
        expected = samples(source)
        assert len(codes) == len(expected)
        # G.711: at most half of a step, which is 1/16 of the sample's power of two.
        assert all(abs(decoded(code) - sample) <= max(4, (abs(sample) + 132) // 16) for code, sample in zip(codes, expected))
    assert (folder / "pt").resolve() == (folder / "pt_BR").resolve() and (folder / "pt" / "next.wav").exists()
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*.*")} == {0o644}


def test_the_loudest_samples_as_ulaw():
    assert PROMPTS["ulaw"](array("h", [0, -1, 32767, -32768, 8, -8])) == bytes([0xFF, 0x7F, 0x80, 0x00, 0xFE, 0x7E])


def test_the_texts_can_be_recorded_again(tmp_path):
    if not (shutil.which("espeak-ng") and shutil.which("sox")):
        pytest.skip("needs espeak-ng and sox")
    subprocess.run([sys.executable, SOUNDS / "prompts.py", "record", tmp_path], check=True)
    assert {str(path.relative_to(tmp_path).with_suffix("")) for path in tmp_path.rglob("*.wav")} == set(FILES)
    found = samples(tmp_path / "pt_BR" / "busy.wav")
    assert 2 < len(found) / 8000 < 8 and max(map(abs, found)) > 15000


@pytest.mark.parametrize("arguments", [[], ["install"], ["sing"], ["record", "a", "b"]])
def test_misuse(arguments, tmp_path):
    done = subprocess.run([sys.executable, SOUNDS / "prompts.py", *arguments], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2 and "record [FOLDER]" in done.stderr

"""The unit's system call filter: the programs that the service runs live under it.

What the filter takes away is written out here, from systemd 252: @resources, and of @privileged what a program might try.
"""
from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from movidesk.recordings import conversion
from support.recordings import NAME, talk

UNIT = (Path(__file__).parent.parent / "etc" / "movidesk.service").read_text()
#: Name -> number on x86_64 and on aarch64; None where that has none.
NUMBERS = {
    "@resources": {
        "setpriority": (141, 140), "setrlimit": (160, 164), "sched_setparam": (142, 118), "sched_setscheduler": (144, 119),
        "sched_setaffinity": (203, 122), "sched_setattr": (314, 274), "ioprio_set": (251, 30), "mbind": (237, 235),
        "set_mempolicy": (238, 237), "migrate_pages": (256, 238), "move_pages": (279, 239)},
    "@privileged": {
        "chown": (92, None), "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "setuid": (105, 146),
        "setreuid": (113, 145), "setresuid": (117, 147), "setgroups": (116, 159), "setfsuid": (122, 151), "capset": (126, 91),
        "chroot": (161, 51), "pivot_root": (155, 41), "bpf": (321, 280)},
}
ALLOW, KILL = 0x7FFF0000, 0x80000000  # SECCOMP_RET_ALLOW, SECCOMP_RET_KILL_PROCESS


def denied() -> list[int]:
    """The numbers of the calls that end a process, as the unit's lines say one after the other."""
    column, found = ("x86_64", "aarch64").index(platform.machine()), {}
    for line in UNIT.splitlines():
        if line.startswith("SystemCallFilter="):
            value = line.partition("=")[2]
            for name in value.lstrip("~").split():
                assert not name.startswith("@") or name in NUMBERS or name == "@system-service", f"unknown here: {name}"
                numbers = NUMBERS.get(name) or {call: pair for calls in NUMBERS.values()
                                                for call, pair in calls.items() if call == name}
                for call, pair in numbers.items():
                    found.update({call: pair[column]}) if value.startswith("~") else found.pop(call, None)
    return [number for number in found.values() if number is not None]


class _Instruction(ctypes.Structure):
    _fields_ = [("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint)]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.POINTER(_Instruction))]


def confine() -> None:
    """Put this process under the filter, in seccomp's terms: load the call's number, compare, return."""
    steps = [_Instruction(0x20, 0, 0, 0)]
    for number in denied():
        steps += [_Instruction(0x15, 0, 1, number), _Instruction(0x06, 0, 0, KILL)]
    steps.append(_Instruction(0x06, 0, 0, ALLOW))
    program = _Program(len(steps), (_Instruction * len(steps))(*steps))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    assert prctl(38, 1, 0, 0, 0) == 0, "PR_SET_NO_NEW_PRIVS"
    assert prctl(22, 2, ctypes.byref(program), 0, 0) == 0, f"PR_SET_SECCOMP: {ctypes.get_errno()}"


def test_the_filter_of_this_test_bites():
    done = subprocess.run([sys.executable, "-c", "import os; os.sched_setaffinity(0, os.sched_getaffinity(0))"],
                          preexec_fn=confine)
    assert done.returncode == -31  # SIGSYS


@pytest.mark.parametrize("ending", ["mp3", "opus"])
def test_recordings_are_converted_under_the_units_filter(tmp_path, ending):
    """By the machine's own tool, or by cp where it has none: `nice` is what counts."""
    talk(tmp_path)
    program = ("import sys; from movidesk.recordings import conversion; conversion.TOOLS[sys.argv[2]] += ('cp IN OUT',);"
               "print(conversion.convert(sys.argv[1], sys.argv[2]))")
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / NAME), ending], preexec_fn=confine, text=True,
                          capture_output=True)
    assert done.stdout.strip() == str(tmp_path / (NAME[:-4] + "." + ending)), done.stderr


def test_the_service_itself_needs_nothing_that_is_denied(write_config):
    done = subprocess.run([sys.executable, "-m", "movidesk.cli", "--config", write_config(), "deliver", "--once"],
                          preexec_fn=confine,
                          text=True, capture_output=True)
    assert done.returncode == 0, done


def test_conversion_runs_with_low_priority(tmp_path, monkeypatch):
    talk(tmp_path)
    monkeypatch.setattr(conversion, "tool", lambda ending: ["sh", "-c", f"nice > '{tmp_path / ('.' + NAME[:-4] + '.mp3')}'"])
    assert int(Path(conversion.convert(str(tmp_path / NAME), "mp3")).read_text()) >= 10

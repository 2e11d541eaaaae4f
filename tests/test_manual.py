"""The manual pages and the shells' completion: every command, option and setting is in them, and make install installs them."""
from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from movidesk import cli
from movidesk.config.options import OPTIONS

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "etc" / "movidesk.1").read_text()


def plain(roff: str) -> str:
    return roff.replace("\\-", "-")


def of_the_page() -> dict[str, set[str]]:
    """Command -> the options that the page describes; '' has those of all."""
    text = plain(PAGE)
    common = text.split(".SH OPTIONS\n")[1].split(".SH COMMANDS")[0]
    parts = re.split(r"^\.SS (\w+).*\n", text.split(".SH COMMANDS")[1].split(".SH EXIT")[0], flags=re.MULTILINE)
    described = {"": common, **dict(zip(parts[1::2], parts[2::2]))}
    tags = {name: " ".join(re.findall(r"^\.TP\n(.*)$", part, re.MULTILINE)) for name, part in described.items()}
    return {name: set(re.findall(r"-{1,2}[a-z][\w-]*", found)) for name, found in tags.items()}


def of_the_command(capsys) -> dict[str, set[str]]:
    def help_of(*arguments: str) -> str:
        with suppress(SystemExit):  # of the simulator, which has a parser of its own
            cli.main([*arguments, "--help"])
        return capsys.readouterr().out

    def options(text: str) -> set[str]:
        lines = re.findall(r"^  (-.*?)(?:  |$)", text, re.MULTILINE)
        return {option for line in lines for option in re.findall(r"(?<!\w)-{1,2}[a-z][\w-]*", line)}

    text = help_of()
    common = {"-h", "--help"}
    names = re.findall(r"^  ([a-z]+) ", text, re.MULTILINE)
    return {"": options(text), **{name: options(help_of(name)) - common for name in names}}


def test_the_page_has_every_command_and_every_option(capsys):
    described = of_the_page()
    assert described == of_the_command(capsys)
    assert len(described) > 8 and {"-w", "--warning", "--watch"} <= described["status"]


def test_the_page_names_every_state_and_every_number():
    from movidesk.call_facts import OUTCOMES
    from movidesk.cli.parameters import METRICS

    assert {name for name in [*OUTCOMES.values(), *METRICS] if not re.search(rf"\b{name}\b", PAGE)} == set()


def settings_page() -> str:
    return subprocess.run(["awk", "-f", ROOT / "etc" / "conf-to-man.awk", ROOT / "etc" / "movidesk.conf"], check=True, text=True,
                          stdout=subprocess.PIPE, timeout=60).stdout


def test_the_page_of_settings_has_every_section_and_every_key():
    page = settings_page()
    parts = re.split(r"^\.SH \[(\w+)\]\n", page, flags=re.MULTILINE)
    found = {name: re.findall(r"^\.T[PQ]\n\.B ([a-z_]+)", part, re.MULTILINE) for name, part in zip(parts[1::2], parts[2::2])}
    assert {name: set(keys) for name, keys in found.items()} == {name: set(keys) for name, keys in OPTIONS.items()}
    described = re.findall(r"^\.TP\n\.B .*\n(?:\.TQ\n\.B .*\n)*(.+)$", page, re.MULTILINE)
    assert len(described) > 20 and not [line for line in described if line.startswith(".")]


@pytest.mark.parametrize("page", ["movidesk.1", "movidesk.conf.5"])
def test_the_pages_have_no_mistake_that_groff_finds(page):
    if not shutil.which("groff"):
        pytest.skip("groff is not installed")
    text = PAGE if page == "movidesk.1" else settings_page()
    done = subprocess.run(["groff", "-ww", "-man", "-Tascii"], input=text, capture_output=True, text=True,
                          timeout=60)
    assert (done.returncode, done.stderr) == (0, "") and "DESCRIPTION" in re.sub(".\b", "", done.stdout)


# -- completion --------------------------------------------------------------------------------------------------------

def complete(words: str, shell: str = "bash") -> list[str]:
    """What the shell is offered for the last word."""
    environment = {**os.environ, "_MOVIDESK_COMPLETE": f"{shell}_complete", "COMP_WORDS": words,
                   "COMP_CWORD": str(len(words.split(" ")) - 1)}
    done = subprocess.run([sys.executable, "-m", "movidesk.cli"], env=environment, stdout=subprocess.PIPE, text=True, timeout=60)
    return [line.split(",", 1)[-1] for line in done.stdout.splitlines()]


def test_commands_options_and_values_are_completed():
    assert complete("movidesk c") == ["calls", "check"]
    assert complete("movidesk calls --un") == ["--unanswered", "--until"]
    assert complete("movidesk calls --state c") == ["completed", "canceled"]


def install_share(folder: Path) -> Path:
    """What make install does with the manual and the completion, by this Python's command."""
    share = folder / "share"
    subprocess.run(["make", "-s", "-C", ROOT, "share", f"SHAREDIR={share}", f"MOVIDESK={sys.executable} -m movidesk.cli"],
                   check=True, timeout=120, stdout=subprocess.PIPE)
    return share


def test_bash_completes_the_installed_command(tmp_path):
    """By the file that make install writes, in a shell that has it loaded."""
    share = install_share(tmp_path)
    command = tmp_path / "movidesk"
    command.write_text(f"#!/bin/sh\nexec {sys.executable} -m movidesk.cli \"$@\"\n")
    command.chmod(0o755)
    script = (f"source {share}/bash-completion/completions/movidesk; COMP_WORDS=({command} outbox --re); COMP_CWORD=2; "
              f"_movidesk_completion {command}; echo \"${{COMPREPLY[@]}}\"")
    done = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.stdout.split(), done.stderr) == (["--replay"], "")


def test_the_manual_and_the_completions_are_installed(tmp_path):
    share = install_share(tmp_path)
    files = {str(path.relative_to(share)) for path in share.rglob("*") if path.is_file()}
    assert files == {"man/man1/movidesk.1", "man/man5/movidesk.conf.5", "bash-completion/completions/movidesk",
                     "zsh/site-functions/_movidesk", "fish/vendor_completions.d/movidesk.fish"}
    assert (share / "man/man1/movidesk.1").read_text() == PAGE
    assert (share / "zsh/site-functions/_movidesk").read_text().startswith("#compdef movidesk")

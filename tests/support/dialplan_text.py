"""A dialplan as text: its contexts, and the variables that each line reads and sets. tests/pbx/dialplan_map.py has where
lines lead."""
from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

# Asterisk reads these by name: nothing in a dialplan needs to.
READ_BY_ASTERISK = {"AGISIGHUP", "SPYGROUP"}
# Asterisk, or the application named, sets these.
SET_BY_ASTERISK = {
    "ASTAGIDIR", "ASTDATADIR", "ASTSPOOLDIR", "CHANNEL", "EPOCH", "EXTEN", "HANGUPCAUSE", "UNIQUEID",
    "BRIDGEPEER", "DIALEDPEERNAME", "DIALSTATUS",  # Dial()
    "GOSUB_RETVAL",  # Return()
    "MEMBERINTERFACE",  # Queue(), with setinterfacevar or membergosub
    "VM_MESSAGEFILE",  # VoiceMail()
}
# Where the name of a variable is an argument of a function: what stands before it.
_BY_NAME = re.compile(r"\b(?:CUT|FIELDQTY|GLOBAL|GLOBAL_EXISTS|SHARED|MASTER_CHANNEL|IMPORT\([^()]*,|PASSTHRU)"
                      r"(?:(?<=,)|\()(\w+)(?=[,)])")
_READ = re.compile(r"\$\{(\w+)(?=[:}])")
_SET = re.compile(r"^(?:Set|MSet)\((LOCAL\(|MASTER_CHANNEL\(|SHARED\(|GLOBAL\()?_{0,2}(\w+)\)?=")
_ARGUMENT = re.compile(r"ARG\d")
# One name of many: movidesk-setting gets the rest of the name as its first argument.
_SETTING = re.compile(r"^Gosub\(movidesk-setting,\w+,1\((\w+),([^,)]*)")


class Line(NamedTuple):
    """What one priority runs."""

    number: int
    runs: str

    def reads(self) -> set[str]:
        by_name = set(_BY_NAME.findall(re.sub(r"^Set\((?:SHARED|MASTER_CHANNEL|GLOBAL)\(\w+\)=", "", self.runs)))
        return set(_READ.findall(self.runs)) | by_name

    def sets(self) -> set[str]:
        found = _SET.match(self.runs)
        return {found[2]} if found and found[1] != "LOCAL(" else set()

    def sets_local(self) -> set[str]:
        found = _SET.match(self.runs)
        return {found[2]} if found and found[1] == "LOCAL(" else set()


class Context(NamedTuple):
    header: list[str]  # the comment at its head, line by line
    lines: list[Line]

    def reads(self) -> set[str]:
        return set().union(*(line.reads() for line in self.lines))


class DialplanText:
    """The text of one or more dialplan files that Asterisk would load together."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.contexts: dict[str, Context] = {}
        self.globals: set[str] = set()  # what [globals] and FreePBX's globals_custom.conf set
        name, at_head = "", False
        for number, line in enumerate(text.splitlines(), 1):
            heading = re.match(r"\[([\w-]+)\]", line)
            code = re.sub(r"(?<!\\);.*", "", line).strip()
            if heading:
                name, at_head = heading[1], True
                if name not in ("general", "globals"):
                    self.contexts.setdefault(name, Context([], []))
            elif at_head and line.startswith(";") and name in self.contexts:
                self.contexts[name].header.append(line)
            elif code:
                at_head = False
                self._add(name, number, code)

    def _add(self, name: str, number: int, code: str) -> None:
        step = re.match(r"(?:exten\s*=>\s*[^,]+,|same\s*=>\s*)\w+(?:\([\w-]+\))?,(.*)$", code)
        variable = re.match(r"(\w+)\s*=(?!>)", code)
        if step:
            self.contexts[name].lines.append(Line(number, step[1]))
        elif variable and name in ("", "globals"):
            self.globals.add(variable[1])

    def settings(self) -> dict[str, str]:
        """The settings that movidesk-setting gives a default, and the default."""
        found = (_SETTING.match(line.runs) for context in self.contexts.values() for line in context.lines)
        return {f"MOVIDESK_{match[1]}": match[2] for match in found if match}

    def reads(self) -> set[str]:
        """The variables that some line reads, without ARGn and LOCAL ones."""
        names: set[str] = set()
        for context in self.contexts.values():
            names |= context.reads() - set().union(*(line.sets_local() for line in context.lines))
        return {name for name in names if not _ARGUMENT.fullmatch(name)}

    def sets(self) -> set[str]:
        """The variables that some line or [globals] sets, LOCAL ones aside."""
        return self.globals | set().union(*(line.sets() for context in self.contexts.values() for line in context.lines))

    # Each of these returns what is wrong, a sentence for each fault.

    def not_set(self, documented: set[str]) -> Iterator[str]:
        """Variables that are read, and that nothing sets: no line, not Asterisk, and no table of the documentation."""
        for name in sorted(self.reads() - self.sets() - SET_BY_ASTERISK - documented):
            yield f"{name} is read, and set nowhere"

    def not_read(self, elsewhere: set[str]) -> Iterator[str]:
        """Variables that a line sets, and that nothing reads: no line, not Asterisk, and nothing `elsewhere`."""
        local = {(name, each) for name, context in self.contexts.items() for line in context.lines for each in line.sets_local()}
        for name in sorted(self.sets() - self.reads() - READ_BY_ASTERISK - SET_BY_ASTERISK - elsewhere):
            yield f"{name} is set, and read nowhere"
        for context, name in sorted(local):
            # A name in capitals is for the contexts that this one enters by Gosub.
            readers = self.reads() | READ_BY_ASTERISK | elsewhere if name.isupper() else self.contexts[context].reads()
            if name not in readers:
                yield f"{context}: LOCAL({name}) is set, and read nowhere"

    def arguments(self) -> Iterator[str]:
        """Contexts that read other arguments than their header names."""
        for name, context in self.contexts.items():
            read = {each for each in context.reads() if _ARGUMENT.fullmatch(each)}
            told = set(_ARGUMENT.findall("".join(line for line in context.header if line.startswith("; ARG"))))
            if read != told:
                yield f"{name}: reads {sorted(read)}, its header names {sorted(told)}"

    def brackets(self) -> Iterator[str]:
        """Lines in which a bracket is not closed, or closed by another one. Asterisk says so only when it runs the line."""
        for name, context in self.contexts.items():
            for line in context.lines:
                # What is quoted is text: a regular expression, a sentence. So is "{" without "$".
                opened, closes = [], {")": "(", "]": "$[", "}": "${"}
                for sign in re.findall(r"\$[\[{]|[()\]}]", re.sub(r'\\.|"[^"$]*"', "", line.runs)):
                    if sign not in closes:
                        opened.append(sign)
                    elif opened and opened[-1] == closes[sign]:
                        opened.pop()
                    elif sign == ")":
                        opened.append(sign)
                if opened or line.runs.count('"') % 2:
                    yield f"{name}, line {line.number}: brackets or quotes are not closed: {line.runs}"

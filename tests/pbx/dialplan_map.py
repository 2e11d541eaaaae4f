"""What a running Asterisk made of its dialplan: where each line leads, what is never reached, what leads nowhere."""
from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from movidesk_rehearsal.asterisk import PrivateAsterisk

_CONTEXT = re.compile(r"\[ Context '([^']+)' created by")
_INCLUDE = re.compile(r"  Include =>\s+'([^']+)'")
_LINE = re.compile(r"(?:  '([^']+)' =>)?\s+(?:\[([^\]]+)\]\s+)?(\d+|hint)[.:] +(.*?)\s*(?:\[[^\[\]]+:\d+\])?$")
# Applications and functions whose argument names a place in the dialplan, in one of the forms of Goto().
_LEADS = (
    re.compile(r"^Goto\((.+)\)$"),
    re.compile(r"\?([^:?\"\[\]{}]+?)(?::([^:?\"\[\]{}]+))?\)$"),  # GotoIf(...?HERE:THERE)
    re.compile(r"^Gosub\(([^(]+)(?:\(.*\))?\)$"),
    re.compile(r"hangup_handler_push\)=(.+)\)$"),
)
_GOSUB_OF_DIAL = re.compile(r"\bU\(([\w-]+)")  # also where a variable holds the option
# Lines that lead nowhere by what is written in them alone.
_LEADS_BY_VARIABLE = re.compile(r"^Goto\(\$\{|\?\$\{")
_FUNCTION = re.compile(r"(?:\$\{|\bSet\()([A-Z_0-9]+)\(")
_WORD = re.compile(r"_?[a-z]{2,}")  # no extension that a caller dials
_LOCAL = re.compile(r"Local/[^@]+@([\w-]+)")


class Place(NamedTuple):
    context: str
    extension: str
    priority: str  # a number or a label


class DialplanMap:
    """The dialplan as `dialplan show` prints it, without the contexts of Asterisk's own modules."""

    def __init__(self, shown: str) -> None:
        self.includes: dict[str, list[str]] = {}
        self._lines: list[tuple[Place, str, str]] = []  # where, label, what it runs
        context = extension = ""
        for line in shown.splitlines():
            heading, include, step = _CONTEXT.match(line), _INCLUDE.match(line), _LINE.match(line)
            if heading:
                context = heading[1] if "by 'pbx_config'" in line else ""
                self.includes.update({context: []} if context else {})
            elif include and context:
                self.includes[context].append(include[1])
            elif step and context:
                extension = step[1] or extension
                self._lines.append((Place(context, extension, step[3]), step[2] or "", step[4]))

    @property
    def contexts(self) -> set[str]:
        return set(self.includes)

    def leads(self) -> Iterator[tuple[Place, Place]]:
        """(line, the place that it leads to), for each place that is written out in the line; an empty context or
        extension is the line's own."""
        for line, _, runs in self._lines:
            found = [group for pattern in _LEADS for match in [pattern.search(runs)] if match for group in match.groups()]
            found = [text for text in found if text and (runs.startswith(("Goto", "Gosub")) or "handler_push" in runs)]
            found += [context + ",s,1" for context in _GOSUB_OF_DIAL.findall(runs)]
            for text in found:
                parts = text.split(",")
                if len(parts) <= 3:
                    to = Place(*[*line[:3 - len(parts)], *parts])
                    if "${" not in to.context + to.priority:
                        yield line, to

    def nowhere(self) -> list[str]:
        """The lines that lead to a place that is not there."""
        return [f"{','.join(line)} leads to {','.join(to)}" for line, to in self.leads() if not self._exists(to)]

    def not_understood(self) -> list[str]:
        """The lines that lead somewhere, in a form that `leads` does not know."""
        known = {line for line, _ in self.leads()}
        return [f"{','.join(line)}: {runs}" for line, _, runs in self._lines
                if runs.startswith(("Goto", "Gosub")) and line not in known and not _LEADS_BY_VARIABLE.search(runs)]

    def never_led_to(self, starts: set[str]) -> list[str]:
        """The labels, and the extensions that are words, to which no line leads; but `starts`, extensions such as "i"."""
        places = {to for _, to in self.leads()}
        labels = [f"{','.join(line)}({label})" for line, label, _ in self._lines if label
                  and not any(to.context == line.context and to.priority == label for to in places)]
        words = {(line.context, line.extension) for line, _, _ in self._lines
                 if line.priority != "hint" and _WORD.match(line.extension) and line.extension not in starts}
        return labels + [",".join(word) for word in sorted(words)
                         if not any(to.context == word[0] and _may_mean(to.extension, word[1]) for to in places)]

    def applications(self) -> set[str]:
        return {runs.partition("(")[0] for line, _, runs in self._lines if line.priority != "hint"}

    def functions(self) -> set[str]:
        return {name for _, _, runs in self._lines for name in _FUNCTION.findall(runs)}

    def reached(self, entries: set[str]) -> set[str]:
        """The contexts that a call gets into, from these."""
        next_to: dict[str, set[str]] = {context: set(included) for context, included in self.includes.items()}
        for line, to in self.leads():
            next_to[line.context].add(to.context)
        for line, _, runs in self._lines:
            next_to[line.context].update(_LOCAL.findall(runs))
        reached, new = set(), set(entries)
        while new:
            reached |= new
            new = {to for context in new for to in next_to.get(context, ())} - reached
        return reached & self.contexts

    def _exists(self, to: Place) -> bool:
        contexts = {to.context, *self.includes.get(to.context, ())}
        # An extension that holds a variable is there if one begins as it does.
        begins = to.extension.partition("${")[0]
        return any(line.context in contexts and to.priority in (line.priority, label)
                   and (line.extension == to.extension or _matches(line.extension, to.extension)
                        or "${" in to.extension and line.extension.lstrip("_").startswith(begins))
                   for line, label, _ in self._lines)


def unknown(pbx: PrivateAsterisk, dialplan: DialplanMap) -> list[str]:
    """The applications and functions of a dialplan that this Asterisk does not have. For applications case is the same."""
    applications = {name.lower() for name in re.findall(r"^\s*(\w+): ", pbx.cli("core show applications"), re.MULTILINE)}
    functions = set(re.findall(r"^(\w+) ", pbx.cli("core show functions"), re.MULTILINE))
    return sorted([name for name in dialplan.applications() if name.lower() not in applications]
                  + [name for name in dialplan.functions() if name not in functions])


def _may_mean(led_to: str, extension: str) -> bool:
    """Whether an extension, perhaps with a variable in it, may be this extension or pattern."""
    begins, variable, _ = led_to.partition("${")
    if variable:
        return extension.lstrip("_").startswith(begins)
    return led_to == extension or _matches(extension, led_to)


def _matches(pattern: str, extension: str) -> bool:
    if not pattern.startswith("_"):
        return False
    shapes = {"X": "[0-9]", "Z": "[1-9]", "N": "[2-9]", ".": ".+", "!": ".*"}
    parts = re.findall(r"\[[^\]]*\]|.", pattern[1:])
    return re.fullmatch("".join(shapes.get(part, part if len(part) > 1 else re.escape(part)) for part in parts),
                        extension) is not None

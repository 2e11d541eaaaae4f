"""What all commands share: exit statuses, and texts and tables on a terminal."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import click

GOOD, TROUBLE, MISUSE = 0, 1, 2


def clean(text: object) -> str:
    """The text without control characters: what callers and Movidesk send must not reach the terminal as it is."""
    return "".join(c if c.isprintable() else "?" for c in str(text))


def safe_cell(value: object) -> object:
    """A cell of a CSV: without control characters, and nothing that a spreadsheet would run as a formula. A number with its + is
    left as it is."""
    if not isinstance(value, str):
        return value
    text = clean(value)
    return "'" + text if text[:1] in tuple("=+-@") and not re.fullmatch(r"\+[0-9]*", text) else text


def width() -> int | None:
    """The columns of the terminal ($COLUMNS, if that is set). None if this writes to a pipe or a file: lines are not broken."""
    return shutil.get_terminal_size().columns if os.environ.get("COLUMNS", "").isdigit() or sys.stdout.isatty() else None


def moment(epoch: float) -> str:
    """A local time of the last months, in few columns."""
    return time.strftime("%m-%d %H:%M:%S", time.localtime(epoch))


@contextmanager
def progress(total: int, label: str) -> Iterator[Callable[[int], None]]:
    """Shows a progress bar if standard error is a terminal, and there is something to do. Yields a function that is called after
    each step with the part of `total` that is done by it."""
    if not total or not sys.stderr.isatty():
        yield lambda steps: None
        return
    with click.progressbar(length=total, label=label, file=sys.stderr) as bar:
        yield bar.update


def print_fields(rows: Iterable[tuple[str, str]]) -> None:
    """Print headings and their texts, each text in lines that fit the terminal."""
    shown = [(clean(heading), clean(text)) for heading, text in rows]
    indent = max(len(heading) for heading, _ in shown) + 2
    for heading, text in shown:
        first, *more = wrapped(text, indent) or [""]
        print(f"{heading:<{indent}}{first[indent:]}", *more, sep="\n")


class Row(NamedTuple):
    """A line of a table."""

    cells: Sequence[object]
    notes: Sequence[str] = ()  # texts that stand below the line, each in lines of its own


def print_table(headers: Mapping[str, int], rows: Sequence[Row], with_headers: bool = True) -> None:
    """Print a table. headers: each with the least width of its column. Where the table is too wide for the terminal, cells are
    cut; notes go on in the next line."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading, least in headers.items():
        table.add_column(heading, no_wrap=True, overflow="ellipsis", min_width=least)
    for row in rows:
        table.add_row(*map(clean, row.cells))
    console = Console(markup=False, highlight=False, emoji=False, width=width() or 100_000)
    with console.capture() as printed:
        console.print(table)
    heading, *lines = printed.get().splitlines()  # a cell never has a second line
    if with_headers:
        print(heading.rstrip())
    for line, row in zip(lines, rows):
        print(line.rstrip())
        for note in row.notes:
            print("\n".join(wrapped(clean(note), indent=2)))


def wrapped(text: str, indent: int, break_words: bool = True) -> list[str]:
    """The text in indented lines that fit the terminal. break_words: False leaves paths whole, so that they can be copied."""
    columns, margin = width(), " " * indent
    return textwrap.wrap(text, max(columns, indent + 20), initial_indent=margin, subsequent_indent=margin,
                         break_on_hyphens=False, break_long_words=break_words) if columns else [margin + text]

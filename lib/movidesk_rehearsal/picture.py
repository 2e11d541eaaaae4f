"""A picture of one call of the demo, for README.md, from what `make demo` printed:

    make demo >demo.txt; .venv/bin/python -m movidesk_rehearsal.picture demo.txt 3 >docs/demo.svg
"""
from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

LANES = {"caller": "#1f6feb", "Asterisk": "#bc4c00", "agent 5252": "#8250df", "agent 5253": "#8250df", "journal": "#57606a",
         "Movidesk": "#1a7f37"}
LEFT, LANE, ROW, TOP = 64, 84, 23, 62  # pixels: where the first lane is, between lanes, between lines, to the first line
TEXT = LEFT + LANE * len(LANES) - 20   # where the words begin
LONGEST = 66                           # characters of words; the rest is replaced by …
_LINE = re.compile(r"  (\d\d:\d\d:\d\d\.\d{3})  (?:=>|  ) (\S+(?: \d+)?) +(.*)")


class Moment(NamedTuple):
    seconds: float  # since the call began
    who: str        # one of LANES
    what: str


class NoSuchCall(ValueError):
    """The demo's output has no call of this number, or nothing happened in it."""


def read_call(text: str, number: int) -> tuple[str, list[Moment]]:
    """Title and moments of a call in the demo's output. Raises NoSuchCall."""
    found = re.search(rf"^{number}\. (.*)\n((?:  .*\n)+)", text, re.MULTILINE)
    lines = [match.groups() for match in map(_LINE.match, found[2].splitlines()) if match] if found else []
    if found is None or not lines:
        raise NoSuchCall(f"no call {number} in this output of make demo")
    times = [datetime.strptime(at, "%H:%M:%S.%f") for at, _, _ in lines]
    return found[1], [Moment((at - times[0]).total_seconds() % 86400, who, shorten(what))
                      for at, (_, who, what) in zip(times, lines) if who in LANES]


def shorten(what: str) -> str:
    """Without the dates, which the column of seconds tells, and the channel's serial number."""
    what = re.sub(r" \w+Date=\S+", "", what).replace("https://pbx.example.com/rec/", "…/")
    what = re.sub(r"PJSIP/trunk-\w+", "the caller", what)
    return what if len(what) <= LONGEST else what[:LONGEST - 1] + "…"


def draw(title: str, moments: Sequence[Moment]) -> str:
    """An SVG: a lane for everybody who took part, a line of words for every moment."""
    height = TOP + ROW * len(moments) + 4
    width = TEXT + 8 * LONGEST
    column = {who: LEFT + LANE * number for number, who in enumerate(LANES)}
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
             ' font-family="ui-monospace, Menlo, Consolas, monospace" font-size="13">',
             f"<title>{escape(title)}</title>", '<rect width="100%" height="100%" fill="#ffffff"/>',
             f'<text x="10" y="22" font-weight="bold" fill="#24292f">{escape(title)}</text>']
    for who, x in column.items():
        parts += [f'<text x="{x}" y="46" text-anchor="middle" font-size="12" fill="{LANES[who]}">{who}</text>',
                  f'<line x1="{x}" y1="52" x2="{x}" y2="{height - 6}" stroke="#d0d7de"/>']
    for row, moment in enumerate(moments):
        x, y, colour = column[moment.who], TOP + ROW * row + 8, LANES[moment.who]
        parts += [f'<text x="8" y="{y + 4}" font-size="11" fill="#57606a">{moment.seconds:.3f}</text>',
                  f'<line x1="{x}" y1="{y}" x2="{TEXT - 6}" y2="{y}" stroke="{colour}" stroke-opacity="0.25"/>',
                  f'<circle cx="{x}" cy="{y}" r="4.5" fill="{colour}"/>',
                  f'<text x="{TEXT}" y="{y + 4}" fill="{colour}">{escape(moment.what)}</text>']
    return "\n".join([*parts, "</svg>", ""])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m movidesk_rehearsal.picture", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("output", type=Path, help="what make demo printed")
    parser.add_argument("call", type=int, help="number of the call in it")
    options = parser.parse_args(arguments)
    try:
        print(draw(*read_call(options.output.read_text(encoding="utf-8"), options.call)), end="")
    except (OSError, NoSuchCall) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Charts of a report as SVG, which the page puts among its text: no script, no style attribute, no style sheet of its own.

So they are the same under a strict Content-Security-Policy. Their colours are in charts.css, which the page includes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from math import ceil
from typing import NamedTuple
from xml.etree.ElementTree import Comment, Element, SubElement

import pygal
from pygal.graph.graph import Graph

from movidesk.messages import _
from movidesk.reports.figures import Row

WIDTH, HEIGHT = 760, 240  # of the drawing; the page scales it
#: What may lie between two lines of a scale.
COUNTS = [digit * 10 ** power for power in range(7) for digit in (1, 2, 5)]
SECONDS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800, 86400]


class Chart(NamedTuple):
    """A drawing, and what it shows."""

    svg: str
    title: str
    keys: list[tuple[str, str]]  # for the legend: the class of a series, and its name


def calls(title: str, rows: Sequence[Row], name: str) -> Chart:
    """What became of the calls: a bar for each row. name: unique on the page; letters and -."""
    series = [("answered", _("answered"), [row.figures.answered for row in rows]),
              ("abandoned", _("abandoned calls"), [row.figures.abandoned for row in rows]),
              ("lost", _("lost calls"), [row.figures.lost for row in rows])]
    return _drawn(pygal.StackedBar, title, name, rows, series, str)


def waits(title: str, rows: Sequence[Row], name: str) -> Chart:
    """How long callers waited: the median, and what 95 % of them did not exceed. name: as in `calls`."""
    series = [("median", _("half of the callers (median)"), [row.figures.wait.median for row in rows]),
              ("p95", _("almost all callers (95 %)"), [row.figures.wait.p95 for row in rows])]
    return _drawn(pygal.Bar, title, name, rows, series, _minutes)


def _drawn(kind: type[Graph], title: str, name: str, rows: Sequence[Row],
           series: Sequence[tuple[str, str, Sequence[float | None]]], shown: Callable[[float], str]) -> Chart:
    heights = zip(*(values for _, _, values in series))
    highest = max([(sum if kind is pygal.StackedBar else max)(value or 0 for value in bar) for bar in heights], default=0)
    graph = kind(width=WIDTH, height=HEIGHT, margin=4, spacing=4, js=[], css=[], show_legend=False, no_data_text="",
                 y_labels=_scale(highest, SECONDS if shown is _minutes else COUNTS), value_formatter=shown, truncate_label=-1,
                 disable_xml_declaration=True)
    graph.x_labels = [_short(row.name) for row in rows]
    for _key, text, values in series:
        graph.add(text, values)
    graph.add_xml_filter(lambda root: _plain(root, name, title, series))
    return Chart(graph.render(is_unicode=True), title, [(key, text) for key, text, _ in series])


def _scale(highest: float, steps: Sequence[int]) -> list[int]:
    """Where the lines of a scale stand: from 0 to the first that is not below `highest`, at most seven."""
    step = next(step for step in steps if step * 5 >= highest or step == steps[-1])
    return list(range(0, ceil(highest) + step, step))[:7] if highest else [0, step]


def _plain(root: Element, name: str, title: str, series: Sequence[tuple[str, str, object]]) -> Element:
    """The drawing without what pygal's scripts and styles need. Each bar says its number when one points at it."""
    for parent in list(root.iter()):
        classes = str(parent.get("class", "")).split()
        for place, (key, text, _values) in enumerate(series):
            if f"serie-{place}" in classes:
                parent.set("class", key)
                for bar in parent.iter("g"):
                    values = {each.get("class"): each.text for each in bar.findall("desc")}
                    if "value" in values:
                        SubElement(bar, "title").text = f"{values.get('x_label', '')}: {text} {values['value']}"
        for child in list(parent):
            if child.tag in (Comment, "defs", "desc") or child.tag == "title" and "bar" not in classes \
                    or str(child.get("class", "")).endswith("overlay"):
                parent.remove(child)
        for attribute in ("style", "id", "rx", "ry"):
            parent.attrib.pop(attribute, None)
    root.attrib.update({"class": "chart", "role": "img", "aria-labelledby": f"{name}-title {name}-text"})
    for place, (kind, text) in enumerate((("title", title), ("text", _("The table that follows has the same numbers.")))):
        element = Element("title" if kind == "title" else "desc", {"id": f"{name}-{kind}"})
        element.text = text
        root.insert(place, element)
    return root


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _short(name: str) -> str:
    """Of a day its number alone."""
    return name[8:] if re.fullmatch(r"\d{4}-\d\d-\d\d", name) else name

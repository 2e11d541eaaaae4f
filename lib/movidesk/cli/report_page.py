"""A report as one HTML file: no script, nothing from elsewhere, so that it can be mailed, kept and printed."""

from __future__ import annotations

import os
import re

import click

from movidesk import __version__
from movidesk.cli import report_sheet
from movidesk.messages import _, language
from movidesk.reports import report as reports

_NUMBER = re.compile(r"\+?[0-9]{3,20}")


def html(report: reports.Report, reader: report_sheet.Reader) -> str:
    """The page, in the reader's language, in ASCII: so it is right in every encoding of the terminal, and mail programs need not
    be told one. Raises click.ClickException if the packages for it are missing."""
    try:
        from jinja2 import Environment, StrictUndefined
        from markupsafe import Markup

        from movidesk.reports import charts
    except ImportError as error:
        raise click.ClickException(_("--html needs more packages ({name}): pip install 'movidesk-agi[reports]'").format(
            name=error.name)) from None
    hours = report_sheet.busy_hours(report)
    drawn = {"hours": [charts.calls(_("Calls by hour"), hours, "calls-hours"), charts.waits(_("Waits by hour"), hours, "waits")]}
    if len(report.days) > 1:
        drawn["days"] = [charts.calls(_("Calls by day"), report.days, "calls-days")]
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(
        _read(__file__, "report.html"))
    text = page.render(sheet=report_sheet.of(report, reader), charts=drawn, language=language(), version=__version__,
                       style=Markup(_read(charts.__file__, "charts.css")), drawing=Markup,  # both are ours, or escaped by pygal
                       is_number=lambda text: _NUMBER.fullmatch(text) is not None)
    return text.encode("ascii", "xmlcharrefreplace").decode()


def _read(beside: str, name: str) -> str:
    with open(os.path.join(os.path.dirname(beside), name), encoding="utf-8") as file:
        return file.read()

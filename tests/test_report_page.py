"""The report as a page: what it holds, how it looks in Chromium, and that what others wrote is text in it."""
from __future__ import annotations

import html
import re
from datetime import datetime

import pytest

from movidesk.reports import charts
from movidesk.reports.figures import Figures, Row, Spread
from support.browser import check_accessible, check_fits

DAY = "2023-05-01"
HOSTILE = "\"'><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


@pytest.fixture
def page(movidesk, book, machine_zone, tmp_path):
    """page("--day", ...): writes the report's page, and returns its address."""
    machine_zone("America/Sao_Paulo")
    movidesk.configure(journal={"keep_days": "36500"})
    noon = datetime(2023, 5, 1, 12).timestamp()
    for number in range(40):
        call = book.calls.arrive("pbx1", f"1.{number}", "77", f"47339900{number:02d}",
                                 arrived=noon - 86400 * (number % 3) + 400 * number)
        if number % 4:
            book.calls.record(call.call_id, "transferred", f"525{number % 3}", at=call.arrived + number)
        book.calls.hang_up(call.call_id, at=call.arrived + 3 * number)

    def write(*options: str) -> str:
        status, out, err = movidesk("report", *options, "--html")
        assert (status, err) == (0, "")
        path = tmp_path / "report.html"
        path.write_text(out, encoding="utf-8")
        return path.as_uri()

    return write


@pytest.mark.parametrize("width, scheme", [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")])
def test_it_is_accessible_and_fits(page, browser, width, scheme):
    shown = browser.open(page("--from", "2023-04-29", "--to", DAY), width=width, scheme=scheme)
    check_accessible(shown)
    check_fits(shown)
    assert shown.locator("svg[role=img]").count() == 3 and shown.locator("table").count() == 5
    assert shown.get_by_role("img", name="Calls by hour").is_visible()


def test_it_needs_nothing_from_elsewhere_and_no_script(page):
    with open(page("--day", DAY)[len("file://"):], encoding="utf-8") as file:
        text = file.read()
    assert not re.search(r"<script|javascript:|\son\w+=|\ssrc=|<link|@import|url\(|\sstyle=", text)
    assert set(re.findall(r'(?:href|xmlns)="(\w+:[^"0-9+]*)', text)) <= {"tel:", "http://www.w"}
    ids = re.findall(r'\sid="([^"]*)"', text)
    assert len(ids) == len(set(ids)) > 4


def test_it_is_ascii_whatever_the_terminal_writes(page, monkeypatch):
    monkeypatch.setenv("LANGUAGE", "pt")
    with open(page("--day", DAY)[len("file://"):], encoding="ascii") as file:
        assert "nível" in html.unescape(file.read())


@pytest.mark.parametrize("highest", [0.5, 4.5, 6.5, 10.5, 59.9, 61, 301.5, 3601])
def test_the_scale_of_a_chart_holds_the_highest_bar(highest):
    spread = Spread(1, highest, highest, highest)
    rows = [Row("08", Figures(1, 1, 0, 0, 0, 0, 1, 1.0, 0, 0, 0, spread, spread, spread))]
    lines = re.findall(r"<text[^>]*>(\d+):(\d\d)</text>", charts.waits("waits", rows, "waits").svg)
    assert max(60 * int(minutes) + int(seconds) for minutes, seconds in lines) >= highest


def test_a_chart_has_a_bar_for_what_the_table_says(page, browser):
    shown = browser.open(page("--day", DAY))
    hours = shown.locator("table.hours tbody tr")
    answered = {row.locator("th").inner_text()[:2]: int(row.locator("td").nth(1).inner_text()) for row in hours.all()}
    titles = shown.locator("svg[aria-labelledby^=calls-hours] g.answered g.bar title").all_text_contents()
    assert {title[:2]: int(title.rsplit(" ", 1)[1]) for title in titles} == answered
    heights = [float(bar.get_attribute("height")) for bar in shown.locator(
        "svg[aria-labelledby^=calls-hours] g.answered g.bar rect").all()]
    assert max(heights) > 0 and [height > 0 for height in heights] == [count > 0 for count in answered.values()]


def test_what_others_wrote_is_text(page, book, browser):
    book.store.connection.execute("UPDATE calls SET queue = ?, extension = ?, code = ?", (HOSTILE + "q", HOSTILE + "e", HOSTILE))
    book.store.connection.execute("UPDATE calls SET number = ? || '47339900' || (10 + id)", (HOSTILE,))
    shown = browser.open(page("--day", DAY))
    assert shown.title() == "Calls of Mon 2023-05-01"
    assert shown.locator("script, img, table a").count() == 0
    for name, ending in (("queues", "q"), ("agents", "e")):
        assert shown.locator(f"table.{name} tbody th").first.inner_text() == HOSTILE + ending
    assert shown.locator("table.callers tbody th").first.inner_text().startswith(HOSTILE)


def test_it_is_in_the_readers_language(page, browser, monkeypatch):
    for language, title in (("pt", "Chamadas de seg"), ("es", "Llamadas de lun"), ("en", "Calls of Mon")):
        monkeypatch.setenv("LANGUAGE", language)
        shown = browser.open(page("--day", DAY))
        assert (shown.title(), shown.locator("html").get_attribute("lang")) == (f"{title} {DAY}", language)


def test_a_day_without_calls_has_a_page(page, browser):
    shown = browser.open(page("--day", "2023-05-03"))
    check_accessible(shown)
    assert shown.locator("table").count() == 0 and "0: 0 answered" in shown.locator("dd").first.inner_text()

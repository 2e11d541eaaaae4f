"""Pages in Debian's Chromium, without a screen: what a test of a page needs. tests/conftest.py makes fixtures of it.

A page may use nothing but this machine, and its scripts and its Content-Security-Policy must have no complaint: each is a fault.
"""
from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from movidesk_rehearsal.asterisk_tree import need_program

TIMEOUT = 20.0            # seconds until a page must show what a test waits for, on a machine that has much else to do
SERIOUS = ("serious", "critical")  # of axe's impacts, the two that a test does not let pass
WCAG_AA = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
# The policy's faults that the console does not repeat, such as those of a policy that only reports.
LISTEN = """addEventListener("securitypolicyviolation", event =>
    console.error(`Content-Security-Policy: ${event.violatedDirective}: ${event.blockedURI}`))"""

# What fades in has not its contrast yet.
STAND_STILL = """() => Promise.all(document.getAnimations().filter(each => each.effect.getComputedTiming().endTime < Infinity)
    .map(each => each.finished.catch(() => {})))"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """A running Chromium. Playwright's own would be a download; Debian's is installed where it is missing, as root."""
    program = need_program("chromium", "chromium")
    expect.set_options(timeout=TIMEOUT * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--disable-quic"])
        try:
            yield browser
        finally:
            browser.close()


class Windows:
    """Opens pages, and remembers what went wrong on them: `faults`, one line each."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[BrowserContext] = []
        self._allowed: list[str] = []
        self.faults: list[str] = []

    def open(self, url: str, width: int = 1280, scheme: str = "light", language: str = "pt-BR", *,
             height: int = 800, **context: object) -> Page:
        """The page at `url`, in a window of its own with cookies of its own, once its document is there.

        width, height: of the window, in CSS pixels. scheme: light or dark, which the page is told the user prefers. language: the
        browser's. More of Playwright's new_context() by name, such as http_credentials={"username": ..., "password": ...}.
        """
        window = self._browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, locale=language,
                                           **context)
        window.set_default_timeout(TIMEOUT * 1000)
        window.add_init_script(LISTEN)
        self._contexts.append(window)
        page = window.new_page()
        page.on("console", lambda message: message.type == "error" and self._fault(message.text))
        page.on("pageerror", lambda error: self._fault(f"uncaught: {error}"))
        page.on("request", lambda request: is_outside(request.url) and self._fault(f"outside this machine: {request.url}"))
        page.goto(url, wait_until="domcontentloaded")
        return page

    def allow(self, pattern: str) -> None:
        """Faults in which this regular expression is found are none, on any page: the console repeats each failed request."""
        self._allowed.append(pattern)

    def check(self) -> None:
        """AssertionError where there were faults."""
        faults = [fault for fault in self.faults if not any(re.search(pattern, fault) for pattern in self._allowed)]
        assert not faults, "faults of the page:\n" + "\n".join(faults)

    def close(self) -> None:
        for context in self._contexts:
            context.close()

    def _fault(self, text: str) -> None:
        self.faults.append(text)


def is_outside(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("http", "https", "ws", "wss") and parts.hostname not in ("127.0.0.1", "localhost")


def check_accessible(page: Page, within: str = "body") -> None:
    """AssertionError where axe-core finds a serious or critical fault against WCAG 2.2 AA in what the page shows there."""
    page.evaluate(STAND_STILL)
    options = {"runOnly": {"type": "tag", "values": WCAG_AA}, "resultTypes": ["violations"]}
    found = Axe().run(page, within, options).response
    assert found["passes"], "axe looked at nothing"
    faults = [f"{each['impact']}: {each['help']} ({each['id']}): {node['html'][:200]}: {node['failureSummary']}"
              for each in found["violations"] if each["impact"] in SERIOUS for node in each["nodes"]]
    assert not faults, "not accessible:\n" + "\n".join(faults)


def check_fits(page: Page) -> None:
    """AssertionError where the page must be scrolled sideways."""
    wide, room = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide <= room, f"the page is {wide} px wide in a window of {room} px"

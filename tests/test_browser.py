"""tests/support/browser.py: that a page's faults make its test fail."""
from __future__ import annotations

import threading

import pytest
from flask import Flask, Response, request
from playwright.sync_api import expect
from werkzeug.serving import make_server

from support.browser import Windows, check_accessible, check_fits

POLICY = "default-src 'none'; script-src 'self'; connect-src 'self'"
GOOD = "<!doctype html><html lang=en><title>Good</title><main><h1>Good</h1></main>"


@pytest.fixture
def site():
    """site(markup, policy): the address of a page with that text, and of a script beside it."""
    app = Flask(__name__)
    texts = {}
    app.add_url_rule("/", "page", lambda: Response(texts["page"], headers={"Content-Security-Policy": texts["policy"]}))
    app.add_url_rule("/script.js", "script", lambda: Response(texts["script"], mimetype="text/javascript"))
    app.add_url_rule("/language", "language", lambda: request.headers["Accept-Language"])
    server = make_server("127.0.0.1", 0, app, threaded=True)

    def show(page: str, script: str = "", policy: str = POLICY) -> str:
        texts.update(page=page, script=script, policy=policy)
        return f"http://127.0.0.1:{server.server_port}/"

    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield show
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def windows(chromium):
    """As the fixture browser, without its check at the end."""
    windows = Windows(chromium)
    yield windows
    windows.close()


def test_a_good_page_has_no_faults(windows, site):
    page = windows.open(site(GOOD + "<script src=script.js></script>", "document.querySelector('h1').textContent = 'Seen'"))
    expect(page.locator("h1")).to_have_text("Seen")
    check_accessible(page)
    check_fits(page)
    windows.check()


@pytest.mark.parametrize("markup, script, fault", [
    ("<script src=script.js></script>", "console.error('broken')", "broken"),
    ("<script src=script.js></script>", "nothing.of.that.name()", "uncaught: .*nothing is not defined"),
    ("<script>document.title = 'Inline'</script>", "", "Content-Security-Policy: script-src-elem: inline"),
    ("<img alt='' src='http://192.0.2.1/x.png'>", "", "Content-Security-Policy: img-src"),
    ("<script src=script.js></script>", "fetch('/missing')", "404")])
def test_a_fault_of_the_page_fails_its_test(windows, site, markup, script, fault):
    windows.open(site(GOOD + markup, script)).wait_for_load_state("networkidle")
    with pytest.raises(AssertionError, match=fault):
        windows.check()
    windows.allow(".")
    windows.check()


def test_what_comes_from_elsewhere_is_a_fault(windows, site):
    windows.open(site(GOOD + "<script src='http://192.0.2.1/x.js' async></script>", policy="script-src *"))
    with pytest.raises(AssertionError, match="outside this machine: http://192.0.2.1/x.js"):
        windows.check()


@pytest.mark.parametrize("markup", [
    "<img src='data:,'>", "<button></button>", "<p style='color: #aaa; background: #fff'>pale</p>"])
def test_a_fault_of_accessibility_is_found(windows, site, markup):
    page = windows.open(site(GOOD.replace("</main>", markup + "</main>"), policy="img-src data:; style-src 'unsafe-inline'"))
    with pytest.raises(AssertionError, match="not accessible:\n(serious|critical): "):
        check_accessible(page)


def test_a_page_that_is_too_wide_is_found(windows, site):
    page = windows.open(site(GOOD + "<pre>" + "x" * 400 + "</pre>"), width=390)
    with pytest.raises(AssertionError, match="px wide in a window of 390 px"):
        check_fits(page)


def test_a_page_is_told_width_colours_and_language(windows, site):
    page = windows.open(site(GOOD), width=390, scheme="dark", language="es-AR")
    assert page.evaluate("[innerWidth, matchMedia('(prefers-color-scheme: dark)').matches, navigator.language]") == [
        390, True, "es-AR"]
    assert page.evaluate("fetch('/language').then(answer => answer.text())").startswith("es-AR")

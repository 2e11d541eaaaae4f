"""Patterns from the configuration: what they match, and which are refused because one text could stop the service."""

from __future__ import annotations

import time

import pytest

from movidesk.config.pattern import MAX_TEXT, Pattern


@pytest.mark.parametrize("text", [
    "[0-9]{2,10}", r"\d{4}", "5252|5253|6000", "(?:20|30)[0-9]{2}", "(?:[0-9]{2})+", ".*/([0-9]+)[-@].*", "[0-9]{1,99999}",
    "(?:PJSIP|SIP|IAX2|DAHDI|Local|SCCP)/([0-9]{2,10})(?![0-9]).*", "|".join(map(str, range(2000, 2100)))])
def test_what_admins_write_is_taken(text):
    pattern = Pattern(text)
    begun = time.monotonic()
    for tried in "5" * MAX_TEXT, "5" * MAX_TEXT + "x", "5" * 30 + "x", "PJSIP/" + "5-" * 60:
        pattern.fullmatch(tried)
    assert pattern.pattern == text and time.monotonic() - begun < 1


@pytest.mark.parametrize("text", [
    "([0-9]+)*", "(a+)+$", "([0-9]|[0-9][0-9])*x", "[0-9]*" * 9 + "x", "(?:5?){60}x", "(?:5|5){30}x", "(?:(?=.*x).)*",
    "(.*)(.*)(.*)(.*)\\1x"])
def test_what_could_take_for_ever_is_refused(text):
    with pytest.raises(ValueError, match="might take for ever"):
        Pattern(text)


@pytest.mark.parametrize("text", ["[", "*", "\\", "(", "(" * 2000, "a{99999999999}", "(?u)x"])
def test_what_is_no_regular_expression(text):
    with pytest.raises(ValueError):
        Pattern(text)


def test_the_whole_text_and_ascii_digits_only():
    pattern = Pattern(r"\d{4}")
    assert pattern.fullmatch("5252")
    assert not any(map(pattern.fullmatch, ("52523", "5252\n", "x5252", "\u0665\u0662\u0665\u0662", "")))


def test_a_long_text_never_matches():
    pattern = Pattern("5*")
    assert pattern.fullmatch("5" * MAX_TEXT) and not pattern.fullmatch("5" * (MAX_TEXT + 1))

"""The words of the panel, in the language of the thread (movidesk.messages.in_language)."""

from __future__ import annotations

from movidesk.messages import _, ngettext

#: The languages, each with its tag for a page.
TAGS = {"en": "en", "pt": "pt-BR", "es": "es"}

Words = dict[str, "str | dict[str, str] | list[str]"]


def all_texts() -> Words:
    """All words of the page. {braces} are filled by the page; a list has the forms for one and for several."""
    return {**_headings(), **_of_columns(), **_sentences(), "outcomes": _outcomes(), "kinds": _kinds(), "statuses": _statuses()}


def of_login() -> dict[str, str]:
    """The words of the page that asks for the password."""
    return {
        "title": _("Panel"), "password": _("Password"), "enter": _("Log in"), "wrong": _("That is not the password."),
        "wait": _("Too many wrong passwords. Try again in {count} s."),
    }


def _headings() -> Words:
    return {
        "title": _("Panel"), "alarms": _("Alarms"), "waiting": _("Waiting"), "agents": _("Agents in calls"), "today": _("Today"),
        "calls": _("Last calls"), "search": _("Search by number"), "requests": _("Requests to Movidesk"), "outbox": _("Outbox"),
        "longest": _("Longest wait"), "talking": _("In calls"), "find": _("Search"), "number": _("Number"),
        "logout": _("Log out"),
        "theme": _("Light or dark"), "no_script": _("This page needs JavaScript."), "skip": _("Go to the content"),
        "summary": _("Summary"),
    }


def _of_columns() -> Words:
    return {
        "place": _("Place"), "caller": _("Caller"), "waits": _("waits"), "since": _("for"), "agent": _("Agent"),
        "queue": _("Queue"), "arrived": _("Arrived"), "waited": _("Waited"), "talked": _("Talked"), "outcome": _("Outcome"),
        "events": _("Events for Movidesk"), "hour": _("Hour"), "answered": _("Answered"),
        "lost": _("Lost"), "abandoned": _("Abandoned"),
    }


def _sentences() -> Words:
    return {
        "nobody": _("Nobody waits."), "no_agents": _("No agent is in a call."), "no_calls": _("No calls yet."),
        "none_found": _("No call with this number."), "no_today": _("No calls today."),
        "too_short": _("Numbers are masked: type the last digits that are shown, or the whole number."),
        "search_failed": _("The search failed. Try again."),
        "in_queue": _("Queue {queue}"), "own_queue": _("Asterisk's own queue"), "no_queue": _("without a queue"),
        "more": [ngettext("and {count} more caller", "and {count} more callers", 1),
                 ngettext("and {count} more caller", "and {count} more callers", 2)],
        "people": [ngettext("{count} caller", "{count} callers", 1), ngettext("{count} caller", "{count} callers", 2)],
        "found": [ngettext("{count} call", "{count} calls", 1), ngettext("{count} call", "{count} calls", 2)],
        "expected": _("the next caller will wait for about {time}"), "priority": _("priority {number}"),
        "window": _("in the last minute"), "no_limit": _("in the last minute, no limit"),
        "night": _("night limit"), "lowered": _("lowered from {limit}"), "paused": _("paused for {time}"),
        "refused": _("{count} refused"), "oldest": _("the oldest for {time}"),
        "withheld": _("withheld"), "recorded": _("recorded"), "tries": _("tries: {count}"),
        "remedy": _("What to do:"), "live": _("live"), "connecting": _("connecting"),
        "lost_contact": _("no news since {time}"), "full": _("too many viewers; trying again"),
        "broken": _("the journal cannot be read"), "unknown": _("unknown"),
        "hour_text": _("{hour}: {answered} answered, {lost} lost, {abandoned} abandoned"),
    }


def _outcomes() -> dict[str, str]:
    return {"waiting": _("waiting"), "ringing": _("ringing"), "talking": _("talking"), "completed": _("completed"),
            "canceled": _("abandoned"), "lost": _("lost"), "dialled": _("dialled"), "ended": _("ended")}


def _kinds() -> dict[str, str]:
    """What an event tells Movidesk."""
    return {"received": _("arrival"), "transferred": _("answer"), "completed": _("end"), "lost": _("lost"),
            "canceled": _("abandoned"), "start_transferred": _("answer"), "start_canceled": _("abandoned"),
            "link": _("recording")}


def _statuses() -> dict[str, str]:
    return {"pending": _("waits"), "delivered": _("sent"), "refused": _("refused"), "dismissed": _("dismissed")}

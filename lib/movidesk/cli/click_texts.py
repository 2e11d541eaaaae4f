"""Texts of click that the command shows. They stand here only for the catalogs: click asks gettext for them itself."""

from __future__ import annotations

from movidesk.messages import _, ngettext

_("Usage:")
_("Options")
_("Commands")
_("Show this message and exit.")
_("Show the version and exit.")
_("Error: {message}")
_("Try '{command} {option}' for help.")
_("Missing command.")
_("Missing argument")
_("Missing option")
_("No such command {name!r}.")
_("No such option {name!r}.")
ngettext("Did you mean {possibility}?", "(Did you mean one of: {possibilities}?)", 1)
_("Option {name!r} does not take a value.")
ngettext("Option {name!r} requires an argument.", "Option {name!r} requires {nargs} arguments.", 1)
ngettext("Got unexpected extra argument ({args})", "Got unexpected extra arguments ({args})", 1)
_("Invalid value: {message}")
_("Invalid value for {param_hint}: {message}")
_("{value!r} is not a valid {number_type}.")
_("{value} is not in the range {range}.")
ngettext("{value!r} is not {choice}.", "{value!r} is not one of {choices}.", 1)

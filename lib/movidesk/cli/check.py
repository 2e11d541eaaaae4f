"""`movidesk check`."""

from __future__ import annotations

import json
import sys

from movidesk import config, messages
from movidesk.checks import all_findings, user
from movidesk.checks.finding import TROUBLE as IN_TROUBLE
from movidesk.checks.finding import Finding
from movidesk.cli.terminal import GOOD, TROUBLE, clean, wrapped
from movidesk.messages import _

INDENT = 9


def run(settings: config.Config, as_json: bool, archive: str | None) -> int:
    """Run all checks as Asterisk's user, and print each with what is wrong, why that matters, and what mends it.

    archive: where to write a support archive, or None. Raises OSError.
    """
    file, log = None, ""
    if archive:
        from movidesk.checks import bundle

        file, log = bundle.open_file(archive), bundle.service_log()  # with root's rights, if it is root
    user.become(settings)
    settings = config.load(settings.path)  # as Asterisk's user can read it
    if as_json:
        messages.use_english()
    found: list[Finding] = []
    for finding in all_findings(settings):
        found.append(finding)
        if not as_json:
            _print(finding)
            sys.stdout.flush()  # others may take seconds
    if as_json:
        print(json.dumps([finding._asdict() for finding in found], indent=2))
    if file:
        with file:
            bundle.write(file, settings, found, log)
        print(_("{path}: look through it before you give it to somebody").format(path=archive), file=sys.stderr)
    return TROUBLE if any(finding.state == IN_TROUBLE for finding in found) else GOOD


def _print(finding: Finding) -> None:
    line = clean(f"{finding.subject}{': ' + finding.text if finding.text else ''}")
    first, *more = wrapped(line, INDENT, break_words=False)
    print(f"{finding.state:<{INDENT}}{first[INDENT:]}", *more, sep="\n")
    for heading, text in ((_("why:"), finding.why), (_("mend:"), finding.remedy)):
        if text:
            print(*wrapped(f"{heading} {clean(text)}", INDENT, break_words=False), sep="\n")

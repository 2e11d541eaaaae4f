"""The `movidesk` command: run the service, show calls and events, check the installation.

Exit status: 0 good, 1 trouble, 2 misuse.
"""

from __future__ import annotations

import io
import os
import resource
import sys

import click

from movidesk import config, journal, messages
from movidesk.cli.terminal import GOOD, MISUSE, TROUBLE

__all__ = ["GOOD", "MISUSE", "TROUBLE", "main"]

#: Folders of system programs such as asterisk and runuser, which are not in cron's PATH.
SYSTEM_PATH = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would contain the token
    os.environ["PATH"] = os.pathsep.join(dict.fromkeys([*filter(None, os.environ.get("PATH", "").split(os.pathsep)),
                                                        *SYSTEM_PATH]))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # names of callers, on a terminal that lacks their letters
    messages.follow_locale()
    from movidesk.cli import commands  # its help is in the language that was just chosen

    try:
        exit_status: int = commands.movidesk.main(arguments, prog_name="movidesk", standalone_mode=False)
        sys.stdout.flush()
        return exit_status
    except BrokenPipeError:  # of `| head`, which has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except click.ClickException as error:
        if "--nagios" in arguments:  # its status 2 would mean: critical
            from movidesk.cli import nagios

            return nagios.say(nagios.UNKNOWN, error.format_message())
        error.show()
        return error.exit_code
    except (config.ConfigError, journal.JournalError, OSError) as error:
        print(f"movidesk: {error}", file=sys.stderr)
    except (KeyboardInterrupt, click.Abort):
        pass
    return TROUBLE

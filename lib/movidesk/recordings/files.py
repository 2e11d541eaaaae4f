"""The files of recordings and messages: their names, and how long they are kept. Loads little: scripts use it."""

from __future__ import annotations

import os
import re

from movidesk.config import Config

UNKNOWN = "movidesk"  # in the names of files whose call the dialplan does not know

#: Endings of app_voicemail's files, the best to listen to first; .WAV is its name for WAV with GSM in it.
MESSAGE_ENDINGS = (".wav", ".WAV", ".gsm")


def own_message(message: str, folder: str, call_id: str) -> str:
    """A message in a voicemail box, under a name of our own in `folder`; '' where there is none.

    A box numbers its messages anew when one is deleted: a link to msg0000 would soon play what somebody else said.
    message: VM_MESSAGEFILE, a path without its ending. Raises OSError where the folder takes no file.
    """
    for ending in MESSAGE_ENDINGS:
        if os.path.exists(message + ending):
            name = re.sub(r"[^0-9A-Za-z_.-]", "", call_id) + "-message" + ending.lower()
            path = os.path.join(folder, name)
            os.makedirs(folder, exist_ok=True)
            if not os.path.exists(path):
                import shutil  # costs a script as much as an event; most have no message to copy

                shutil.copyfile(message + ending, path + ".part")
                os.rename(path + ".part", path)
            return path
    return ""


def own_names(config: Config) -> re.Pattern[str]:
    """The names that we give to files, and those that they have while they are made (a copy, a conversion).

    They begin with the call's id: [pbx] name, Asterisk's systemname, epoch.counter or, of made calls, epoch.hex, and the
    visit; or with UNKNOWN and the channel's unique id where the dialplan did not know the call's.
    """
    return re.compile(rf"\.?({re.escape(config['pbx', 'name'])}|{UNKNOWN})-([\w.-]+-)?[0-9]+\.([0-9]+|[0-9a-f]{{12}})(-[0-9]+)?"
                      r"(-message)?\.(wav|mp3|opus|gsm)(\.part)?", re.ASCII)


def delete_old(config: Config, now: float) -> list[str]:
    """Delete what is older than keep_days, where those are set, and return its names: only such as we give to files.

    Raises OSError where the folder cannot be read, or a file not be deleted; the others are deleted then.
    """
    days = config["recordings", "keep_days"]
    if not days:
        return []
    ours, deleted, trouble = own_names(config), [], None
    with os.scandir(config["recordings", "folder"]) as entries:
        for entry in entries:
            try:
                if ours.fullmatch(entry.name) and entry.is_file(follow_symlinks=False) and (
                        entry.stat(follow_symlinks=False).st_mtime < now - 86400 * days):
                    os.unlink(entry.path)
                    deleted.append(entry.name)
            except FileNotFoundError:
                continue  # another process has just deleted it
            except OSError as error:
                trouble = error
    if trouble:
        raise trouble
    return deleted

"""The files of recordings and messages: their names, and how long they are kept. Scripts use this module, so it imports
little."""

from __future__ import annotations

import os
import re

from movidesk.config import Config

UNKNOWN = "movidesk"  # the file name prefix if the dialplan does not know the call's id

#: File name extensions of app_voicemail, the best quality first; it uses .WAV for GSM in a WAV file.
MESSAGE_ENDINGS = (".wav", ".WAV", ".gsm")


def own_message(message: str, folder: str, call_id: str) -> str:
    """The path of a message to link: a copy in `folder` of one from a voicemail box; '' if there is no message.

    A box renumbers its messages when one is deleted, so a link to msg0000 would soon play another caller's message.
    message: VM_MESSAGEFILE, a path without its extension. The path of an existing file is a recording of the PBX's own dialplan
    (MIXMONITOR_FILENAME), and is returned as it is. Raises OSError if the copy fails.
    """
    if os.path.isfile(message):
        return message
    for ending in MESSAGE_ENDINGS:
        if os.path.exists(message + ending):
            name = re.sub(r"[^0-9A-Za-z_.-]", "", call_id) + "-message" + ending.lower()
            path = os.path.join(folder, name)
            os.makedirs(folder, exist_ok=True)
            if not os.path.exists(path):
                import shutil  # slow to import: as long as recording an event; most calls have no message

                shutil.copyfile(message + ending, path + ".part")
                os.rename(path + ".part", path)
            return path
    return ""


def own_names(config: Config) -> re.Pattern[str]:
    """A pattern for our file names, including temporary names during a copy or conversion.

    They begin with the call's id: [pbx] name, Asterisk's systemname, epoch.counter (made calls: epoch.hex), and the visit; or
    with UNKNOWN and the channel's unique id if the dialplan did not know the call's id.
    """
    return re.compile(rf"\.?({re.escape(config['pbx', 'name'])}|{UNKNOWN})-([\w.-]+-)?[0-9]+\.([0-9]+|[0-9a-f]{{12}})(-[0-9]+)?"
                      r"(-message)?\.(wav|mp3|opus|gsm)(\.part)?", re.ASCII)


def delete_old(config: Config, now: float) -> list[str]:
    """Delete our files that are older than keep_days, if it is set, and return their names.

    Raises OSError if the folder cannot be read or a file cannot be deleted; the other files are deleted anyway.
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

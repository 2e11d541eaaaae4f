"""The files of recordings and messages: signatures for their links, names, retention. Loads little: scripts use it.

Links are signed in the format of nginx's secure_link module, not with itsdangerous: the same link is served by nginx
alone or by `movidesk serve` (web/recordings.py), the scripts that write links at hangup load nothing more for it, and there is
no dependency. A link ends in `?expires=EPOCH&signature=S`, where S is the URL-safe base64 of the MD5 of
`EPOCH/FILE SECRET`. That is no HMAC, but the secret stands last, so nothing can be appended, and to forge a signature
without the secret takes a preimage of MD5, which nobody can find.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re

from movidesk.config import Config
from movidesk.options import Secret

UNKNOWN = "movidesk"  # in the names of files whose call the dialplan does not know

#: Endings of app_voicemail's files, the best to listen to first; .WAV is its name for WAV with GSM in it.
MESSAGE_ENDINGS = (".wav", ".WAV", ".gsm")


def signature(name: str, expires: int, secret: Secret) -> str:
    """What proves that the file may be heard until `expires` (epoch seconds)."""
    text = "%d/%s %s" % (expires, name, secret.reveal())
    digest = hashlib.md5(text.encode("utf-8", "surrogateescape"), usedforsecurity=False).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def sign(link: str, name: str, config: Config, now: float) -> str:
    """The link with its expiry and signature."""
    secret = config["recordings", "secret"]
    expires = int(now) + 86400 * config["recordings", "valid_days"]
    return "%s%sexpires=%d&signature=%s" % (link, "&" if "?" in link else "?", expires, signature(name, expires, secret))


def is_allowed(name: str, expires: str, given: str, secret: Secret, now: float) -> bool:
    """Whether a link's signature is ours and has not expired. Takes equally long whatever is wrong with it."""
    until = int(expires) if re.fullmatch(r"[0-9]{1,12}", expires, re.ASCII) else 0
    genuine = hmac.compare_digest(signature(name, until, secret).encode(), given.encode("utf-8", "surrogateescape"))
    return genuine & (until >= now)


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


def own_names(config: Config) -> re.Pattern:
    """The names that we give to files, and those that they have while they are made (a copy, a conversion).

    They begin with the call's id: [pbx] name, Asterisk's systemname, epoch.counter or, of made calls, epoch.hex, and the
    visit; or with UNKNOWN and the channel's unique id where the dialplan did not know the call's.
    """
    return re.compile(r"\.?(%s|%s)-([\w.-]+-)?[0-9]+\.([0-9]+|[0-9a-f]{12})(-[0-9]+)?(-message)?\.(wav|mp3|opus|gsm)(\.part)?"
                      % (re.escape(config["pbx", "name"]), UNKNOWN), re.ASCII)


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

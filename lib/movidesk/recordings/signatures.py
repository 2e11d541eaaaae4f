"""Signatures of links: anybody who has the link may listen until it expires.

Links are signed in the format of nginx's secure_link module, not with itsdangerous. So nginx alone or `movidesk serve`
(web/recordings.py) can serve the same link, the scripts that write links at hangup import nothing more, and there is no
dependency. A link ends in `?expires=EPOCH&signature=S`, where S is the URL-safe base64 of the MD5 of `EPOCH/FILE SECRET`. That is
not an HMAC, but the secret comes last, so nothing can be appended, and to forge a signature without the secret one must find a
preimage of MD5, which is infeasible.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

from movidesk.config import Config
from movidesk.config.options import Secret


def signature(name: str, expires: int, secret: Secret) -> str:
    """The signature of a link to the file that is valid until `expires` (epoch seconds)."""
    text = f"{expires}/{name} {secret.reveal()}"
    digest = hashlib.md5(text.encode("utf-8", "surrogateescape"), usedforsecurity=False).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def sign(link: str, name: str, config: Config, now: float) -> str:
    """The link with its expiry and signature."""
    secret = config["recordings", "secret"]
    expires = int(now) + 86400 * config["recordings", "valid_days"]
    return f"{link}{'&' if '?' in link else '?'}expires={expires}&signature={signature(name, expires, secret)}"


def is_allowed(name: str, expires: str, given: str, secret: Secret, now: float) -> bool:
    """Whether a link's signature is valid and has not expired. Takes the same time for every kind of error."""
    until = int(expires) if re.fullmatch(r"[0-9]{1,12}", expires, re.ASCII) else 0
    genuine = hmac.compare_digest(signature(name, until, secret).encode(), given.encode("utf-8", "surrogateescape"))
    return genuine & (until >= now)

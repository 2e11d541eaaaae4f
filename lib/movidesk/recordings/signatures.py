"""Signatures of links: who has the link may listen, until it expires.

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
import re

from movidesk.config import Config
from movidesk.config.options import Secret


def signature(name: str, expires: int, secret: Secret) -> str:
    """What proves that the file may be heard until `expires` (epoch seconds)."""
    text = f"{expires}/{name} {secret.reveal()}"
    digest = hashlib.md5(text.encode("utf-8", "surrogateescape"), usedforsecurity=False).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def sign(link: str, name: str, config: Config, now: float) -> str:
    """The link with its expiry and signature."""
    secret = config["recordings", "secret"]
    expires = int(now) + 86400 * config["recordings", "valid_days"]
    return f"{link}{'&' if '?' in link else '?'}expires={expires}&signature={signature(name, expires, secret)}"


def is_allowed(name: str, expires: str, given: str, secret: Secret, now: float) -> bool:
    """Whether a link's signature is ours and has not expired. Takes equally long whatever is wrong with it."""
    until = int(expires) if re.fullmatch(r"[0-9]{1,12}", expires, re.ASCII) else 0
    genuine = hmac.compare_digest(signature(name, until, secret).encode(), given.encode("utf-8", "surrogateescape"))
    return genuine & (until >= now)

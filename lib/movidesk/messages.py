"""Messages for people in their language, with gettext: English in the source, Portuguese and Spanish in `locale/`.

`_("{count} calls").format(count=3)`: the text is a literal, its values have names, and stand outside of it. `make messages` finds
such texts and writes them into the catalogs.

Only the command `movidesk` follows the locale of whoever runs it, and the panel each browser's language (`in_language`). Scripts
and the service write English, so that logs can be searched, and load no gettext. So does what programs read: `--json`, `--csv`,
`--nagios`.
"""

from __future__ import annotations

import os
from _thread import _local  # that of threading, which a script does without

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gettext import NullTranslations
    from types import TracebackType

DOMAIN = "movidesk"
FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "locale")

#: Besides English, which has no catalog.
LANGUAGES = ("pt", "es")

_catalog: NullTranslations | None = None
_own = _local()  # of this thread: `catalog`, within in_language


def _(text: str) -> str:
    """This text in the language of `in_language` or `follow_locale`; in English without them."""
    catalog = getattr(_own, "catalog", _catalog)
    return text if catalog is None else catalog.gettext(text)


def ngettext(one: str, many: str, count: int) -> str:
    """The text for this count, in the same language: `ngettext("{count} call", "{count} calls", 3)`."""
    catalog = getattr(_own, "catalog", _catalog)
    if catalog is None:
        return one if count == 1 else many
    return catalog.ngettext(one, many, count)


def language() -> str:
    """The language of messages, as HTML names it: one of LANGUAGES, or en."""
    catalog = getattr(_own, "catalog", _catalog)
    return catalog.info().get("language", "en") if catalog is not None else "en"


def follow_locale() -> None:
    """From here on messages are in the language of $LANGUAGE, $LC_ALL, $LC_MESSAGES or $LANG, the first that is set."""
    global _catalog
    import gettext

    _catalog = gettext.translation(DOMAIN, FOLDER, fallback=True)
    # For the texts of click, which asks gettext's default domain.
    gettext.bindtextdomain(DOMAIN, FOLDER)
    gettext.textdomain(DOMAIN)


def use_english() -> None:
    """From here on messages are in English: for output that programs read."""
    global _catalog
    _catalog = None


class in_language:
    """`with in_language("pt"):` this thread's messages are in one of LANGUAGES; in English for any other."""

    def __init__(self, language: str):
        self._catalog: NullTranslations | None = None
        if language in LANGUAGES:
            import gettext

            self._catalog = gettext.translation(DOMAIN, FOLDER, [language])  # gettext keeps what it has read

    def __enter__(self) -> None:
        self._before = getattr(_own, "catalog", None)
        self._nested = hasattr(_own, "catalog")
        _own.catalog = self._catalog

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._nested:
            _own.catalog = self._before
        else:
            del _own.catalog

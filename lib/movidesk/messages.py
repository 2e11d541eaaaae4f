"""Messages for people in their language, with gettext: English in the source, Portuguese and Spanish in `locale/`.

`_("{count} calls").format(count=3)`: the text is a literal, its values have names, and stand outside of it. `make messages` finds
such texts and writes them into the catalogs.

Only the command `movidesk` follows the locale of whoever runs it. Scripts and the service write English, so that logs can be
searched, and load no gettext. So does what programs read: `--json`, `--csv`, `--nagios`.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gettext import NullTranslations

DOMAIN = "movidesk"
FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "locale")

_catalog: NullTranslations | None = None


def _(text: str) -> str:
    """This text in the language of `follow_locale`; in English before that."""
    return text if _catalog is None else _catalog.gettext(text)


def ngettext(one: str, many: str, count: int) -> str:
    """The text for this count, in the language of `follow_locale`: `ngettext("{count} call", "{count} calls", 3)`."""
    if _catalog is None:
        return one if count == 1 else many
    return _catalog.ngettext(one, many, count)


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

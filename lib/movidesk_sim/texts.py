"""The page's texts in the language of the browser: English in the source, Portuguese and Spanish in `locale/`.

`_("...")` stands around each text in the templates and in the scripts; `make messages` writes them into the catalogs.
"""
from __future__ import annotations

import gettext
import re
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
DOMAIN = "movidesk_sim"
#: Each language as the page names it, and its catalog; the first is that of the source.
LANGUAGES = {"en": "", "pt-BR": "pt", "es": "es"}
_IN_A_SCRIPT = re.compile(r'\b_\("([^"\\]+)"')


@cache
def catalog(language: str) -> gettext.NullTranslations:
    """The texts in a language of LANGUAGES."""
    return gettext.translation(DOMAIN, FOLDER / "locale", [LANGUAGES[language]], fallback=not LANGUAGES[language])


@cache
def of_scripts() -> frozenset[str]:
    """The texts in static/*.js."""
    scripts = [path.read_text(encoding="utf-8") for path in (FOLDER / "static").glob("*.js")]
    return frozenset(text for script in scripts for text in _IN_A_SCRIPT.findall(script))


@cache
def translations(language: str) -> dict[str, str]:
    """English text -> the text in this language, for the scripts."""
    return {text: catalog(language).gettext(text) for text in sorted(of_scripts())}


def best(accepted: list[str]) -> str:
    """The language of LANGUAGES for a browser that names these, best first, such as pt, pt-PT or es-AR; else English."""
    for wanted in accepted:
        for language in LANGUAGES:
            if language.partition("-")[0] == wanted.lower().partition("-")[0]:
                return language
    return next(iter(LANGUAGES))

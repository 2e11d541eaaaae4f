"""The form in which Movidesk gets a caller's number ([numbers]): one for each caller, whichever way a trunk writes it.

Only a valid number is changed; any other is sent as it came. The journal keeps what came: this runs when a request is built.
"""

from __future__ import annotations

import logging
import re
from functools import lru_cache

from movidesk import NamedTuple
from movidesk.messages import _
from movidesk.rules.call_states import ANONYMOUS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from movidesk.config import Config

AS_IS = "as_is"

log = logging.getLogger("movidesk.delivery.numbers")


class Converted(NamedTuple):
    """What Movidesk gets for a caller's number."""

    number: str
    why: str  # for people


def convert(raw: str, config: Config) -> Converted:
    """What Movidesk gets for a number as the journal has it (call_states.client_number). Raises nothing."""
    form, country = config["numbers", "form"], config["numbers", "country"]
    if raw == ANONYMOUS:
        return Converted(ANONYMOUS, _("withheld"))
    if raw in (config["numbers", "anonymous"] or ()):
        return Converted(ANONYMOUS, _("withheld: [numbers] anonymous"))
    if form == AS_IS:
        return Converted(raw, _("as it came: [numbers] form = as_is"))
    if re.fullmatch(r"\+?0+", raw):
        return Converted(ANONYMOUS, _("withheld: only zeros"))
    if config["numbers", "internal"].fullmatch(raw):
        return Converted(raw, _("as it came: [numbers] internal"))
    if not _is_possible(problem(config)):
        return Converted(raw, _("as it came: [numbers] cannot be applied, see movidesk check"))
    from movidesk.delivery.numbering_plan import NumberingPlan

    plan = NumberingPlan(country, config["numbers", "area_code"])
    found = plan.read(raw, config["numbers", "prefixes"] or ())
    if found is None:
        return Converted(raw, _("as it came: not a valid number in {country}").format(country=country))
    return Converted(plan.written(found.number, form), found.how)


def problem(config: Config) -> str:
    """Why [numbers] cannot be applied, although its settings are well formed; '' if it can be."""
    if config["numbers", "form"] == AS_IS:
        return ""
    try:
        from movidesk.delivery.numbering_plan import COUNTRIES
    except ImportError:
        return "the Python package phonenumbers is missing: make install, or pip install 'movidesk-agi[numbers]'"
    country = config["numbers", "country"]
    return "" if country in COUNTRIES else f"[numbers] country = {country} is not a country's code (ISO 3166), such as BR"


@lru_cache(maxsize=8)
def _is_possible(why: str) -> bool:
    """Whether there is no problem. The log gets each problem once for each process."""
    if why:
        log.error("callers' numbers are sent as they come: %s", why)
    return not why

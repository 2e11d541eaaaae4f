"""Reads and writes numbers by a country's numbering plan: that of libphonenumber, and what it lacks.

libphonenumber (https://github.com/google/libphonenumber) reads numbers as people dial them; callers' numbers come as trunks write
them. This module imports phonenumbers, which is slow: import it only if [numbers] form needs it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import phonenumbers
from phonenumbers import PhoneNumber, PhoneNumberFormat

from movidesk.messages import _

COUNTRIES = frozenset(phonenumbers.SUPPORTED_REGIONS)

#: country -> what its networks put before a number, if libphonenumber does not know it -> whether the area code may be missing.
#: Brazil: 9090 before a local collect call; else 0, or 90 (collect), and two digits of a carrier (libphonenumber has only some).
NETWORK_PREFIXES = {"BR": {"9090": True, "0ZX": False, "90ZX": False}}
WILDCARDS = {"X": "[0-9]", "Z": "[1-9]", "N": "[2-9]"}  # as in Asterisk's extension patterns


class Found(NamedTuple):
    """A valid number, and how it was read (for people)."""

    number: PhoneNumber
    how: str


class NumberingPlan:
    """The numbers of one country. area_code: of numbers without one, '' if they are not to be read."""

    def __init__(self, country: str, area_code: str = ""):
        self._country = country
        self._area_code = area_code

    def read(self, raw: str, prefixes: tuple[str, ...] = ()) -> Found | None:
        """What a number means: digits, with or without a leading +. None if it is no valid number.

        In this order: the number as it is; what follows one of `prefixes`; what follows 00; what follows a network's prefix.
        """
        found = self._national(raw) or self._behind(prefixes, raw)
        if raw.startswith("00"):
            return found or self._international(raw[2:])
        for prefix, may_be_local in NETWORK_PREFIXES.get(self._country, {}).items():
            found = found or self._behind((prefix,), raw, may_be_local)
        return found

    def written(self, number: PhoneNumber, form: str) -> str:
        """A valid number as `national` digits, or in the form `e164`.

        A number that cannot be dialled from abroad (0800) is national in both forms, a number of another country E.164 in both.
        """
        at_home = self._country in phonenumbers.region_codes_for_country_code(number.country_code or 0)
        if at_home and (form == "national" or not phonenumbers.can_be_internationally_dialled(number)):
            return re.sub("[^0-9]", "", phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL))
        return phonenumbers.format_number(number, PhoneNumberFormat.E164)

    def _behind(self, prefixes: tuple[str, ...], raw: str, may_be_local: bool = True) -> Found | None:
        """The number that follows the first of the prefixes after which there is a valid one."""
        for prefix in prefixes:
            pattern = "".join(WILDCARDS.get(character, re.escape(character)) for character in prefix)
            match = re.fullmatch(f"{pattern}(.+)", raw)
            rest = match.group(1) if match else ""
            found = self._international(rest[2:]) if rest.startswith("00") else self._national(rest, may_be_local)
            if found:
                how = _("{how}, after {digits} (prefix {prefix})").format(how=found.how, digits=raw[:-len(rest)], prefix=prefix)
                return Found(found.number, how)
        return None

    def _national(self, raw: str, may_be_local: bool = True) -> Found | None:
        if raw.startswith("+"):
            return self._international(raw[1:])
        # After 00 a country code follows: libphonenumber would read 0055 47 3399 0777 as dialled to Norway (47) by carrier 55.
        if raw.startswith("00"):
            return None
        number = self._valid(raw)
        if number:
            return Found(number, _("a number in {country}").format(country=self._country))
        if not self._area_code or not may_be_local or raw.startswith("0"):
            return None
        number = self._valid(self._area_code + raw)
        if not number:
            return None
        how = _("a number in {country}, area code {area_code}").format(country=self._country, area_code=self._area_code)
        return Found(number, how)

    def _international(self, digits: str) -> Found | None:
        number = self._valid("+" + digits)
        if not number:
            return None
        return Found(number, _("an international number, country code {code}").format(code=number.country_code))

    def _valid(self, text: str) -> PhoneNumber | None:
        try:
            number = phonenumbers.parse(text, self._country)
        except phonenumbers.NumberParseException:
            return None
        return number if phonenumbers.is_valid_number(number) else None

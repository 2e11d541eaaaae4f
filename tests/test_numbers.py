"""The form of callers' numbers ([numbers]): as trunks in Brazil and elsewhere write them, and as Movidesk gets them."""
from __future__ import annotations

import logging
import re
import sys
from pathlib import Path

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from movidesk import config
from movidesk.checks import configuration
from movidesk.context import Context
from movidesk.delivery import numbers
from movidesk.delivery.worker import Delivery
from movidesk.journal import Journal
from support.peer import Peer

AGI = Path(__file__).parents[1] / "agi"


class Numbers:
    """A configuration without a file."""

    def __init__(self, form="e164", **values):
        settings = {"form": form, "country": "BR", "area_code": "47", **values}
        self._values = {key: parse(settings[key]) if settings.get(key) else ""
                        for key, (parse, _) in config.options.OPTIONS["numbers"].items()}
        self._values["internal"] = self._values["internal"] or config.load("/none")["numbers", "internal"]

    def __getitem__(self, name):
        return self._values[name[1]]


def sent(raw: str, form="e164", **values) -> str:
    return numbers.convert(raw, Numbers(form, **values)).number


# -- Brazil ------------------------------------------------------------------------------------------------------------

LANDLINE, MOBILE = ("+554733990777", "4733990777"), ("+5511987654321", "11987654321")

BRAZIL = [
    ("4733990777", *LANDLINE), ("04733990777", *LANDLINE), ("554733990777", *LANDLINE), ("+554733990777", *LANDLINE),
    ("00554733990777", *LANDLINE),  # 00 and the country's code; by carrier 55 it would be a number in Norway
    ("33990777", *LANDLINE),        # area_code
    ("0154733990777", *LANDLINE),   # carrier 15
    ("0264733990777", *LANDLINE),   # carrier 26, which libphonenumber does not know
    ("90154733990777", *LANDLINE),  # a collect call
    ("909033990777", *LANDLINE),    # a local collect call
    ("904733990777", *LANDLINE),
    ("11987654321", *MOBILE), ("011987654321", *MOBILE), ("02111987654321", *MOBILE), ("5511987654321", *MOBILE),
    ("015987654321", "+5515987654321", "15987654321"),  # area code 15, not carrier 15
    ("987654321", "+5547987654321", "47987654321"),
    ("5532211234", "+555532211234", "5532211234"),  # area code 55, not the country's code
    ("08001234567", "08001234567", "08001234567"), ("8001234567", "08001234567", "08001234567"),
    ("+558001234567", "08001234567", "08001234567"), ("40041234", "40041234", "40041234"),
    ("30031234", "30031234", "30031234"), ("03031234567", "03031234567", "03031234567"),
    ("+4930901820", "+4930901820", "+4930901820"), ("004930901820", "+4930901820", "+4930901820"),
    ("0014155552671", "+14155552671", "+14155552671"),
    ("0041446681800", "+41446681800", "+41446681800"),  # 41 is also a carrier
]


@pytest.mark.parametrize("raw, e164, national", BRAZIL)
def test_numbers_as_trunks_in_brazil_write_them(raw, e164, national):
    assert (sent(raw), sent(raw, "national")) == (e164, national)


@pytest.mark.parametrize("form", ["e164", "national"])
@pytest.mark.parametrize("raw", [
    "190", "193", "10315", "103", "5252", "12", "600123",     # services, extensions
    "4799123456", "99123456",                                 # a mobile number without its ninth digit
    "12345678", "123", "1234567", "+4712", "00", "+99912345678", "99999999999999999999", "9" * 128,
    "02033990777",                                            # a carrier, and no area code
])
def test_what_is_no_valid_number_is_sent_as_it_came(raw, form):
    assert sent(raw, form) == (raw if raw.strip("0") else "anonymous")


@pytest.mark.parametrize("raw", ["33990777", "987654321"])
def test_without_an_area_code_a_local_number_stays(raw):
    assert sent(raw, area_code="") == raw


@pytest.mark.parametrize("raw, prefixes, e164", [
    ("004733990777", "00", "+554733990777"), ("000154733990777", "00", "+554733990777"), ("033990777", "0", "+554733990777"),
    ("0033990777", "0, 00", "+554733990777"), ("0004930901820", "0", "+4930901820"), ("994733990777", "0, 99", "+554733990777"),
    ("1234733990777", "1ZX", "+554733990777"), ("+4733990777", "+", "+4733990777"), ("+11987654321", "+", "+5511987654321")])
def test_a_prefix_that_a_trunk_adds_is_removed(raw, prefixes, e164):
    assert sent(raw, prefixes=prefixes) == e164
    assert sent(raw) != e164 or prefixes == "+"


def test_after_a_prefix_only_a_valid_number_counts():
    assert sent("0012345678", prefixes="0, 00") == "0012345678"


# -- withheld, internal ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("raw", ["anonymous", "0", "0000", "+000", "00000000000"])
def test_a_withheld_number(raw):
    assert sent(raw) == sent(raw, "national") == "anonymous"


def test_a_trunks_own_number_for_withheld_ones():
    assert sent("9999999999", anonymous="9999999999, 1") == "anonymous"
    assert sent("9999999999", "as_is", anonymous="9999999999, 1") == "anonymous"


def test_internal_numbers_stay_whatever_the_area_code_makes_of_them():
    assert sent("23125252") == "+554723125252" and sent("23125252", internal="2312[0-9]{4}") == "23125252"


@given(st.from_regex(r"\+?[0-9]{1,128}", fullmatch=True))
def test_as_is_changes_nothing(raw):
    assert sent(raw, "as_is", prefixes="0") == raw


# -- other countries ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("country, area_code, raw, e164, national", [
    ("PT", "", "213456789", "+351213456789", "213456789"), ("PT", "", "00351213456789", "+351213456789", "213456789"),
    ("DE", "30", "901820", "901820", "901820"), ("DE", "30", "9018200", "+49309018200", "0309018200"),
    ("US", "", "4155552671", "+14155552671", "4155552671"), ("US", "", "011554733990777", "+554733990777", "+554733990777"),
    ("AR", "11", "43211234", "+541143211234", "01143211234")])
def test_other_countries(country, area_code, raw, e164, national):
    assert sent(raw, country=country, area_code=area_code) == e164
    assert sent(raw, "national", country=country, area_code=area_code) == national


# -- properties --------------------------------------------------------------------------------------------------------

AREAS = st.sampled_from(["11", "21", "27", "31", "41", "47", "48", "49", "51", "55", "61", "71", "81", "91", "99"])
BRAZILIAN = st.tuples(AREAS, st.from_regex(r"([2-5][0-9]{7}|9[6-9][0-9]{7})", fullmatch=True)).map("".join).filter(
    lambda text: phonenumbers.is_valid_number(phonenumbers.parse("+55" + text)))


@given(BRAZILIAN, st.from_regex(r"[1-9][0-9]", fullmatch=True))
def test_one_caller_has_one_number_whatever_the_trunk_writes(number, carrier):
    ways = [number, f"0{number}", f"55{number}", f"+55{number}", f"0055{number}", f"0{carrier}{number}", f"90{carrier}{number}"]
    assert {sent(way) for way in ways} == {f"+55{number}"}
    assert {sent(way, "national") for way in ways} == {number}


@given(BRAZILIAN)
def test_an_area_code_is_not_needed_within_it(number):
    local = number[2:]
    if not phonenumbers.is_valid_number(phonenumbers.parse("+55" + local)):  # such as 4003 1234: a number of the whole country
        assert sent(local, area_code=number[:2]) == f"+55{number}"


TEXTS = st.one_of(st.from_regex(r"\+?[0-9]{1,20}", fullmatch=True), st.from_regex(r"\+?[0-9]{1,128}", fullmatch=True),
                  st.tuples(st.sampled_from(["0", "00", "+", "55", "90", "9090", "015", "0800", "+55", "0055"]),
                            BRAZILIAN).map("".join))


@given(TEXTS, st.sampled_from(["e164", "national"]), st.sampled_from(["", "0", "00, 0", "9X, +"]), st.sampled_from(["", "47"]),
       st.sampled_from(["BR", "PT", "US", "DE", "IT", "AR"]))
def test_no_number_is_lost_and_a_converted_one_stays(raw, form, prefixes, area_code, country):
    values = {"form": form, "area_code": area_code, "country": country}
    first = numbers.convert(raw, Numbers(prefixes=prefixes, **values))
    assert first.why
    if first.number == "anonymous":
        assert raw.strip("+0") == ""
    elif first.why.startswith("as it came"):
        assert first.number == raw
    else:
        assert phonenumbers.is_valid_number(phonenumbers.parse(first.number, country))
        assert first.number[-4:] == raw.lstrip("+")[-4:]  # of the subscriber
        assert sent(first.number, **values) == first.number


# -- within the product ------------------------------------------------------------------------------------------------

@pytest.fixture
def converting(write_config, simulator, clock):
    """A context that sends callers' numbers as E.164 to the simulator."""
    path = write_config(movidesk={"url": simulator.url}, numbers={"form": "e164", "country": "br"})
    context = Context(config.load(path), clock, wake=lambda: None)
    yield context
    context.client.close()
    context.journal.close()


def heard(simulator) -> dict[str, str]:
    return {line["endpoint"]: line["params"]["clientNumber"] for line in simulator.model.log if "clientNumber" in line["params"]}


def test_every_request_has_the_converted_number_and_the_journal_what_came(converting, simulator):
    book = converting.journal
    waiting = book.calls.arrive("pbx1", "1.1", "77", "04733990777")
    book.calls.record(waiting.call_id, "canceled")
    answered = book.calls.arrive("pbx1", "1.2", "77", "04733990777", mode="watch")
    book.calls.record(answered.call_id, "start_transferred", extension="5252")
    left = book.calls.arrive("pbx1", "1.3", "77", "04733990777", mode="watch")
    book.calls.record(left.call_id, "start_canceled")
    Delivery(converting).once()
    assert heard(simulator) == dict.fromkeys(
        ("asterisk_receivedCall", "asterisk_startTransferedCall", "asterisk_startCanceledCall"), "+554733990777")
    assert {call.number for call in book.overview.last_calls(9)} == {"04733990777"}


@pytest.mark.parametrize("form, number", [("e164", "+554733990777"), ("as_is", "4733990777")])
def test_the_question_of_a_waiting_caller(write_config, simulator, monkeypatch, tmp_path, form, number):
    """By the script. With as_is nothing more is loaded."""
    monkeypatch.setenv("MOVIDESK_CONFIG", write_config(movidesk={"url": simulator.url}, numbers={"form": form, "country": "BR"}))
    peer = Peer()
    done = peer.script([sys.executable, "-X", "importtime", str(AGI / "received")], "77")
    loaded = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert heard(simulator) == {"asterisk_receivedCall": number}, done.stderr[-2000:]
    journal = Journal(str(tmp_path / "journal.db"))
    assert journal.overview.last_calls(1)[0].number == "4733990777"
    assert ({"phonenumbers", "movidesk.delivery.numbers"} <= loaded) == (form == "e164")
    assert form == "e164" or not any("phonenumbers" in name or "movidesk.delivery.number" in name for name in loaded)


def test_an_event_loads_no_phonenumbers(write_config, monkeypatch):
    monkeypatch.setenv("MOVIDESK_CONFIG", write_config(numbers={"form": "e164", "country": "BR"}))
    done = Peer().script([sys.executable, "-X", "importtime", str(AGI / "canceled")])
    assert "movidesk.agi.runner" in done.stderr and "phonenumbers" not in done.stderr


def test_without_the_library_numbers_go_as_they_came(converting, simulator, monkeypatch, caplog):
    for name in ("phonenumbers", "movidesk.delivery.numbering_plan"):
        monkeypatch.setitem(sys.modules, name, None)
    numbers._is_possible.cache_clear()
    book = converting.journal
    for uniqueid in ("1.1", "1.2"):
        call = book.calls.arrive("pbx1", uniqueid, "77", "04733990777", mode="watch")
        book.calls.record(call.call_id, "start_canceled")
    with caplog.at_level(logging.ERROR):
        Delivery(converting).once()
    numbers._is_possible.cache_clear()
    assert heard(simulator) == {"asterisk_startCanceledCall": "04733990777"}
    line, = [record.getMessage() for record in caplog.records if record.name == "movidesk.delivery.numbers"]
    assert line.startswith("callers' numbers are sent as they come: the Python package phonenumbers is missing")


def test_check_names_a_country_that_is_none(write_config):
    found = config.load(write_config(numbers={"form": "e164", "country": "XX"}))
    assert found.all_problems() == []
    finding, = [finding for finding in configuration.findings(found) if finding.subject == "callers' numbers as e164"]
    assert finding.text.startswith("[numbers] country = XX is not a country's code") and finding.state == "TROUBLE"


def test_a_form_without_a_country_is_refused_and_not_applied(write_config):
    path = write_config(numbers={"form": "e164"})
    found = config.load(path)
    text, = found.all_problems()
    assert re.fullmatch(re.escape(path) + r":\d+: \[numbers\] form = e164 needs country, such as BR", text)
    assert found["numbers", "form"] == "as_is"


def test_a_refused_country_is_one_problem(write_config):
    found = config.load(write_config(numbers={"form": "e164", "country": "Brasil"}))
    assert len(found.all_problems()) == 1 and found["numbers", "form"] == "as_is"

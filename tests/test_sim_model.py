"""The simulator's model against the API's two documents."""
from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from movidesk_sim.model import CUT, ENDPOINTS, Limit, Movidesk, Switches

START = 1_700_000_000.0  # Tuesday, 14 November 2023, 22:13:20 UTC
DATE = "2018-5-1T17:00:00"
GOOD = {"queueId": "77", "clientNumber": "4733990777", "id": "c1", "branchLine": "5252",
        "link": "https://x/y", "Link": "https://x/y",
        "callDate": DATE, "transferDate": DATE, "completedDate": DATE, "canceledDate": DATE}
NEEDED = {  # the documents' check marks, written down apart from the simulator's own table
    ("POST", "asterisk_receivedCall"): ["queueId", "clientNumber", "id"],
    ("POST", "asterisk_transferedCall"): ["id", "branchLine"],
    ("POST", "asterisk_completedCall"): ["id"],
    ("GET", "asterisk_completedCall"): ["id", "link"],
    ("POST", "asterisk_lostCall"): ["id"],
    ("POST", "asterisk_canceledCall"): ["id", "canceledDate"],
    ("GET", "asterisk_startTransferedCall"): ["queueId", "clientNumber", "id", "branchLine"],
    ("GET", "asterisk_startCanceledCall"): ["queueId", "clientNumber", "id", "canceledDate"],
    ("POST", "setMadeCallLink"): ["id"],
}
OPTIONAL = {
    ("POST", "asterisk_receivedCall"): ["callDate"],
    ("POST", "asterisk_transferedCall"): ["transferDate"],
    ("POST", "asterisk_completedCall"): ["link", "completedDate"],
    ("GET", "asterisk_completedCall"): ["completedDate"],
    ("POST", "asterisk_lostCall"): ["link", "completedDate"],
    ("POST", "asterisk_canceledCall"): [],
    ("GET", "asterisk_startTransferedCall"): ["callDate", "transferDate"],
    ("GET", "asterisk_startCanceledCall"): ["callDate"],
    ("POST", "setMadeCallLink"): ["Link"],
}
SIZES = {"queueId": 10, "clientNumber": 128, "id": 256, "branchLine": 128, "Link": 256}


class Bench:
    """A model with a clock to turn and short names for the requests."""

    def __init__(self, agents=("5252", "5253"), limit=None, **switches):
        self.now = START
        self.model = Movidesk(lambda: self.now, limit=limit or Limit(1000), switches=Switches(**switches))
        self.group = self.model.add_group(77, agents)

    def ask(self, method, endpoint, **params):
        return self.model.request(method, endpoint, {"token": self.model.token, **params})

    def received(self, call, number="4733990777", queue="77"):
        answer = self.ask("POST", "asterisk_receivedCall", queueId=queue, clientNumber=number, id=call)
        return json.loads(answer.body) if answer.status == 200 else answer.status

    def transferred(self, call, extension, **more):
        return self.ask("POST", "asterisk_transferedCall", id=call, branchLine=extension, **more).status

    def ended(self, call, verb="completed", **more):
        if verb == "canceled":
            more.setdefault("canceledDate", DATE)
        return self.ask("POST", f"asterisk_{verb}Call", id=call, **more).status

    def in_call(self, call):
        assert self.transferred(call, self.received(call)) == 200

    def at(self, endpoint):
        """Bring c1 to where `endpoint` is allowed."""
        if endpoint in ("asterisk_transferedCall", "asterisk_lostCall", "asterisk_canceledCall"):
            assert self.received("c1") == "5252"
        elif endpoint == "asterisk_completedCall":
            self.in_call("c1")

    @property
    def problems(self):
        return [problem["text"] for problem in self.model.problems]


@pytest.fixture
def bench():
    return Bench()


def complete_params(key):
    return {name: GOOD[name] for name in NEEDED[key] + OPTIONAL[key]}


# Parameters

def test_the_table_holds_every_endpoint_and_parameter_of_the_documents():
    assert {key: {p.name for p in table} for key, table in ENDPOINTS.items()} == {
        key: set(complete_params(key)) for key in NEEDED}


@pytest.mark.parametrize("key", NEEDED)
@pytest.mark.parametrize("with_optional", [True, False])
def test_a_request_as_documented_is_accepted(bench, key, with_optional):
    bench.at(key[1])
    params = complete_params(key) if with_optional else {name: GOOD[name] for name in NEEDED[key]}
    assert bench.ask(*key, **params).status == 200
    if key != ("GET", "asterisk_completedCall"):  # c1 is a call of the other document
        assert bench.problems == []


@pytest.mark.parametrize("key, name", [(key, name) for key, names in NEEDED.items() for name in names])
def test_a_required_parameter_left_out_is_named(bench, key, name):
    bench.at(key[1])
    params = complete_params(key)
    del params[name]
    answer = bench.ask(*key, **params)
    assert (answer.status, answer.body) == (400, f"{name}: missing")
    assert name in bench.problems[-1]


@pytest.mark.parametrize("key, name", [(key, name) for key, names in NEEDED.items() for name in names])
def test_only_link_may_be_empty_where_it_is_required(bench, key, name):
    bench.at(key[1])
    answer = bench.ask(*key, **{**complete_params(key), name: ""})
    assert (answer.status, answer.body) == ((200, "") if name == "link" else (400, f"{name}: empty"))


@pytest.mark.parametrize("key, name", [
    (key, name) for key in NEEDED for name in complete_params(key) if name in SIZES])
def test_sizes(bench, key, name):
    bench.at(key[1])
    answer = bench.ask(*key, **{**complete_params(key), name: "1" * (SIZES[name] + 1)})
    assert (answer.status, answer.body) == (400, f"{name}: longer than {SIZES[name]} characters")
    assert "longer" not in bench.ask(*key, **{**complete_params(key), name: "1" * SIZES[name]}).body


@pytest.mark.parametrize("key, name", [
    (key, name) for key in NEEDED for name in complete_params(key) if name.endswith("Date")])
@pytest.mark.parametrize("value, accepted", [
    ("2018-05-01T17:00", True), ("2018-05-01T17:00:00", True), ("2018-5-1T17:00:00", True),
    ("2018-05-01 17:00", False), ("2018-05-01", False),
    ("2018-02-31T17:00", False), ("2018-05-01T24:00", False),
    ("2018-05-01T17:00:00Z", False), ("2018-05-01T17:00:00-03:00", False), ("01/05/2018 17:00", False),
    ("٢٠١٨-05-01T17:00", False),
])
def test_dates(bench, key, name, value, accepted):
    bench.at(key[1])
    answer = bench.ask(*key, **{**complete_params(key), name: value})
    assert answer.status == (200 if accepted else 400)
    assert accepted or answer.body.startswith(f"{name}: not a UTC date")


@pytest.mark.parametrize("queue", ["77.0", "-1", "abc", " 77", "٧٧", "77;1"])
def test_a_queue_id_that_is_no_number(bench, queue):
    assert bench.received("c1", queue=queue) == 400
    assert "queueId: not a whole number" in bench.problems[0]


def test_an_unknown_queue(bench):
    assert bench.received("c1", queue="78") == 400
    assert bench.model.tickets == {}


@pytest.mark.parametrize("token", [None, "", "secret", "00000000-0000-0000-0000-000000000000"])
@pytest.mark.parametrize("key", NEEDED)
def test_a_wrong_token_is_401_and_changes_nothing(bench, key, token):
    params = {**complete_params(key), "token": token}
    if token is None:
        del params["token"]
    assert bench.model.request(*key, params).status == 401
    assert bench.model.tickets == {}


def test_a_token_that_is_no_guid_is_refused_at_once():
    with pytest.raises(ValueError):
        Movidesk(lambda: 0.0, token="secret")


@pytest.mark.parametrize("endpoint", sorted({endpoint for _, endpoint in ENDPOINTS}))
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "HEAD"])
def test_wrong_methods(bench, method, endpoint):
    status = bench.ask(method, endpoint, **GOOD).status
    assert (status == 405) == ((method, endpoint) not in NEEDED)


def test_an_endpoint_spelt_wrong_and_a_parameter_spelt_wrong_are_problems(bench):
    assert bench.ask("POST", "asterisk_transferredCall").status == 404
    assert bench.ask("POST", "setMadeCallLink", id="m1", link="https://x/y").status == 200
    assert bench.problems == ["POST asterisk_transferredCall: no such endpoint",
                              "setMadeCallLink: unknown parameter 'link'"]


def test_the_log_has_every_request_and_never_the_token(bench):
    bench.received("c1")
    bench.model.request("POST", "asterisk_lostCall", {"token": "wrong", "id": "c1"})
    assert [(e["endpoint"], e["status"], e["answer"]) for e in bench.model.log] == [
        ("asterisk_receivedCall", 200, '"5252"'), ("asterisk_lostCall", 401, "token: not this account's")]
    assert bench.model.log[1]["params"] == {"id": "c1"} and bench.model.log[0]["time"] == START
    assert bench.model.token not in repr(bench.model.log)


# Codes and the order of agents

@pytest.mark.parametrize("opening, code", [
    ({}, "5252"),
    ({"holidays": ["2023-11-14"]}, "0"),
    ({"holidays": ["2023-11-14"], "opens": "08:00", "closes": "18:00"}, "0"),
    ({"holidays": ["2023-11-14"], "utc_offset": 3}, "5252"),  # there it is the 15th
    ({"opens": "08:00", "closes": "18:00"}, "1"),
    ({"opens": "22:13", "closes": "22:14"}, "5252"),
    ({"opens": "08:00", "closes": "22:13"}, "1"),
    ({"opens": "08:00", "closes": "20:00", "utc_offset": -3}, "5252"),
    ({"opens": "20:00", "closes": "06:00"}, "5252"),  # past midnight
    ({"opens": "00:00", "closes": "00:00"}, "1"),
    ({"weekdays": [1]}, "5252"),
    ({"weekdays": [0, 2, 3, 4, 5, 6]}, "1"),
])
def test_holidays_and_opening_hours(opening, code):
    bench = Bench()
    bench.model.add_group(77, ["5252"], **opening)
    assert bench.received("c1") == code


@pytest.mark.parametrize("first, second, code", [
    ((False, False), (False, False), "2"),
    ((False, True), (False, True), "2"),   # in telephony, but not in Movidesk
    ((True, False), (False, True), "3"),   # nobody is in both
    ((True, False), (True, True), "5253"),
    ((False, True), (True, True), "5253"),
])
def test_agents_away(bench, first, second, code):
    for extension, (online, telephony) in (("5252", first), ("5253", second)):
        bench.model.agents[extension].online, bench.model.agents[extension].telephony = online, telephony
    assert bench.received("c1") == code


def test_a_group_without_agents():
    assert Bench(agents=()).received("c1") == "2"


def test_all_in_a_call_then_one_is_free_again(bench):
    bench.in_call("c1")
    bench.in_call("c2")
    assert bench.received("c3") == "4"
    assert bench.ended("c2") == 200
    assert bench.received("c3") == "5253"


def test_extensions_go_round_in_order():
    bench = Bench(agents=["51", "52", "53"], reserve=False)
    assert [bench.received(f"c{n}") for n in range(4)] == ["51", "52", "53", "51"]


def test_asking_again_offers_another_unless_only_one_is_free():
    bench = Bench(agents=["51", "52", "53"])
    assert [bench.received("c1") for _ in range(4)] == ["51", "52", "53", "51"]
    bench.model.agents["52"].online = bench.model.agents["53"].telephony = False
    assert [bench.received("c1") for _ in range(2)] == ["51", "51"]


def test_asking_again_skips_the_one_just_offered_when_its_turn_comes():
    bench = Bench(agents=["51", "52"], reserve=False)
    assert [bench.received("a"), bench.received("b")] == ["51", "52"]
    assert bench.received("a") == "52"


def test_an_offer_holds_the_agent_until_it_runs_out(bench):
    assert [bench.received("c1"), bench.received("c2"), bench.received("c3")] == ["5252", "5253", "4"]
    bench.now += 29.9
    assert bench.received("c3") == "4"
    bench.now += 0.1
    assert bench.received("c3") == "5252"
    assert bench.transferred("c2", "5253") == 200  # late, but it was this one's


@pytest.mark.parametrize("verb", ["lost", "canceled"])
def test_an_ending_gives_the_offered_agent_back(bench, verb):
    bench.received("c1"), bench.received("c2")
    assert bench.ended("c1", verb) == 200
    assert bench.received("c3") == "5252"


@pytest.mark.parametrize("form, body", [("json", '"5252"'), ("bare", "5252"), ("named", '"5252 Maria"')])
def test_forms_of_the_answer(form, body):
    bench = Bench(agents=["5252"], answer=form)
    bench.model.agents["5252"].name = "Maria"
    assert bench.ask("POST", "asterisk_receivedCall", queueId="77", clientNumber="1", id="c1").body == body


# Tickets

def test_the_happy_scenario(bench):
    answer = bench.ask("POST", "asterisk_receivedCall", queueId="77", clientNumber="+55", id="c1",
                       callDate="2018-05-01T17:00")
    assert answer == (200, '"5252"', {})
    assert bench.model.tickets["c1"].complete is False
    assert bench.transferred("c1", "5252", transferDate="2018-05-01T17:02") == 200
    assert bench.model.in_call == {"5252": "c1"}
    assert bench.ended("c1", link="https://x/a.wav", completedDate="2018-05-01T17:20") == 200
    assert bench.model.in_call == {}
    assert bench.model.tickets["c1"].to_json() == {
        "id": "c1", "origin": 13, "number": "+55", "queue": 77, "state": "completed", "agent": "5252",
        "links": ["https://x/a.wav"], "offered": "5252", "complete": True,
        "dates": {"callDate": "2018-05-01T17:00", "transferDate": "2018-05-01T17:02",
                  "completedDate": "2018-05-01T17:20"}}
    assert bench.problems == []


@pytest.mark.parametrize("verb, origin", [("lost", 15), ("canceled", 16)])
def test_calls_that_nobody_took(bench, verb, origin):
    bench.received("c1")
    assert bench.ended("c1", verb) == 200
    ticket = bench.model.tickets["c1"]
    assert (ticket.state, ticket.origin, ticket.complete) == (verb, origin, True)


def test_a_call_without_queue_control(bench):
    start = dict(queueId="77", clientNumber="47", id="s1", branchLine="5253", callDate=DATE)
    assert bench.ask("GET", "asterisk_startTransferedCall", **start).status == 200
    assert bench.model.in_call == {"5253": "s1"}
    assert bench.ask("GET", "asterisk_completedCall", id="s1", link="", completedDate=DATE).status == 200
    ticket = bench.model.tickets["s1"]
    assert (ticket.state, ticket.origin, ticket.links, bench.model.in_call) == ("completed", 13, [], {})
    assert bench.ask("GET", "asterisk_startCanceledCall", queueId="77", clientNumber="47", id="s2",
                     canceledDate=DATE).status == 200
    assert (bench.model.tickets["s2"].state, bench.model.tickets["s2"].origin) == ("canceled", 16)
    assert bench.problems == []


def test_a_made_call_gets_its_link(bench):
    assert bench.ask("POST", "setMadeCallLink", id="m1", Link="").status == 200
    assert (bench.model.tickets["m1"].origin, bench.model.tickets["m1"].complete) == (14, False)
    assert bench.ask("POST", "setMadeCallLink", id="m1", Link="https://x/m.wav").status == 200
    assert (bench.model.tickets["m1"].links, bench.model.tickets["m1"].complete) == (["https://x/m.wav"], True)


def test_a_link_that_comes_later_joins_the_received_calls_ticket(bench):
    bench.in_call("c1")
    bench.ended("c1")
    bench.ask("POST", "setMadeCallLink", id="c1", Link="https://x/c.wav")
    assert bench.model.tickets["c1"].links == ["https://x/c.wav"]
    assert bench.model.tickets["c1"].origin == 13 and bench.problems == []


# What a correct connector never does

@pytest.mark.parametrize("steps, complaint", [
    (["completed"], "no such call"),
    (["received", "completed"], "offered, it cannot become completed"),
    (["received", "transferred", "canceled"], "transferred, it cannot become canceled"),
    (["received", "transferred", "lost"], "transferred, it cannot become lost"),
    (["received", "transferred", "completed", "lost"], "completed, it cannot become lost"),
    (["received", "lost", "canceled"], "lost, it cannot become canceled"),
    (["received", "lost", "transferred"], "lost, not offered"),
    (["received", "lost", "received"], "already lost"),
    (["received", "transferred", "received"], "already transferred"),
])
def test_events_out_of_order_are_refused_and_noted(bench, steps, complaint):
    statuses = [bench.transferred("c1", "5252") if step == "transferred"
                else bench.received("c1") if step == "received" else bench.ended("c1", step) for step in steps]
    assert statuses[-1] == 400
    assert len(bench.problems) == 1 and complaint in bench.problems[0]


def test_a_second_ending_is_refused_unless_it_is_the_same_event(bench):
    bench.in_call("c1")
    assert bench.ended("c1", completedDate="2018-05-01T17:20") == 200
    assert bench.ended("c1", completedDate="2018-05-01T17:20") == 200
    assert (bench.model.duplicates, bench.problems) == (1, [])
    assert bench.ended("c1", completedDate="2018-05-01T17:21") == 400
    assert len(bench.problems) == 1


def test_repeated_events_change_nothing_even_late(bench):
    bench.in_call("c1")
    bench.ended("c1", link="https://x/a")
    assert bench.transferred("c1", "5252") == 200 and bench.ended("c1", link="https://x/a") == 200
    assert bench.model.duplicates == 2 and bench.problems == []
    assert bench.model.in_call == {} and bench.model.tickets["c1"].links == ["https://x/a"]


def test_a_transfer_to_another_than_the_offered_extension(bench):
    bench.received("c1")
    assert bench.transferred("c1", "5253") == 400
    assert bench.model.in_call == {}


def test_an_id_used_for_another_caller(bench):
    bench.received("c1", number="1")
    assert bench.received("c1", number="2") == 400


def test_an_extension_that_movidesk_does_not_know(bench):
    assert bench.ask("GET", "asterisk_startTransferedCall", queueId="77", clientNumber="47", id="s1",
                     branchLine="9999").status == 400
    assert bench.model.tickets == {}


def test_the_wrong_documents_ending_is_noted(bench):
    bench.in_call("c1")
    assert bench.ask("GET", "asterisk_completedCall", id="c1", link="").status == 200
    assert "other document" in bench.problems[0]


@pytest.mark.parametrize("late", ["5253", "4"])
def test_a_question_that_came_late_takes_no_offer_back(bench, late):
    """The caller was answered 5252; a question that was under way meanwhile is answered after that."""
    assert bench.received("c1") == "5252"
    bench.model.agents["5253"].online = late == "5253"
    if late == "4":
        bench.model.in_call["5252"] = "another call"
    assert bench.received("c1") == late
    bench.model.in_call.pop("5252", None)
    assert bench.transferred("c1", "5252") == 200 and bench.ended("c1") == 200
    assert bench.received("c2") in ("5252", "5253")


def test_reassign_lets_a_transferred_call_be_offered_again():
    bench = Bench(reassign=True)
    bench.in_call("c1")
    assert bench.received("c1") == "5253"
    assert bench.model.in_call == {} and bench.problems == []


def test_an_agent_transferred_a_second_call_leaves_the_first(bench):
    bench.received("c1")
    bench.now += 30
    bench.received("c2")  # 5253
    assert bench.received("c2") == "5252"
    assert bench.transferred("c1", "5252") == 200 and bench.transferred("c2", "5252") == 200
    assert bench.model.in_call == {"5252": "c2"}
    assert bench.problems == ["c2: 5252 is still in call c1"]
    assert bench.ended("c1") == 200 and bench.model.in_call == {"5252": "c2"}


def test_reset_keeps_groups_and_agents(bench):
    bench.in_call("c1")
    bench.model.reset()
    assert (bench.model.tickets, bench.model.in_call, list(bench.model.log)) == ({}, {}, [])
    assert bench.received("c1") in bench.model.agents


# The limit

def limited(**options):
    bench = Bench(limit=Limit(**options))
    return bench, lambda: bench.ask("POST", "setMadeCallLink", id="m1")


def test_the_window_slides():
    bench, ask = limited()
    for _ in range(5):
        assert ask().status == 200
    bench.now += 30
    assert [ask().status for _ in range(6)] == [200] * 5 + [429]
    bench.now = START + 59.999
    assert ask().status == 429
    bench.now = START + 60
    assert [ask().status for _ in range(6)] == [200] * 5 + [429]  # not ten: that is the fixed window's mistake


@pytest.mark.parametrize("form, header", [
    ("seconds", {"Retry-After": "60"}), ("none", {}),
    ("date", {"Retry-After": "Tue, 14 Nov 2023 22:14:20 GMT"}),
])
def test_forms_of_retry_after(form, header):
    _, ask = limited(requests=1, retry_after=form)
    ask()
    assert ask() == (429, "too many requests", header)


def test_waiting_as_told_is_long_enough():
    bench, ask = limited(requests=1)
    ask()
    bench.now += 17.3
    wait = int(ask().headers["Retry-After"])
    assert wait == 43
    bench.now += wait
    assert ask().status == 200


def test_every_request_takes_a_place_whatever_its_answer():
    bench, ask = limited(requests=2)
    bench.model.request("POST", "asterisk_lostCall", {})
    bench.ask("POST", "nonsense")
    assert ask().status == 429


def test_refused_requests_can_count_too():
    bench, ask = limited(requests=2, count_refused=True)
    ask(), ask()
    bench.now += 50
    assert ask().headers["Retry-After"] == "10"
    assert ask().headers["Retry-After"] == "60"


def test_a_limit_that_cuts_answers_nothing():
    bench, ask = limited(requests=1, refuses="cut")
    assert [ask() for _ in range(2)] == [(200, "", {}), (CUT, "", {})]
    assert bench.model.log[-1]["status"] == CUT
    with pytest.raises(ValueError):
        Limit(refuses="500")


def test_a_lockout_lengthens_with_each_further_error():
    bench, ask = limited(requests=1, lockout=100)
    ask()
    assert [ask().headers["Retry-After"] for _ in range(3)] == ["100", "200", "300"]
    bench.now += 300
    assert [ask().status, ask().headers["Retry-After"]] == [200, "100"]


@pytest.mark.parametrize("extension", ["", "0", "4"])
def test_an_extension_that_reads_as_a_code_is_refused(extension):
    with pytest.raises(ValueError):
        Bench(agents=[extension])


@pytest.mark.parametrize("bad", [{"requests": 0}, {"seconds": 0}, {"retry_after": "soon"}])
def test_nonsense_limits_are_refused(bad):
    with pytest.raises(ValueError):
        Limit(**bad)


# Anything at all

VALUES = st.one_of(st.sampled_from(["51", "52", "77", "78", "", DATE]), st.text(max_size=5))
CALLS = st.sampled_from(["c1", "c2", "c3"])
USUAL = [("POST", f"asterisk_{verb}Call") for verb in ("received", "transfered", "completed")]
ODD = st.dictionaries(st.sampled_from([*GOOD, "other"]), VALUES, max_size=1)
STEP = st.tuples(
    st.one_of(st.sampled_from(USUAL), st.sampled_from(sorted(ENDPOINTS))),
    CALLS,
    st.sampled_from(["offered", "offered", "51", "52"]),
    st.one_of(st.just({}), st.just({}), ODD),
    st.sampled_from([0.0, 0.0, 0.1, 7.0, 31.0, 60.0]),
)


@settings(max_examples=300, deadline=None, database=None)
@given(st.lists(STEP, min_size=10, max_size=60), st.booleans(), st.booleans())
def test_random_requests_never_raise_and_keep_the_invariants(steps, reserve, reassign):
    bench = Bench(agents=["51", "52", "53"], limit=Limit(10), reserve=reserve, reassign=reassign)
    model, endings = bench.model, {}
    for key, call, extension, odd, pause in steps:
        bench.now += pause
        if extension == "offered" and call in model.tickets:
            extension = model.tickets[call].offered
        params = {**complete_params(key), "id": call}
        if "branchLine" in params:
            params["branchLine"] = extension
        answer = bench.ask(*key, **{**params, **odd})
        assert answer.status in (200, 400, 429)
        accepted = [entry for entry in model.log if entry["status"] != 429 and entry["time"] > bench.now - 60]
        assert len(accepted) <= 10
        assert len(set(model.in_call.values())) == len(model.in_call)  # nobody talks to two agents
        for busy, of in model.in_call.items():
            assert model.tickets[of].state == "transferred" and model.tickets[of].agent == busy
            assert model.held_for(busy) is None
        for ticket in model.tickets.values():
            if ticket.state in ("completed", "lost", "canceled"):
                assert endings.setdefault(ticket.id, ticket.state) == ticket.state  # one ending, for ever

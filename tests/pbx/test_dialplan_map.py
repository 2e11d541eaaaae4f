"""That the check of the dialplan finds what is wrong, as a real Asterisk shows it; and what make uninstall leaves."""
from __future__ import annotations

import re

import pytest

from dialplan_map import DialplanMap, unknown
from movidesk_rehearsal.asterisk import PrivateAsterisk
from movidesk_rehearsal.asterisk_tree import CHECKOUT

WHOLE = """
[in]
exten => _X!,1,GotoIf($["${EXTEN}" = "1"]?one:two)
 same => n(one),Gosub(out,s,1(1))
 same => n(two),Set(CHANNEL(hangup_handler_push)=end,s,1)
 same => n,Goto(code-${DIALSTATUS},1)
exten => code-BUSY,1,GotoIf($[1]?out,s,back)
exten => _code-!,1,Dial(Local/1@here,,U(answered))
[out]
exten => s,1,Return()
 same => n(back),Goto(${ELSEWHERE})
[end]
exten => s,1,Return()
[here]
include => also
[also]
exten => 1,1,Answer()
[answered]
exten => s,1,Return()
"""


@pytest.fixture(scope="module")
def pbx(tree, tmp_path_factory):
    with PrivateAsterisk(tree, tmp_path_factory.mktemp("map")) as pbx:
        yield pbx


def faults(pbx, text: str) -> list[str]:
    pbx.write("extensions.conf", text)
    pbx.reload_dialplan()
    dialplan = DialplanMap(pbx.cli("dialplan show"))
    not_reached = [f"{context} is not reached" for context in sorted(dialplan.contexts - dialplan.reached({"in"}))]
    return [*dialplan.nowhere(), *dialplan.not_understood(), *dialplan.never_led_to(set()), *not_reached, *unknown(pbx, dialplan)]


def test_a_whole_dialplan_has_no_faults(pbx):
    assert faults(pbx, WHOLE) == []


@pytest.mark.parametrize("line, broken, found", [
    ("?one:two)", "?won:two)", ["in,_X!,1 leads to in,_X!,won", "in,_X!,2(one)"]),
    ("?one:two)", "?one:tow)", ["in,_X!,1 leads to in,_X!,tow", "in,_X!,3(two)"]),
    ("Gosub(out,s,1(1))", "Gosub(out,s,2,1(1))", ["in,_X!,2: Gosub(out,s,2,1(1))"]),
    ("Gosub(out,s,1(1))", "Gosub(away,s,1(1))", ["in,_X!,2 leads to away,s,1"]),
    ("push)=end,s,1)", "push)=end,t,1)", ["in,_X!,3 leads to end,t,1"]),
    ("push)=end,s,1)", "push)=out,s,1)", ["end is not reached"]),
    ("Goto(code-${DIALSTATUS},1)", "Goto(cause-${DIALSTATUS},1)",
     ["in,_X!,4 leads to in,cause-${DIALSTATUS},1", "in,_code-!", "in,code-BUSY"]),
    ("?out,s,back)", "?out,s,front)", ["in,code-BUSY,1 leads to out,s,front", "out,s,2(back)"]),
    ("U(answered)", "U(answer)", ["in,_code-!,1 leads to answer,s,1", "answered is not reached"]),
    ("Local/1@here", "Local/1@there", ["also is not reached", "here is not reached"]),
    ("include => also", "", ["also is not reached"]),
    ("Answer()", "Answr()", ["Answr"]),
    ("CHANNEL(hangup", "CHANEL(hangup", ["CHANEL"]),
    ("Goto(${ELSEWHERE})", "Goto(${ELSE(x)})", ["ELSE"]),
])
def test_a_fault_is_found(pbx, line, broken, found):
    assert line in WHOLE
    assert faults(pbx, WHOLE.replace(line, broken, 1)) == found


def test_what_uninstall_leaves_loads_without_a_warning(tree, tmp_path):
    pbx = PrivateAsterisk(tree, tmp_path)
    pbx.write("extensions.conf", "[in]\nexten => _X!,1,Goto(movidesk-queue,77,1)\n"
              + (CHECKOUT / "etc" / "removed.conf").read_text(encoding="utf-8"))
    with pbx:
        dialplan = DialplanMap(pbx.cli("dialplan show"))
        assert {"in", "movidesk-queue", "movidesk-watch", "movidesk-answered"} == dialplan.contexts
        assert (dialplan.nowhere(), unknown(pbx, dialplan)) == ([], [])
        warnings = [line for line in pbx.log().splitlines() if re.search(r"\] (WARNING|ERROR)\[", line)]
    assert [line for line in warnings if "was deprecated in Asterisk version" not in line] == []

"""The picture in README.md, drawn from what make demo prints."""
from __future__ import annotations

import pathlib
import xml.etree.ElementTree as ElementTree

import pytest

from movidesk_rehearsal import picture
from movidesk_rehearsal.demo import SCENARIOS

ROOT = pathlib.Path(__file__).parent.parent
OUTPUT = """\
2. Another call
  06:03:01.000     caller      1 calls 2
  ok     ticket x

3. A <busy> agent & another
  23:59:59.900     caller      4733990003 calls 4733990777
  23:59:59.950  => Movidesk    receivedCall queueId=77 callDate=2026-11-21T06:03:02 -> 5252
  00:00:00.150     Asterisk    Movidesk queue 77: PJSIP/trunk-00000004 is offered to 5252
  00:00:00.160     agent 5253  rings
  00:00:02.000  => Movidesk    completedCall link=https://pbx.example.com/rec/pbx1-1.4.wav
                               completedDate=2026-11-21T06:03:06
  ok     ticket x
"""


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_a_call_is_read_and_drawn():
    title, moments = picture.read_call(OUTPUT, 3)
    assert (title, [moment.who for moment in moments]) == (
        "A <busy> agent & another", ["caller", "Movidesk", "Asterisk", "agent 5253", "Movidesk"])
    assert [round(moment.seconds, 3) for moment in moments] == [0, 0.05, 0.25, 0.26, 2.1]  # past midnight
    shown = texts(picture.draw(title, moments))
    assert shown[0] == title and shown[1:7] == list(picture.LANES)
    assert "receivedCall queueId=77 -> 5252" in shown and "Movidesk queue 77: the caller is offered to 5252" in shown
    assert "completedCall link=…/pbx1-1.4.wav" in shown and "2.100" in shown


@pytest.mark.parametrize("number", [1, 4])
def test_a_call_that_is_not_there(number):
    with pytest.raises(picture.NoSuchCall, match=f"no call {number}"):
        picture.read_call(OUTPUT, number)


def test_the_committed_picture_is_one_of_the_demo():
    shown = texts((ROOT / "docs" / "demo.svg").read_text())
    assert shown[0] in [scenario.title for scenario in SCENARIOS]
    assert any("completedCall" in text for text in shown)
    for page in ("README.md", "README.pt-BR.md"):
        assert "(docs/demo.svg)" in (ROOT / page).read_text()

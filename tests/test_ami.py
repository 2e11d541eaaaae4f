"""Asterisk's manager: an Asterisk that fails. What a real one does is in tests/pbx."""
from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

import pytest

from movidesk.config.options import Secret
from movidesk.pbx import ami
from support.waits import until

AMI_SECRET = "the-ami-secret-of-it"
GREETING = b"Asterisk Call Manager/9.0.0\r\n"
TAKEN = b"Response: Success\r\nMessage: Authentication accepted\r\n\r\n"
QUEUED = b"Response: Success\r\nMessage: Originate successfully queued\r\n\r\n"
FAILED = b"Event: OriginateResponse\r\nActionID: %s\r\nResponse: Failure\r\nReason: 0\r\n\r\n"


class FakeAmi:
    """A manager that says one thing to each action, and closes after the last."""

    def __init__(self, *said: bytes, close: bool = True):
        self.said, self.close, self.heard = said, close, b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = self._listener.getsockname()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        with self._listener, self._listener.accept()[0] as connection:
            for text in self.said[:1]:
                connection.sendall(text)
            for text in self.said[1:]:
                action = b""
                while b"\r\n\r\n" not in action:
                    data = connection.recv(4096)
                    if not data:
                        return
                    action += data
                self.heard += action
                wanted = dict(line.split(b": ", 1) for line in action.split(b"\r\n") if line)
                connection.sendall(text % wanted.get(b"ActionID", b"") if b"%s" in text else text)
            while not self.close and connection.recv(4096):
                pass


def order(fake: FakeAmi) -> str:
    return ami.originate(fake.address, "movidesk", Secret(AMI_SECRET), {"Channel": "PJSIP/5252", "ChannelId": "1.2"}, 0.2)


@pytest.mark.parametrize("said, words", [
    ((), "no answer within"), ((b"",), "no answer within"), ((b"SSH-2.0-OpenSSH\r\n",), "."),
    ((GREETING,), "."), ((GREETING, TAKEN), "."), ((GREETING, TAKEN, QUEUED), "the connection was lost"),
    ((GREETING, b"Response: Error\r\nMessage: Authentication failed\r\n\r\n"), "Authentication failed"),
    ((GREETING, TAKEN, b"Response: Error\r\nMessage: Permission denied\r\n\r\n"), "Permission denied"),
])
def test_a_manager_that_fails(monkeypatch, said, words):
    monkeypatch.setattr(ami, "ANSWER", 0.3)
    started = time.monotonic()
    with pytest.raises(ami.AmiError, match=words) as raised:
        order(FakeAmi(*said))
    assert time.monotonic() - started < 3 and AMI_SECRET not in str(raised.value) and str(raised.value)


def test_a_manager_that_never_tells_what_came_of_it(monkeypatch):
    monkeypatch.setattr(ami, "ANSWER", 0.3)
    with pytest.raises(ami.AmiError, match="needs read = call"):
        order(FakeAmi(GREETING, TAKEN, QUEUED, close=False))


def test_a_hangup_of_another_channel_tells_nothing(monkeypatch):
    other = b"Event: Hangup\r\nUniqueid: 9.9\r\nCause: 17\r\n\r\n"
    assert order(FakeAmi(GREETING, TAKEN, QUEUED + other + FAILED, close=False)) == ami.UNREACHABLE


def test_an_order_leaves_no_thread_behind(monkeypatch):
    monkeypatch.setattr(ami, "ANSWER", 0.1)
    before = set(threading.enumerate())
    for said in (QUEUED + FAILED, QUEUED, b""):
        for close in (True, False):
            with suppress(ami.AmiError):
                order(FakeAmi(GREETING, TAKEN, said, close=close))
    until(lambda: set(threading.enumerate()) <= before)


def test_nothing_listens():
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    with pytest.raises(ami.AmiError, match="Connection refused"):
        ami.try_login(address, "movidesk", Secret(AMI_SECRET))

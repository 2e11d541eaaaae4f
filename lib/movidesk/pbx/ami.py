"""One action or query over Asterisk's manager interface (AMI). Uses pyst2's manager, with time-outs where it would wait for
ever."""

from __future__ import annotations

import os
import queue
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Union

from asterisk import manager

from movidesk.config.options import Secret

#: Headers of an action; a list gives one line each.
Fields = Mapping[str, Union[str, int, list[str]]]
#: pyst2's messages and events, which have no types.
Message = Any

ANSWER = 5.0  # seconds for Asterisk's greeting, and for its answer to an action

LAST_ANSWER = 0.5  # seconds to wait for an answer that Asterisk sent just before it closed the connection

ANSWERED, BUSY, NO_ANSWER, UNREACHABLE = "answered", "busy", "no answer", "unreachable"

# Reason in OriginateResponse: AST_CONTROL_RINGING, the phone rang until the time-out. Any other failure is 0 in Asterisk 16 and
# 22: only the channel's Hangup event shows a busy phone. It comes before or after, if there was a channel.
_RANG = "3"
_CAUSES = {"17": BUSY, "18": NO_ANSWER, "19": NO_ANSWER}
CAUSE = 0.5   # seconds to wait for that Hangup event


class AmiError(Exception):
    """Asterisk cannot be reached, or the action failed; the text gives the reason, without the secret."""


class _Answers(queue.Queue[Message]):
    """A queue with a time-out. pyst2 waits for answers for ever, even after Asterisk closed the connection."""

    def get(self, block: bool = True, timeout: float | None = None) -> Message:
        timeout = timeout or ANSWER
        try:
            return super().get(block, timeout)
        except queue.Empty:
            raise manager.ManagerSocketException(0, f"no answer within {timeout:g} s") from None


class _Manager(manager.Manager):  # type: ignore[misc]  # pyst2 has no types
    """A separate connection for each action. `events`: the events that we wait for; None when the connection ends."""

    def __init__(self) -> None:
        super().__init__()
        self._response_queue = _Answers()
        self.events: queue.Queue[Message] = queue.Queue()
        for name in ("OriginateResponse", "Hangup", "CoreShowChannel", "CoreShowChannelsComplete"):
            self.register_event(name, lambda event, _: self.events.put(event))

    def send_action(self, cdict: Fields | tuple[()] = (), **kwargs: object) -> Message:
        try:
            return super().send_action(dict(cdict), **kwargs)
        except (OSError, ValueError):  # ValueError: pyst2's reader has closed the file, perhaps after the answer
            answer = self._response_queue.get(timeout=LAST_ANSWER)
            if not answer:
                raise manager.ManagerSocketException(0, "the connection was lost") from None
            return answer

    def event_dispatch(self) -> None:
        try:
            super().event_dispatch()
        finally:
            self.events.put(None)

    def leave(self) -> None:
        """Log off and close the connection, which ends pyst2's threads; its own close() would wait for them."""
        if not self.connected():
            return
        with suppress(manager.ManagerException):  # it does not answer, or is gone
            self.logoff()
        try:
            with socket.socket(fileno=os.dup(self._sock.fileno())) as connection:
                connection.shutdown(socket.SHUT_RDWR)
        except (OSError, ValueError):
            pass  # Asterisk was faster

    def __del__(self) -> None:
        pass  # pyst2's own closes, which may join the very thread that runs it


@contextmanager
def _logged_in(address: tuple[str, int], user: str, secret: Secret) -> Iterator[_Manager]:
    """A logged-in connection for one action. Turns errors of pyst2 into AmiError."""
    connection = _Manager()
    try:
        connection.connect(*address)
        connection.login(user, secret.reveal())
        yield connection
    except manager.ManagerException as error:
        raise AmiError(str(error.args[-1])) from None
    finally:
        connection.leave()


def try_login(address: tuple[str, int], user: str, secret: Secret) -> None:
    """Log in and off. Raises AmiError."""
    with _logged_in(address, user, secret):
        pass


def channels(address: tuple[str, int], user: str, secret: Secret) -> set[str]:
    """The unique ids of Asterisk's channels. The user needs write = reporting. Raises AmiError."""
    found: set[str] = set()
    with _logged_in(address, user, secret) as connection:
        answer = connection.send_action({"Action": "CoreShowChannels"})
        if answer.get_header("Response") != "Success":
            raise AmiError(f"{answer.get_header('Message', 'CoreShowChannels failed')} (it needs write = reporting)")
        while True:
            try:
                event = connection.events.get(timeout=ANSWER)
            except queue.Empty:
                raise AmiError("the list of channels did not end") from None
            if event is None:
                raise AmiError("the connection was lost")
            if event.name == "CoreShowChannelsComplete":
                return found
            if event.name == "CoreShowChannel":
                found.add(event.get_header("Uniqueid"))


def set_variables(address: tuple[str, int], user: str, secret: Secret, channel: str, values: list[tuple[str, str]]) -> bool:
    """Set variables and functions of a channel, in order. Returns False if there is no such channel.

    The user needs write = call. Raises AmiError.
    """
    with _logged_in(address, user, secret) as connection:
        for name, value in values:
            answer = connection.send_action({"Action": "Setvar", "Channel": channel, "Variable": name, "Value": value})
            if answer.get_header("Response") != "Success":
                why = answer.get_header("Message", "Setvar failed")
                if "No such channel" in why:
                    return False
                raise AmiError(f"{why} (it needs write = call)")
    return True


def originate(address: tuple[str, int], user: str, secret: Secret, fields: Fields, ring: float) -> str:
    """Let Asterisk call `fields["Channel"]` for `ring` seconds, and send it to the dialplan when it answers.

    fields: headers of the Originate action, with a ChannelId. Returns ANSWERED or the reason of the failure, as soon as it is
    known. Raises AmiError.
    """
    action = "movidesk-" + secrets.token_hex(8)
    with _logged_in(address, user, secret) as connection:
        answer = connection.send_action({"Action": "Originate", "Async": "true", "ActionID": action,
                                         "Timeout": int(ring * 1000), **fields})
        if answer.get_header("Response") != "Success":
            raise AmiError(answer.get_header("Message", "Originate failed"))
        return _outcome(connection, action, str(fields["ChannelId"]), ring + ANSWER)


def _outcome(connection: _Manager, action: str, channel: str, seconds: float) -> str:
    deadline, response = time.monotonic() + seconds, None
    cause: str | None = None
    while response is None or cause is None:
        try:
            event = connection.events.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        if event is None:
            raise AmiError("the connection was lost")
        if event.name == "Hangup" and event.get_header("Uniqueid") == channel:
            cause = event.get_header("Cause", "")
        elif event.get_header("ActionID") == action:
            if event.get_header("Response") == "Success":
                return ANSWERED
            if event.get_header("Reason") == _RANG:
                return NO_ANSWER
            response, deadline = event, time.monotonic() + CAUSE
    if response is None:
        raise AmiError("Asterisk did not report the result of the call: the user needs read = call")
    return _CAUSES.get(cause or "", UNREACHABLE)

"""The request of a waiting caller (receivedCall), and the variables that are set from its answer."""

from __future__ import annotations

import re

from movidesk.agi import caller, phones, variables
from movidesk.agi.channel import Channel
from movidesk.context import UNUSABLE_EXTENSION, Context
from movidesk.delivery.availability import request_name
from movidesk.rules import call_states, waiting_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from movidesk.journal import Call
    from movidesk.rules.trial import Trial

EXTENSION_LIKE = "[0-9A-Za-z_.*#+-]{1,40}"  # what could be meant as an extension; an error page is something else
UNASKED = "E"      # MOVIDESK_CODE if Movidesk could not be asked
AFTER_ERROR = 10   # seconds until a caller asks again after its request failed
LONGEST_WAIT = 60  # seconds; the longest MOVIDESK_WAIT, whatever Movidesk asks for


def unasked() -> dict[str, object]:
    """The variables that `received` sets if Movidesk could not be asked."""
    return {variables.EXT: "", variables.CODE: UNASKED, variables.WAIT: AFTER_ERROR, variables.POSITION: "",
            variables.EXPECTED: ""}


def ask(context: Context, channel: Channel, call: Call) -> dict[str, object]:
    """Ask Movidesk for an agent for this call, if it is its turn. Returns the variables to set."""
    context.config.require("movidesk", "fleet")
    backoff = context.auth_backoff()
    if backoff:
        channel.say(f"{call.call_id} waits: Movidesk refuses the token", 3)
        return {variables.WAIT: _seconds(backoff)}
    backoff = context.outage_backoff(context.pace[1])
    if backoff:
        channel.say(f"{call.call_id} waits: Movidesk does not answer", 3)
        return {variables.WAIT: _seconds(backoff)}
    longest_request = 3 * context.config["movidesk", "timeout"] + AFTER_ERROR
    extensions = context.journal.scheduler.phones(call)
    turn = context.journal.scheduler.turn(call, context.limit(), context.is_script, longest_request, _refusal(channel, call),
                                          context.pace, phones.states(channel, extensions) if extensions else {},
                                          context.config["pbx", "report_transfer"] == "ring")
    if not turn.request_id:
        if turn.reason:
            channel.say(f"{call.call_id} waits: {turn.reason}", 3)
        return {variables.CODE: turn.code or UNASKED, variables.WAIT: turn.wait, variables.POSITION: turn.position,
                variables.EXPECTED: turn.expected or ""}
    try:
        return _send(context, channel, call, turn)
    finally:
        context.tell_fleet()


def _send(context: Context, channel: Channel, call: Call, turn: waiting_line.Turn) -> dict[str, object]:
    """Ask Movidesk with the request of this turn. Returns the variables to set."""
    from movidesk.delivery import api
    from movidesk.rules import trial

    result = context.send(turn.request_id, "received", queue=call.queue, number=call.number, id=call.call_id,
                          arrived=call.arrived, failures=lambda: _blamed_now(context, call))
    if isinstance(result, api.Delivered):
        told = _judge(context, channel, call, result.text)
        code = str(told.get(variables.CODE, ""))
        expected = context.journal.scheduler.expected(call.queue, turn.position, code, context.limit())
        return {variables.POSITION: turn.position, variables.EXPECTED: expected or "", **told}
    channel.say(f"{call.call_id}: receivedCall: {result.why}")
    if isinstance(result, api.Rejected):
        context.journal.scheduler.unanswered(call, taken=True)
        _refused(context, channel, call, result.why)
        return {variables.POSITION: turn.position}
    context.journal.scheduler.unanswered(call, taken=result.status is None and result.sent)
    if result.status != 429:
        _failed(context, channel, call, result.why)
    after = trial.TOKEN_RETRY if result.status in (401, 403) else AFTER_ERROR
    return {variables.POSITION: turn.position, variables.WAIT: _seconds(result.after or after)}


def _blamed_now(context: Context, call: Call) -> Trial:
    """The trial of this caller's request if it fails now. Only tries from now on count against it: earlier ones do not show
    whether Movidesk answers at this moment."""
    _, before, after = context.journal.trials.question(call)
    return after._replace(blamed=after.blamed - (before.blamed if before else 0))


def _refused(context: Context, channel: Channel, call: Call, why: str) -> None:
    """Movidesk rejected the caller's request. If the rejection is final, its `received` event is set aside, and the call goes
    on."""
    set_aside = context.journal.trials.question_refused(call, why)
    _failed(context, channel, call, why, refused=True)
    if set_aside:
        context.abandoned(request_name(call_states.RECEIVED, call.call_id))
        channel.say(f"{call.call_id}: received set aside: {why} (movidesk outbox shows it, and can send it again)")


def _failed(context: Context, channel: Channel, call: Call, why: str, refused: bool = False) -> None:
    """The caller's request failed: the callers behind it may have to ask first."""
    alone = context.is_only_failure(request_name(call_states.RECEIVED, call.call_id))
    if context.journal.trials.question_failed(call, context.pace[1], alone, refused):
        channel.say(f"{call.call_id}: receivedCall fails for this call and no other ({why}): the callers behind it ask first, "
                    f"it asks again every {context.pace[1]:g} s")


def _judge(context: Context, channel: Channel, call: Call, text: str) -> dict[str, object]:
    """The variables to set for an answer to receivedCall."""
    from movidesk.delivery import api

    try:
        answer = api.parse_answer(text, context.config["pbx", "extension_pattern"])
    except api.NonsenseAnswer as error:
        context.journal.scheduler.answered(call, "", "", str(error), pace=context.pace)
        if re.fullmatch(EXTENSION_LIKE, error.word):
            context.journal.notes.set(UNUSABLE_EXTENSION, error.word)
        channel.say(f"{call.call_id}: {error}")
        return {}
    report = context.config["pbx", "report_transfer"] == "ring"
    extension, code = context.journal.scheduler.answered(call, answer.extension, answer.code, text, report, context.pace)
    meaning = f"offered {extension}" if extension else f"code {code}"
    if extension != answer.extension:
        meaning = f"offered {answer.extension}, whose phone has just refused this call: the caller waits as with code {code}"
    channel.say(f"{call.call_id}: {meaning}", 3)
    return {variables.EXT: extension, variables.CODE: code,
            variables.WAIT: waiting_line.look_again(1, context.pace[0], context.is_script, context.limit())}


def _refusal(channel: Channel, call: Call) -> str:
    """Why the offered phone did not answer, according to the dialplan: one word; '' if it is not set."""
    reason = caller.variable_or_empty(channel, variables.REFUSAL) if call.state == call_states.OFFERED else ""
    return reason if re.fullmatch("[A-Z]{1,20}", reason) else ""


def _seconds(wait: float) -> int:
    return max(1, min(LONGEST_WAIT, int(wait + 0.999)))

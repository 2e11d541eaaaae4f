"""Channel variables: the names that Python and the dialplan share (a test compares them)."""

EXT = "MOVIDESK_EXT"
CODE = "MOVIDESK_CODE"
WAIT = "MOVIDESK_WAIT"
POSITION = "MOVIDESK_POSITION"
EXPECTED = "MOVIDESK_EXPECTED"     # seconds that the caller will probably wait until an agent answers, or empty
ID = "MOVIDESK_ID"
RESULT = "MOVIDESK_RESULT"
RECORDING = "MOVIDESK_RECORDING"   # the file of the recording or message that belongs to the call, set by the dialplan
CALLER = "MOVIDESK_CALLER"         # the number that a made call shows to the customer
WATCHED = "MOVIDESK_WATCHED"       # the Movidesk queue of a caller whom the PBX's own Queue() or Dial() serves
QUEUE = "MOVIDESK_QUEUE"            # the Movidesk queue that the caller is in, set by movidesk-queue
ARRIVED = "MOVIDESK_ARRIVED"        # when the caller came (epoch seconds, with a fraction), set by the dialplan before it asks
ANSWERED_BY = "MOVIDESK_ANSWERED_BY"  # the extension that took the call, set by the dialplan at answer
AGENT = "MOVIDESK_AGENT"           # the name of the channel that answered
HANDLER = "MOVIDESK_HANDLER"       # the unique id of the channel on which the call began, also on that of whoever answers
CHANNEL = "MOVIDESK_CHANNEL"       # the unique id of the channel that has the hangup handler; its copy in SHARED() moves on
NEXT = "MOVIDESK_NEXT"             # where a caller goes who leaves a queue without a hangup: `control-78`, `watch-78`
FALLBACK = "MOVIDESK_FALLBACK"     # where callers go when Movidesk cannot be asked (a global), or empty
AGID = "MOVIDESK_AGID"              # where the service listens (a global)
DIAL_PREFIX, DIAL_SUFFIX = "MOVIDESK_DIAL_PREFIX", "MOVIDESK_DIAL_SUFFIX"  # around the extension in Dial() (globals)
HINTS = "MOVIDESK_HINTS"            # the context of the hints that tell a phone's state, or empty
PRIORITY = "MOVIDESK_PRIORITY"      # how far ahead of its arrival the caller stands in line: a digit, or empty for 0
REFUSAL = "MOVIDESK_REFUSAL"        # why the phone that was offered did not take the call, set by the dialplan
CHECK_PHONE = "MOVIDESK_CHECK_PHONE"  # `yes`: a phone that is not free is not rung (a global)
ENDING = "MOVIDESK_ENDING"         # `message` while the caller leaves one: `lost` is then told with its link

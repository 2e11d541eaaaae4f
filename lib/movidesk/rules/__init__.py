"""Rules for calls, the waiting line and the request limit: pure functions, without I/O and without a clock. The journal applies
them.

Movidesk accepts ten requests a minute for the whole account, and an answered call needs three: `received` asks for an agent,
`transferred` opens the agent's screen, `completed` frees the agent. So the callers of a queue stand in one line, and only the
first of them, the head, asks: at once if the answer may differ from the last one, otherwise at growing intervals. Each request
has a class. It goes if enough of the limit is left for the classes above it, and for the screen of each agent who is called;
the rest waits in the journal. While Movidesk accepts no request at all, nothing is set aside.

    When                                       Then                                             Decided in
    a caller comes to an empty line            it asks at once                                  waiting_line.at_first_arrival
    Movidesk names an agent                    a request is kept for the screen at pick-up      rate_limit.leaves_screens
    Movidesk says that all agents are busy     the head asks at growing intervals               waiting_line.after_answer
    an agent's call is over for Movidesk       the heads of the agent's queues ask at once      waiting_line.request_class
    an agent's phone becomes free              the head asks at once                            waiting_line.after_free_phone
    the phones of all known agents are busy    the head asks at its longest interval            waiting_line.request_class
    the agent's phone does not answer          the head asks again at once; at growing          waiting_line.after_refusal
                                               intervals if only such phones are left
    the head will probably hang up soon        it does not ask, and nobody overtakes it         waiting_line.is_about_to_leave
    the limit is 100 a minute or more          callers ask beside the head, while enough        waiting_line.may_ask_beside
                                               agents are known to be free
    more wants to go than the limit allows     SCREEN, HEAD, FREEING, PROBE, COMPLETED, SLACK   rate_limit.may_go
    Movidesk answers 429                       a pause, longer each time                        rate_limit.pause_after
    429 although we had sent less              fewer requests for a while                       rate_limit.lowered, recovered
    an event fails, others are accepted        it is set aside after some tries                 trial
    everything fails                           every event waits and is tried again             trial
    an admin or a caller asks how long         what the last answered callers waited            expected_wait
    an event comes, or the caller hangs up     the call's next state, or its one ending         call_states
"""

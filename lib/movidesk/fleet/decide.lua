-- One call of a PBX: takes its report in, decides what it asks for, and tells what the others reported.

-- How the PBX stands. An older report than the last one tells only of the caller who looks, if that one is not known yet.
local function take_state(me, report, asker)
    if report.number < (me.reported or 0) then
        take_asker(me, report.callers, asker)
        return
    end
    me.reported = report.number
    for _, name in ipairs({'outbox', 'screens', 'offered', 'freeing', 'aged', 'facts'}) do me[name] = report[name] end
    me.clock = report.clock - now
    me.ringing = {}
    for i, age in ipairs(report.ringing) do me.ringing[i] = now - age end
    take_line(me, report.callers)
    for _, told in ipairs(report.queues) do        -- {queue, version, age, pace, changed, full, code}
        local known = shared.queues[told[1]]
        local version = known and known.version or 0
        local news = known and version ~= told[2] and known.changed and known.asked <= now - told[3]
        shared.queues[told[1]] = {version = version + 1, asked = math.max(known and known.asked or 0, now - told[3]),
                                  pace = told[4], changed = told[5] or news or false, full = told[6], code = told[7]}
    end
end

-- What the PBX sent. It counts also where another report has come before this one.
local function take_sent(report)
    for _, told in ipairs(report.over) do          -- {id, whether it was quick, age}
        for _, entry in ipairs(shared.window) do
            if entry.id == told[1] and entry.open then
                if not told[2] then entry.at = math.max(entry.at, now - told[3]) end
                entry.open = nil
            end
        end
    end
    for _, told in ipairs(report.alone) do         -- {id, class, age}: sent without Redis, within the PBX's own part
        if not has_grant(told[1]) and told[3] < WINDOW then
            shared.window[#shared.window + 1] = {id = told[1], at = now - told[3], class = told[2], pbx = asked.name}
        end
    end
end

-- A 429 of one PBX is a pause for all; so is a token that Movidesk refuses. What Movidesk has taken since ends both.
local function take_pauses(report)
    local function later(known, told)
        if told[1] and (not known or now + told[1] > known['until'] + 1000) then
            return {['until'] = now + told[1], since = now, strikes = told[2], cause = told[3]}
        end
        return known
    end
    shared.closed = later(shared.closed, report.closed)
    shared.token = later(shared.token, report.token)
    if report.token[1] then
        shared.token.pbx = asked.name
    elseif shared.token and shared.token.pbx == asked.name then
        shared.token = nil  -- it has another token, or an admin has it try again
    end
    local taken = now - report.taken
    if shared.closed and shared.closed['until'] <= taken then shared.closed = nil end
    if shared.token and shared.token.since <= taken then shared.token = nil end
    if report.lowered[1] and (not shared.lowered or now - report.lowered[3] > shared.lowered.at + 1000) then
        shared.lowered = {rate = report.lowered[1], of = report.lowered[2], at = now - report.lowered[3]}
    end
end

-- Grants a request of this class if it may go, and returns whether it has. The answer tells how full the window is, and which
-- pause stands.
local function try(me, answer, class, demand, aged, places, queue, caller)
    local window = window_of(me)
    local why, ends = pause()
    answer.why, answer.ends = why, ends and ends - now
    answer.window = {limit = window.limit, free = window.free, used = window.used, full = window.full,
                     opens = {unpack(window.opens, 1, MOST_OPENS)}}
    answer.demand = demand
    if why or not may_go(class, window, demand, aged, places) or has_grant(asked.id) then return false end
    grant(class, queue, caller)
    return true
end

-- A caller looks: its place, and a request if it is its turn and it has reason to ask.
local function turn(me, answer, ask)
    local caller = me.line[ask.caller]
    if not caller then return end
    for _, entry in ipairs(shared.window) do  -- a caller who looks has no request under way: its process has died
        if entry.caller == caller.id and entry.pbx == asked.name then entry.caller = nil end
    end
    local queue, stands = queue_of(caller.queue), standing(me, caller)
    answer.position, caller.wants = stands.position, 0
    if stands.unasked > 0 or caller.aside > now then return end
    if stands.asked_here > 0 and not may_ask_beside(queue, ask, stands.asked_everywhere, pool(me)) then return end
    local class = request_class(queue, ask)
    if not class or ask.leaves then
        answer.leaves = class and true or nil
        return
    end
    local aged = class == PROBE and now - queue.asked - queue.pace >= PROBE_AGES_AFTER and sent_ago(PROBE) >= PROBE_AGED_EVERY
    caller.wants = aged and HEAD or class
    local demand = demand_of(ask, caller.queue, caller.wants)
    demand.ring = ask.report and 0 or ask.ring
    answer.class, answer.aged, answer.wants = class, aged, caller.wants
    if try(me, answer, class, demand, aged, 1, caller.queue, not ask.fails and caller.id or nil) then
        answer.granted, caller.wants, caller.seen = 1, 0, now + asked.hold
        if ask.fails then caller.aside = now + asked.hold end
        queue.asked, queue.version = now, queue.version + 1
        shared.queues[caller.queue] = queue
    end
end

-- Events: {{class, aged, places}, ...}; the first that may go.
local function events(me, answer, ask)
    me.delivers = now + DELIVERS
    local demand = demand_of(ask, nil, HEAD)
    for i, event in ipairs(ask.events) do
        local class = event[1]
        if class == FREEING or class == COMPLETED then class = demand.anybody and FREEING or COMPLETED end
        if try(me, answer, class, demand, event[2] and demand.aged > 0, event[3]) then
            answer.granted, answer.class = i, class
            return
        end
    end
end

local function tell(me, answer)
    answer.pool, answer.waiting, answer.queues, answer.facts = pool(me), {}, {}, {}
    each_caller(function(caller, name)
        if name ~= asked.name then answer.waiting[caller.queue] = (answer.waiting[caller.queue] or 0) + 1 end
    end)
    for name, queue in pairs(shared.queues) do
        answer.queues[#answer.queues + 1] = {name, queue.version, now - queue.asked, queue.pace, queue.changed, queue.full,
                                             queue.code}
    end
    for name, pbx in pairs(pbxs) do
        if name ~= asked.name and is_leased(pbx) then answer.facts[name] = {now - pbx.seen, pbx.facts} end
    end
    local function left(pause) return pause and {pause['until'] - now, pause.strikes, pause.cause} or {} end
    answer.closed, answer.token = left(shared.closed), left(shared.token)
    answer.lowered = shared.lowered and {shared.lowered.rate, shared.lowered.of, now - shared.lowered.at} or {}
end

-- A number below `pbxs` that no other PBX has: the one that it had, if Redis has begun anew.
local function number_of(me)
    local taken, number = {}, 0
    for name, pbx in pairs(pbxs) do
        if name ~= asked.name and pbx.number then taken[pbx.number] = true end
    end
    if asked.number >= 0 and asked.number < asked.pbxs and not taken[asked.number] then return asked.number end
    while taken[number] do number = number + 1 end
    return number
end

-- A PBX begins anew. before: what was known of it here; nil for one that comes from another Redis, or from none.
local function newcomer(before)
    pbxs[asked.name] = {instance = asked.instance, version = asked.version, line = {}, screens = 0, offered = 0, freeing = 0,
                        aged = 0, ringing = {}, outbox = 0, clock = 0, facts = '',
                        settles = before and before.settles or nil}
    return pbxs[asked.name]
end

local function decide()
    load()
    if not shared or shared.run ~= run or now < shared.last then forget() end
    local me = pbxs[asked.name]
    local why, other = objection(me)
    if why then return {at = now, epoch = shared.epoch, refused = why, other = other} end
    if not me or me.instance ~= asked.instance then me = newcomer(me) end
    shared.full = math.max(shared.full, (shared.began or 0) + WINDOW + asked.hold)
    local seen = witness(me)
    if seen == 'jump' then
        forget()
        me = newcomer()
    elseif seen == 'paused' then
        local line = me.line
        me = newcomer(me)
        me.line = line
    end
    me.seen, me.pbxs, me.limit, me.share, me.length = now, asked.pbxs, asked.limit, asked.share, LEASE
    me.number = me.number or number_of(me)
    local answer = {at = now, number = me.number, epoch = shared.epoch, again = seen ~= 'ok', granted = 0}
    if seen == 'ok' then
        prune()
        forget_the_gone()
        take_state(me, asked.report, asked.ask.caller)
        take_sent(asked.report)
        if asked.share ~= 'none' then take_pauses(asked.report) end
        if asked.ask.caller then turn(me, answer, asked.ask) end
        if asked.ask.events then events(me, answer, asked.ask) end
        tell(me, answer)
    end
    save(asked.name)
    return answer
end

return cjson.encode(decide())

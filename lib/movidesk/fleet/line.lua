-- The waiting lines: who comes first, over all PBXs.
-- A caller of a line: {id, queue, at, number, priority, seen, aside, wants}. `at` and `number` are its place in Redis' sequence.

local function is_here(caller)
    return caller.seen > now
end

local function rank(caller)
    return caller.at - caller.priority * PRIORITY
end

local function is_before(one, other)
    if rank(one) ~= rank(other) then return rank(one) < rank(other) end
    return one.number < other.number
end

-- The place of a caller that is seen for the first time. One that has just come gets the next place; one that has waited
-- elsewhere, while Redis was away, stands where it would stand if it had come here. One that has just come may stand as much as
-- FRESH after its arrival, so the others do as well: else one would pass it that came after it.
local function place(age)
    shared.number = shared.number + 1
    if age > FRESH then return now - age + FRESH end
    shared.arrived = math.max(now, shared.arrived)
    return shared.arrived
end

local function caller_of(told, before)
    return {id = told[1], queue = told[2], priority = told[3], at = before and before.queue == told[2] and before.at
            or place(told[4]), number = before and before.number or shared.number,
            seen = now + told[5], aside = now + told[6], wants = told[7]}
end

-- The PBX's callers as it reports them: {{id, queue, priority, age, seen, aside, wants}, ...}, times from now. One whose agent's
-- phone rings is reported with seen = 0: nobody waits for it, but it keeps its place for when the agent does not answer.
local function take_line(me, callers)
    local line = {}
    table.sort(callers, function(one, other) return one[4] > other[4] end)
    for _, told in ipairs(callers) do line[told[1]] = caller_of(told, me.line[told[1]]) end
    me.line = line
end

-- The caller who looks, from a report that was overtaken by one that did not tell of it.
local function take_asker(me, callers, asker)
    for _, told in ipairs(callers) do
        if told[1] == asker and not me.line[asker] then me.line[asker] = caller_of(told) end
    end
end

-- The callers in line, with the name of their PBX: function(caller, name). A PBX without a lease has left with its callers.
local function each_caller(visit)
    for name, pbx in pairs(pbxs) do
        if is_leased(pbx) then
            for _, caller in pairs(pbx.line) do
                if is_here(caller) then visit(caller, name) end
            end
        end
    end
end

-- The callers for whom Movidesk is being asked: {caller's PBX and id = queue}.
local function questions()
    local found = {}
    for _, entry in ipairs(shared.window) do
        local pbx = entry.caller and entry.open and entry.open > now and pbxs[entry.pbx]
        local caller = pbx and is_leased(pbx) and pbx.line[entry.caller]
        if caller and is_here(caller) and caller.aside <= now then
            found[entry.pbx .. '/' .. entry.caller] = entry.queue
        end
    end
    return found
end

local function queue_of(name)
    return shared.queues[name] or {version = 0, asked = 0, pace = 0, changed = true, full = -1, code = '4'}
end

-- How a caller stands: its position; how many callers before it are not being asked for; how many others are: in its queue, and in
-- all queues.
local function standing(me, caller)
    local found, asking = {position = 1, unasked = 0, asked_here = 0, asked_everywhere = 0}, questions()
    each_caller(function(other, name)
        if other.queue == caller.queue and other ~= caller and other.aside <= now and is_before(other, caller) then
            found.position = found.position + 1
            if not asking[name .. '/' .. other.id] then found.unasked = found.unasked + 1 end
        end
    end)
    for id, queue in pairs(asking) do
        if id ~= asked.name .. '/' .. caller.id then
            found.asked_everywhere = found.asked_everywhere + 1
            if queue == caller.queue then found.asked_here = found.asked_here + 1 end
        end
    end
    return found
end

-- movidesk.rules.waiting_line.request_class; nil where that is None.
local function request_class(queue, ask)
    if ask.all_busy and not ask.at_once then
        return now >= queue.asked + ask.longest and PROBE or nil
    end
    if queue.changed and not (queue.full ~= -1 and ask.taken >= queue.full) then return HEAD end
    return now >= queue.asked + queue.pace and PROBE or nil
end

-- movidesk.rules.waiting_line.may_ask_beside
local function may_ask_beside(queue, ask, asking, limit)
    local free = ask.free
    if queue.full ~= -1 then free = math.min(free, queue.full - ask.taken) end
    return queue.changed and limit >= BESIDE_FROM and asking < MOST_BESIDE and free >= 2 * (asking + 1)
end

-- Whether the PBX delivers its events. One that cannot reach Movidesk, or whose service is stopped, does not: requests kept free
-- for its events would stay unused, while callers of all PBXs wait for them.
local function delivers(pbx)
    return (pbx.delivers or 0) > now
end

-- What wants a request: movidesk.rules.rate_limit.Demand, over all PBXs. asker: the queue of a head, whose rivals ask for
-- requests of `class` or a better one; nil for an event.
local function demand_of(ask, asker, class)
    local found = {screens = 0, heads = 0, freeing = 0, aged = 0, anybody = false, passed = shared.passed, pickups = {},
                   ring = ask.ring}
    local heads, mine = {}, asker and queue_of(asker)
    each_caller(function(caller)
        found.anybody = true
        local rival = not asker or caller.queue ~= asker and queue_of(caller.queue).asked < mine.asked
        if caller.wants >= 1 and caller.wants <= class and rival then heads[caller.queue] = true end
    end)
    for _ in pairs(heads) do found.heads = found.heads + 1 end
    for _, pbx in pairs(pbxs) do
        if is_leased(pbx) then
            if delivers(pbx) then
                found.screens = found.screens + pbx.screens
                found.freeing = found.freeing + pbx.freeing
                found.aged = math.max(found.aged, pbx.aged)
            end
            found.anybody = found.anybody or pbx.offered > 0
            for _, since in ipairs(pbx.ringing) do
                found.pickups[#found.pickups + 1] = math.max(0, since + ask.ring - now)
            end
        end
    end
    if not found.anybody then found.freeing = 0 end
    if sent_ago(SLACK) < SLACK_AGES_AFTER then found.aged = 0 end
    found.lately = math.min(sent_ago(HEAD), sent_ago(PROBE)) < 10 * WINDOW
    for _ in pairs(questions()) do found.pickups[#found.pickups + 1] = ask.ring end
    table.sort(found.pickups)
    return found
end

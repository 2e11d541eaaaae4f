-- The request limit: movidesk.rules.rate_limit in Lua (tests/test_fleet_script.py compares both).
-- An entry of the window: {id, at, class, pbx, open, queue, caller}. Until `open` its request may be under way: it counts as sent
-- just now, until its PBX says when it was over.

local function counts_from(entry)
    return entry.open and math.min(now, entry.open) or entry.at
end

local function prune()
    local kept = {}
    for _, entry in ipairs(shared.window) do
        if counts_from(entry) > now - WINDOW then kept[#kept + 1] = entry end
    end
    shared.window = kept
end

-- The part of the limit that the PBXs with a lease share. Each of the others may be using its own part, or have used it: until
-- `settles`, what one that is new here sent in its last minute, granted by another Redis, may still count.
local function pool(me)
    if asked.share == 'none' then return asked.limit end
    local limit, absent = asked.limit, asked.pbxs
    for _, pbx in pairs(pbxs) do
        if is_leased(pbx) then
            if (pbx.settles or 0) <= now then absent = absent - 1 end
            limit = math.min(limit, pbx.limit)
        end
    end
    return math.max(0, limit - math.max(0, absent) * math.max(1, math.floor(limit / asked.pbxs)))
end

local function window_of(me)
    local limit, opens = pool(me), {}
    if shared.full > now or not is_watched(me) then
        local until_open = math.max(shared.full, me.joined + WINDOW) - now
        limit = math.max(1, limit)
        for i = 1, math.min(limit, MOST_OPENS) do opens[i] = until_open end
        return {limit = limit, free = 0, opens = opens, used = limit, full = true}
    end
    for _, entry in ipairs(shared.window) do
        if asked.share ~= 'none' or entry.pbx == asked.name then opens[#opens + 1] = counts_from(entry) + WINDOW - now end
    end
    table.sort(opens)
    return {limit = limit, free = limit - #opens, opens = opens, used = #opens}
end

local function leaves_screens(window, demand, places, asks)
    local pickups = {}
    for i, pickup in ipairs(demand.pickups) do pickups[i] = pickup end
    if asks and window.limit > 1 then pickups[#pickups + 1] = demand.ring end
    table.sort(pickups)
    for i, pickup in ipairs(pickups) do
        local free = window.free
        for _, opens in ipairs(window.opens) do
            if opens <= pickup then free = free + 1 end
        end
        if free - places < math.min(demand.screens + i, window.limit - places) then return false end
    end
    return true
end

local function may_go(class, window, demand, aged, places)
    if window.limit < 1 then return false end
    if class == SCREEN then return window.free >= math.min(places, window.limit) end
    local asks = class == HEAD or class == PROBE
    if not leaves_screens(window, demand, places, asks) then return false end
    local slack_aged = aged and class == SLACK
    if aged then class = HEAD end
    local wanted = demand.screens + (slack_aged and 0 or demand.aged)
    local passes = class == FREEING and demand.passed < MOST_PASS and not leaves_screens(window, demand, 1, true)
    if not slack_aged and not passes then
        wanted = wanted + (asks and math.min(2 * demand.heads, math.max(1, window.limit - 1)) or demand.heads)
    end
    if class > FREEING then wanted = wanted + demand.freeing end
    if class == PROBE then wanted = wanted + math.floor(window.limit * PROBE_LEAVES) end
    if class == SLACK then
        wanted = wanted + math.floor(window.limit * (demand.anybody and SLACK_LEAVES or demand.lately and SLACK_KEEPS or 0))
    end
    return window.free >= wanted + math.min(places, window.limit)
end

local function sent_ago(class)
    return now - (shared.sent[tostring(class)] or -1e12)
end

-- Why nothing may be sent at all, and until when; nil if something may.
local function pause()
    if asked.share == 'none' then return nil end
    if shared.closed and shared.closed['until'] > now then return 'closed', shared.closed['until'] end
    if shared.token and shared.token['until'] > now then return 'token', shared.token['until'] end
end

local function has_grant(id)
    for _, entry in ipairs(shared.window) do
        if entry.id == id then return true end
    end
    return false
end

local function grant(class, queue, caller)
    shared.window[#shared.window + 1] = {id = asked.id, at = now, class = class, pbx = asked.name, open = now + asked.hold,
                                         queue = queue, caller = caller}
    shared.sent[tostring(class)] = now
    if class == HEAD or class == PROBE then shared.passed = 0 end
    if class == FREEING then shared.passed = shared.passed + 1 end
end

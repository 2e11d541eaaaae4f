-- The account's state in Redis: one key, a hash. Field `shared`: what all PBXs share. Field `pbx:NAME`: what this PBX reported last.
-- All times are milliseconds of Redis' own clock, or differences of it; `steady` is a PBX's own clock.

local key, asked = KEYS[1], cjson.decode(ARGV[1])

local function clock()
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end

local now = clock()
local run = redis.call('INFO', 'server'):match('run_id:(%w+)')
local shared, pbxs = nil, {}

local function load()
    local stored = redis.call('HGETALL', key)
    for i = 1, #stored, 2 do
        local value = cjson.decode(stored[i + 1])
        if stored[i] == 'shared' then shared = value else pbxs[stored[i]:sub(5)] = value end
    end
end

-- PBXs that have not called for KEPT are gone for good. The others are written anew, because the rights in docs/fleet.md do not
-- include HDEL.
local function forget_the_gone()
    local kept, gone = {}, false
    for name, pbx in pairs(pbxs) do
        if pbx.seen > now - KEPT then kept[name] = pbx else gone = true end
    end
    if not gone then return end
    redis.call('DEL', key)
    for name, pbx in pairs(kept) do redis.call('HSET', key, 'pbx:' .. name, cjson.encode(pbx)) end
    pbxs = kept
end

-- Nothing is known of what was sent: the window counts as full, and all PBXs join anew.
local function forget()
    redis.call('DEL', key)
    shared = {epoch = run:sub(1, 8) .. '-' .. now, run = run, began = now, full = now + WINDOW, arrived = now, number = 0,
              passed = 0, window = {}, sent = {}, queues = {}}
    pbxs = {}
end

local function save(name)
    shared.last = now
    redis.call('HSET', key, 'shared', cjson.encode(shared))
    if pbxs[name] then redis.call('HSET', key, 'pbx:' .. name, cjson.encode(pbxs[name])) end
    redis.call('PEXPIRE', key, KEPT)
end

local function is_leased(pbx)
    return (pbx.lease or 0) > now
end

-- Why this PBX may not join, or nil. A PBX that has been silent for a lease has left.
local function objection(me)
    if me and me.instance ~= asked.instance and me.seen + LEASE > now then return 'name' end
    local others = 0
    for name, pbx in pairs(pbxs) do
        if name ~= asked.name and is_leased(pbx) then
            others = others + 1
            if pbx.pbxs ~= asked.pbxs then return 'pbxs', pbx.pbxs end
            if pbx.share ~= asked.share then return 'share', pbx.share end
        end
    end
    if others >= asked.pbxs then return 'many' end
end

-- Whose clock has jumped, where that of Redis and a PBX's differ by `offset` since the time `at`, and differed less at its last
-- good call. 'paused': the PBX's own, as its machine stood still, because another PBX saw that Redis' clock went on evenly from
-- before that call until after `at`. 'again': another one may tell so soon. Else 'jump'.
local function blame(me, at, offset)
    local doubt = me.doubt or {since = now}
    if not doubt.at or math.abs(offset - doubt.offset) > JUMP then doubt.at, doubt.offset = at, offset end
    me.doubt = doubt
    local may_tell = false
    for name, pbx in pairs(pbxs) do
        if name ~= asked.name and not pbx.doubt and pbx.joined and pbx.joined <= (me.watched or me.joined) then
            if (pbx.watched or 0) > doubt.at then return 'paused' end
            may_tell = may_tell or is_leased(pbx)
        end
    end
    return may_tell and now < doubt.since + LEASE and 'again' or 'jump'
end

-- What the caller's acknowledgement of an earlier answer shows: that it received that answer in time, at that moment of both
-- clocks. The lease counts from there, so that it ends for Redis no later than for the PBX. Returns 'ok'; 'again' if nothing may
-- be decided from this call, because it comes without one, with an old one, or late; 'jump' or 'paused': see `blame`.
local function witness(me)
    local ack = asked.ack
    if not ack or ack == cjson.null then return 'again' end
    if ack.epoch ~= shared.epoch then
        me.settles = nil  -- another Redis may have granted it requests meanwhile
        return 'again'
    end
    if ack.at > shared.last then return 'jump' end  -- the state has gone back to one from before that answer
    local offset = ack.at - ack.steady
    if me.offset and math.abs(offset - me.offset) > JUMP then return blame(me, ack.at, offset) end
    me.offset = offset
    me.joined = me.joined or ack.at
    me.settles = me.settles or ack.at + WINDOW + asked.hold
    me.lease = math.max(me.lease or 0, ack.at + LEASE)
    local delay = now - asked.steady - offset
    if delay < -JUMP then return blame(me, now, now - asked.steady) end
    if delay > JUMP or not is_leased(me) then return 'again' end
    me.watched, me.doubt = now, nil
    return 'ok'
end

-- Whether Redis' clock was watched for the whole window: by this PBX, or by another one until this one joined.
local function is_watched(me)
    if me.joined <= now - WINDOW then return true end
    for _, pbx in pairs(pbxs) do
        if pbx.joined and pbx.joined <= now - WINDOW and (pbx.watched or 0) >= me.joined then return true end
    end
    return false
end

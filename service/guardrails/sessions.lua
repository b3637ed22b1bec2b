-- The session store. Every time is in ms on the caller's clock, handed in, so that a test can move it.
--   space:s:id     hash: login, user, organization, device, seen, idle, ends; or only `gone` (a tombstone);
--                  `beside` names another session of the same user without which this one is nothing
--   space:us:user  sorted set of the user's ids by creation       space:active  all ids by the moment they expire
local TOUCH_EVERY, TOMBSTONE = 60000, 10000

local function forget(space, id, user)
  redis.call('DEL', space .. ':s:' .. id)
  redis.call('ZREM', space .. ':active', id)
  if user then redis.call('ZREM', space .. ':us:' .. user, id) end
end

-- The session's {login, user, organization, seen, idle, ends, device}; false when there is none; 'gone' for ten
-- seconds after its id was replaced.
local function find(space, id, now)
  local s = redis.call('HMGET', space .. ':s:' .. id, 'login', 'user', 'organization', 'seen', 'idle', 'ends',
    'device', 'gone', 'beside')
  if s[8] then return now < tonumber(s[8]) and 'gone' end
  if not s[1] then return false end
  local alone = false
  if s[9] then
    local other = find(space, s[9], now)
    alone = not other or other == 'gone'
  end
  if alone or now >= tonumber(s[6]) or now >= s[4] + s[5] then
    forget(space, id, s[2])
    return false
  end
  return s
end

local function touch(space, id, now, s)
  local expires = math.min(now + s[5], tonumber(s[6]))
  redis.call('HSET', space .. ':s:' .. id, 'seen', now)
  redis.call('PEXPIRE', space .. ':s:' .. id, math.ceil(expires - now))
  redis.call('ZADD', space .. ':active', expires, id)
end

local function load(space, id, now)
  local s = find(space, id, now)
  -- One write a minute, not one per request.
  if s and s ~= 'gone' and now - s[4] >= TOUCH_EVERY then
    touch(space, id, now, s)
    if s[9] then touch(space, s[9], now, find(space, s[9], now)) end
  end
  return s
end

-- The old id opens nothing any more; for ten seconds it still explains why, to requests that were already under way.
local function bury(space, id, now)
  redis.call('HSET', space .. ':s:' .. id, 'gone', now + TOMBSTONE)
  redis.call('PEXPIRE', space .. ':s:' .. id, TOMBSTONE)
end

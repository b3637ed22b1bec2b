-- What the product does with sessions; ARGV[1] names the operation. Joined to sessions.lua.
local operation, space, now = ARGV[1], ARGV[2], tonumber(ARGV[3])

if operation == 'load' then
  local s = load(space, ARGV[4], now)
  return s and (s == 'gone' and s or s[1])

elseif operation == 'begin' then
  local id, user, organization, login, device, idle, ends, old, most, index_life, beside = unpack(ARGV, 4)
  if old ~= '' then
    local s = find(space, old, now)
    if s and s ~= 'gone' then
      forget(space, old, s[2])
      bury(space, old, now)
    end
  end
  local index = space .. ':us:' .. user
  redis.call('HSET', space .. ':s:' .. id, 'login', login, 'user', user, 'organization', organization,
    'device', device, 'idle', idle, 'ends', ends)
  if beside ~= '' then redis.call('HSET', space .. ':s:' .. id, 'beside', beside) end
  touch(space, id, now, {nil, nil, nil, nil, idle, ends})
  redis.call('ZADD', index, now, id)
  redis.call('PEXPIRE', index, index_life)
  redis.call('ZREMRANGEBYSCORE', space .. ':active', '-inf', now)
  for _, other in ipairs(redis.call('ZRANGE', index, 0, -1)) do
    if not find(space, other, now) then redis.call('ZREM', index, other) end
  end
  local surplus = redis.call('ZCARD', index) - most
  if surplus > 0 then
    for _, oldest in ipairs(redis.call('ZRANGE', index, 0, surplus - 1)) do forget(space, oldest, user) end
  end
  return 1

elseif operation == 'rotate' then
  local old, id, login, organization = unpack(ARGV, 4)
  -- A session that was revoked in the meantime must stay dead: rotating it would bring it back under a new id.
  local s = find(space, old, now)
  if not s or s == 'gone' then return s end
  local index = space .. ':us:' .. s[2]
  local created = redis.call('ZSCORE', index, old) or now
  redis.call('RENAME', space .. ':s:' .. old, space .. ':s:' .. id)
  forget(space, old, s[2])
  redis.call('HSET', space .. ':s:' .. id, 'login', login, 'organization', organization)
  redis.call('ZADD', index, created, id)
  touch(space, id, now, s)
  bury(space, old, now)
  return 1

elseif operation == 'end' then
  local user, id = unpack(ARGV, 4)
  local mine = redis.call('ZSCORE', space .. ':us:' .. user, id)
  if mine then forget(space, id, user) end
  return mine and 1 or 0

elseif operation == 'end_all' then
  local user, keep = unpack(ARGV, 4)
  local ended = 0
  for _, id in ipairs(redis.call('ZRANGE', space .. ':us:' .. user, 0, -1)) do
    if id ~= keep then
      forget(space, id, user)
      ended = ended + 1
    end
  end
  return ended

elseif operation == 'devices' then
  local found = {}
  for _, id in ipairs(redis.call('ZRANGE', space .. ':us:' .. ARGV[4], 0, -1)) do
    local s = find(space, id, now)
    if s and s ~= 'gone' then found[#found + 1] = {id, s[1], s[4], s[7]} end
  end
  return found

elseif operation == 'count' then
  redis.call('ZREMRANGEBYSCORE', space .. ':active', '-inf', now)
  return redis.call('ZCARD', space .. ':active')
end

-- Counts one request in several buckets: in all of them, or, when one is full, in none (GCRA).
-- A bucket is one number: the moment (ms) when it will be empty again; nothing stored means empty.
-- ARGV from `first`, repeated: name, whose, limit, window in ms. `whose` decides whether a bucket applies:
--   ''  always          u, o  name is completed by the session's user or organization; without one it is skipped
--   d   only when the first bucket is empty: counts how many different accounts, not how many attempts
-- step 1 counts, step -1 takes one count back. Answers {wait, limit, remaining, empty_in} of the tightest bucket, and
-- leaves in `tightest_at` where in ARGV that one stands.
local tightest_at = 0
local function count(now, step, first, user, organization)
  local wait, tightest, untouched, changes = 0, nil, true, {}
  for i = first, #ARGV, 4 do
    local name, whose, limit, window = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
    if whose == 'u' then name = user and name .. user end
    if whose == 'o' then name = organization and name .. organization end
    if whose == 'd' and not untouched then name = nil end
    if name and name ~= '' then
      local empty_at = tonumber(redis.call('GET', name) or now)
      -- Beyond two windows it was written by a clock that has since been set back: better forgotten than a lock-out.
      if empty_at < now or empty_at > now + 2 * window then empty_at = now end
      local interval = window / limit
      local after = math.max(now, empty_at + step * interval)
      if i == first then untouched = (step > 0 and empty_at or after) <= now end
      local over = after - now - window
      -- Half an interval of grace: calls do not arrive in the order of their clocks.
      if step > 0 and over > interval / 2 then wait = math.max(wait, over) end
      local share = (after - now) / window
      if not tightest or share > tightest[1] then
        tightest_at = i
        tightest = {share, limit, math.max(0, math.floor((1 - share) * limit + 0.001)), after - now}
      end
      changes[#changes + 1] = {name, after}
    end
  end
  if wait == 0 then
    for _, change in ipairs(changes) do
      local left = math.ceil(change[2] - now)
      if left > 0 then
        redis.call('SET', change[1], string.format('%.3f', change[2]), 'PX', left)
      else
        redis.call('DEL', change[1])
      end
    end
  end
  if not tightest then return {0, 0, 0, 0} end
  return {math.ceil(wait), tightest[2], tightest[3], math.ceil(tightest[4])}
end

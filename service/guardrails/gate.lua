-- The whole door in one round trip: the session named by the cookie, or whose the API key is, and the buckets of the
-- route's policy. `rate` is the free plan's requests per minute; gate.tell has left the rates of other plans, and the
-- organizations of keys that PostgreSQL has believed. Answers 0 as rate where nobody was counted against a plan.
local space, now, id, rate, key = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), ARGV[5]
-- What a page asks for by itself finds the session and does not prolong it.
local s = id ~= '' and (ARGV[6] == '1' and find or load)(space, id, now)
local live = s and s ~= 'gone'
local user, organization = live and s[2], live and s[3] ~= '' and s[3]
local counted_rate, plan_at = 0, 0
if key ~= '' then
  organization = redis.call('GET', space .. ':key:' .. key)
  user = organization and key
  if organization then
    counted_rate = tonumber(redis.call('GET', space .. ':rate:' .. organization) or rate)
    plan_at = #ARGV + 1
    for _, value in ipairs({space .. ':l:plan:', 'o', counted_rate, 60000}) do ARGV[#ARGV + 1] = value end
  end
end
local answer = count(now, 1, 7, user, organization)
answer[5] = live and s[1] or s or ''
answer[6] = counted_rate
answer[7] = tightest_at == plan_at and 1 or 0
return answer

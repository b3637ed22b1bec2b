-- The whole door in one round trip: the session named by the cookie, and the buckets of the route's policy.
-- `rate` is 0, or, for the API, the free plan's requests per minute; gate.tell has left the rates of other plans.
local space, now, id, rate = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local s = id ~= '' and load(space, id, now)
local live = s and s ~= 'gone'
local organization = live and s[3] ~= '' and s[3]
local plan_at = 0
if rate > 0 and organization then
  rate, plan_at = tonumber(redis.call('GET', space .. ':rate:' .. organization) or rate), #ARGV + 1
  for _, value in ipairs({space .. ':l:plan:', 'o', rate, 60000}) do ARGV[#ARGV + 1] = value end
end
local answer = count(now, 1, 5, live and s[2], organization)
answer[5] = live and s[1] or s or ''
answer[6] = rate
answer[7] = tightest_at == plan_at and 1 or 0
return answer

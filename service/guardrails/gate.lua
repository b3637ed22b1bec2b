-- The whole door in one round trip: the session named by the cookie, and the buckets of the route's policy.
local space, now, id = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local s = id ~= '' and load(space, id, now)
local live = s and s ~= 'gone'
local answer = count(now, 1, 4, live and s[2], live and s[3] ~= '' and s[3])
answer[5] = live and s[1] or s or ''
return answer

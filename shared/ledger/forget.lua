-- Take jobs that ended long ago off their tenant's list, and workers that are gone off theirs.
-- ARGV: 1 seconds after which a worker is gone
-- Returns how many jobs.
local late = call('ZRANGEBYSCORE', key('ended'), '-inf', now(), 'LIMIT', 0, 100)
for _, ref in ipairs(late) do
  call('ZREM', key('ended'), ref)
  call('ZREM', key('jobs', tenant_of(ref)), ref)
end
for _, owner in ipairs(call('ZRANGEBYSCORE', key('seen'), '-inf', now() - ARGV[1])) do
  call('ZREM', key('seen'), owner)
  call('HDEL', key('workers'), owner)
end
return #late

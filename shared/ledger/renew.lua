-- Keep a lease, and learn the job's state.
-- ARGV: 1 the job's ref, 2 shard, 3 attempt, 4 lease seconds, 5 what the worker waits for, or ''
-- Returns the job's state, or nil where the lease is lost.
local job, member = key('job', ARGV[1]), ARGV[1] .. '/' .. ARGV[2]
local entry = call('HGET', job .. ':shards', ARGV[2])
if not entry or cjson.decode(entry).attempt ~= tonumber(ARGV[3]) then return nil end
if not call('ZSCORE', key('leases'), member) then return nil end
call('ZADD', key('leases'), now() + ARGV[4], member)
if ARGV[5] ~= '' then
  call('HSET', job, 'trouble', ARGV[5], 'trouble_at', now())
end
return call('HGET', job, 'state')

-- Put an accepted job into the ledger, once; planning it is due, or closing one that was cancelled.
-- ARGV: 1 the job's ref, 2 creation time, then pairs of fields and values
-- Returns 1, or 0 where the job is there already.
local job = key('job', ARGV[1])
if call('EXISTS', job) == 1 then return 0 end
call('HSET', job, unpack(ARGV, 3))
call('ZADD', key('jobs', tenant_of(ARGV[1])), ARGV[2], ARGV[1])
call('SADD', key('open'), ARGV[1])
wake((call('HGET', job, 'state') == 'cancelled' and 'close/' or 'plan/') .. ARGV[1])
return 1

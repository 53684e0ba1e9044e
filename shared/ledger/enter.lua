-- Put an accepted job into the ledger, once, or a retry of one that is over; planning it is due, or closing one that was
-- cancelled.
-- ARGV: 1 the job's ref, 2 creation time, 3 the retry, 0 for the first run, then pairs of fields and values
-- Returns 1, or 0 where the job is there already, or an earlier run of it is not over yet.
local ref, job = ARGV[1], key('job', ARGV[1])
if call('EXISTS', job) == 1 then
  local latest = tonumber(call('HGET', job, 'retry') or 0)
  if latest >= tonumber(ARGV[3]) or call('SISMEMBER', key('open'), ref) == 1 then return 0 end
  call('DEL', job)
end
call('HSET', job, unpack(ARGV, 4))
call('ZADD', key('jobs', tenant_of(ref)), ARGV[2], ref)
call('ZREM', key('ended'), ref)
call('SADD', key('open'), ref)
wake((call('HGET', job, 'state') == 'cancelled' and 'close/' or 'plan/') .. ref)
return 1

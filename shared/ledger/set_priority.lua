-- Give a job that is not over another priority; the next claim goes by it. Its turn among its equals stays.
-- ARGV: 1 the job's ref, 2 priority
-- Returns {1, the job's state} or, where it is over, {0, state}; {0} where there is no such job.
local ref = ARGV[1]
local job = key('job', ref)
local state, model, before = unpack(call('HMGET', job, 'state', 'model', 'priority'))
if not state then return {0} end
if state == 'finalizing' or state == 'completed' or state == 'failed' or state == 'cancelled' then return {0, state} end
call('HSET', job, 'priority', ARGV[2])
local turns = key('turns', model, tenant_of(ref))
if call('ZSCORE', turns, ref) then call('ZINCRBY', turns, (before - ARGV[2]) * 1e12, ref) end
return {1, state}

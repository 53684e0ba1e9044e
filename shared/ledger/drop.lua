-- Take a job that is closed off the ledger, as if it had never been there.
-- ARGV: 1 the job's ref
-- Returns 1, or 0 where its report is not stored yet.
local ref = ARGV[1]
local job = key('job', ref)
if call('SISMEMBER', key('open'), ref) == 1 then return 0 end
call('DEL', job, job .. ':shards', job .. ':ready', job .. ':journal')
call('ZREM', key('ended'), ref)
call('ZREM', key('jobs', tenant_of(ref)), ref)
return 1

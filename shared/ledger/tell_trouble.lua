-- Note what a job waits for, to be seen in its status.
-- ARGV: 1 the job's ref, 2 what
local job = key('job', ARGV[1])
if call('EXISTS', job) == 1 then call('HSET', job, 'trouble', ARGV[2], 'trouble_at', now()) end

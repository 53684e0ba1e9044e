-- Lease the control work that has been due longest.
-- ARGV: 1 lease seconds
-- Returns {work, token, failures before, last error}, or nil where nothing is due.
local work = call('ZRANGEBYSCORE', key('work', 'due'), '-inf', now(), 'LIMIT', 0, 1)[1]
if not work then return nil end
local row = work_row(work) or {failures = 0}
-- Where Redis came back empty, tokens go on behind those that it gave out before: there is no lease each millisecond.
call('SET', key('work', 'token'), math.floor(now() * 1000), 'NX')
row.token = call('INCR', key('work', 'token'))
row.again = nil
-- Counted before the work: who dies of it cannot count any more.
row.failures = row.failures + 1
put_row(work, row, now() + ARGV[1])
return {work, row.token, row.failures - 1, row.error or ''}

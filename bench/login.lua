-- For wrk. Logs in and prints one line: requests, microseconds, median and 99th percentile of the
-- latency, failed requests.
function request()
  local body = '{"email":"a@b.com","password":"S3cureP@ss"}'
  return wrk.format("POST", "/auth/login", { ["Content-Type"] = "application/json" }, body)
end

function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format("RESULT\t%d\t%d\t%d\t%d\t%d\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), failed))
end

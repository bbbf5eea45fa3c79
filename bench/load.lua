-- For wrk. Asks for a random one of the profiles, or for PATH_QUERY if that is set, and prints one
-- line: requests, microseconds, median and 99th percentile of the latency, failed requests.
local path = os.getenv("PATH_QUERY")
local count = tonumber(os.getenv("PROFILES") or "1")

function init()
  math.randomseed(os.time())
end

function request()
  if path then
    return wrk.format("GET", path)
  end
  local id = string.format("/users/00000000-0000-4000-8000-%012d", math.random(count))
  return wrk.format("GET", id)
end

function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format("RESULT\t%d\t%d\t%d\t%d\t%d\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), failed))
end

-- For wrk. KIND says what is asked for; prints one line at the end: requests, microseconds, median
-- and 99th percentile of the latency, failed requests.
--
--   read      a random one of PROFILES profiles
--   path      TARGET
--   update    PATCH of TARGET, with another name each time
--   login     a random one of ACCOUNTS accounts; without ACCOUNTS always the same
--   register  an email that nobody has; RUN makes it another run's
--
-- TOKENS names a file with bearer tokens, one a line, which take turns.
local kind = os.getenv("KIND")
local target = os.getenv("TARGET")
local run = os.getenv("RUN")
local profiles = tonumber(os.getenv("PROFILES") or "1")
local accounts = tonumber(os.getenv("ACCOUNTS") or "0")
local tokens = {}
local number = 0

function init()
  math.randomseed(tonumber(os.getenv("SEED")))
  local file = os.getenv("TOKENS")
  if file then
    for token in io.lines(file) do
      tokens[#tokens + 1] = token
    end
    -- Not the same ones at the beginning of each run.
    number = math.random(#tokens)
  end
end

local function post(path, email)
  local body = '{"email":"' .. email .. '","password":"S3cureP@ss"}'
  return wrk.format("POST", path, { ["Content-Type"] = "application/json" }, body)
end

function request()
  number = number + 1
  if #tokens > 0 then
    wrk.headers["Authorization"] = "Bearer " .. tokens[number % #tokens + 1]
  end
  if kind == "read" then
    local id = string.format("/users/00000000-0000-4000-8000-%012d", math.random(profiles))
    return wrk.format("GET", id)
  elseif kind == "update" then
    local body = '{"name":"Person ' .. number .. '"}'
    return wrk.format("PATCH", target, { ["Content-Type"] = "application/merge-patch+json",
      Authorization = wrk.headers["Authorization"] }, body)
  elseif kind == "login" and accounts > 0 then
    return post("/auth/login", "person" .. math.random(accounts) .. "@example.com")
  elseif kind == "login" then
    return post("/auth/login", "a@b.com")
  elseif kind == "register" then
    return post("/auth/register", "new" .. run .. "x" .. number .. "@example.com")
  end
  return wrk.format("GET", target)
end

function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format("RESULT\t%d\t%d\t%d\t%d\t%d\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), failed))
end

-- For wrk. KIND says what is asked for; prints one line at the end: requests, microseconds, median, 99th
-- percentile and maximum of the latency, failed requests.
--
--   read      a random one of PROFILES profiles
--   path      TARGET
--   update    PATCH of TARGET, with another name each time
--   login     a random one of ACCOUNTS accounts; without ACCOUNTS always the same
--   register  an email that nobody has; RUN makes it another run's
--   refresh   the next refresh token of a session that no other request is under way for; SESSIONS names a
--             file with one token of each session, a line each
--
-- TOKENS names a file with bearer tokens, one a line, which take turns.
local kind = os.getenv("KIND")
local target = os.getenv("TARGET")
local run = os.getenv("RUN")
local profiles = tonumber(os.getenv("PROFILES") or "1")
local accounts = tonumber(os.getenv("ACCOUNTS") or "0")
local tokens = {}
-- The newest refresh tokens of the sessions that wait for their turn: from first to last.
local waiting, first, last = {}, 1, 0
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
  local sessions = os.getenv("SESSIONS")
  if sessions then
    for token in io.lines(sessions) do
      last = last + 1
      waiting[last] = token
    end
    -- Only here, since answers cost more where a script looks at them.
    response = function(status, _, body)
      if status == 200 then
        last = last + 1
        waiting[last] = body:match('"refresh_token":"([^"]+)"')
      end
    end
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
  elseif kind == "refresh" then
    local token = waiting[first]
    waiting[first] = nil
    first = first + 1
    return wrk.format("POST", "/auth/refresh", { ["Content-Type"] = "application/json" },
      '{"refresh_token":"' .. (token or "there are too few") .. '"}')
  elseif kind == "register" then
    return post("/auth/register", "new" .. run .. "x" .. number .. "@example.com")
  end
  return wrk.format("GET", target)
end

function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format("RESULT\t%d\t%d\t%d\t%d\t%d\t%d\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), latency.max, failed))
end

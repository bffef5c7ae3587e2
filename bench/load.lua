-- For wrk: asks for the paths in a file in turn, where one is given, and says in one line what came of it.

function init(args)
  if not args[1] then return end
  local requests, at = {}, 0
  for path in io.lines(args[1]) do requests[#requests + 1] = wrk.format("GET", path) end
  function request()
    at = at % #requests + 1
    return requests[at]
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format("bench %d %d %d %d %d %d %d\n",
    summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(99), latency.max,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end

-- What wrk sends: BENCH_BODY, if there is one, else a GET; by BENCH_TENANTS tenants in turn. Each request has a
-- `traceparent` of its own, as instrumented clients send it. What it measured, as a line of JSON.
local tenants = tonumber(os.getenv("BENCH_TENANTS") or "1")
local parts, asked = {}, 0

function init()
  wrk.headers["Traceparent"] = "00-TRACE-00f067aa0ba902b7-01"
  if os.getenv("BENCH_BODY") then
    wrk.method = "POST"
    wrk.headers["Content-Type"] = "application/json"
    wrk.body = os.getenv("BENCH_BODY")
  end
  for tenant = 0, tenants - 1 do
    wrk.headers["Authorization"] = tenants > 1 and "Bearer bench-" .. tenant or "Bearer bench"
    local before, after = wrk.format():match("^(.-)TRACE(.*)$")
    parts[tenant] = { before, after }
  end
end

function request()
  asked = asked + 1
  local part = parts[asked % tenants]
  return part[1] .. string.format("%032x", asked) .. part[2]
end

function done(summary, latency)
  local failed = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout
  io.write(string.format('\n{"requests":%d,"seconds":%f,"p50":%f,"p99":%f,"failed":%d}\n', summary.requests,
    summary.duration / 1e6, latency:percentile(50) / 1000, latency:percentile(99) / 1000, failed))
end

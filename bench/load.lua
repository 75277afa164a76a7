-- What wrk sends: BENCH_BODY, if there is one, else a GET; by BENCH_TENANTS tenants in turn. What it measured, as a line
-- of JSON.
local tenants = tonumber(os.getenv("BENCH_TENANTS") or "1")
wrk.headers["Authorization"] = "Bearer bench"
if os.getenv("BENCH_BODY") then
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  wrk.body = os.getenv("BENCH_BODY")
end

if tenants > 1 then
  local asked = 0
  request = function()
    asked = asked + 1
    wrk.headers["Authorization"] = "Bearer bench-" .. asked % tenants
    return wrk.format()
  end
end

function done(summary, latency)
  local failed = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout
  io.write(string.format('\n{"requests":%d,"seconds":%f,"p50":%f,"p99":%f,"failed":%d}\n', summary.requests,
    summary.duration / 1e6, latency:percentile(50) / 1000, latency:percentile(99) / 1000, failed))
end

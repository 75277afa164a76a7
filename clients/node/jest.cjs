"use strict";

const { afterAll, afterEach, beforeAll, beforeEach } = require("@jest/globals");
const { start, stop } = require("./core.cjs");

/** Register the hooks that start a double, give each test a tenant, and judge it; call the result for the tenant. */
function useMockserver(options) {
  let server;
  let tenant;
  beforeAll(async () => {
    server = await start(options);
  }, 60_000);
  beforeEach(async () => {
    tenant = await server.tenant();
  });
  afterEach(async () => {
    await tenant.conclude(server);
  });
  afterAll(async () => {
    if (server) await stop(server);
  });
  return () => tenant;
}

module.exports = { useMockserver };

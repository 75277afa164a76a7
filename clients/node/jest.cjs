"use strict";

const { afterAll, afterEach, beforeAll, beforeEach } = require("@jest/globals");
const { start, stop } = require("./core.cjs");

/** Register hooks that start a double and give each test a tenant, judged at its end. Returns a function that gets it. */
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
    await tenant.finish(server);
  });
  afterAll(async () => {
    if (server) await stop(server);
  });
  return () => tenant;
}

module.exports = { useMockserver };

import { test as base } from "vitest";
import core from "./core.cjs";

/** `test` with a fixture `mockserver`: a tenant for each test, judged when the test ends. */
export const test = base.extend({
  mockserverServer: [
    async ({}, use) => {
      const server = await core.start();
      await use(server);
      await core.stop(server);
    },
    { scope: "file" },
  ],
  mockserver: async ({ mockserverServer, onTestFailed }, use) => {
    const tenant = await mockserverServer.tenant();
    let transcript = "";
    onTestFailed(() => console.error(`mockserver: the last exchanges\n${transcript || "none"}`));
    await use(tenant);
    transcript = await tenant.transcript();
    await tenant.finish(mockserverServer);
  },
});

export const it = test;

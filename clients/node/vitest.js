import { test as base } from "vitest";
import { start } from "./index.js";

/** `test` with a fixture `mockserver`: a tenant for each test, judged when the test ends. */
export const test = base.extend({
  mockserverServer: [
    async ({}, use) => {
      const server = await start();
      await use(server);
      await server.stop();
    },
    { scope: "file" },
  ],
  mockserver: async ({ mockserverServer, onTestFailed }, use) => {
    const tenant = await mockserverServer.tenant();
    onTestFailed(async () => {
      const story = await tenant.story();
      console.error(`mockserver: the last exchanges\n${story || "none"}`);
    });
    await use(tenant);
    await tenant.judge();
  },
});

export const it = test;

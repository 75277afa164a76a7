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
    let story = "";
    onTestFailed(() => console.error(`mockserver: the last exchanges\n${story || "none"}`));
    await use(tenant);
    story = await tenant.story();
    await tenant.conclude(mockserverServer);
  },
});

export const it = test;

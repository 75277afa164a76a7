import type { TestAPI } from "vitest";
import type { Server, Tenant } from "./index.js";

export interface MockserverFixtures {
  /** A tenant for this test, judged when the test ends. */
  mockserver: Tenant;
  /** The double that the tests of a file share. */
  mockserverServer: Server;
}

/** Vitest's `test`, with the fixture `mockserver`. */
export const test: TestAPI<MockserverFixtures>;
export const it: typeof test;

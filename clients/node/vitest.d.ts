import type { TestAPI } from "vitest";
import type { Server, Tenant } from "./index.js";

export interface MockserverFixtures {
  /** A tenant for this test, judged when the test ends. */
  mockserver: Tenant;
  /** The double shared by the tests of a file. */
  mockserverServer: Server;
}

/** Vitest's `test`, with the fixture `mockserver`. */
export const test: TestAPI<MockserverFixtures>;
export const it: typeof test;

import type { StartOptions, Tenant } from "./index.js";

/** Register hooks that start a double and give each test a tenant, judged at its end. Returns a function that gets it. */
export function useMockserver(options?: StartOptions): () => Tenant;

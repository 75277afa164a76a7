import type { StartOptions, Tenant } from "./index.js";

/** Register the hooks that start a double, give each test a tenant, and judge it; call the result for the tenant. */
export function useMockserver(options?: StartOptions): () => Tenant;

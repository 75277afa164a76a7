import core from "./core.cjs";

export const { start, Server, Tenant, MockserverError, VerdictError } = core;

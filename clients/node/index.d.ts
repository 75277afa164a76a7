import type { components } from "./admin.js";

type Schemas = components["schemas"];

export type Scenario = Schemas["Scenario"];
/** The name of a scenario; one of those that ship, or a file for `start`. */
export type ScenarioName = Schemas["ScenarioName"] | (string & {});
export type Clock = Schemas["Clock"];
export type ClockSetting = Schemas["ClockSetting"];
export type Exchange = Schemas["Exchange"];
export type Happening = Schemas["Happening"];
export type Prediction = Schemas["Prediction"];
export type Delivery = Schemas["Delivery"];
export type Verdict = Schemas["Verdict"];
export type Coverage = Schemas["Coverage"];

export interface StartOptions {
  /** A double that runs already; `MOCKSERVER_URL` if left out. Without either, one is started. */
  url?: string;
  /** What the double at `url` was started with, or is to be. */
  adminToken?: string;
  /** The program that starts one, with arguments; looked for in `MOCKSERVER_COMMAND`, on the PATH and in a .venv if left out. */
  command?: string | string[];
  /** The working directory of the double. */
  cwd?: string;
  scenario?: ScenarioName | Scenario;
  clock?: ClockSetting["mode"];
  // What follows is decided where a double is started.
  speed?: number;
  seed?: number;
  contract?: string;
  errors?: "replicate" | "new-api";
  urls?: "local" | "documented" | "foreign";
  requireAuth?: boolean;
  strict?: boolean;
}

/** Start a double, or take the one at `url` or MOCKSERVER_URL. Rejects with a MockserverError that says what is wrong. */
export function start(options?: StartOptions): Promise<Server>;

/** A double that runs. */
export class Server implements AsyncDisposable {
  constructor(url: string, options?: { adminToken?: string });
  readonly url: string;
  /** A tenant of its own, with a fresh token unless one is given. */
  tenant(token?: string): Promise<Tenant>;
  /** The verdict over all tenants. */
  verdict(): Promise<Verdict>;
  /** Whether it was not started here, so that others may use it too. */
  readonly shared: boolean;
  /**
   * The requests, a line each, that came under tokens which `tenant` has not given out; they are forgotten then. Of a
   * double that was not started here, those without a token: the others may belong to somebody else.
   */
  strays(): Promise<string[]>;
  /** End the double, if it was started here. */
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** One isolated world on a double: predictions, journal, clock, scenario and ids of its own. */
export class Tenant {
  constructor(url: string, token: string, options?: { adminToken?: string });
  /** The double's address. */
  readonly url: string;
  /** That address plus `/replicate/v1`: what npm `replicate` takes as `baseUrl`, and `@ai-sdk/replicate` as `baseURL`. */
  readonly baseUrl: string;
  /** The bearer token that clients are to send; the tenant's name. */
  readonly token: string;
  /** Have the gateway behave by a scenario; null goes back to usual. */
  use(scenario: ScenarioName | Scenario | null): Promise<Scenario>;
  /** The scenario in force. */
  scenario(): Promise<Scenario>;
  setClock(setting: ClockSetting): Promise<Clock>;
  /** Stop time, at the present or at an RFC 3339 instant. */
  freeze(now?: string): Promise<Clock>;
  /** Move time forward; what happened on the way, in order, once all of it has. */
  advance(seconds: number): Promise<Happening[]>;
  /** The predictions as they stand, oldest first. Looking at them here moves nothing. */
  predictions(): Promise<Prediction[]>;
  /** The journal: exchanges with numbers above `since`, only unmatched or violating ones if asked. */
  requests(filter?: { since?: number; limit?: number; unmatched?: boolean; violations?: boolean }): Promise<Exchange[]>;
  /** The attempts to deliver webhooks, oldest first. */
  webhooks(): Promise<Delivery[]>;
  /** The journal, judged. */
  verdict(): Promise<Verdict>;
  /** What of the contract has been met, and what never. */
  coverage(): Promise<Coverage>;
  /** Forget everything: predictions, journal, scenario, clock. */
  reset(): Promise<void>;
  /** Let `judge` pass over some things. */
  allow(...reasons: ("violations" | "unused-faults")[]): this;
  /** Throw a VerdictError if clients sent what the contract does not allow, or never met a fault of the scenario. */
  judge(): Promise<void>;
  /**
   * What the fixtures do when a test ends: `judge`, with the requests that belong to no test. The tenant is forgotten
   * then, so that what comes later can be told; of a double that was not started here only what the test allowed, so
   * that who judges the whole double, as `mockserver run` does, does not find it.
   */
  conclude(server: Server): Promise<void>;
  /** The last exchanges, a line each, for a report. */
  story(): Promise<string>;
  /** One request of the admin API, by its path under `/__admin`. */
  call(method: string, path: string, value?: unknown): Promise<any>;
}

/** The double could not be started or reached, or refused a request. */
export class MockserverError extends Error {}

/** What the clients sent is wrong; the message says what, where, and what would be right. */
export class VerdictError extends MockserverError {
  readonly verdict: Verdict;
}

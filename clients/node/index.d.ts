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
  /** The address of a running double; `MOCKSERVER_URL` by default. Without either, one is started. */
  url?: string;
  /** The admin token of the double at `url`, or of the one to start. */
  adminToken?: string;
  /** The program that starts a double, with arguments; by default `MOCKSERVER_COMMAND`, or found on the PATH or in a .venv. */
  command?: string | string[];
  /** The working directory of the double. */
  cwd?: string;
  scenario?: ScenarioName | Scenario;
  clock?: ClockSetting["mode"];
  // What follows applies to a double that is started here only.
  speed?: number;
  seed?: number;
  contract?: string;
  errors?: "replicate" | "new-api";
  urls?: "local" | "documented" | "foreign";
  requireAuth?: boolean;
  strict?: boolean;
}

/** Start a double, or use the one at `url` or MOCKSERVER_URL. Rejects with a MockserverError. */
export function start(options?: StartOptions): Promise<Server>;

/** A running double. */
export class Server implements AsyncDisposable {
  constructor(url: string, options?: { adminToken?: string });
  readonly url: string;
  /** Open a tenant, with a fresh token unless one is given. */
  tenant(token?: string): Promise<Tenant>;
  /** The verdict on all tenants. */
  verdict(): Promise<Verdict>;
  /** Whether it was started elsewhere, so that others may use it too. */
  readonly shared: boolean;
  /**
   * The requests with tokens that `tenant` did not open, one per line; they are forgotten. On a double that was started
   * elsewhere only those without a token: the others may belong to somebody else.
   */
  unattributedRequests(): Promise<string[]>;
  /** @deprecated The former name of `unattributedRequests`. */
  strays(): Promise<string[]>;
  /** Stop the double, if it was started here. */
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** One isolated world on a double: predictions, journal, clock, scenario and ids of its own. */
export class Tenant {
  constructor(url: string, token: string, options?: { adminToken?: string });
  /** The double's address. */
  readonly url: string;
  /** That address plus `/replicate/v1`: `baseUrl` of npm `replicate`, `baseURL` of `@ai-sdk/replicate`. */
  readonly baseUrl: string;
  /** The bearer token for clients to send; the tenant's name. */
  readonly token: string;
  /** Set the scenario; null resets it to the default. */
  use(scenario: ScenarioName | Scenario | null): Promise<Scenario>;
  /** The scenario in force. */
  scenario(): Promise<Scenario>;
  setClock(setting: ClockSetting): Promise<Clock>;
  /** Stop time, now or at an RFC 3339 instant. */
  freeze(now?: string): Promise<Clock>;
  /** Move time forward by some seconds; resolves with what happened meanwhile, in order. */
  advance(seconds: number): Promise<Happening[]>;
  /** The current predictions, oldest first. Unlike a poll, this does not advance them. */
  predictions(): Promise<Prediction[]>;
  /** The journal: exchanges with numbers above `since`; optionally only unmatched or violating ones. */
  requests(filter?: { since?: number; limit?: number; unmatched?: boolean; violations?: boolean }): Promise<Exchange[]>;
  /** The attempts to deliver webhooks, oldest first. */
  webhooks(): Promise<Delivery[]>;
  /** The journal, judged. */
  verdict(): Promise<Verdict>;
  /** Which parts of the contract were covered, and which were not. */
  coverage(): Promise<Coverage>;
  /** Forget everything: predictions, journal, scenario, clock. */
  reset(): Promise<void>;
  /** Have `judge` accept violations or unused faults. */
  allow(...reasons: ("violations" | "unused-faults")[]): this;
  /** Throw a VerdictError for invalid requests, and for faults of the scenario that were never met. */
  judge(): Promise<void>;
  /**
   * End the test of this tenant, as the fixtures do: `judge`, with the requests that belong to no test. On a double that
   * was started here the tenant is reset; on a shared one only if the test allows violations.
   */
  finish(server: Server): Promise<void>;
  /** @deprecated The former name of `finish`. */
  conclude(server: Server): Promise<void>;
  /** The last exchanges, one per line, for a report. */
  transcript(): Promise<string>;
  /** @deprecated The former name of `transcript`. */
  story(): Promise<string>;
  /** One request of the admin API, by its path under `/__admin`. */
  call(method: string, path: string, value?: unknown): Promise<any>;
}

/** The double could not be started or reached, or it refused a request. */
export class MockserverError extends Error {}

/** Clients sent invalid requests, or missed faults; the message says which, where, and what is allowed. */
export class VerdictError extends MockserverError {
  readonly verdict: Verdict;
}

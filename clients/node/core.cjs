"use strict";
// CommonJS, so that Jest takes it without flags; index.js offers the same to `import`.

const { spawn } = require("node:child_process");
const { randomBytes } = require("node:crypto");
const { existsSync } = require("node:fs");
const http = require("node:http");
const https = require("node:https");
const path = require("node:path");

const ASYNC_DISPOSE = Symbol.asyncDispose ?? Symbol.for("Symbol.asyncDispose");
const START_LIMIT = 30_000; // milliseconds
const REQUEST_LIMIT = 30_000; // milliseconds
const SHOWN = 10; // exchanges in a transcript
const REASONS = ["violations", "unused-faults"];
const TENANT_HEADER = "x-mock-tenant";
const LATE = "requests that came after their test had ended:";
const UNATTRIBUTED = "requests that belong to no test; does a client omit its token, or use another one?";
const INVALID = "the client sent what the contract does not allow:";
const UNUSED = "faults of the scenario were never met:";
// Options of `start` that are flags of `mockserver serve`: requireAuth is --require-auth.
const OPTIONS = ["clock", "contract", "errors", "requireAuth", "scenario", "seed", "speed", "strict", "urls"];
const flagOf = (option) => `--${option.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;

class MockserverError extends Error {
  name = "MockserverError";
}

class VerdictError extends MockserverError {
  name = "VerdictError";

  constructor(message, verdict) {
    super(message);
    this.verdict = verdict;
  }
}

/** A running double; `url` is its address. */
class Server {
  #child;
  #adminToken;
  #settings;
  #seen;
  #ended = new Map(); // of tenants whose tests have ended: whether violations were allowed, by handle
  #tokens = new Map(); // of the tenants opened here, by handle

  constructor(url, { child, adminToken, settings = {}, seen = 0 } = {}) {
    this.url = url.replace(/\/+$/, "");
    this.#child = child;
    this.#adminToken = adminToken;
    this.#settings = settings;
    this.#seen = seen;
  }

  /** Open a tenant, with a fresh token unless one is given. */
  async tenant(token = `test-${randomBytes(6).toString("hex")}`) {
    const tenant = new Tenant(this.url, token, { adminToken: this.#adminToken });
    this.#tokens.set((await tenant.call("GET", "/tenants")).current, token);
    if (this.#settings.scenario !== undefined) await tenant.use(this.#settings.scenario);
    if (this.#settings.clock !== undefined) await tenant.setClock({ mode: this.#settings.clock });
    return tenant;
  }

  /** The verdict on all tenants. */
  verdict() {
    return this.#anonymous().call("GET", "/verdict?all=true");
  }

  #anonymous() {
    return new Tenant(this.url, "", { adminToken: this.#adminToken });
  }

  /** One request of the admin API for a tenant whose token is not known here. */
  #callFor(handle, method, path) {
    return this.#anonymous().call(method, path, undefined, { [TENANT_HEADER]: handle });
  }

  /** Whether the double was started elsewhere, so that others may use it too. */
  get shared() {
    return this.#child === undefined;
  }

  /**
   * The requests with tokens that `tenant` did not open, one per line; they are forgotten. On a double that was started
   * elsewhere only those without a token: the others may belong to somebody else.
   */
  async unattributedRequests() {
    if (this.shared) {
      if ([...this.#tokens.values()].includes("")) return [];
      const requests = await this.#anonymous().requests({ since: this.#seen });
      this.#seen = requests.at(-1)?.number ?? this.#seen;
      return requests.map((exchange) => requestLine("anonymous", exchange));
    }

    const lines = [];
    for (const { tenant: name, handle, parent } of await this.#otherTenants()) {
      // The token of a test may have the name of a scenario behind it; `takeVerdictsOfSuffixed` has those.
      if (this.#tokens.has(parent)) continue;
      const { requests } = await this.#callFor(handle, "GET", "/requests?limit=1000");
      await this.#callFor(handle, "POST", "/reset");
      lines.push(...requests.map((exchange) => requestLine(name, exchange)));
    }
    return lines;
  }

  /** @deprecated The former name of `unattributedRequests`. */
  strays() {
    return this.unattributedRequests();
  }

  /** The verdicts of tenants named by a test's token and a scenario behind it; they are forgotten. */
  async takeVerdictsOfSuffixed() {
    const verdicts = [];
    for (const { handle, parent } of this.shared ? [] : await this.#otherTenants()) {
      if (!this.#tokens.has(parent)) continue;
      verdicts.push(await this.#callFor(handle, "GET", "/verdict"));
      await this.#callFor(handle, "POST", "/reset");
    }
    return verdicts;
  }

  /** What tenants received after their tests had ended, one line for each violation or count of predictions. */
  async lateRequests() {
    const { tenants } = await this.#anonymous().call("GET", "/tenants");
    const lines = [];
    for (const { handle, predictions } of tenants.filter((tenant) => this.#ended.has(tenant.handle))) {
      if (!this.#ended.get(handle)) {
        const verdict = await this.#callFor(handle, "GET", "/verdict");
        lines.push(...violationsIn(verdict));
      }
      if (predictions > 0) lines.push(`predictions were created: ${predictions}; does a client keep its first token?`);
    }
    return lines;
  }

  /** Note that the test of a tenant has ended, and forget what it did. */
  async end(tenant, allowsViolations) {
    const [handle] = [...this.#tokens].find(([, token]) => token === tenant.token);
    this.#ended.set(handle, allowsViolations);
    await tenant.reset();
  }

  /** The tenants that were not opened here. */
  async #otherTenants() {
    const { tenants } = await this.#anonymous().call("GET", "/tenants");
    return tenants.filter(({ handle }) => !this.#tokens.has(handle));
  }

  /** Stop the double, if it was started here. */
  async stop() {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exited = new Promise((resolve) => child.once("exit", resolve));
    child.ref(); // else a program that waits for nothing else would end first
    child.kill("SIGTERM");
    await exited;
  }

  [ASYNC_DISPOSE]() {
    return this.stop();
  }
}

/** One isolated world on a double: predictions, journal, clock and scenario of its own. */
class Tenant {
  #adminToken;
  #allowed = new Set();

  constructor(url, token, { adminToken } = {}) {
    this.url = url.replace(/\/+$/, "");
    this.baseUrl = `${this.url}/replicate/v1`;
    this.token = token;
    this.#adminToken = adminToken;
  }

  /** Set the scenario, by name or JSON value; null resets it to the default. */
  async use(scenario) {
    if (scenario === null) return this.call("DELETE", "/scenario");
    // A value with nothing but a name would stand for the named scenario.
    return this.call("PUT", "/scenario", typeof scenario === "string" ? scenario : { faults: {}, ...scenario });
  }

  scenario() {
    return this.call("GET", "/scenario");
  }

  setClock(setting) {
    return this.call("PUT", "/clock", setting);
  }

  /** Stop time, now or at an RFC 3339 instant. */
  freeze(now) {
    return this.setClock(now === undefined ? { mode: "frozen" } : { mode: "frozen", now });
  }

  /** Move time forward by some seconds; resolves with what happened meanwhile, in order. */
  async advance(seconds) {
    return (await this.call("POST", "/clock/advance", { seconds })).happened;
  }

  async predictions() {
    return (await this.call("GET", "/predictions")).predictions;
  }

  async requests({ since = 0, limit = 1000, unmatched = false, violations = false } = {}) {
    const query = new URLSearchParams({ since, limit, unmatched, violations });
    return (await this.call("GET", `/requests?${query}`)).requests;
  }

  async webhooks() {
    return (await this.call("GET", "/webhooks")).deliveries;
  }

  verdict() {
    return this.call("GET", "/verdict");
  }

  coverage() {
    return this.call("GET", "/coverage");
  }

  /** Forget everything: predictions, journal, scenario, clock. */
  async reset() {
    await this.call("POST", "/reset");
  }

  /** Have `judge` accept "violations" or "unused-faults". */
  allow(...reasons) {
    for (const reason of reasons) {
      if (!REASONS.includes(reason)) throw new MockserverError(`allow: ${reason}: there are ${REASONS.join(", ")}`);
      this.#allowed.add(reason);
    }
    return this;
  }

  /** Throw a VerdictError for invalid requests, and for faults of the scenario that were never met. */
  async judge() {
    await this.#judge([], []);
  }

  /**
   * End the test of this tenant, as the fixtures do: `judge`, with the requests that belong to no test. On a double that
   * was started here the tenant is reset, so that later requests can be told apart. On a shared one only a test that
   * allows violations resets it: whoever judges the whole double, as `mockserver run` does, must not see those.
   */
  async finish(server) {
    const suffixed = await server.takeVerdictsOfSuffixed();
    const unattributed = server.shared ? [] : await server.unattributedRequests();
    try {
      await this.#judge(suffixed, unattributed);
    } finally {
      if (!server.shared) await server.end(this, this.#allowed.has("violations"));
    }
    if (server.shared && this.#allowed.has("violations")) await this.reset();
  }

  /** @deprecated The former name of `finish`. */
  conclude(server) {
    return this.finish(server);
  }

  async #judge(suffixed, unattributed) {
    const verdict = await this.verdict();
    const violations = [verdict, ...suffixed].flatMap(violationsIn);
    const lines = [
      ...section(UNATTRIBUTED, unattributed),
      ...section(INVALID, this.#allowed.has("violations") ? [] : violations),
      ...section(UNUSED, this.#allowed.has("unused-faults") ? [] : unusedIn(verdict)),
    ];
    if (lines.length > 0) throw new VerdictError(lines.join("\n"), verdict);
  }

  /** The last exchanges, one per line, for a report. */
  async transcript() {
    return (await this.requests()).slice(-SHOWN).map(lineOf).join("\n");
  }

  /** @deprecated The former name of `transcript`. */
  story() {
    return this.transcript();
  }

  /** One request of the admin API, by its path under `/__admin`; resolves with the JSON of the response. */
  async call(method, path, value, extraHeaders = {}) {
    const headers = { ...(this.token ? { authorization: `Bearer ${this.token}` } : {}), ...extraHeaders };
    if (this.#adminToken !== undefined) headers["x-mock-admin-token"] = this.#adminToken;

    const { status, text } = await send(method, `${this.url}/__admin${path}`, headers, value);
    let response;
    try {
      response = JSON.parse(text);
    } catch {
      throw new MockserverError(`${this.url} does not answer as a mockserver does`);
    }
    if (status >= 400) throw new MockserverError(response.detail ?? text);
    return response;
  }
}

/** One HTTP request. Not by fetch, which tests replace. */
function send(method, url, headers, value) {
  const body = value === undefined ? undefined : JSON.stringify(value);
  const length = body === undefined ? {} : { "content-length": Buffer.byteLength(body) };
  return new Promise((resolve, reject) => {
    const options = { method, agent: false, headers: { ...headers, ...length }, timeout: REQUEST_LIMIT };
    const request = (url.startsWith("https:") ? https : http).request(url, options, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (piece) => (text += piece));
      response.on("end", () => resolve({ status: response.statusCode, text }));
      response.on("error", reject);
    });
    request.on("timeout", () => request.destroy(new Error("it does not answer")));
    request.on("error", (reason) => {
      const why = reason.message || reason.code;
      reject(new MockserverError(`no double answers at ${new URL(url).origin}: ${why}; is it running?`));
    });
    request.end(body);
  });
}

function section(title, lines) {
  return lines.length === 0 ? [] : [title, ...lines.map((line) => `  ${line}`)];
}

function violationsIn(verdict) {
  const violations = verdict.violations.map(
    (violation) =>
      `${violation.method} ${violation.path} (exchange ${violation.exchange}) at ${violation.pointer || "/"}: ` +
      `${violation.description}; sent ${violation.sent}, allowed: ${violation.allowed}`,
  );
  const unmatched = verdict.unmatched.map(({ method, path, exchange, status, nearest }) => {
    const hint = nearest === null ? "" : `; the nearest is ${nearest}`;
    return `${method} ${path} (exchange ${exchange}) was answered ${status}: the contract has no such operation${hint}`;
  });
  const lines = [...violations, ...unmatched];
  if (!verdict.ok && lines.length === 0) lines.push("the exchanges are no longer in the journal");
  return lines;
}

function unusedIn(verdict) {
  return verdict.unused_faults.map(({ operation, number, fault }) => {
    const known = Object.fromEntries(Object.entries(fault).filter(([, value]) => value !== null));
    return `${operation}: fault ${number} ${JSON.stringify(known)} was never met`;
  });
}

function requestLine(name, { request }) {
  return `${name}: ${request.method} ${request.path}`;
}

/** Stop a double, as fixtures do after the last test; throw a VerdictError for requests that belong to no test. */
async function stop(server) {
  const lines = section(UNATTRIBUTED, await server.unattributedRequests());
  if (!server.shared) lines.push(...section(LATE, await server.lateRequests()));
  const verdict = await server.verdict();
  if (!server.shared && verdict.unreadable > 0) {
    lines.push(`refused as no HTTP, or for a head that is too large: ${verdict.unreadable}`);
  }
  await server.stop();
  if (lines.length > 0) throw new VerdictError(lines.join("\n"), verdict);
}

function lineOf({ number, request, response, fault, violations }) {
  const result = [response.status || "no response", response.prediction_status].filter(Boolean).join(" ");
  const injected = fault ? `  fault ${JSON.stringify(fault)}` : "";
  const wrong = violations.map(({ pointer, description }) => `\n      ${pointer} ${description}`).join("");
  return `${String(number).padStart(4)}  ${request.method} ${request.path} → ${result}${injected}${wrong}`;
}

/** Start a double, or use the one at `url` or MOCKSERVER_URL. */
async function start(options = {}) {
  const { url = process.env.MOCKSERVER_URL, command, adminToken, cwd, ...settings } = options;
  const unknown = Object.keys(settings).filter((name) => !OPTIONS.includes(name));
  if (unknown.length > 0) {
    const known = ["url", "command", "adminToken", "cwd", ...OPTIONS];
    throw new MockserverError(`start: ${unknown[0]}: there are ${known.join(", ")}`);
  }
  if (url) return connect(url, adminToken, settings);

  // The flag takes a name or a file; a scenario's value is set for each tenant instead.
  const { scenario, ...flags } = settings;
  const perTenant = typeof scenario === "object" && scenario !== null;
  return launch(findCommand(command), perTenant ? flags : settings, {
    adminToken,
    cwd,
    settings: perTenant ? { scenario } : {},
  });
}

async function connect(url, adminToken, settings) {
  // What a double was started with cannot be changed from here.
  const fixed = Object.keys(settings).filter((name) => name !== "scenario" && name !== "clock");
  if (fixed.length > 0) {
    throw new MockserverError(`start: ${fixed[0]} is decided where the double at ${url} was started`);
  }
  const seen = (await new Tenant(url, "", { adminToken }).verdict()).exchanges;
  return new Server(url, { adminToken, settings, seen });
}

function findCommand(command) {
  if (command !== undefined) return [].concat(command);
  if (process.env.MOCKSERVER_COMMAND) return [process.env.MOCKSERVER_COMMAND];
  const onPath = (process.env.PATH ?? "").split(path.delimiter).filter(Boolean);
  const environments = []; // virtual ones, here and in the folders above
  for (let folder = process.cwd(); ; folder = path.dirname(folder)) {
    environments.push(path.join(folder, ".venv", "bin"), path.join(folder, "venv", "bin"));
    if (folder === path.dirname(folder)) break;
  }
  const program = [...onPath, ...environments].map((folder) => path.join(folder, "mockserver")).find((file) => existsSync(file));
  if (program) return [program];

  throw new MockserverError(
    "the command `mockserver` is not on the PATH, nor in a .venv here or above; install it (it is a Python package), or " +
      "set MOCKSERVER_COMMAND to its path, or MOCKSERVER_URL to the address of a running double",
  );
}

function launch([program, ...before], flags, { adminToken, cwd, settings }) {
  const words = Object.entries(flags).flatMap(([name, value]) => {
    if (value === undefined || value === false) return [];
    return value === true ? [flagOf(name)] : [flagOf(name), String(value)];
  });
  if (adminToken !== undefined) words.push("--admin-token", adminToken);

  const child = spawn(program, [...before, "serve", "--port", "0", ...words], { cwd, stdio: ["ignore", "pipe", "pipe"] });
  const kill = () => child.kill("SIGTERM");
  process.once("exit", kill);
  child.once("exit", () => process.off("exit", kill));

  return new Promise((resolve, reject) => {
    let output = "";
    const fail = (why) => {
      child.kill("SIGKILL");
      reject(new MockserverError(why));
    };
    const timer = setTimeout(fail, START_LIMIT, `${program} did not answer within ${START_LIMIT / 1000} s: ${output}`);
    child.on("error", (reason) => fail(`cannot run ${program}: ${reason.message}`));
    child.once("exit", (code) => {
      clearTimeout(timer);
      fail(output.trim() || `${program} ended with ${code}`);
    });
    child.stderr.on("data", (piece) => (output += piece));
    child.stdout.on("data", (piece) => {
      output += piece;
      const ready = /^mockserver listening on (\S+)$/m.exec(output);
      if (!ready) return;
      clearTimeout(timer);
      // A double that nobody stops must not keep the program running.
      for (const handle of [child, child.stdout, child.stderr]) handle.unref();
      resolve(new Server(ready[1], { child, adminToken, settings }));
    });
  });
}

module.exports = { start, stop, Server, Tenant, MockserverError, VerdictError };

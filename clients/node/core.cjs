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
const SHOWN = 10; // exchanges
const REASONS = ["violations", "unused-faults"];
const TENANT_HEADER = "x-mock-tenant";
const LATE = "after the tests that sent it had ended, there came what the contract does not allow:";
const STRAYED = "requests came that belong to no test; does a client leave its token out, or use one of its own?";
const FLAGS = {
  clock: "--clock",
  contract: "--contract",
  errors: "--errors",
  scenario: "--scenario",
  seed: "--seed",
  speed: "--speed",
  urls: "--urls",
  requireAuth: "--require-auth",
  strict: "--strict",
};

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

/** A double that runs: `url` is its address. */
class Server {
  #child;
  #adminToken;
  #settings;
  #seen;
  #ended = new Map(); // of tenants whose tests have ended, whether they might do wrong, by handle
  #given = new Map(); // tokens, by the handles of their tenants

  constructor(url, { child, adminToken, settings = {}, seen = 0 } = {}) {
    this.url = url.replace(/\/+$/, "");
    this.#child = child;
    this.#adminToken = adminToken;
    this.#settings = settings;
    this.#seen = seen;
  }

  /** A tenant of its own, with a fresh token unless one is given. */
  async tenant(token = `test-${randomBytes(6).toString("hex")}`) {
    const tenant = new Tenant(this.url, token, { adminToken: this.#adminToken });
    this.#given.set((await tenant.call("GET", "/tenants")).asking, token);
    if (this.#settings.scenario !== undefined) await tenant.use(this.#settings.scenario);
    if (this.#settings.clock !== undefined) await tenant.setClock({ mode: this.#settings.clock });
    return tenant;
  }

  /** The verdict over all tenants. */
  verdict() {
    return this.#anonymous().call("GET", "/verdict?all=true");
  }

  #anonymous() {
    return new Tenant(this.url, "", { adminToken: this.#adminToken });
  }

  /** A request of the admin API about the tenant with a handle, whose token is not known here. */
  #about(handle, method, where) {
    return this.#anonymous().call(method, where, undefined, { [TENANT_HEADER]: handle });
  }

  /** Whether others may use the double too: it was not started here. */
  get shared() {
    return this.#child === undefined;
  }

  /**
   * The requests, a line each, that came under tokens which `tenant` has not given out; they are forgotten then. Of a
   * double that was not started here, those without a token: the others may belong to somebody else.
   */
  async strays() {
    if (this.shared) {
      if ([...this.#given.values()].includes("")) return [];
      const came = await this.#anonymous().requests({ since: this.#seen });
      this.#seen = came.at(-1)?.number ?? this.#seen;
      return came.map((each) => strayOf("anonymous", each));
    }
    const lines = [];
    for (const { tenant: name, handle, suffix_of } of await this.#others()) {
      if (this.#given.has(suffix_of)) continue; // a token that was given out, with the name of a scenario behind it
      const { requests } = await this.#about(handle, "GET", "/requests?limit=1000");
      await this.#about(handle, "POST", "/reset");
      lines.push(...requests.map((each) => strayOf(name, each)));
    }
    return lines;
  }

  /** The verdicts of tenants that are named by a test's token and a scenario behind it; they are forgotten then. */
  async takeVerdictsOfSuffixed() {
    const verdicts = [];
    for (const { handle, suffix_of } of this.shared ? [] : await this.#others()) {
      if (!this.#given.has(suffix_of)) continue;
      verdicts.push(await this.#about(handle, "GET", "/verdict"));
      await this.#about(handle, "POST", "/reset");
    }
    return verdicts;
  }

  /** What is wrong with what came for tenants whose tests had ended, a line each. */
  async late() {
    const { tenants } = await this.#anonymous().call("GET", "/tenants");
    const lines = [];
    for (const { handle, predictions } of tenants.filter((each) => this.#ended.has(each.handle))) {
      if (!this.#ended.get(handle)) {
        const verdict = await this.#about(handle, "GET", "/verdict");
        lines.push(...violationsIn(verdict));
      }
      if (predictions > 0) lines.push(`predictions were created: ${predictions}; does a client keep its first token?`);
    }
    return lines;
  }

  /** Note that the test of a tenant has ended, and forget what it did. */
  async end(tenant, mayDoWrong) {
    const [handle] = [...this.#given].find(([, token]) => token === tenant.token);
    this.#ended.set(handle, mayDoWrong);
    await tenant.reset();
  }

  /** The tenants whose tokens were not given out. */
  async #others() {
    const { tenants } = await this.#anonymous().call("GET", "/tenants");
    return tenants.filter(({ handle }) => !this.#given.has(handle));
  }

  /** End the double, if it was started here. */
  async stop() {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.ref(); // a program that waits for nothing else must not end before
    child.kill("SIGTERM");
    await ended;
  }

  [ASYNC_DISPOSE]() {
    return this.stop();
  }
}

/** One isolated world on a double. */
class Tenant {
  #adminToken;
  #allowed = new Set();

  constructor(url, token, { adminToken } = {}) {
    this.url = url.replace(/\/+$/, "");
    this.baseUrl = `${this.url}/replicate/v1`;
    this.token = token;
    this.#adminToken = adminToken;
  }

  /** Have the gateway behave by a scenario: a name or its JSON value; null goes back to usual. */
  async use(scenario) {
    if (scenario === null) return this.call("DELETE", "/scenario");
    // A value that has a name and nothing else asks for the scenario of that name.
    return this.call("PUT", "/scenario", typeof scenario === "string" ? scenario : { faults: {}, ...scenario });
  }

  scenario() {
    return this.call("GET", "/scenario");
  }

  setClock(setting) {
    return this.call("PUT", "/clock", setting);
  }

  /** Stop time, at the present or at an RFC 3339 instant. */
  freeze(now) {
    return this.setClock(now === undefined ? { mode: "frozen" } : { mode: "frozen", now });
  }

  /** Move time forward; what happened on the way, in order, once all of it has. */
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

  /** Let `judge` pass over some things: "violations", "unused-faults". */
  allow(...reasons) {
    for (const reason of reasons) {
      if (!REASONS.includes(reason)) throw new MockserverError(`allow: ${reason}: there are ${REASONS.join(", ")}`);
      this.#allowed.add(reason);
    }
    return this;
  }

  /** Throw a VerdictError if the clients sent what the contract does not allow, or never met a fault of the scenario. */
  async judge() {
    await this.#judge([], []);
  }

  /**
   * What the fixtures do when a test ends: `judge`, with the requests that belong to no test. The tenant is forgotten
   * then, so that what comes later can be told; of a double that was not started here only what the test allowed, so
   * that who judges the whole double, as `mockserver run` does, does not find it.
   */
  async conclude(server) {
    const suffixed = await server.takeVerdictsOfSuffixed();
    const strays = server.shared ? [] : await server.strays();
    try {
      await this.#judge(suffixed, strays);
    } finally {
      if (!server.shared) await server.end(this, this.#allowed.has("violations"));
    }
    if (server.shared && this.#allowed.has("violations")) await this.reset();
  }

  async #judge(suffixed, strays) {
    const verdict = await this.verdict();
    const wrong = [verdict, ...suffixed].flatMap(violationsIn);
    const lines = [
      ...section(STRAYED, strays, false),
      ...section("the contract does not allow what was sent:", wrong, this.#allowed.has("violations")),
      ...section("faults of the scenario were never met:", unusedIn(verdict), this.#allowed.has("unused-faults")),
    ];
    if (lines.length > 0) throw new VerdictError(lines.join("\n"), verdict);
  }

  /** The last exchanges, a line each, for a report. */
  async story() {
    return (await this.requests()).slice(-SHOWN).map(lineOf).join("\n");
  }

  /** One request of the admin API, by its path under `/__admin`. */
  async call(method, where, value, more = {}) {
    const headers = { ...(this.token ? { authorization: `Bearer ${this.token}` } : {}), ...more };
    if (this.#adminToken !== undefined) headers["x-mock-admin-token"] = this.#adminToken;
    const { status, text } = await send(method, `${this.url}/__admin${where}`, headers, value);
    let told;
    try {
      told = JSON.parse(text);
    } catch {
      throw new MockserverError(`${this.url} does not answer as a mockserver does`);
    }
    if (status >= 400) throw new MockserverError(told.detail ?? text);
    return told;
  }
}

// Not fetch, which tests replace.
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
      const said = reason.message || reason.code;
      reject(new MockserverError(`no double answers at ${new URL(url).origin}: ${said}; is it running?`));
    });
    request.end(body);
  });
}

function section(title, lines, allowed) {
  return allowed || lines.length === 0 ? [] : [title, ...lines.map((line) => `  ${line}`)];
}

function violationsIn(verdict) {
  const sent = verdict.violations.map(
    (each) =>
      `${each.method} ${each.path} (exchange ${each.exchange}) at ${each.pointer || "/"}: ${each.description}; ` +
      `sent ${each.sent}, allowed: ${each.allowed}`,
  );
  const unmatched = verdict.unmatched.map(
    (each) =>
      `${each.method} ${each.path} (exchange ${each.exchange}) was answered ${each.status}: the contract has no such ` +
      `operation${each.nearest === null ? "" : `; the nearest is ${each.nearest}`}`,
  );
  const lines = [...sent, ...unmatched];
  if (!verdict.ok && lines.length === 0) lines.push("the exchanges are no longer in the journal");
  return lines;
}

function unusedIn(verdict) {
  return verdict.unused_faults.map((each) => {
    const fault = Object.fromEntries(Object.entries(each.fault).filter(([, value]) => value !== null));
    return `${each.operation}: fault ${each.number} ${JSON.stringify(fault)} was never met`;
  });
}

function strayOf(name, { request }) {
  return `${name}: ${request.method} ${request.path}`;
}

/** End a double, as fixtures do after the last test; throw a VerdictError if something came that belongs to no test. */
async function stop(server) {
  const lines = section(STRAYED, await server.strays(), false);
  if (!server.shared) lines.push(...section(LATE, await server.late(), false));
  const verdict = await server.verdict();
  if (!server.shared && verdict.unreadable > 0) lines.push(`refused as no HTTP, or for a head that is too large: ${verdict.unreadable}`);
  await server.stop();
  if (lines.length > 0) throw new VerdictError(lines.join("\n"), verdict);
}

function lineOf({ number, request, response, fault, violations }) {
  const told = [response.status || "no response", response.prediction_status].filter(Boolean).join(" ");
  const met = fault ? `  fault ${JSON.stringify(fault)}` : "";
  const wrong = violations.map((each) => `\n      ${each.pointer} ${each.description}`).join("");
  return `${String(number).padStart(4)}  ${request.method} ${request.path} → ${told}${met}${wrong}`;
}

/** Start a double, or take the one at `url` or MOCKSERVER_URL. */
async function start(options = {}) {
  const { url = process.env.MOCKSERVER_URL, command, adminToken, cwd, ...settings } = options;
  const unknown = Object.keys(settings).filter((name) => !(name in FLAGS));
  if (unknown.length > 0) {
    const known = ["url", "command", "adminToken", "cwd", ...Object.keys(FLAGS)];
    throw new MockserverError(`start: ${unknown[0]}: there are ${known.join(", ")}`);
  }
  if (url) return connect(url, adminToken, settings);
  // A scenario that is no name, or a file's, is set for each tenant.
  const { scenario, ...flags } = settings;
  const perTenant = typeof scenario === "object" && scenario !== null;
  return launch(findCommand(command), perTenant ? flags : settings, {
    adminToken,
    cwd,
    settings: perTenant ? { scenario } : {},
  });
}

async function connect(url, adminToken, settings) {
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
  const above = [];
  for (let folder = process.cwd(); ; folder = path.dirname(folder)) {
    above.push(path.join(folder, ".venv", "bin"), path.join(folder, "venv", "bin"));
    if (folder === path.dirname(folder)) break;
  }
  const found = [...onPath, ...above].map((folder) => path.join(folder, "mockserver")).find((file) => existsSync(file));
  if (found) return [found];
  throw new MockserverError(
    "the command `mockserver` is not on the PATH, nor in a .venv here or above; install it (it is a Python package), or " +
      "say where it is with MOCKSERVER_COMMAND, or where a double runs with MOCKSERVER_URL",
  );
}

function launch([program, ...before], flags, { adminToken, cwd, settings }) {
  const words = Object.entries(flags).flatMap(([name, value]) => {
    if (value === undefined || value === false) return [];
    return value === true ? [FLAGS[name]] : [FLAGS[name], String(value)];
  });
  if (adminToken !== undefined) words.push("--admin-token", adminToken);
  const child = spawn(program, [...before, "serve", "--port", "0", ...words], { cwd, stdio: ["ignore", "pipe", "pipe"] });
  const kill = () => child.kill("SIGTERM");
  process.once("exit", kill);
  child.once("exit", () => process.off("exit", kill));
  return new Promise((resolve, reject) => {
    let said = "";
    const fail = (why) => {
      child.kill("SIGKILL");
      reject(new MockserverError(why));
    };
    const timer = setTimeout(fail, START_LIMIT, `${program} did not answer within ${START_LIMIT / 1000} s: ${said}`);
    child.on("error", (reason) => fail(`cannot run ${program}: ${reason.message}`));
    child.once("exit", (code) => {
      clearTimeout(timer);
      fail(said.trim() || `${program} ended with ${code}`);
    });
    child.stderr.on("data", (piece) => (said += piece));
    child.stdout.on("data", (piece) => {
      said += piece;
      const ready = /^mockserver listening on (\S+)$/m.exec(said);
      if (!ready) return;
      clearTimeout(timer);
      // A double that nobody stops must not keep the program from ending.
      for (const each of [child, child.stdout, child.stderr]) each.unref();
      resolve(new Server(ready[1], { child, adminToken, settings }));
    });
  });
}

module.exports = { start, stop, Server, Tenant, MockserverError, VerdictError };

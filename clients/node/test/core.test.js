// What the package's index offers, as a specification. Run by tests/clients/test_node_package.py on the packed package.
import { createServer } from "node:http";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { MockserverError, start, Tenant, VerdictError } from "flux-mockserver";

const KONTEXT = "/models/black-forest-labs/flux-kontext-max/predictions";
let server;

beforeAll(async () => {
  server = await start({ seed: 1 });
});
afterAll(() => server.stop());

async function ask(tenant, path, body) {
  const options = body && { method: "POST", body: JSON.stringify(body) };
  const headers = { authorization: `Bearer ${tenant.token}`, "content-type": "application/json" };
  return (await fetch(tenant.baseUrl + path, { headers, ...options })).json();
}
const create = (tenant, input = { prompt: "a lighthouse" }) => ask(tenant, KONTEXT, { input });

describe("a tenant", () => {
  test("sees what its client did, and nobody else's", async () => {
    const [one, other] = [await server.tenant(), await server.tenant()];
    const { id } = await create(one);
    expect((await one.predictions()).map((each) => each.id)).toEqual([id]);
    expect(await other.predictions()).toEqual([]);
    expect((await one.requests()).map((each) => each.operation)).toEqual(["createFluxKontextMaxPrediction"]);
    expect((await one.requests({ since: 1 })).length).toBe(0);
    expect((await one.coverage()).operations.met).toEqual({ createFluxKontextMaxPrediction: 1 });
    expect(await one.webhooks()).toEqual([]);
  });

  test("moves time", async () => {
    const tenant = await server.tenant();
    expect((await tenant.freeze("2025-01-01T00:00:00Z")).now).toBe("2025-01-01T00:00:00.000Z");
    const { id } = await create(tenant);
    expect((await tenant.advance(3.9)).map((each) => [each.prediction, each.status])).toEqual([
      [id, "processing"],
      [id, "succeeded"],
    ]);
    expect((await tenant.setClock({ mode: "real", speed: 2 })).speed).toBe(2);
  });

  test("behaves by a scenario, until it is told to go back", async () => {
    const tenant = await server.tenant();
    expect((await tenant.use("nsfw")).name).toBe("nsfw");
    await tenant.use({ name: "mine", faults: { getPrediction: [{ status: 502 }] } });
    expect((await tenant.scenario()).name).toBe("mine");
    expect((await tenant.use(null)).name).toBe("succeeded");
    await create(tenant);
    await tenant.reset();
    expect(await tenant.predictions()).toEqual([]);
  });

  test("says what is wrong with a scenario", async () => {
    await expect((await server.tenant()).use("nsfv")).rejects.toThrow("did you mean nsfw?");
  });

  test("is judged: what the contract does not allow is told with its place", async () => {
    const tenant = await server.tenant();
    await create(tenant);
    await tenant.judge();
    await create(tenant, { prompt: 1 });
    await ask(tenant, "/nowhere");
    const error = await tenant.judge().catch((reason) => reason);
    expect(error).toBeInstanceOf(VerdictError);
    expect(error.message).toContain("at /input/prompt: Invalid type. Expected: string, given: integer; sent 1");
    expect(error.message).toContain("GET /replicate/v1/nowhere (exchange 3) was answered 404");
    expect(error.message).toContain("the nearest is GET /replicate/v1/");
    expect(error.verdict.ok).toBe(false);
    expect(await tenant.transcript()).toContain("   3  GET /replicate/v1/nowhere → 404");
    expect((await server.verdict()).ok).toBe(false);
    await tenant.allow("violations").judge();
  });

  test("is judged: a path that the contract leaves out on purpose is like no other", async () => {
    const tenant = await server.tenant();
    await ask(tenant, "/trainings");
    await expect(tenant.judge()).rejects.toThrow(/the contract has no such operation$/);
  });

  test("is judged: faults of its scenario that were never met", async () => {
    const tenant = await server.tenant();
    await tenant.use({ faults: { getPrediction: [{ status: 502 }] } });
    await expect(tenant.judge()).rejects.toThrow('getPrediction: fault 0 {"status":502} was never met');
    await tenant.allow("unused-faults").judge();
    expect(() => tenant.allow("everything")).toThrow("there are violations, unused-faults");
  });

  test("takes the former names of its methods for one release", async () => {
    const own = await start();
    const tenant = await own.tenant();
    await ask(new Tenant(own.url, "someone-else"), "/predictions");
    expect(await own.strays()).toEqual(["some…: GET /replicate/v1/predictions"]);
    expect(await tenant.story()).toBe("");
    await tenant.conclude(own);
    await own.stop();
  });

  test("does without fetch and timers, which tests replace", async () => {
    vi.useFakeTimers();
    vi.stubGlobal("fetch", () => expect.unreachable());
    await (await server.tenant()).freeze();
    vi.unstubAllGlobals();
    vi.useRealTimers();
  });

  test("tells what does not answer", async () => {
    await expect(new Tenant("http://127.0.0.1:9", "t").verdict()).rejects.toThrow("no double answers at http://127.0.0.1:9");
    const other = createServer((_, response) => response.end("<html>")).listen(0, "127.0.0.1");
    const { port } = await new Promise((resolve) => other.on("listening", () => resolve(other.address())));
    await expect(new Tenant(`http://127.0.0.1:${port}`, "t").verdict()).rejects.toThrow("does not answer as a mockserver");
    other.close();
  });
});

describe("start", () => {
  test("takes a double that runs, and leaves it running", async () => {
    const again = await start({ url: server.url, scenario: "failed", clock: "frozen" });
    const tenant = await again.tenant();
    expect((await tenant.scenario()).name).toBe("failed");
    await again.stop();
    expect((await server.verdict()).exchanges).toBeGreaterThan(0);
    await expect(start({ url: server.url, strict: true })).rejects.toThrow("strict is decided where the double");
    vi.stubEnv("MOCKSERVER_URL", server.url);
    expect((await start()).url).toBe(server.url);
    vi.unstubAllEnvs();
  });

  test("gives its options to the double, and ends it", async () => {
    const options = { scenario: { name: "mine", create_status: 201 }, strict: true, adminToken: "hush", clock: "frozen" };
    const own = await start(options);
    const tenant = await own.tenant();
    expect((await tenant.scenario()).name).toBe("mine");
    await create(tenant, { prompt: "p", prompts: 1 });
    expect((await tenant.verdict()).violations[0].status).toBe(422);
    await expect(new Tenant(own.url, "t").verdict()).rejects.toThrow("--admin-token");
    await own[Symbol.asyncDispose]();
    await expect(tenant.verdict()).rejects.toThrow("no double answers");
    await own.stop();
  });

  test("says what is wrong", async () => {
    await expect(start({ scenrio: "nsfw" })).rejects.toThrow("start: scenrio: there are url, command");
    await expect(start({ scenario: "nsfv" })).rejects.toThrow("did you mean nsfw?");
    await expect(start({ command: "/no/such/mockserver" })).rejects.toThrow("cannot run /no/such/mockserver");
    vi.stubEnv("PATH", "");
    vi.spyOn(process, "cwd").mockReturnValue("/");
    await expect(start()).rejects.toThrow("MOCKSERVER_COMMAND");
    await expect(start()).rejects.toBeInstanceOf(MockserverError);
    vi.restoreAllMocks();
    vi.unstubAllEnvs();
  });
});

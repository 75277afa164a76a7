"""The Node package, as its users get it: packed, installed from the tarball, in projects that test with vitest and with Jest.

The programs of docs/node.md are run here too.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mockserver import MockServer
from tests.helpers.pages import ROOT, blocks_of
from tests.helpers.share import first

PACKAGE = ROOT / "clients" / "node"
MODULES = PACKAGE / "node_modules"
AI_SDK = ROOT / "tests" / "clients" / "node_modules"
PAGE = blocks_of(ROOT / "docs" / "node.md")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("node") is None or not MODULES.exists(),
        reason="no Node on this machine, or its packages are not installed (`make test` does it)",
    ),
]


def npm(*arguments: str, cwd: Path) -> str:
    command = ["npm", *arguments, "--offline", "--no-audit", "--no-fund", "--loglevel", "error"]
    ended = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the package installed from its tarball, and the test runners and npm `replicate` beside it."""
    folder = tmp_path_factory.mktemp("project")
    tarball = npm("pack", "--pack-destination", str(folder), cwd=PACKAGE).split()[-1]
    (folder / "package.json").write_text('{"type": "module", "private": true}')
    npm("install", "--no-save", "--omit", "peer", f"./{tarball}", cwd=folder)
    for module in [
        *MODULES.iterdir(),
        *(each for scope in MODULES.glob("@*") for each in scope.iterdir()),
    ]:
        place = folder / "node_modules" / module.relative_to(MODULES)
        if not module.name.startswith(("@", ".")) and not place.exists():
            place.parent.mkdir(exist_ok=True)
            place.symlink_to(module)
    for name in ("ai", "@ai-sdk/replicate"):
        place = folder / "node_modules" / name
        place.parent.mkdir(exist_ok=True)
        place.symlink_to(AI_SDK / name)
    return folder


def runs(project: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    plain = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MOCKSERVER", "REPLICATE"))
    }
    return subprocess.run(
        command,
        cwd=project,
        env={
            **plain,
            "PATH": f"{Path(sys.executable).parent}:{plain['PATH']}",
            "CI": "1",
            "NO_COLOR": "1",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=120,
    )


def vitest(project: Path, *files: str, **environment: str) -> tuple[int, str]:
    ended = runs(project, "node", "node_modules/vitest/vitest.mjs", "run", *files, **environment)
    return ended.returncode, ended.stdout + ended.stderr


def jest(project: Path, *files: str, **environment: str) -> tuple[int, str]:
    ended = runs(
        project,
        "node",
        "node_modules/jest/bin/jest.js",
        "--ci",
        "--testMatch",
        *(f"**/{file}" for file in files),
        **environment,
    )
    return ended.returncode, ended.stdout + ended.stderr


def run_suite(
    runner: str, project: Path, name: str, suites: dict[str, str], **environment: str
) -> tuple[int, str]:
    """Run a suite that is written for both runners with one of them."""
    file = f"{name}.test.js" if runner == "vitest" else f"{name}.test.cjs"
    (project / file).write_text(suites[runner])
    return (vitest if runner == "vitest" else jest)(project, file, **environment)


def test_it_has_no_dependencies_and_holds_what_it_exports(project: Path) -> None:
    installed = project / "node_modules" / "flux-mockserver"
    held = {path.name for path in installed.iterdir()}
    code = {"index.js", "core.cjs", "vitest.js", "jest.js", "jest.cjs"}
    types = {"index.d.ts", "admin.d.ts", "vitest.d.ts", "jest.d.ts"}
    assert held == code | types | {"package.json", "README.md"}
    assert '"dependencies"' not in (installed / "package.json").read_text()


def test_it_does_what_its_specification_says(project: Path) -> None:
    (project / "core.test.js").write_text((PACKAGE / "test" / "core.test.js").read_text())
    code, said = vitest(project, "core.test.js")
    assert code == 0, said


@pytest.mark.parametrize("runner", first(1, [vitest, jest]))
def test_the_documented_suite_passes_and_takes_the_double_that_there_is(
    runner: Callable[..., tuple[int, str]], project: Path
) -> None:
    (suite,) = (block for block in PAGE if block.title.startswith(runner.__name__))
    (project / suite.title).write_text(suite.text)
    with MockServer() as server:
        code, said = runner(project, suite.title, MOCKSERVER_URL=server.url)
        assert code == 0, said
        assert "3 passed" in said
        assert len(server.tenant("").call("GET", "/tenants")["tenants"]) >= 2  # one more was reset


def test_a_program_without_a_runner_ends_as_it_should(project: Path) -> None:
    (program,) = (block for block in PAGE if block.title.startswith("without"))
    (project / program.title).write_text(program.text)
    ended = runs(project, "node", program.title)
    assert (ended.returncode, ended.stderr) == (0, "")
    wrong = program.text.replace(
        "await tenant.freeze();", "await fetch(`${tenant.baseUrl}/nowhere`);"
    )
    wrong = wrong.replace(
        'await tenant.allow("unused-faults").judge();',
        "if (!(await server.verdict()).ok) process.exitCode = 1;",
    )
    (project / program.title).write_text(wrong)
    assert runs(project, "node", program.title).returncode == 1


# The AI SDK has modules alone, which Jest takes with Node's own flag.
AI_SDK_IN_JEST = """
import { createReplicate } from "@ai-sdk/replicate";
import { generateImage } from "ai";
import { useMockserver } from "flux-mockserver/jest";
const mockserver = useMockserver();
test("a picture is made", async () => {
  mockserver().allow("violations");
  const replicate = createReplicate({ baseURL: mockserver().baseUrl, apiToken: mockserver().token });
  const model = replicate.image("black-forest-labs/flux-1.1-pro-ultra");
  const { image } = await generateImage({ model, prompt: "a lighthouse" });
  expect(image.mediaType).toBe("image/jpeg");
});
"""


@pytest.mark.thorough
def test_the_ai_sdk_is_served_under_both_runners(project: Path) -> None:
    (suite,) = (block for block in PAGE if block.title.startswith("ai-sdk"))
    (project / suite.title).write_text(suite.text)
    (project / "ai-sdk-jest.test.mjs").write_text(AI_SDK_IN_JEST)
    with MockServer() as server:
        for runner, file in ((vitest, suite.title), (jest, "ai-sdk-jest.test.mjs")):
            settings = {
                "MOCKSERVER_URL": server.url,
                "NODE_OPTIONS": "--experimental-vm-modules --no-warnings",
            }
            code, said = runner(project, file, **settings)
            assert code == 0, said
            assert "1 passed" in said


BROKEN_VITEST = """
import { expect } from "vitest";
import { test } from "flux-mockserver/vitest";
const create = (mockserver, input) => fetch(`${mockserver.baseUrl}/models/black-forest-labs/flux-kontext-max/predictions`, {
  method: "POST", body: JSON.stringify({ input }), headers: { authorization: `Bearer ${mockserver.token}`, "content-type": "application/json" },
});
test("swallows its error", async ({ mockserver }) => { await create(mockserver, { promt: "p" }); });
test("meets no fault", async ({ mockserver }) => { await mockserver.use({ faults: { getPrediction: [{ status: 502 }] } }); });
test("means it", async ({ mockserver }) => { mockserver.allow("violations"); await create(mockserver, {}); });
test("fails by itself", async ({ mockserver }) => { await create(mockserver, { prompt: "p" }); expect(1).toBe(2); });
"""
BROKEN_JEST = """
const { useMockserver } = require("flux-mockserver/jest");
const mockserver = useMockserver();
const create = (input) => fetch(`${mockserver().baseUrl}/models/black-forest-labs/flux-kontext-max/predictions`, {
  method: "POST", body: JSON.stringify({ input }), headers: { authorization: `Bearer ${mockserver().token}`, "content-type": "application/json" },
});
test("swallows its error", async () => { await create({ promt: "p" }); });
test("meets no fault", async () => { await mockserver().use({ faults: { getPrediction: [{ status: 502 }] } }); });
test("means it", async () => { mockserver().allow("violations"); await create({}); });
test("fails by itself", async () => { await create({ prompt: "p" }); expect(1).toBe(2); });
"""


@pytest.mark.thorough
@pytest.mark.parametrize("runner", ["vitest", "jest"])
def test_what_is_wrong_fails_the_test_like_a_failed_expectation(runner: str, project: Path) -> None:
    code, said = run_suite(
        runner, project, "broken", {"vitest": BROKEN_VITEST, "jest": BROKEN_JEST}
    )
    assert code == 1
    assert "the client sent what the contract does not allow:" in said
    assert re.search(
        r"\(exchange 1\) at /input/promt: Additional property promt is not allowed; sent \"p\"",
        said,
    )
    assert "faults of the scenario were never met:" in said
    assert "3 failed" in said
    assert "1 passed" in said
    assert "expect(received).toBe(expected)" in said or "expected 1 to be 2" in said
    if runner == "vitest":
        assert (
            "   1  POST /replicate/v1/models/black-forest-labs/flux-kontext-max/predictions → 200 starting"
            in said
        )


ALLOWED_VITEST = """
import { expect } from "vitest";
import { test } from "flux-mockserver/vitest";
test("means it", async ({ mockserver }) => {
  mockserver.allow("violations");
  expect((await fetch(`${mockserver.baseUrl}/nowhere`, { headers: { authorization: `Bearer ${mockserver.token}` } })).status).toBe(404);
});
"""
ALLOWED_JEST = """
const { useMockserver } = require("flux-mockserver/jest");
const mockserver = useMockserver();
test("means it", async () => {
  mockserver().allow("violations");
  expect((await fetch(`${mockserver().baseUrl}/nowhere`, { headers: { authorization: `Bearer ${mockserver().token}` } })).status).toBe(404);
});
"""


@pytest.mark.parametrize(
    ("command", "file", "suite"),
    [
        (["node_modules/vitest/vitest.mjs", "run"], "allowed.test.js", ALLOWED_VITEST),
        pytest.param(
            ["node_modules/jest/bin/jest.js", "--testMatch"],
            "**/allowed.test.cjs",
            ALLOWED_JEST,
            marks=pytest.mark.thorough,
        ),
    ],
    ids=["vitest", "jest"],
)
def test_what_a_test_allows_is_not_held_against_the_whole_run(
    command: list[str], file: str, suite: str, project: Path
) -> None:
    (project / file.removeprefix("**/")).write_text(suite)
    ended = runs(project, "mockserver", "run", "--", "node", *command, file)
    assert (ended.returncode, "1 passed" in ended.stdout + ended.stderr) == (0, True), (
        ended.stdout + ended.stderr
    )


STRAY_VITEST = """
import { connect } from "node:net";
import { expect } from "vitest";
import { test } from "flux-mockserver/vitest";
const ask = ({ baseUrl }, headers) => fetch(`${baseUrl}/predictions`, { headers });
const from = (token) => ({ authorization: `Bearer ${token}` });
test("sends no token", async ({ mockserver }) => { await ask(mockserver, {}); });
test("sends one of its own", async ({ mockserver }) => { await ask(mockserver, from("test-f-token-of-its-own")); });
test("is right", async ({ mockserver }) => { await ask(mockserver, from(mockserver.token + "+nsfw")); });
let first;
test("begins", async ({ mockserver }) => { first = mockserver; });
test("keeps its first token", async () => {
  await fetch(`${first.baseUrl}/models/black-forest-labs/flux-kontext-max/predictions`, {
    method: "POST", body: JSON.stringify({ input: { prompt: "p", sede: 1 } }), headers: { ...from(first.token), "content-type": "application/json" },
  });
});
test("is no HTTP", async ({ mockserver }) => {
  const connection = connect(new URL(mockserver.url).port, "127.0.0.1");
  connection.end("nonsense");
  for await (const _ of connection);
});
test("is wrong", async ({ mockserver }) => {
  await fetch(`${mockserver.baseUrl}/prediction`, { headers: from(mockserver.token + "+nsfw") });
});
test("has a tenant for it", async ({ mockserver, mockserverServer }) => {
  await mockserverServer.tenant("");
  expect((await ask(mockserver, {})).status).toBe(200);
});
"""
STRAY_JEST = """
const { useMockserver } = require("flux-mockserver/jest");
const mockserver = useMockserver();
const ask = (headers) => fetch(`${mockserver().baseUrl}/predictions`, { headers });
test("sends no token", async () => { await ask({}); });
test("sends one of its own", async () => { await ask({ authorization: "Bearer of-its-own" }); });
test("is right", async () => { await ask({ authorization: `Bearer ${mockserver().token}` }); });
"""


@pytest.mark.parametrize("runner", first(1, ["vitest", "jest"]))
def test_requests_that_belong_to_no_test_fail_the_one_during_which_they_came(
    runner: str, project: Path
) -> None:
    code, said = run_suite(runner, project, "stray", {"vitest": STRAY_VITEST, "jest": STRAY_JEST})
    assert code == 1
    failed = "3 failed" if runner == "vitest" else "2 failed"
    assert (failed in said, "requests that belong to no test" in said) == (True, True), said
    assert re.search(r"^\s*anonymous: GET /replicate/v1/predictions$", said, re.M)
    assert re.search(r"^\s*(test-f|of-)…: GET /replicate/v1/predictions$", said, re.M)
    assert ("requests that came after their test had ended" in said) is (runner == "vitest")
    assert ("at /input/sede: " in said) is (runner == "vitest")
    assert ("does a client keep its first token?" in said) is (runner == "vitest")
    assert ("refused as no HTTP, or for a head that is too large: 1" in said) is (
        runner == "vitest"
    )
    assert ("GET /replicate/v1/prediction (exchange 1) was answered 404" in said) is (
        runner == "vitest"
    )


@pytest.mark.thorough
@pytest.mark.parametrize("runner", ["vitest", "jest"])
def test_requests_without_a_token_to_a_double_that_is_shared_fail_the_file(
    runner: str, project: Path
) -> None:
    suites = {"vitest": STRAY_VITEST.partition('test("has a tenant')[0], "jest": STRAY_JEST}
    with MockServer() as server:
        code, said = run_suite(runner, project, "stray", suites, MOCKSERVER_URL=server.url)
    assert (code, "requests that belong to no test" in said) == (1, True), said
    assert re.search(r"^\s*anonymous: GET /replicate/v1/predictions$", said, re.M)
    assert "…: GET" not in said, "others' tokens are their business"


@pytest.mark.thorough
def test_its_types_are_those_of_the_admin_api(tmp_path: Path) -> None:
    target = tmp_path / "admin.d.ts"
    subprocess.run(
        [sys.executable, str(PACKAGE / "generate_types.py"), str(target)], check=True, timeout=60
    )
    assert target.read_text() == (PACKAGE / "admin.d.ts").read_text(), "run `make types`"


@pytest.mark.thorough
def test_types_made_of_the_contract_let_a_prediction_have_inputs(tmp_path: Path) -> None:
    target = tmp_path / "api.d.ts"
    tool = MODULES / "openapi-typescript" / "bin" / "cli.js"
    command = ["node", str(tool), str(ROOT / "contracts" / "openapi.yaml"), "--output", str(target)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    empty = re.findall(r"^.*Record<string, never>.*$", target.read_text(), re.M)
    assert [line.split()[2] for line in empty] == ["$defs"]


TYPED = """
import { start, type Tenant, type Verdict } from "flux-mockserver";
import { test } from "flux-mockserver/vitest";
import { useMockserver } from "flux-mockserver/jest";

const server = await start({ scenario: "rate-limited", clock: "frozen" });
const tenant: Tenant = await server.tenant();
await tenant.use({ name: "mine", lifecycle: [{ status: "starting", seconds: 1 }, { status: "failed" }] });
const happened: { status: string }[] = await tenant.advance(1);
const verdict: Verdict = await tenant.verdict();
const allowed: string[] = verdict.violations.map((each) => each.allowed);
test("typed", async ({ mockserver }) => { await mockserver.use(null); });
const current: Tenant = useMockserver()();
// @ts-expect-error there is no such clock
await tenant.setClock({ mode: "stopped" });
// @ts-expect-error a scenario has no such part
await tenant.use({ lifecycles: [] });
console.log(happened, allowed, current);
"""


@pytest.mark.thorough
def test_its_types_say_what_it_takes_and_gives(project: Path) -> None:
    (project / "typed.mts").write_text(TYPED)
    options = [
        "--strict",
        "--noEmit",
        "--module",
        "nodenext",
        "--target",
        "es2022",
        "--lib",
        "esnext,dom",
    ]
    ended = runs(
        project, "node", "node_modules/typescript/bin/tsc", *options, "--skipLibCheck", "typed.mts"
    )
    assert ended.returncode == 0, ended.stdout

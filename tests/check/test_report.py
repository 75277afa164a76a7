"""The reports that people paste into bug trackers: a page, Markdown, and what stands in both."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from playwright.sync_api import Page, expect

from mockserver.backend.journal import Exchange
from mockserver.check.model import Case, Outcome, Run
from mockserver.check.report.files import read_baseline, write
from mockserver.check.report.findings import Finding, Report
from mockserver.check.report.markdown import finding_as_markdown
from mockserver.check.report.messages import curl_of, messages_of
from mockserver.check.report.page import marked, render_page
from mockserver.check.report.terminal import show
from mockserver.check.rules.registry import RULES, find_breaches
from mockserver.scenarios.catalogue import Catalogue
from tests.helpers.documents import CONTRACT
from tests.helpers.exchanges import CREATE, TOKEN, create, poll

CATALOGUE = Catalogue(CONTRACT)
HOSTILE = (
    "</pre></details><script>alert(1)</script>```\n# heading `code` <img src=x onerror=alert(1)>"
)


def finding(*exchanges: Exchange, rule: str, outcome: Outcome, **case: Any) -> Finding:
    """What a run shows of a rule."""
    played = Case(model=str(CREATE.model), input={"prompt": "a cat"}, **case)
    scenario = CATALOGUE.parse(played.scenario)
    run = Run(played, scenario, CONTRACT, TOKEN, outcome, tuple(exchanges))
    (breach,) = [breach for breach in find_breaches(run) if breach.rule == rule]
    return Finding.of(breach, run, 2)


def canceled(**more: Any) -> Finding:
    scenario = {"lifecycle": [{"status": "canceled"}]}
    return finding(
        create(shown="canceled"),
        rule="MC301",
        outcome=Outcome("returned", None),
        scenario=scenario,
        **more,
    )


def report(*findings: Finding, **more: Any) -> Report:
    facts = {
        "command": "node client.mjs",
        "client_version": "replicate 1.4.0",
        "contract": CONTRACT.title,
    }
    return Report(
        **{
            "findings": list(findings),
            "models": ("m",),
            "date": "2026-11-25 09:00 UTC",
            **facts,
            **more,
        }
    )


class TestWhatAReportHolds:
    def test_requests_and_responses_stand_in_it_whole_with_secrets_in_part(self) -> None:
        (line,) = canceled().exchanges
        assert line.request is not None
        assert line.answer is not None
        assert line.request.start.startswith("POST /replicate/v1/models/")
        assert dict(line.request.headers)["authorization"].startswith("Bearer ")
        assert msgspec.json.decode(line.request.body) == {"input": {"prompt": "a cat"}}
        assert line.answer.start == "200 canceled"
        assert msgspec.json.decode(line.answer.body)["status"] == "canceled"
        assert TOKEN not in msgspec.json.encode(canceled()).decode()

    def test_repeats_are_folded(self) -> None:
        polls = [poll() for _ in range(14)]
        folded = finding(
            create(),
            *polls,
            *[poll("succeeded")] * 4,
            rule="MC303",
            outcome=Outcome("returned", ""),
        )
        assert [line.count for line in folded.exchanges[:2]] == [1, 14]
        assert "× 14" in folded.exchanges[1].note

    def test_a_long_body_is_cut_and_its_curl_line_reads_a_file(self) -> None:
        body = b'{"input": {"prompt": "' + b"x" * 5000 + b'"}}'
        for kept in (body, body[:4000]):  # whole in the journal, and not
            request, _ = messages_of(create(body=kept, body_size=len(body)), TOKEN)
            assert request.cut
            assert len(request.body) < 2100
            assert curl_of(request).endswith("--data-binary @body.json")

    def test_a_curl_line_is_what_a_shell_reads_as_the_request(self) -> None:
        body = msgspec.json.encode({"input": {"prompt": "it's $HOME `id`\n@x"}})
        request, _ = messages_of(create(body=body, body_size=len(body)), TOKEN)
        words = shlex.split(curl_of(request))
        assert words[:4] == ["curl", "-i", "-X", "POST"]
        assert words[4].startswith("http://127.0.0.1:3589/replicate/v1/models/")
        assert msgspec.json.decode(words[words.index("--data-raw") + 1]) == msgspec.json.decode(
            body
        )
        assert "Authorization: Bearer $REPLICATE_API_TOKEN" in words
        echoed = subprocess.run(
            ["bash", "-c", curl_of(request).replace("curl ", "printf '%s\\0' ", 1)],
            capture_output=True,
            check=True,
        )
        assert body in echoed.stdout.split(b"\0")

    def test_each_rule_for_clients_and_receivers_has_a_fix(self) -> None:
        without = [code for code, rule in RULES.items() if not rule.fix]
        assert all(code.startswith("MC7") for code in without)

    def test_the_replay_is_told_with_the_flags_that_it_needs(self) -> None:
        found = canceled()
        assert (
            report(found).replay_of(found)
            == f"mockserver replay .mockserver/{found.file_name} -- node client.mjs"
        )
        assert "replay --worker .mock" in report(found, flags="--worker").replay_of(found)
        assert report(found, command="").replay_of(found) == ""

    def test_a_report_of_before_can_still_be_read(self, tmp_path: Path) -> None:
        found = msgspec.to_builtins(canceled())
        for line in found["exchanges"]:
            del line["request"], line["answer"]
        del found["words"]
        file = tmp_path / "baseline.json"
        file.write_bytes(msgspec.json.encode({"findings": [found], "runs": 3, "seed": 0}))
        assert [known.rule for known in read_baseline(file)] == ["MC301"]
        assert "MC301" in render_page(Report(accepted=list(read_baseline(file))))


def test_what_a_client_sent_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    odd = msgspec.structs.replace(canceled(), message="\x1b[2J\u202egone", outcome="a\rb")
    show(report(odd, client_error="\x1b[2J", untested=1))
    printed = capsys.readouterr().out
    assert not {"\x1b", "\u202e", "\r"} & set(printed)
    assert "\\u001b[2J\\u202egone" in printed


class TestMarkdown:
    def test_it_holds_all_that_is_needed_to_argue(self, tmp_path: Path) -> None:
        file = tmp_path / "report.md"
        write(report(canceled()), file)
        text = file.read_text()
        for said in (
            "# 1 rule broken",
            "### MC301 reports a false outcome (error)",
            "confirmed 2 times: the prediction goes canceled.",
            "     client  returned null",
            "**Fix:** Decide by `status`",
            "Look for: `canceled`",
            '--data-raw \'{"input":{"prompt":"a cat"}}\'',
            "mockserver replay .mockserver/MC301-",
            "mockserver serve --scenario .mockserver/MC301-",
            "replicate 1.4.0 · mockserver 0",
            "2026-11-25 09:00 UTC",
        ):
            assert said in text, said

    def test_hostile_text_ends_no_fence_and_opens_no_tag(self) -> None:
        odd = msgspec.structs.replace(canceled(), message=HOSTILE, outcome=HOSTILE)
        text = finding_as_markdown(odd, report(odd))
        fence = re.search(r"^(`{4,})\n(.*?)^\1$", text, re.M | re.S)
        assert fence is not None, "a fence longer than what it holds"
        assert "<script>" in fence[2]
        outside = re.sub(r"^(`{3,})\w*\n.*?^\1$", "", text, flags=re.M | re.S)
        assert not re.search(r"(?<!\\)<(script|img)", re.sub(r"`+[^`\n]*`+", "", outside))
        assert not re.search(r"^# heading", outside, re.M)


class TestPage:
    @pytest.fixture
    def page(self, browser: Any, tmp_path: Path) -> Iterator[Page]:
        """The page of a report with findings and hostile text, on a phone. What the browser complains of fails."""
        odd = finding(
            create(shown="failed"),
            rule="MC301",
            outcome=Outcome("returned", HOSTILE),
            scenario={"lifecycle": [{"status": "failed"}]},
        )
        odd = msgspec.structs.replace(odd, message=HOSTILE)
        file = tmp_path / "report.html"
        write(report(canceled(), odd, command=HOSTILE, client_version=HOSTILE), file)
        context = browser.new_context(
            viewport={"width": 390, "height": 844},
            permissions=["clipboard-read", "clipboard-write"],
        )
        page: Page = context.new_page()
        trouble: list[str] = []
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("console", lambda message: trouble.append(message.text))
        page.on("dialog", lambda dialog: trouble.append("a script of others ran"))
        page.goto(file.as_uri())
        yield page
        assert trouble == []
        context.close()

    @pytest.mark.slow
    def test_it_is_read_on_a_phone_and_copied(self, page: Page) -> None:
        expect(page.locator("h1")).to_have_text("1 rule broken in 2 ways")
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390, f"{wide} pixels wide"
        expect(page.locator("nav li")).to_have_count(2)
        first = page.locator("article").first
        page.locator("nav a").first.click()
        assert page.url.endswith("#" + str(first.get_attribute("id")))
        expect(first.locator(".exchange.marked mark").first).to_have_text("canceled")
        expect(first.locator(".curl")).to_contain_text("--data-raw")
        expect(first.locator("svg")).to_be_hidden()
        expect(page.locator("article script, article img")).to_have_count(0)
        expect(page.locator("article").nth(1).locator("p").first).to_contain_text(
            "<script>alert(1)</script>"
        )
        first.locator("button").click()
        expect(first.locator("button")).to_have_text(re.compile("Copied|Selected"))
        copied = str(page.evaluate("navigator.clipboard.readText()"))
        assert copied.startswith("## MC301 reports a false outcome (error)")
        page.set_viewport_size({"width": 1200, "height": 900})
        expect(first.locator("svg")).to_be_visible()
        expect(first.locator("svg g")).to_have_count(1)
        expect(first.locator("svg .end")).to_have_text("returned null")

    def test_words_are_marked_where_they_stand_as_words_and_nothing_else_is_let_through(
        self,
    ) -> None:
        assert marked("a canceled <b>", ["canceled"]) == "a <mark>canceled</mark> &lt;b&gt;"
        assert marked("uncanceled", ["canceled"]) == "uncanceled"
        assert marked("<i>", ["<i>"]) == "<mark>&lt;i&gt;</mark>"
        assert marked("x", ["", "y"]) == "x"

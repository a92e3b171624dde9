"""Every YAML sample of the pages can be used as it is, and every mistake is reported as the page says."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from app.authoring.examples import run_examples
from app.mapping import format_problem
from app.mapping.document import read_document
from app.mapping.parse import Parsed, parse_config
from app.mapping.template import Templates
from app.mapping.template_entries import parse_templates
from app.model.message import ReceiptStatus
from app.providers import build_provider, settings_types
from tests.providers.conftest import read_webhook

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
TEMPLATES: Templates = parse_templates((ROOT / "config/templates.yaml").read_text()).templates
# What a sample of `routes:` alone is completed with; below it, so that the sample's lines keep their numbers.
ACCOUNTS = {
    "gallabox": "type: gallabox, channel_id: c, api_key: '${GALLABOX_API_KEY}', api_secret: '${GALLABOX_API_SECRET}'",
    "bitespeed": "type: bitespeed, base_url: 'https://bitespeed.example', channel_id: c, user_id: u",
}


class Block(NamedTuple):
    """A fenced block: the words after its fence, its text, where it stands."""

    info: str
    text: str
    place: str


def read_blocks(page: Path) -> list[Block]:
    text = page.read_text()
    found = re.finditer(r"^```([^\n]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(each[1], each[2], f"{page.name}:{text[: each.start()].count(chr(10)) + 1}") for each in found]


def complete_sample(text: str) -> str:
    """Return a sample with the sections it lacks added below it."""
    sections = set(re.findall(r"^([a-z]+):", text, re.MULTILINE))
    used = {*re.findall(r"provider: ([a-z-]+)", text)} & ACCOUNTS.keys() or {"gallabox"}
    if "version" not in sections:
        text += "version: 1\n"
    if "routes" not in sections:
        names = re.findall(r"^  ([a-z-]+):$", text, re.MULTILINE) or sorted(used)
        routes = [f"  to-{name}: {{event: lead_create, provider: {name}, template: t}}\n" for name in names]
        text += "routes:\n" + "".join(routes)
    if "providers" not in sections:
        text += "providers:\n" + "".join(f"  {name}: {{{ACCOUNTS[name]}}}\n" for name in sorted(used))
    return text


def parse_sample(text: str) -> Parsed:
    names = [*re.findall(r"\$\{([A-Z_]+)", text), "GALLABOX_API_KEY", "GALLABOX_API_SECRET"]
    environment = {name: "https://sender.example" if name.endswith("URL") else "sandbox-value" for name in names}
    return parse_config(
        complete_sample(text),
        environment=environment,
        provider_types=settings_types(),
        templates=TEMPLATES,
    )


def find_sample_faults(text: str) -> list[str]:
    if re.search(r"^templates:", text, re.MULTILINE):
        return [format_problem("sample", problem) for problem in parse_templates(text).problems]
    parsed = parse_sample(text)
    problems = [problem for problem in parsed.problems if problem.severity == "error"]
    if parsed.config is not None:
        results = run_examples(parsed.config, TEMPLATES, 1_793_000_000_000)
        problems += [problem for result in results for problem in result.problems]
    return [format_problem("sample", problem) for problem in problems]


SAMPLES = [block for page in PAGES for block in read_blocks(page) if block.info == "yaml"]
PAIRS = [
    (block, told)
    for page in PAGES
    for blocks in [read_blocks(page)]
    for block, told in pairwise(blocks)
    if block.info == "yaml mistake"
]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda block: block.place)
def test_a_yaml_sample_can_be_used_as_it_is(sample: Block) -> None:
    assert find_sample_faults(sample.text) == []


@pytest.mark.parametrize(("mistake", "told"), PAIRS, ids=lambda block: block.place)
def test_check_says_what_the_page_says(mistake: Block, told: Block) -> None:
    said = [format_problem("config/relay.yaml", problem) for problem in parse_sample(mistake.text).problems]
    assert told.info == "text"
    assert [line for line in told.text.splitlines() if line not in said] == [], said


def test_there_are_samples_and_a_wrong_one_is_caught() -> None:
    assert len(SAMPLES) > 10
    assert (len(PAIRS), len(STEPS)) == (10, 1)
    assert find_sample_faults("routes:\n  a:\n    event: lead_create\n    temlate: t\n    provider: gallabox\n")
    right = next(sample.text for sample in SAMPLES if '"1,250"' in sample.text)
    assert find_sample_faults(right.replace("1,250", "1,251"))


STEPS = [block for page in PAGES for block in read_blocks(page) if block.info == "yaml step"]


@pytest.mark.parametrize("block", STEPS, ids=lambda block: block.place)
def test_a_sample_of_a_step_gives_the_action_what_it_takes(block: Block) -> None:
    takes = read_document((ROOT / "action.yml").read_text()).data
    job = read_document("steps:\n" + block.text).data
    assert takes is not None
    assert job is not None
    assert [step["uses"].split("@")[0] for step in job["steps"]] == ["nector-relay/nector-relay"]
    assert set(job["steps"][0]["with"]) <= set(takes["inputs"])


RECEIPTS = [block for block in read_blocks(ROOT / "docs/mapping-guide.md") if " receipt " in block.info]


@pytest.mark.parametrize("block", RECEIPTS, ids=lambda block: block.info)
def test_a_sample_of_a_receipt_is_read_as_the_guide_says(block: Block) -> None:
    kind, _, name = block.info.split()
    (sample,) = [sample for sample in SAMPLES if f"\n  {name}:\n" in sample.text and "receipts:" in sample.text]
    config = parse_sample(sample.text).config
    assert config is not None
    form = {"content-type": "application/x-www-form-urlencoded"} if kind == "text" else {}
    (receipt,) = read_webhook(build_provider(config.providers[name]), form, block.text.strip().encode()).receipts
    told = "63024" if name == "twilio" else "131026"
    assert (receipt.status, receipt.detail.startswith(told)) == (ReceiptStatus.FAILED, True)
    assert receipt.provider_message_id == {"gupshup": "gs-1", "interakt": "in-1", "wati": "wa-1", "twilio": "SM1"}[name]
    assert receipt.at == (None if name == "twilio" else 1_790_000_000_000)

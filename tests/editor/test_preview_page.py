"""The page of `preview --html` in a real browser: what overflows, what is loaded, what runs which way."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values

from app.authoring.preview import draw_page, preview_message
from app.mapping.parse import parse_config
from app.mapping.template_entries import parse_templates
from app.model.event import Event
from app.providers import settings_types
from tests.needing import find_program, leave_out

ROOT = Path(__file__).parents[2]
WIDTHS = (320, 412, 1280)
# https://developer.chrome.com/docs/chromium/headless; the rest keeps the browser from calling home.
FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-sync --disable-quic "
    "--disable-background-networking --disable-component-update"
)
POLICY = re.compile("<meta http-equiv=[^>]*>")
TEMPLATES = """version: 1
templates:
  gallabox:
    all:
      header: {image: true}
      body: "Hi *{{1}}*, _{{1}}_ ```{{1}}```\\n\\nhttps://acme.example/a/path/that/does/not/end/before/the/bubble/does?x=1"
      footer: Reply STOP to opt out
      buttons:
        - {url: "https://a.example/{{1}}", text: Shop now}
        - {reply: Stop}
        - {phone: "+919800000009", text: Call us}
    paper: {header: {document: true}, body: "{{1}}"}
    title: {header: {text: "To {{1}}"}, body: "{{1}}"}
    arabic: {body: "مرحبا *{{1}}*", footer: "أكمي"}
    hindi: {body: "नमस्ते *{{1}}*, आपने अभी 1250 सिक्के कमाए। 🎉"}
"""
CONFIG = """version: 1
providers: {gallabox: {type: gallabox, channel_id: c, api_key: "${KEY}", api_secret: "${KEY}"}}
defaults: {provider: gallabox}
routes:
  all:
    event: order_create
    template: all
    variables: [name]
    header: {image: {text: "https://cdn.a.example/LONG.png"}}
    buttons: [{index: 0, url: name}]
  paper:
    event: order_create
    template: paper
    variables: [name]
    header: {document: {text: "https://cdn.a.example/a.pdf"}, filename: {text: LONG.pdf}}
  title: {event: order_create, template: title, variables: [name], header: {text: name}}
  arabic: {event: order_create, template: arabic, variables: [name]}
  hindi: {event: order_create, template: hindi, variables: [name]}
  not-known: {event: order_create, template: unknown, variables: [name]}
  a-name-of-a-route-that-is-as-long-as-it-may-be: {event: order_create, template: other, variables: [missing]}
""".replace("LONG", "x" * 90)
NAMES = {
    "plain": "Riya",
    "long": "W" * 200,
    "emoji": "👨‍👩‍👧‍👦 ريا अनन्या",
    "markup": '<img src="https://evil.example/a.png" onerror="parent.ran = 1"><script>parent.ran = 1</script>',
}
# Runs beside the page and not in it: the page is looked at as it is, within a frame of each width.
MEASURE = """
const isOut = (box, element) => {
  const inner = element.getBoundingClientRect(), outer = box.getBoundingClientRect();
  return inner.right > outer.right + 1 || inner.left < outer.left - 1 || element.scrollWidth > element.clientWidth + 1
    && getComputedStyle(element).display !== "inline";
};
const measure = (frame) => {
  const page = frame.contentDocument, root = page.documentElement;
  const bubbles = [...page.querySelectorAll(".bubble")];
  const style = (selector, name) =>
    [...page.querySelectorAll(selector)].map((element) => frame.contentWindow.getComputedStyle(element)[name]);
  return {
    name: frame.title, width: root.clientWidth, wide: root.scrollWidth,
    bubbles: bubbles.length, empty: bubbles.filter((bubble) => bubble.getBoundingClientRect().height < 20).length,
    out: bubbles.flatMap((bubble) => [...bubble.querySelectorAll("*")].filter((each) => isOut(bubble, each)))
      .map((each) => `${each.tagName} ${each.className}`),
    loaded: frame.contentWindow.performance.getEntriesByType("resource").map((entry) => entry.name),
    scripts: page.scripts.length, pictures: page.images.length,
    directions: style(".text > div", "direction"), weights: style("b", "fontWeight"),
    slants: style("i", "fontStyle"), signs: style(".button", "color").length,
  };
};
addEventListener("load", () => setTimeout(() => {
  const found = { ran: window.ran ?? 0, frames: [...document.querySelectorAll("iframe")].map(measure) };
  document.body.innerHTML = "<pre></pre>";
  document.querySelector("pre").textContent = JSON.stringify(found);
}, 300));
"""

pytestmark = pytest.mark.timeout(180)


def look_at(pages: Mapping[str, str], folder: Path) -> dict[str, Any]:
    """Return what the browser measures of each page, by its name and width; "ran" tells if a page ran something."""
    chromium = find_program("chromium", "chromium-browser", "google-chrome", package="chromium")
    frames = "".join(
        f'<iframe title="{name} {width}" style="width: {width}px; height: 900px" srcdoc="{html.escape(page)}"></iframe>'
        for name, page in pages.items()
        for width in WIDTHS
    )
    wrapper = folder / "wrapper.html"
    wrapper.write_text(f'<!doctype html><meta charset="utf-8"><body><script>{MEASURE}</script>{frames}')
    command = [
        chromium,
        *FLAGS.split(),
        f"--user-data-dir={folder}/profile",
        "--virtual-time-budget=5000",
        "--dump-dom",
    ]
    done = subprocess.run([*command, wrapper.as_uri()], capture_output=True, text=True, timeout=150, check=False)
    found = re.search(r"<pre>(.*?)</pre>", done.stdout, re.DOTALL)
    if found is None:  # such as a browser in a box of its own, which sees no file of ours
        leave_out(f"{chromium} does not draw the page: {done.stderr[-400:]}")
    measured = json.loads(html.unescape(found[1]))
    return {"ran": measured["ran"], **{frame["name"]: frame for frame in measured["frames"]}}


def draw_names() -> str:
    """Return a page that shows every route with every name."""
    templates = parse_templates(TEMPLATES).templates
    types = settings_types()
    config = parse_config(CONFIG, environment={"KEY": "k"}, provider_types=types, templates=templates).config
    assert config is not None
    previews = []
    for route in config.routes:
        for title, name in NAMES.items():
            payload = {"user_mobile": "9800000001", "name": name}
            event = Event("e", "nector", route.topic, None, b"", payload, 1_790_000_000_000)
            previews.append(preview_message(route, event, config.store, templates, title))
    return draw_page(previews, "What customers see")


def draw_bundled(folder: Path) -> str:
    """Return the page that the command writes for the bundled YAML."""
    page = folder / "page.html"
    environment = {**os.environ, **{name: value or "" for name, value in dotenv_values(ROOT / ".env.example").items()}}
    command = [sys.executable, "-m", "app", "preview", "--html", str(page), "--config", "config/relay.yaml"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=60)
    return page.read_text(encoding="utf-8")


@contextmanager
def count_requests() -> Iterator[tuple[str, list[str]]]:
    """Yield the address of a server and the list of paths that were asked of it."""
    asked: list[str] = []

    class Counting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Counting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the browser sees: the bundled page, one with hard values, and three that were tampered with."""
    folder = tmp_path_factory.mktemp("pages")
    hard = draw_names()
    with count_requests() as (url, asked):
        pages = {
            "bundled": draw_bundled(folder),
            "hard": hard,
            "spilling": hard.replace("overflow-wrap: anywhere", "overflow-wrap: normal"),
            "guarded": hard.replace("<body>", f'<body><img src="{url}/guarded.png">'),
            "loading": POLICY.sub("", hard).replace("<body>", f'<body><img src="{url}/loading.png">'),
        }
        return {"asked": asked, **look_at(pages, folder)}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("page", ["bundled", "hard"])
def test_nothing_runs_out_of_its_bubble_or_of_the_screen(seen: dict[str, Any], page: str, width: int) -> None:
    found = seen[f"{page} {width}"]
    assert found["bubbles"] >= 10
    assert found["empty"] == 0
    assert found["out"] == []
    assert found["wide"] <= found["width"]


@pytest.mark.parametrize("page", ["bundled", "hard"])
def test_nothing_is_loaded_and_nothing_runs(seen: dict[str, Any], page: str) -> None:
    found = seen[f"{page} 320"]
    assert found["loaded"] == []
    assert (found["scripts"], found["pictures"], seen["ran"]) == (0, 0, 0)


def test_even_a_picture_that_got_in_is_not_loaded(seen: dict[str, Any]) -> None:
    assert seen["guarded 320"]["pictures"] == 1
    assert "/guarded.png" not in seen["asked"]


def test_marks_show_and_each_text_runs_its_own_way(seen: dict[str, Any]) -> None:
    found = seen["hard 412"]
    assert {int(weight) for weight in found["weights"]} == {700}
    assert set(found["slants"]) == {"italic"}
    assert found["directions"].count("rtl") >= len(NAMES)  # the Arabic bodies and footers
    assert found["directions"].count("ltr") > found["directions"].count("rtl")
    assert found["signs"] == 3 * len(NAMES)


def test_the_measuring_sees_what_overflows_and_what_is_loaded(seen: dict[str, Any]) -> None:
    assert seen["spilling 320"]["out"]
    assert seen["spilling 320"]["wide"] > seen["spilling 320"]["width"]
    assert len(seen["loading 320"]["loaded"]) == 1
    assert "/loading.png" in seen["asked"]

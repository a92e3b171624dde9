"""Previews as one HTML page that looks like WhatsApp: no script, nothing loaded from elsewhere, every value escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby

from app.core.previewing import Preview
from app.core.templates import FilledTemplate

_STYLE = """
body { margin: 0; padding: 2rem; background: #f0f2f5; color: #111b21; font: 15px/1.4 system-ui, sans-serif; }
h1 { font-size: 1.3rem; } h2 { font-size: 1rem; margin: 2rem 0 .5rem; } h3 { font-size: .85rem; margin: 1rem 0 .3rem; }
h3, .meta, .notes { color: #54656f; font-weight: normal; } .notes { font-size: .8rem; margin: .3rem 0; }
.chat { background: #efeae2; border-radius: .5rem; padding: 1rem; max-width: 26rem; }
.bubble { background: #fff; border-radius: 0 .5rem .5rem .5rem; box-shadow: 0 1px 1px #0002; max-width: 22rem; }
.text { padding: .5rem .6rem; overflow-wrap: anywhere; white-space: pre-wrap; }
.header { font-weight: 600; margin-bottom: .3rem; }
.media { background: #d1d7db; border-radius: .4rem .4rem 0 0; color: #54656f; padding: 2rem 1rem; text-align: center; }
.footer { color: #667781; font-size: .8rem; margin-top: .3rem; }
.button { border-top: 1px solid #e9edef; color: #027eb5; padding: .5rem; text-align: center; overflow-wrap: anywhere; }
.button small { color: #667781; display: block; }
.fault { color: #b3261e; } .miss { color: #8a5a00; }
code { background: #eef; border-radius: 3px; padding: 0 .2em; }
"""
# https://faq.whatsapp.com/539178204879377: a mark counts only against a word, and within its line.
_MARKS = (
    (re.compile(r"(?<![\w*])\*(?=\S)([^*\n]+?)(?<=\S)\*(?![\w*])"), "b"),
    (re.compile(r"(?<![\w_])_(?=\S)([^_\n]+?)(?<=\S)_(?![\w_])"), "i"),
    (re.compile(r"(?<![\w~])~(?=\S)([^~\n]+?)(?<=\S)~(?![\w~])"), "s"),
)


def draw_page(previews: Sequence[Preview], title: str) -> str:
    """Return a whole HTML document with every preview under its route."""
    sections = [_draw_route(list(group)) for _, group in groupby(previews, key=lambda preview: preview.route.name)]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            f'<head><meta charset="utf-8"><title>{escape(title)}</title>',
            '<meta name="viewport" content="width=device-width">',
            f"<style>{_STYLE}</style></head>",
            f"<body><h1>{escape(title)}</h1>",
            *sections,
            "</body></html>",
            "",
        ]
    )


def draw_text(text: str) -> str:
    """Return a message's text as HTML: escaped, with WhatsApp's *bold*, _italic_ and ~struck~."""
    drawn = escape(text)
    for mark, tag in _MARKS:
        drawn = mark.sub(rf"<{tag}>\1</{tag}>", drawn)
    return drawn


def _draw_route(previews: Sequence[Preview]) -> str:
    route, template = previews[0].route, previews[0].template
    facts = [route.topic, f"{route.provider} · {route.template}"]
    if template is not None:
        facts += [template.language, template.category.lower()]
    head = f"<h2>{escape(route.name)} <span class=meta>{escape(' · '.join(facts))}</span></h2>"
    return "\n".join(["<section>", head, *(_draw_preview(preview) for preview in previews), "</section>"])


def _draw_preview(preview: Preview) -> str:
    parts = [f"<h3>{escape(preview.title)}</h3>"]
    if preview.miss:
        parts.append(f'<p class="miss">does not hit the route: {escape(preview.miss)}</p>')
    if preview.fault:
        return "\n".join([*parts, f'<p class="fault">not sent: {escape(preview.fault)}</p>'])
    parts[0] = f"<h3>{escape(preview.title)} · to {escape(preview.recipient)}</h3>"
    if preview.filled is None:
        values = "\n".join(variable.value for variable in preview.variables)
        parts.append(f'<p class="fault">the template\'s text is not in templates.yaml; its values:</p>{_box(values)}')
    else:
        parts.append(_draw_bubble(preview.filled, preview.template.header_kind if preview.template else "none"))
    notes = "".join(f"<li>{escape(note)}</li>" for note in preview.notes)
    return "\n".join([*parts, f'<ul class="notes">{notes}</ul>'])


def _draw_bubble(filled: FilledTemplate, header_kind: str) -> str:
    is_media = header_kind not in {"none", "text"}
    media = f'<div class="media">{escape(filled.header)}</div>' if is_media else ""
    header = f'<div class="header">{escape(filled.header)}</div>' if filled.header and not is_media else ""
    footer = f'<div class="footer">{escape(filled.footer)}</div>' if filled.footer else ""
    text = f'<div class="text">{header}{draw_text(filled.body)}{footer}</div>'
    return f'<div class="chat"><div class="bubble">{media}{text}{_draw_buttons(filled.buttons)}</div></div>'


def _draw_buttons(buttons: Iterable[tuple[str, str]]) -> str:
    # Shown, not linked: a page for looking at must not redeem a coupon.
    return "".join(
        f'<div class="button">{escape(label)}{f"<small>{escape(target)}</small>" if target else ""}</div>'
        for label, target in buttons
    )


def _box(text: str) -> str:
    return f'<div class="chat"><div class="bubble"><div class="text">{escape(text)}</div></div></div>'

"""Previews as one HTML page that looks like WhatsApp: no script, nothing loaded from elsewhere, every value escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from itertools import groupby

from app.authoring.preview import Preview
from app.mapping.template import FilledTemplate, Template

_STYLE = """
:root { color-scheme: light dark; --page: #f0f2f5; --ink: #111b21; --quiet: #54656f; --chat: #efeae2; --bubble: #fff;
  --line: #e9edef; --media: #d1d7db; --link: #027eb5; --fault: #b3261e; --miss: #8a5a00; }
@media (prefers-color-scheme: dark) { :root { --page: #111b21; --ink: #e9edef; --quiet: #9fadb5; --chat: #0b141a;
  --bubble: #202c33; --line: #2f3b43; --media: #3b4a54; --link: #53bdeb; --fault: #f2867e; --miss: #e0b050; } }
* { box-sizing: border-box; }
body { margin: 0; padding: clamp(.75rem, 4vw, 2rem); background: var(--page); color: var(--ink);
  font: 15px/1.4 system-ui, "Segoe UI", Roboto, "Noto Sans", "Noto Color Emoji", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.3rem; } h2 { font-size: 1rem; margin: 2rem 0 .5rem; } h3 { font-size: .85rem; margin: 1rem 0 .3rem; }
h3, .meta, .notes { color: var(--quiet); font-weight: normal; } .meta { display: block; font-size: .85rem; }
.notes { font-size: .8rem; margin: .3rem 0; padding-left: 1.2rem; }
.chat { background: var(--chat); border-radius: .5rem; padding: 1rem; max-width: 26rem; }
.bubble { background: var(--bubble); border-radius: 0 .5rem .5rem .5rem; box-shadow: 0 1px 1px #0003;
  position: relative; width: fit-content; min-width: 60%; max-width: 22rem; }
.bubble::before { content: ""; position: absolute; top: 0; left: -.5rem; border-top: .5rem solid var(--bubble);
  border-left: .5rem solid transparent; }
.missed { opacity: .55; }
.text { padding: .45rem .6rem .5rem; white-space: pre-wrap; }
.header, .offer { font-weight: 600; margin-bottom: .3rem; } .offer::before { content: "⏳ "; }
.media { background: var(--media); color: var(--quiet); margin: .2rem; border-radius: .3rem; padding: 2.2rem .8rem;
  font-size: .8rem; text-align: center; }
.media::before { content: attr(data-sign); display: block; font-size: 1.6rem; }
.media[data-kind=document] { padding: .6rem .8rem; text-align: start; }
.media[data-kind=document]::before { display: inline; padding-right: .5rem; }
.footer { color: var(--quiet); font-size: .8rem; margin-top: .3rem; }
.button { border-top: 1px solid var(--line); color: var(--link); padding: .5rem .6rem; text-align: center; }
.button::before { content: attr(data-sign) " "; }
.button small { color: var(--quiet); display: block; }
.fault { color: var(--fault); } .miss { color: var(--miss); }
code { font-family: ui-monospace, monospace; font-size: .93em; }
"""
# Should a value ever become markup all the same, the browser loads and runs nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_AS_TEXT = "\ufe0e"  # and not as a coloured emoji
_MEDIA_SIGNS = {"image": "🖼", "video": f"▶{_AS_TEXT}", "document": "📄", "location": "📍"}
_BUTTON_SIGNS = {"url": f"↗{_AS_TEXT}", "phone": f"☎{_AS_TEXT}", "reply": f"↩{_AS_TEXT}", "copy_code": f"⧉{_AS_TEXT}"}
_OTHER_SIGN = f"▤{_AS_TEXT}"
_CODE = re.compile("```([^`]+)```")
# https://faq.whatsapp.com/539178204879377: a mark counts only against a word, and within its line.
_MARKS = (
    (re.compile(r"(?<![\w*])\*(?=\S)([^*\n]+?)(?<=\S)\*(?![\w*])"), "b"),
    (re.compile(r"(?<![\w_])_(?=\S)([^_\n]+?)(?<=\S)_(?![\w_])"), "i"),
    (re.compile(r"(?<![\w~])~(?=\S)([^~\n]+?)(?<=\S)~(?![\w~])"), "s"),
)


def draw_page(previews: Sequence[Preview], title: str) -> str:
    """Return a whole HTML document with every preview under its route."""
    sections = [_draw_route(list(group)) for _, group in groupby(previews, key=lambda preview: preview.route.name)]
    return draw_document(title, sections)


def draw_document(title: str, sections: Sequence[str], style: str = "") -> str:
    """Return a whole HTML document of these sections: no script, and nothing loaded from elsewhere."""
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            f'<head><meta charset="utf-8"><title>{escape(title)}</title>',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<style>{_STYLE}{style}</style></head>",
            f"<body><h1>{escape(title)}</h1>",
            *sections,
            "</body></html>",
            "",
        ]
    )


def draw_text(text: str) -> str:
    """Return a message's text as HTML: escaped, with WhatsApp's *bold*, _italic_, ~struck~ and ```fixed```."""
    parts = _CODE.split(escape(text))  # every second one is code, in which no other mark counts
    return "".join(f"<code>{part}</code>" if number % 2 else _draw_marks(part) for number, part in enumerate(parts))


def _draw_marks(drawn: str) -> str:
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
    notes = f'<ul class="notes">{"".join(f"<li>{escape(note)}</li>" for note in preview.notes)}</ul>'
    if preview.miss:
        parts.append(f'<p class="miss">does not hit the route: {escape(preview.miss)}</p>')
    if preview.fault:  # what ails a message that nobody asked for is no fault
        told = [] if preview.miss else [f'<p class="fault">not sent: {escape(preview.fault)}</p>']
        return "\n".join([*parts, *told, *([notes] if preview.notes else [])])
    parts[0] = f"<h3>{escape(f'{preview.title} · to {preview.recipient}, read {preview.reading}')}</h3>"
    missed = " missed" if preview.miss else ""
    if preview.filled is None or preview.template is None:
        values = escape("\n".join(variable.value for variable in preview.variables))
        parts.append('<p class="fault">the template\'s text is not in templates.yaml; its values:</p>')
        parts.append(_draw_chat(f'<div class="text" dir="auto">{values}</div>', missed))
    else:
        parts.append(_draw_chat(_draw_message(preview.filled, preview.template), missed))
    return "\n".join([*parts, notes])


def _draw_chat(message: str, missed: str) -> str:
    return f'<div class="chat{missed}"><div class="bubble">{message}</div></div>'


def _draw_message(filled: FilledTemplate, template: Template) -> str:
    # dir="auto": each part runs as its own first letter does, as on the phone.
    sign = _MEDIA_SIGNS.get(template.header_kind)
    media = header = ""
    if sign is not None:
        media = (
            f'<div class="media" data-kind="{template.header_kind}" data-sign="{sign}">{escape(filled.header)}</div>'
        )
    elif filled.header:
        header = f'<div class="header" dir="auto">{escape(filled.header)}</div>'
    header += f'<div class="offer" dir="auto">{escape(filled.offer)}</div>' if filled.offer else ""
    footer = f'<div class="footer" dir="auto">{escape(filled.footer)}</div>' if filled.footer else ""
    body = f'<div dir="auto">{draw_text(filled.body)}</div>'
    return f'{media}<div class="text">{header}{body}{footer}</div>{_draw_buttons(filled, template)}'


def _draw_buttons(filled: FilledTemplate, template: Template) -> str:
    # Shown, not linked: a page for looking at must not redeem a coupon.
    return "".join(
        f'<div class="button" dir="auto" data-sign="{_BUTTON_SIGNS.get(button.kind, _OTHER_SIGN)}">{escape(label)}'
        + (f'<small dir="ltr">{escape(target)}</small></div>' if target else "</div>")
        for button, (label, target) in zip(template.buttons, filled.buttons, strict=True)
    )

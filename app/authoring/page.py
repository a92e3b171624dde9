"""Pages that are written as one file of HTML: previews that look like WhatsApp, and the report."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from app.authoring.preview import Preview

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
    groups = [list(group) for _, group in groupby(previews, key=lambda preview: preview.route.name)]
    routes = [(group[0].route, _list_facts(group[0]), group) for group in groups]
    signs = {"media_signs": _MEDIA_SIGNS, "button_signs": _BUTTON_SIGNS, "other_sign": _OTHER_SIGN}
    return fill_page("previews.html", title=title, routes=routes, **signs)


def fill_page(name: str, **values: Any) -> str:
    """Return one of `pages/` as a whole document: no script, nothing loaded from elsewhere, every value escaped."""
    return _open_pages().get_template(name).render(values)


@cache
def _open_pages() -> Environment:
    folder = FileSystemLoader(Path(__file__).with_name("pages"))
    pages = Environment(loader=folder, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    pages.filters["marks"] = lambda text: Markup(draw_text(text))  # noqa: S704  # which has escaped it
    return pages


def draw_text(text: str) -> str:
    """Return a message's text as HTML: escaped, with WhatsApp's *bold*, _italic_, ~struck~ and ```fixed```."""
    parts = _CODE.split(escape(text))  # every second one is code, in which no other mark counts
    return "".join(f"<code>{part}</code>" if number % 2 else _draw_marks(part) for number, part in enumerate(parts))


def _draw_marks(drawn: str) -> str:
    for mark, tag in _MARKS:
        drawn = mark.sub(rf"<{tag}>\1</{tag}>", drawn)
    return drawn


def _list_facts(preview: Preview) -> str:
    route, template = preview.route, preview.template
    known = [template.language, template.category.lower()] if template else []
    return " · ".join([route.topic, route.provider, route.template, *known])

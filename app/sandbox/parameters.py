"""WhatsApp's rules for what may go into a template, as both vendors pass them on.

https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes
https://developers.facebook.com/documentation/business-messaging/whatsapp/templates/components
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from app.mapping.template import BODY_LIMIT, FilledTemplate, Template, Templates, fill_template, total_length
from app.mapping.template_entries import find_placeholders
from app.model.message import Button, Header, Variable
from app.sandbox.vendor import Refusal

# Meta's text says more than 4 blanks; vendors differ on exactly 4, so the sandbox takes the stricter reading.
_BAD_SPACE = re.compile(r"[\n\r\t]| {4,}")
_STATUS_CODES = {"paused": 132015, "disabled": 132016}


def find_template(templates: Templates, provider: str, id_: str, language: str | None) -> Template | Refusal:
    """Return the provider's template if it may be sent, in the language asked for."""
    template = templates.get((provider, id_))
    if template is None:
        return Refusal(400, "Template not found", 132001)
    if template.status.lower() != "approved":
        return Refusal(400, f"Template is {template.status}", _STATUS_CODES.get(template.status.lower(), 132001))
    if language not in {None, template.language}:
        return Refusal(400, f"Template does not exist in the translation {language}", 132001)
    return template


def fill_order(
    template: Template, variables: Sequence[Variable], header: Header | None, buttons: Sequence[Button]
) -> FilledTemplate | Refusal:
    """Return the message that these parameters make, or what WhatsApp would say against them."""
    refusal = (
        _check_count(template, variables)
        or _check_texts([(f"body parameter {number}", it.value) for number, it in enumerate(variables, start=1)])
        or _check_header(template, header)
        or _check_buttons(template, buttons)
    )
    if refusal is not None:
        return refusal
    filled = fill_template(template, variables, header, buttons)
    if total_length(filled) > BODY_LIMIT:
        return Refusal(400, f"(#132005) Translated text too long: {total_length(filled)} > {BODY_LIMIT}", 132005)
    return filled


def _check_count(template: Template, variables: Sequence[Variable]) -> Refusal | None:
    expected = template.variables
    places = [*expected, *map(str, range(len(expected) + 1, len(variables) + 1))]
    names = [variable.name or place for variable, place in zip(variables, places, strict=False)]
    missing = [name for name in expected if name not in names]
    unknown = [name for name in names if name not in expected]
    told = [f"{word} {', '.join(those)}" for word, those in (("missing", missing), ("unexpected", unknown)) if those]
    if not told:
        return None
    text = "Number of parameters does not match the expected number of params"
    return Refusal(400, f"(#132000) {text}: {'; '.join(told)}", 132000)


def _check_texts(texts: Sequence[tuple[str, str]]) -> Refusal | None:
    for where, text in texts:
        if not text.strip():
            return Refusal(400, f"(#131008) Required parameter is missing: {where} is blank", 131008)
        if _BAD_SPACE.search(text):
            told = "Param text cannot have new-line/tab characters or more than 4 consecutive spaces"
            return Refusal(400, f"(#132018) {told}: {where}", 132018)
    return None


def _check_header(template: Template, header: Header | None) -> Refusal | None:
    kind = template.header_kind
    wanted = kind not in {"none", "text"} or bool(find_placeholders(template.header_text))
    if header is None and not wanted:
        return None
    if header is None or not wanted or header.kind != kind:
        return Refusal(400, f"(#132012) Parameter format does not match: header expected is {kind}", 132012)
    if kind != "text" and not header.value.startswith(("https://", "http://")):
        return Refusal(400, "(#131008) Required parameter is missing: header media needs a URL", 131008)
    return _check_texts([("header", header.value)])


def _check_buttons(template: Template, buttons: Sequence[Button]) -> Refusal | None:
    wanted = {index for index, button in enumerate(template.buttons) if find_placeholders(button.url)}
    given = [button.index for button in buttons]
    for index in sorted(wanted.difference(given)):
        return Refusal(400, f"(#131008) Required parameter is missing: button at index {index}", 131008)
    if sorted(given) != sorted(wanted):
        return Refusal(400, "(#132012) Parameter format does not match: no such dynamic URL button", 132012)
    return _check_texts([(f"button {button.index}", button.url) for button in buttons])

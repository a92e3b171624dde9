"""WhatsApp's rules for what may go into a template, as both vendors pass them on.

https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes
https://developers.facebook.com/documentation/business-messaging/whatsapp/templates/components
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from app.mapping.template import (
    BODY_LIMIT,
    HEADER_LIMIT,
    FilledTemplate,
    Template,
    Templates,
    fill_template,
    find_button_kind,
    find_language,
    find_placeholders,
)
from app.model.message import Button, Header, Location, Variable
from app.sandbox.vendor import Refusal

# Meta's text says more than 4 blanks; vendors differ on exactly 4, so the sandbox takes the stricter reading.
_BAD_SPACE = re.compile(r"[\n\r\t]| {4,}")
_STATUS_CODES = {"paused": 132015, "disabled": 132016}


def find_template(templates: Templates, provider: str, id_: str, language: str | None) -> Template | Refusal:
    """Return the provider's template if it may be sent, in the language asked for."""
    template = templates.get((provider, id_))
    if template is None:
        return Refusal(400, "Template not found", 132001)
    version = find_language(template, language)
    if version is None:
        return Refusal(400, f"Template does not exist in the translation {language}", 132001)
    if version.status.lower() != "approved":
        return Refusal(400, f"Template is {version.status}", _STATUS_CODES.get(version.status.lower(), 132001))
    return version


def fill_order(
    template: Template,
    variables: Sequence[Variable],
    header: Header | Location | None,
    buttons: Sequence[Button],
    offer_ends_at: int | None = None,
) -> FilledTemplate | Refusal:
    """Return the message that these parameters make, or what WhatsApp would say against them."""
    refusal = (
        _check_count(template, variables)
        or _check_texts([(f"body parameter {number}", it.value) for number, it in enumerate(variables, start=1)])
        or _check_header(template, header)
        or _check_buttons(template, buttons)
    )
    if refusal is None and template.offer_expires != (offer_ends_at is not None):
        refusal = Refusal(400, "(#132012) Parameter format does not match: limited_time_offer", 132012)
    if refusal is not None:
        return refusal
    filled = fill_template(template, variables, header, buttons, offer_ends_at)
    if template.header_kind == "text" and len(filled.header) > HEADER_LIMIT:
        return Refusal(400, f"(#132005) Translated text too long: header {len(filled.header)}", 132005)
    if len(filled.body) > BODY_LIMIT:
        return Refusal(400, f"(#132005) Translated text too long: {len(filled.body)} > {BODY_LIMIT}", 132005)
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


def _check_header(template: Template, header: Header | Location | None) -> Refusal | None:
    kind = template.header_kind
    wanted = kind not in {"none", "text"} or bool(find_placeholders(template.header_text))
    if header is None and not wanted:
        return None
    if header is None or not wanted or header.kind != kind:
        return Refusal(400, f"(#132012) Parameter format does not match: header expected is {kind}", 132012)
    if isinstance(header, Location):
        return _check_texts([("latitude", header.latitude), ("longitude", header.longitude), ("name", header.name)])
    if kind != "text" and not header.value.startswith(("https://", "http://")):
        return Refusal(400, "(#131008) Required parameter is missing: header media needs a URL", 131008)
    return _check_texts([("header", header.value)])


def _check_buttons(template: Template, buttons: Sequence[Button]) -> Refusal | None:
    kinds = [find_button_kind(button.kind) for button in template.buttons]
    taken = {at: kind.filled_by for at, kind in enumerate(kinds) if kind.filled_by}
    wanted = {
        at
        for at, kind in enumerate(kinds)
        if kind.needs in {"value", "more"} or (kind.key == "url" and find_placeholders(template.buttons[at].url))
    }
    given = [button.index for button in buttons]
    for index in sorted(wanted.difference(given)):
        return Refusal(400, f"(#131008) Required parameter is missing: button at index {index}", 131008)
    for button in buttons:
        fixed = taken.get(button.index) == "url" and button.index not in wanted
        if fixed or given.count(button.index) > 1 or taken.get(button.index) != button.kind:
            named = "dynamic URL button" if button.kind == "url" else f"button that takes {button.kind}"
            return Refusal(400, f"(#132012) Parameter format does not match: no such {named}", 132012)
    return _check_texts([(f"button {button.index}", button.value) for button in buttons])

"""Approved WhatsApp templates: the texts of config/templates.yaml, and the message a customer sees."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import StringIO
from typing import Any
from urllib.parse import urlsplit

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from app.mapping.parts import BUTTON_KINDS, HEADER_KINDS, MEDIA_KINDS, VariableSource
from app.mapping.rules import Room
from app.mapping.template_entries import PLACEHOLDER, TemplateEntry, find_placeholders, read_entries
from app.model.message import Button, Header, Location, Message, Variable
from app.values.instant import format_instant

# https://developers.facebook.com/documentation/business-messaging/whatsapp/templates/components
BODY_LIMIT = 1024
HEADER_LIMIT = 60  # of a text header, filled
URL_LIMIT = 2000  # of a button's whole address


@dataclass(frozen=True, slots=True)
class TemplateButton:
    """A button under the message, of one of the kinds of mapping.parts, or of another by its name.

    `url` may end in one variable, whose value is the suffix sent; a phone button's is its number, others have none.
    """

    kind: str
    text: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class Template:
    """One approved text. `variables` are its body's variables in order: names, or "1", "2" and so on."""

    provider: str
    id: str  # Gallabox: template name; BiteSpeed: template ID
    body: str
    variables: tuple[str, ...] = ()
    header_kind: str = "none"  # else one of parts.HEADER_KINDS, or another by its name
    header_text: str = ""
    footer: str = ""
    buttons: tuple[TemplateButton, ...] = ()
    language: str = "en"
    category: str = "UTILITY"
    status: str = "approved"
    name: str = ""  # what people call it where the id is opaque
    offer: str = ""  # what a limited-time offer says
    offer_expires: bool = False  # and whether it counts down to an instant
    others: tuple[str, ...] = ()  # parts that no route can fill, such as carousel
    translations: tuple[Template, ...] = ()  # the same template in its other languages

    @property
    def versions(self) -> tuple[Template, ...]:
        """The template in each of its languages."""
        return (replace(self, translations=()), *self.translations) if self.translations else (self,)


Templates = Mapping[tuple[str, str], Template]
"""By (provider name, template id)."""


@dataclass(frozen=True, slots=True)
class ParsedTemplates:
    """What a templates file holds. A template with a problem is left out; a problem reads `line:column: text`.

    `places`: where each template's key stands, (line, column).
    """

    templates: Templates
    problems: tuple[str, ...]
    places: Mapping[tuple[str, str], tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FilledTemplate:
    """The message as the customer sees it. Buttons: (label, target)."""

    header: str
    body: str
    footer: str
    buttons: tuple[tuple[str, str], ...]
    offer: str = ""


# -- reading and writing the file -----------------------------------------------------------------


def parse_templates(text: str) -> ParsedTemplates:
    """Return the templates of a templates file, with every problem it has. Never raises."""
    entries, problems = read_entries(text)
    templates = gather_languages(_make_template(provider, id_, entry) for provider, id_, entry, _ in entries)
    places = {(provider, id_): (place.line, place.column) for provider, id_, _, place in reversed(entries)}
    return ParsedTemplates(templates, problems, places)


def gather_languages(templates: Iterable[Template]) -> Templates:
    """Return the templates by key, those of one name in several languages as one with translations."""
    found: dict[tuple[str, str], Template] = {}
    for template in templates:
        first = found.get((template.provider, template.id))
        both = template if first is None else replace(first, translations=(*first.translations, template))
        found[template.provider, template.id] = both
    return found


def find_language(template: Template | None, language: str | None) -> Template | None:
    """Return the template as it is in a language; the first, where none is asked for; None where it has it not."""
    if template is None or language in {None, template.language}:
        return template
    return next((version for version in template.translations if version.language == language), None)


def dump_templates(templates: Templates, kept: str = "", providers: Collection[str] = ()) -> str:
    """Return the YAML of a templates file: sorted, the same for the same templates, readable by parse_templates.

    `kept`: a templates file of which all stays as it is, comments too, but the entries of `providers` and of those in
    `templates`.
    """
    yaml = YAML()
    yaml.allow_unicode = True
    yaml.width = 4096  # a body stays on its line, so that a diff shows what changed
    yaml.preserve_quotes = True
    yaml.indent(mapping=2, sequence=4, offset=2)
    data: Any = (yaml.load(kept) if kept.strip() else None) or CommentedMap({"version": 1})
    by_provider = data.get("templates") or CommentedMap()
    for provider in sorted({*providers, *(provider for provider, _ in templates)}):
        own = sorted((id_, template) for (name, id_), template in templates.items() if name == provider)
        by_provider[provider] = {id_: _make_entries(template) for id_, template in own}
    data["templates"] = by_provider
    stream = StringIO()
    yaml.dump(data, stream)
    return stream.getvalue()


def _make_template(provider: str, id_: str, entry: TemplateEntry) -> Template:
    header = entry.header
    return Template(
        provider=provider,
        id=id_,
        body=entry.body,
        variables=find_placeholders(entry.body) if entry.variables is None else entry.variables,
        header_kind=header.kind if header else "none",
        header_text=(header.text if header else None) or "",
        footer=entry.footer,
        buttons=tuple(TemplateButton(button.kind, button.label, button.target) for button in entry.buttons),
        language=entry.language,
        category=entry.category,
        status=entry.status,
        name=entry.name,
        offer=entry.limited_time_offer.text if entry.limited_time_offer else "",
        offer_expires=entry.limited_time_offer is not None and entry.limited_time_offer.expires,
        others=entry.others,
    )


def _make_entries(template: Template) -> dict[str, Any] | list[dict[str, Any]]:
    entries = [_make_entry(version) for version in template.versions]
    return entries if len(entries) > 1 else entries[0]


def _make_entry(template: Template) -> dict[str, Any]:
    kind = template.header_kind
    headers: dict[str, dict[str, Any]] = {"none": {}, "text": {"text": template.header_text}}
    offer = {"text": template.offer} | ({} if template.offer_expires else {"expires": False})
    entry = {
        "name": template.name,
        "language": template.language,
        "category": template.category,
        "status": template.status,
        "header": headers.get(kind, {kind: True} if kind in HEADER_KINDS else {"other": kind}),
        "limited_time_offer": offer if template.offer else None,
        "body": template.body,
        "footer": template.footer,
        "buttons": [_make_button(button) for button in template.buttons],
        "others": list(template.others),
    }
    kept = {key: value for key, value in entry.items() if value}
    # Named even where it is empty: left out, the names would be derived from the body.
    return kept | {"variables": list(template.variables)}


def _make_button(button: TemplateButton) -> dict[str, str | bool]:
    if button.kind == "reply":
        return {"reply": button.text}
    kind: dict[str, str | bool] = {"other": button.kind}
    if button.kind in BUTTON_KINDS:
        kind = {button.kind: button.url if button.kind in {"url", "phone"} else True}
    return {**kind, "text": button.text}


# -- the message a customer sees ------------------------------------------------------------------


def show_message(template: Template, message: Message) -> FilledTemplate:
    """Return what the customer of a message sees, in its language where the template has it."""
    version = find_language(template, message.language) or template
    return fill_template(version, message.variables, message.header, message.buttons, message.offer_ends_at)


def fill_template(
    template: Template,
    variables: Sequence[Variable],
    header: Header | Location | None,
    buttons: Sequence[Button],
    offer_ends_at: int | None = None,
) -> FilledTemplate:
    """Return what the customer sees when `variables` go into `template`.

    A variable without a name fills the template's variable of its position. What nothing fills stays visible
    as `{{name}}`. A value is data: braces inside it are text.
    """
    values = _name_values(template.variables, variables)
    given = {button.index: button.value for button in buttons}
    return FilledTemplate(
        header=_fill_header(template, header),
        body=_fill_text(template.body, values),
        footer=template.footer,
        buttons=tuple(
            (button.text, _fill_button(button, given.get(index))) for index, button in enumerate(template.buttons)
        ),
        offer=template.offer + (f" (ends {format_instant(offer_ends_at)})" if offer_ends_at is not None else ""),
    )


def measure_room(template: Template, variables: Sequence[VariableSource]) -> Room:
    """Return what the fixed texts leave for the values of these variables."""
    names = [place.strip() for place in PLACEHOLDER.findall(template.body)]
    places = zip(variables, (*template.variables, *([""] * len(variables))), strict=False)
    return Room(
        body=BODY_LIMIT - len(PLACEHOLDER.sub("", template.body)),
        weights=tuple(names.count(variable.name or place) for variable, place in places),
        header=HEADER_LIMIT - len(PLACEHOLDER.sub("", template.header_text)) if template.header_text else None,
        urls={at: PLACEHOLDER.sub("", each.url) for at, each in enumerate(template.buttons) if each.kind == "url"},
    )


def total_length(filled: FilledTemplate) -> int:
    """Return the characters that count against BODY_LIMIT: the body's own and its values'."""
    return len(filled.body)


def print_message(filled: FilledTemplate, *, width: int = 48) -> str:
    """Return a plain-text picture of the WhatsApp bubble, its text wrapped at `width` characters.

    WhatsApp's own marks (*bold*) stay as they are; the footer is marked _so_. The bubble is open to the right, as
    emoji and many scripts have no fixed width.
    """
    footer = [f"_{line}_" for line in _wrap(filled.footer, width - 2)]
    blocks = [_wrap(filled.header, width), _wrap(filled.offer, width), _wrap(filled.body, width), footer]
    text = [line for block in blocks for line in block]
    buttons = [f"[ {label} → {target} ]" if target else f"[ {label} ]" for label, target in filled.buttons]
    return "\n".join(["╭─", *(f"│ {line}".rstrip() for line in [*text, *buttons]), "╰─"])


def _name_values(names: Sequence[str], variables: Sequence[Variable]) -> dict[str, str]:
    numbered = {str(number): variable.value for number, variable in enumerate(variables, start=1)}
    positional = {
        names[index]: variable.value
        for index, variable in enumerate(variables)
        if variable.name is None and index < len(names)
    }
    named = {variable.name: variable.value for variable in variables if variable.name is not None}
    return numbered | positional | named


def _fill_text(text: str, values: Mapping[str, str]) -> str:
    return PLACEHOLDER.sub(lambda match: values.get(match[1].strip(), match[0]), text)


def _fill_rest(text: str, value: str | None) -> str:
    # Each header and button has at most one variable, whatever its name, and a value of its own.
    return text if value is None else PLACEHOLDER.sub(lambda _: value, text, count=1)


def _fill_button(button: TemplateButton, value: str | None) -> str:
    return _fill_rest(button.url, value) if button.kind == "url" else value or button.url


def _fill_header(template: Template, header: Header | Location | None) -> str:
    if template.header_kind == "none":
        return ""
    if template.header_kind == "text":
        return _fill_rest(template.header_text, header.value if header else None)
    return f"[{template.header_kind} {_name_file(header)}]" if header else f"[{template.header_kind}]"


def _name_file(header: Header | Location) -> str:
    if header.kind not in MEDIA_KINDS:
        return header.value
    parts = urlsplit(header.value)
    # WhatsApp shows the name of a document only; Gallabox wants one for every medium.
    named = header.filename if header.kind == "document" else None
    return named or parts.path.rsplit("/", 1)[-1] or parts.netloc


def _wrap(text: str, width: int) -> list[str]:
    lines = text.splitlines()
    return [
        part
        for line in lines
        # A link or a coupon code must stay in one piece to be copied.
        for part in textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""]
    ]

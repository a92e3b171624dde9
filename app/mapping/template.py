"""Approved WhatsApp templates: the texts of config/templates.yaml, and the message a customer sees."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from functools import partial
from typing import Literal
from urllib.parse import urlsplit

from app.model.message import Button, Header, Location, Message, Variable
from app.model.value import dataclass
from app.values.instant import format_instant

PLACEHOLDER = re.compile(r"\{\{([^{}]+)\}\}")
# https://developers.facebook.com/documentation/business-messaging/whatsapp/templates/components
BODY_LIMIT = 1024  # the body's own characters and its values'
HEADER_LIMIT = 60  # of a text header, filled
URL_LIMIT = 2000  # of a button's whole address
HEADER_KINDS = ("text", "image", "video", "document", "location")
"""Headers that a route can fill; their names in WhatsApp's lists are the same in capitals."""
MEDIA_KINDS = frozenset({"image", "video", "document"})
LIMITS = {"text": 60, "filename": 100, "copy_code": 20, "otp": 20, "payload": 256, "flow": 256}
"""The longest value of each part that has a limit of its own, in characters.

https://developers.facebook.com/documentation/business-messaging/whatsapp/templates/components
"""


@dataclass(frozen=True, slots=True)
class ButtonKind:
    """A kind of button."""

    key: str  # its name in templates.yaml
    listed: str  # in WhatsApp's lists
    filled_by: str = ""  # the key with which a route fills it
    needs: Literal["nothing", "variable", "choice", "value", "more"] = "nothing"  # whether a route has to
    label: str = ""  # what WhatsApp writes on it where the list does not say
    is_text: bool = False  # whether templates.yaml has a text under its key, else `true`


# https://developers.facebook.com/documentation/business-messaging/whatsapp/templates/components#buttons
_BUTTON_KINDS = (
    ButtonKind("url", "URL", "url", "variable", is_text=True),
    ButtonKind("phone", "PHONE_NUMBER", is_text=True),
    ButtonKind("reply", "QUICK_REPLY", "payload", "choice", is_text=True),
    ButtonKind("copy_code", "COPY_CODE", "copy_code", "value", "Copy offer code"),
    ButtonKind("otp", "OTP", "otp", "value", "Copy code"),
    ButtonKind("flow", "FLOW", "flow", "value"),
    ButtonKind("catalog", "CATALOG", label="View catalog"),
    ButtonKind("mpm", "MPM", needs="more", label="View items"),
    ButtonKind("spm", "SPM", needs="more", label="View"),
)
BUTTON_KINDS = {kind.key: kind for kind in _BUTTON_KINDS}
_LISTED = {kind.listed: kind for kind in _BUTTON_KINDS}


def find_button_kind(key: str) -> ButtonKind:
    """Return the kind of this name; one that is not known is kept by its name, and cannot be filled."""
    return BUTTON_KINDS.get(key) or ButtonKind(key, key.upper(), needs="more")


def find_listed_kind(listed: str) -> ButtonKind:
    """Return the kind that WhatsApp's lists call so."""
    return _LISTED.get(listed) or find_button_kind(listed.lower())


@dataclass(frozen=True, slots=True)
class TemplateButton:
    """A button under the message. `url` is a URL, perhaps with a variable at its end, or a phone button's number."""

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
    header_kind: str = "none"  # else one of HEADER_KINDS, or another by its name
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
class Room:
    """The room that WhatsApp's limits leave for a route's values."""

    body: int
    weights: tuple[int, ...] = ()  # how often the text holds each of the route's variables
    header: int | None = None
    urls: Mapping[int, str] = field(default_factory=dict)  # of each URL button the fixed part


@dataclass(frozen=True, slots=True)
class FilledTemplate:
    """The message as the customer sees it. Buttons: (label, target)."""

    header: str
    body: str
    footer: str
    buttons: tuple[tuple[str, str], ...]
    offer: str = ""


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


def find_placeholders(text: str) -> tuple[str, ...]:
    """Return the names in `text`'s placeholders, each once: numbers in rising order, names in order of first use."""
    names = tuple(dict.fromkeys(name for match in PLACEHOLDER.finditer(text) if (name := match[1].strip())))
    # {{1}} is the first parameter wherever it stands in the text.
    return tuple(sorted(names, key=int)) if all(name.isdecimal() for name in names) else names


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
        body=PLACEHOLDER.sub(lambda match: values.get(match[1].strip(), match[0]), template.body),
        footer=template.footer,
        buttons=tuple((each.text, _fill_button(each, given.get(at))) for at, each in enumerate(template.buttons)),
        offer=template.offer + (f" (ends {format_instant(offer_ends_at)})" if offer_ends_at is not None else ""),
    )


def measure_room(template: Template, variables: Sequence[str | None]) -> Room:
    """Return what the fixed texts leave for the values of these variables; None: one without a name."""
    names = [place.strip() for place in PLACEHOLDER.findall(template.body)]
    places = zip(variables, (*template.variables, *([""] * len(variables))), strict=False)
    return Room(
        body=BODY_LIMIT - len(PLACEHOLDER.sub("", template.body)),
        weights=tuple(names.count(variable or place) for variable, place in places),
        header=HEADER_LIMIT - len(PLACEHOLDER.sub("", template.header_text)) if template.header_text else None,
        urls={at: PLACEHOLDER.sub("", each.url) for at, each in enumerate(template.buttons) if each.kind == "url"},
    )


def print_message(filled: FilledTemplate, *, width: int = 48) -> str:
    """Return a plain-text picture of the WhatsApp bubble, wrapped at `width`, with WhatsApp's own marks (*bold*)."""
    footer = [f"_{line}_" for line in _wrap(filled.footer, width - 2)]
    blocks = [_wrap(filled.header, width), _wrap(filled.offer, width), _wrap(filled.body, width), footer]
    text = [line for block in blocks for line in block]
    buttons = [f"[ {label} → {target} ]" if target else f"[ {label} ]" for label, target in filled.buttons]
    return "\n".join(["╭─", *(f"│ {line}".rstrip() for line in [*text, *buttons]), "╰─"])


def _name_values(names: Sequence[str], variables: Sequence[Variable]) -> dict[str, str]:
    numbered = {str(number): variable.value for number, variable in enumerate(variables, start=1)}
    placed = zip(names, variables, strict=False)
    positional = {name: variable.value for name, variable in placed if variable.name is None}
    named = {variable.name: variable.value for variable in variables if variable.name is not None}
    return numbered | positional | named


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
    # A link or a coupon code must stay in one piece to be copied.
    wrap = partial(textwrap.wrap, width=width, break_long_words=False, break_on_hyphens=False)
    return [part for line in text.splitlines() for part in wrap(line) or [""]]

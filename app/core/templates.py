"""Approved WhatsApp templates: the texts of config/templates.yaml, and the message a customer sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from app.core.models import Button, Header, Variable


@dataclass(frozen=True, slots=True)
class TemplateButton:
    """A button under the message; `url` may end in one variable, whose value is the suffix sent."""

    kind: Literal["url", "phone", "reply"]
    text: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class Template:
    """One approved text. `variables` are its body's variables in order: names, or "1", "2", …"""

    provider: str
    id: str  # Gallabox: template name; BiteSpeed: template ID
    body: str
    variables: tuple[str, ...] = ()
    header_kind: Literal["none", "text", "image", "video", "document"] = "none"
    header_text: str = ""
    footer: str = ""
    buttons: tuple[TemplateButton, ...] = ()
    language: str = "en"
    category: str = "UTILITY"
    status: str = "approved"


Templates = Mapping[tuple[str, str], Template]
"""By (provider name, template id)."""


@dataclass(frozen=True, slots=True)
class FilledTemplate:
    """The message as the customer sees it. Buttons: (label, target)."""

    header: str
    body: str
    footer: str
    buttons: tuple[tuple[str, str], ...]


def fill_template(
    template: Template, variables: Sequence[Variable], header: Header | None, buttons: Sequence[Button]
) -> FilledTemplate:
    """Return what the customer sees when `variables` go into `template`."""
    raise NotImplementedError

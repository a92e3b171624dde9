"""The file config/templates.yaml: read, with what is wrong with it line by line, and written."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import field
from io import StringIO
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, create_model, model_validator
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from app.mapping import Path, Problem, ask_similar, sort_problems
from app.mapping.document import read_document
from app.mapping.fields import ReadAs
from app.mapping.findings import Findings, Model
from app.mapping.template import (
    BUTTON_KINDS,
    HEADER_KINDS,
    Template,
    TemplateButton,
    Templates,
    find_placeholders,
    gather_languages,
)
from app.model.value import dataclass


class _Entry(BaseModel, extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True):
    """Nothing is guessed: an unknown key or another type is a problem."""


_TEXT: Any = (str | None, None)
_MARKED: Any = (Literal[True] | None, None)
_HEADER_KEYS = {"text": _TEXT, "other": _TEXT, **dict.fromkeys(HEADER_KINDS[1:], _MARKED)}
_BUTTON_KEYS = {key: _TEXT if kind.is_text else _MARKED for key, kind in BUTTON_KINDS.items()}
_HeaderEntry = create_model("_HeaderEntry", __base__=_Entry, **_HEADER_KEYS)
_ButtonEntry = create_model("_ButtonEntry", __base__=_Entry, text=_TEXT, other=_TEXT, **_BUTTON_KEYS)


def _read_header(entry: BaseModel | None, _: Any) -> tuple[str, str]:
    """Return kind and text of `{text: "…"}`, or `{image: true}` and its like; `{other: "…"}` is of another kind."""
    written = entry.model_dump(exclude_unset=True) if entry else {"none": ""}
    if len(written) != 1:
        raise ValueError("give exactly one of text, image, video, document, location")
    ((key, value),) = written.items()
    return (value or key) if key == "other" else key, (value or "") if key == "text" else ""


def _read_button(entry: BaseModel, _: Any) -> TemplateButton:
    """Return the button of `{url: "…", text: "…"}`, `{phone: "…", text: "…"}`, `{reply: "…"}`, and its like.

    `{other: order_details, text: "…"}` keeps the place of a kind that no route can fill.
    """
    written = entry.model_dump(exclude_unset=True)
    label = written.pop("text", None) if "reply" not in written else written["reply"]
    if len(written) != 1 or label is None:
        raise ValueError("write {url, text}, {phone, text} or {reply}; or {copy_code: true, text} and its like")
    ((key, value),) = written.items()
    text = value if isinstance(value, str) and key != "reply" else ""
    return TemplateButton(text, label) if key == "other" and text else TemplateButton(key, label, text)


def _read_names(written: Any) -> Any:
    """Read [1, 2] as people write the variables of a template that counts."""
    return tuple(str(name) if type(name) is int else name for name in written) if isinstance(written, list) else written


class OfferEntry(_Entry):
    """`limited_time_offer: {text: "…"}`; `expires: false` where it shows no countdown."""

    text: str
    expires: bool = True


class TemplateEntry(_Entry):
    """One template as the file has it."""

    body: str = Field(min_length=1)
    name: str = ""
    language: str = "en"
    category: Literal["UTILITY", "MARKETING", "AUTHENTICATION"] = "UTILITY"
    status: str = "approved"
    variables: Annotated[tuple[str, ...] | None, BeforeValidator(_read_names)] = None
    header: Annotated[tuple[str, str], ReadAs(_HeaderEntry | None, _read_header)] = ("none", "")
    footer: str = ""
    buttons: tuple[Annotated[TemplateButton, ReadAs(_ButtonEntry, _read_button)], ...] = ()
    limited_time_offer: OfferEntry | None = None
    others: tuple[str, ...] = ()  # parts that no route can fill, such as carousel

    @model_validator(mode="after")
    def _check_variables(self) -> TemplateEntry:
        if self.variables is None:
            return self
        used = find_placeholders(self.body)
        texts = (self.header[1], *(each.url for each in self.buttons if each.kind == "url"))
        elsewhere = {name for text in texts for name in find_placeholders(text)}
        unlisted = [name for name in used if name not in self.variables]
        unused = [name for name in self.variables if name not in {*used, *elsewhere}]
        wrong = [f"the body uses {{{{{name}}}}}, which variables does not list" for name in unlisted]
        wrong += [f"variables lists {name}, which is used nowhere" for name in unused]
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    def make(self, provider: str, id_: str) -> Template:
        """Return the template."""
        kept = {key: getattr(self, key) for key in _KEPT}
        names = find_placeholders(self.body) if self.variables is None else self.variables
        offer = self.limited_time_offer
        kept |= {"offer": offer.text, "offer_expires": offer.expires} if offer else {}
        return Template(provider, id_, variables=names, header_kind=self.header[0], header_text=self.header[1], **kept)


_KEPT = ("name", "language", "category", "status", "body", "footer", "buttons", "others")  # as they are


class _File(_Entry):
    version: Literal[1]
    templates: dict[str, dict[str, Any] | None] | None = None  # one entry, or a list of them, one a language


@dataclass(frozen=True, slots=True)
class ParsedTemplates:
    """The sound templates of a file, its problems, and each key's place (line, column)."""

    templates: Templates
    problems: tuple[Problem, ...]
    places: Mapping[tuple[str, str], tuple[int, int]] = field(default_factory=dict)


def parse_templates(text: str) -> ParsedTemplates:
    """Return the templates of a file, of which one in several languages is a list, with every problem. Never raises."""
    if not any(line and not line.startswith("#") for line in map(str.strip, text.splitlines())):
        return ParsedTemplates({}, ())
    document = read_document(text)
    findings = Findings(document)
    file = None if document.data is None else _validate(_File, document.data, (), findings)
    found: list[Template] = []
    places: dict[tuple[str, str], tuple[int, int]] = {}
    for provider, templates in (file.templates or {}).items() if file else ():
        for id_, data in (templates or {}).items():
            whole: Path = ("templates", provider, id_)
            written = {(*whole, index): item for index, item in enumerate(data)} if isinstance(data, list) else None
            languages: set[str] = set()
            for path, item in ({whole: data} if written is None else written).items():
                entry = _validate(TemplateEntry, item, path, findings)
                if entry is None:
                    continue
                if entry.language in languages:
                    findings.error(path, f'"{id_}" stands here twice in "{entry.language}"', at="key")
                languages.add(entry.language)
                found.append(entry.make(provider, id_))
                places.setdefault((provider, id_), document.find_place(path).key)
    return ParsedTemplates(gather_languages(found), sort_problems(findings.problems), places)


def _validate(model: type[Model], data: Any, path: Path, findings: Findings) -> Model | None:
    try:
        return model.model_validate_json(json.dumps(data), strict=True)  # strict: a list is no tuple but in JSON
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            at = (*path, *detail["loc"])
            findings.error(at, f"{'.'.join(map(str, at))}: {_explain(detail)}", at="key")
    return None


def _explain(detail: ErrorDetails) -> str:
    match detail["type"]:
        case "extra_forbidden":
            hint = ask_similar(str(detail["loc"][-1]), TemplateEntry.model_fields, "")
            return "unknown key" + (f"; {hint}" if hint else "")
        case "string_type":
            return "must be text; put it in quotes"
        case "model_type" | "dict_type":
            return "must be a map of keys and values"
        case "tuple_type":
            return "must be a list"
        case "missing":
            return "is missing"
        case "value_error":
            return str(detail["ctx"]["error"])
        case _:
            return detail["msg"][0].lower() + detail["msg"][1:]


def dump_templates(templates: Templates, kept: str = "", providers: Collection[str] = ()) -> str:
    """Return the YAML of a templates file: sorted, and readable by parse_templates.

    `kept`: a file whose entries and comments stay, but for those of `providers` and of those in `templates`.
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
        entries = {id_: [_make_entry(version) for version in template.versions] for id_, template in own}
        by_provider[provider] = {id_: each if len(each) > 1 else each[0] for id_, each in entries.items()}
    data["templates"] = by_provider
    stream = StringIO()
    yaml.dump(data, stream)
    return stream.getvalue()


def _make_entry(template: Template) -> dict[str, Any]:
    kind = template.header_kind
    header: dict[str, Any] = {kind: template.header_text or True} if kind in HEADER_KINDS else {"other": kind}
    offer = {"text": template.offer} | ({} if template.offer_expires else {"expires": False})
    entry = {
        "name": template.name,
        "language": template.language,
        "category": template.category,
        "status": template.status,
        "header": header if kind != "none" else None,
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
    kind = BUTTON_KINDS.get(button.kind)
    key, value = ("other", button.kind) if kind is None else (kind.key, button.url if kind.is_text else True)
    return {key: value, "text": button.text}

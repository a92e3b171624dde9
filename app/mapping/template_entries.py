"""The file config/templates.yaml: read, with what is wrong with it line by line, and written."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from io import StringIO
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, Field, ValidationError, create_model, field_validator, model_validator
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from app.mapping.document import Document, read_document
from app.mapping.problems import Path, Problem, ask_similar, sort_problems
from app.mapping.template import (
    BUTTON_KINDS,
    HEADER_KINDS,
    Template,
    TemplateButton,
    Templates,
    find_placeholders,
    gather_languages,
)

Model = TypeVar("Model", bound=BaseModel)


class _Entry(BaseModel, extra="forbid", strict=True, frozen=True, hide_input_in_errors=True):
    """Nothing is guessed: an unknown key or another type is a problem."""


class _Header(_Entry):
    """`{text: "…"}`, or `{image: true}` and its like; `{other: "…"}` for a kind that no route can fill."""

    text: str | None = None
    other: str | None = None

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError("give exactly one of text, image, video, document, location")
        return self

    @property
    def kind(self) -> str:
        """The kind of header."""
        return self.other or next(iter(self.model_fields_set))


class _Button(_Entry):
    """`{url: "…", text: "…"}`, `{phone: "…", text: "…"}`, `{reply: "…"}`, or `{copy_code: true, text: "…"}`.

    `{other: order_details, text: "…"}` keeps the place of a kind that no route can fill.
    """

    text: str | None = None
    other: str | None = None

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        kinds = self.model_fields_set - {"text"}
        if len(kinds) != 1 or ("text" in self.model_fields_set) == ("reply" in kinds):
            raise ValueError("write {url, text}, {phone, text} or {reply}; or {copy_code: true, text} and its like")
        return self

    def make(self) -> TemplateButton:
        """Return the button."""
        key = next(key for key in self.model_fields_set if key != "text")
        value = getattr(self, key)
        written = value if isinstance(value, str) else ""
        if key == "reply":
            return TemplateButton("reply", written)
        if key == "other":
            return TemplateButton(written or "other", self.text or "")
        return TemplateButton(key, self.text or "", written)


_MARKED: Any = (Literal[True] | None, None)
_HeaderEntry = create_model("_HeaderEntry", __base__=_Header, **dict.fromkeys(HEADER_KINDS[1:], _MARKED))
_WRITTEN: dict[str, Any] = {key: (str | None, None) if kind.is_text else _MARKED for key, kind in BUTTON_KINDS.items()}
_ButtonEntry = create_model("_ButtonEntry", __base__=_Button, **_WRITTEN)


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
    variables: tuple[str, ...] | None = None
    header: _HeaderEntry | None = None
    footer: str = ""
    buttons: tuple[_ButtonEntry, ...] = ()
    limited_time_offer: OfferEntry | None = None
    others: tuple[str, ...] = ()  # parts that no route can fill, such as carousel

    @field_validator("buttons", "others", mode="before")
    @classmethod
    def _read_lists(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("variables", mode="before")
    @classmethod
    def _read_variables(cls, value: Any) -> Any:
        # [1, 2] is how people write the variables of a template that counts.
        return tuple(str(name) if type(name) is int else name for name in value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _check_variables(self) -> TemplateEntry:
        if self.variables is None:
            return self
        used = find_placeholders(self.body)
        buttons = [button.make() for button in self.buttons]
        texts = [self.header.text if self.header else None, *(each.url for each in buttons if each.kind == "url")]
        elsewhere = {name for text in texts for name in find_placeholders(text or "")}
        unlisted = [name for name in used if name not in self.variables]
        unused = [name for name in self.variables if name not in {*used, *elsewhere}]
        wrong = [f"the body uses {{{{{name}}}}}, which variables does not list" for name in unlisted]
        wrong += [f"variables lists {name}, which is used nowhere" for name in unused]
        if wrong:
            raise ValueError("; ".join(wrong))
        return self


_KEPT = {"body", "footer", "language", "category", "status", "name", "others"}  # as they are written


class _File(_Entry):
    version: Literal[1]
    templates: dict[str, dict[str, Any] | None] | None = None  # one entry, or a list of them, one a language


@dataclass(frozen=True, slots=True)
class ParsedTemplates:
    """The sound templates of a file, its problems (`line:column: text`), and each key's place (line, column)."""

    templates: Templates
    problems: tuple[str, ...]
    places: Mapping[tuple[str, str], tuple[int, int]] = field(default_factory=dict)


def parse_templates(text: str) -> ParsedTemplates:
    """Return the templates of a templates file, with every problem it has. Never raises.

    A template in several languages is a list of entries. Text of blanks and comments holds none.
    """
    if not any(line and not line.startswith("#") for line in map(str.strip, text.splitlines())):
        return ParsedTemplates({}, ())
    document = read_document(text)
    if document.data is None:
        return ParsedTemplates({}, _print_problems(document.problems))
    problems = list(document.problems)
    file = _validate(_File, document.data, document, (), problems)
    found: list[Template] = []
    places: dict[tuple[str, str], tuple[int, int]] = {}
    for provider, templates in (file.templates or {}).items() if file else ():
        for id_, data in (templates or {}).items():
            whole: Path = ("templates", provider, id_)
            written = [((*whole, index), item) for index, item in enumerate(data)] if isinstance(data, list) else None
            languages: set[str] = set()
            for path, item in [(whole, data)] if written is None else written:
                entry = _validate(TemplateEntry, item, document, path, problems)
                if entry is None:
                    continue
                place = document.find_place(path).key
                if entry.language in languages:
                    problems.append(Problem("error", *place, f'"{id_}" stands here twice in "{entry.language}"'))
                languages.add(entry.language)
                found.append(_make_template(provider, id_, entry))
                places.setdefault((provider, id_), (place.line, place.column))
    return ParsedTemplates(gather_languages(found), _print_problems(problems), places)


def _validate(model: type[Model], data: Any, document: Document, path: Path, problems: list[Problem]) -> Model | None:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            at = (*path, *detail["loc"])
            message = f"{'.'.join(map(str, at))}: {_explain(detail)}"
            problems.append(Problem("error", *document.find_place(at).key, message))
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


def _print_problems(problems: Iterable[Problem]) -> tuple[str, ...]:
    return tuple(
        f"{problem.line}:{problem.column}: {problem.message}" + (f"; {problem.hint}" if problem.hint else "")
        for problem in sort_problems(problems)
    )


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
        by_provider[provider] = {id_: _make_entries(template) for id_, template in own}
    data["templates"] = by_provider
    stream = StringIO()
    yaml.dump(data, stream)
    return stream.getvalue()


def _make_template(provider: str, id_: str, entry: TemplateEntry) -> Template:
    header, offer = entry.header, entry.limited_time_offer
    return Template(
        provider=provider,
        id=id_,
        variables=find_placeholders(entry.body) if entry.variables is None else entry.variables,
        header_kind=header.kind if header else "none",
        header_text=(header.text if header else None) or "",
        buttons=tuple(button.make() for button in entry.buttons),
        offer=offer.text if offer else "",
        offer_expires=offer is not None and offer.expires,
        **entry.model_dump(include=_KEPT),
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
    kind = BUTTON_KINDS.get(button.kind)
    if kind is None:
        return {"other": button.kind, "text": button.text}
    if kind.key == "reply":
        return {"reply": button.text}
    return {kind.key: button.url if kind.is_text else True, "text": button.text}

"""The entries of config/templates.yaml as written there, and what is wrong with them, line by line."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from app.mapping.document import Document, Mark, read_document
from app.mapping.problems import Path, Problem, find_similar, sort_problems

Model = TypeVar("Model", bound=BaseModel)

PLACEHOLDER = re.compile(r"\{\{([^{}]+)\}\}")


class _Entry(BaseModel, extra="forbid", strict=True, frozen=True, hide_input_in_errors=True):
    """Nothing is guessed: an unknown key or another type is a problem."""


class HeaderEntry(_Entry):
    """`{text: "…"}`, or `{image: true}` and its like; `{other: "…"}` for a kind that no route can fill."""

    text: str | None = None
    image: Literal[True] | None = None
    video: Literal[True] | None = None
    document: Literal[True] | None = None
    location: Literal[True] | None = None
    other: str | None = None

    @model_validator(mode="after")
    def _check_kind(self) -> HeaderEntry:
        if len(self.model_fields_set) != 1:
            raise ValueError("give exactly one of text, image, video, document, location")
        return self

    @property
    def kind(self) -> str:
        """What the header shows."""
        return self.other or next(iter(self.model_fields_set))


class ButtonEntry(_Entry):
    """`{url: "…", text: "…"}`, `{phone: "…", text: "…"}`, `{reply: "…"}`, or `{copy_code: true, text: "…"}`.

    `{other: order_details, text: "…"}` keeps the place of a kind that no route can fill.
    """

    url: str | None = None
    phone: str | None = None
    reply: str | None = None
    copy_code: Literal[True] | None = None
    otp: Literal[True] | None = None
    flow: Literal[True] | None = None
    catalog: Literal[True] | None = None
    mpm: Literal[True] | None = None
    spm: Literal[True] | None = None
    other: str | None = None
    text: str | None = None

    @model_validator(mode="after")
    def _check_kind(self) -> ButtonEntry:
        kinds = self.model_fields_set - {"text"}
        if len(kinds) != 1 or ("text" in self.model_fields_set) == ("reply" in kinds):
            raise ValueError("write {url, text}, {phone, text} or {reply}; or {copy_code: true, text} and its like")
        return self

    @property
    def kind(self) -> str:
        """What a tap does."""
        return self.other or next(kind for kind in self.model_fields_set if kind != "text")

    @property
    def label(self) -> str:
        """What the button says."""
        return self.text or self.reply or ""

    @property
    def target(self) -> str:
        """Where a tap leads: a URL, a number, or nothing."""
        return self.url or self.phone or ""


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
    header: HeaderEntry | None = None
    footer: str = ""
    buttons: tuple[ButtonEntry, ...] = ()
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
        texts = [self.header.text if self.header else None, *(button.url for button in self.buttons)]
        elsewhere = {name for text in texts for name in find_placeholders(text or "")}
        wrong = [
            f"the body uses {{{{{name}}}}}, which variables does not list"
            for name in used
            if name not in self.variables
        ]
        wrong += [
            f"variables lists {name}, which is used nowhere"
            for name in self.variables
            if name not in {*used, *elsewhere}
        ]
        if wrong:
            raise ValueError("; ".join(wrong))
        return self


class _File(_Entry):
    version: Literal[1]
    templates: dict[str, dict[str, Any] | None] | None = None  # one entry, or a list of them, one a language


def find_placeholders(text: str) -> tuple[str, ...]:
    """Return the names in `text`'s placeholders, each once: numbers in rising order, names in order of first use."""
    names = tuple(dict.fromkeys(name for match in PLACEHOLDER.finditer(text) if (name := match[1].strip())))
    # {{1}} is the first parameter wherever it stands in the text.
    return tuple(sorted(names, key=int)) if all(name.isdecimal() for name in names) else names


def read_entries(text: str) -> tuple[list[tuple[str, str, TemplateEntry, Mark]], tuple[str, ...]]:
    """Return the sound (provider, template id, entry, place)s of a templates file, and its problems in line order.

    A template in several languages has as many entries, one behind the other.
    A problem reads `line:column: text`. Text of blanks and comments holds no entries. Never raises.
    """
    if not any(line and not line.startswith("#") for line in map(str.strip, text.splitlines())):
        return [], ()
    document = read_document(text)
    if document.data is None:
        return [], _print_problems(document.problems)
    file, problems = _validate(_File, document.data, document, ())
    entries: list[tuple[str, str, TemplateEntry, Mark]] = []
    for provider, templates in (file.templates or {}).items() if file else ():
        for id_, data in (templates or {}).items():
            whole: Path = ("templates", provider, id_)
            written = [((*whole, index), item) for index, item in enumerate(data)] if isinstance(data, list) else None
            languages: set[str] = set()
            for path, item in [(whole, data)] if written is None else written:
                entry, found = _validate(TemplateEntry, item, document, path)
                problems += found
                if entry is None:
                    continue
                place = document.find_place(path).key
                if entry.language in languages:
                    problems.append(Problem("error", *place, f'"{id_}" stands here twice in "{entry.language}"'))
                languages.add(entry.language)
                entries.append((provider, id_, entry, place))
    return entries, _print_problems((*document.problems, *problems))


def _validate(model: type[Model], data: Any, document: Document, path: Path) -> tuple[Model | None, list[Problem]]:
    try:
        return model.model_validate(data), []
    except ValidationError as error:
        return None, [_describe(detail, document, path) for detail in error.errors(include_url=False)]


def _describe(detail: ErrorDetails, document: Document, path: Path) -> Problem:
    place = document.find_place((*path, *detail["loc"])).key
    where = ".".join(map(str, (*path, *detail["loc"])))
    return Problem("error", place.line, place.column, f"{where}: {_explain(detail)}")


def _explain(detail: ErrorDetails) -> str:
    match detail["type"]:
        case "extra_forbidden":
            similar = find_similar(str(detail["loc"][-1]), TemplateEntry.model_fields)
            return "unknown key" + (f'; did you mean "{similar}"?' if similar else "")
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

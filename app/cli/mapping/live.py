"""The approved templates as the providers list them now, for `check --live` and `templates pull`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from app.mapping.provider import ProviderSettings
from app.mapping.template import Template, Templates, gather_languages
from app.providers import build_provider, open_client
from app.providers.answers import is_success
from app.providers.base import LIST_LIMIT_BYTES, Response, TemplateLister
from app.settings import read_environment, read_settings


@dataclass(frozen=True, slots=True)
class LiveTemplates:
    """The providers answered this: `templates` of those `listed`; `faults`: (provider, why there is no list)."""

    templates: Templates
    listed: tuple[str, ...] = ()
    faults: tuple[tuple[str, str], ...] = ()
    cannot: tuple[str, ...] = ()  # providers whose type lists nothing: their templates are kept by hand


def fetch_templates(providers: Mapping[str, ProviderSettings]) -> LiveTemplates:
    """Ask every account that can list its templates."""
    listers = {
        name: lister
        for name, settings in providers.items()
        if isinstance(lister := build_provider(settings), TemplateLister)
    }
    answers = asyncio.run(_fetch_all({name: (providers[name], lister) for name, lister in listers.items()}))
    found = {name: answer for name, answer in answers.items() if not isinstance(answer, str)}
    return LiveTemplates(
        templates=gather_languages(template for templates in found.values() for template in templates),
        listed=tuple(found),
        faults=tuple((name, answer) for name, answer in answers.items() if isinstance(answer, str)),
        cannot=tuple(name for name in providers if name not in listers),
    )


async def _fetch_all(
    listers: Mapping[str, tuple[ProviderSettings, TemplateLister]],
) -> dict[str, list[Template] | str]:
    answers = await asyncio.gather(*(_fetch_one(name, *lister) for name, lister in listers.items()))
    return dict(zip(listers, answers, strict=True))


async def _fetch_one(name: str, settings: ProviderSettings, lister: TemplateLister) -> list[Template] | str:
    """Return the list, or why there is none and what to do."""
    request = lister.list_templates_request()
    if request is None:
        return "needs `account_id:` to list its templates; Gallabox shows it in the dashboard's address"
    client = await open_client(settings, way=read_settings(read_environment()).way)
    try:
        response = await client.fetch(request, LIST_LIMIT_BYTES)
    finally:
        await client.close()
    fault = _judge(response)
    if fault is not None or response is None:
        return fault or ""
    templates = lister.read_templates(name, response.body)
    return "answered with something that is no list of templates" if templates is None else list(templates)


def _judge(response: Response | None) -> str | None:
    if response is None:
        return "could not be reached; check `base_url:` and the network"
    if response.status in {401, 403}:
        return f"answered {response.status}; check `api_key:`, `api_secret:` and `account_id:`"
    return None if is_success(response.status) else f"answered {response.status}"

"""The YAML and the file of webhook secrets are read, checked and put in force, and replaced whole when they change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from app.clock import Clock, read_clock
from app.delivery.status import ConfigStatus, Refused
from app.errors import ConfigError
from app.files import Secret, list_active, read_bytes, read_secrets, stamp_file
from app.mapping import Problem, cut_lines, format_problem
from app.mapping.parse import Parsed, parse_config
from app.mapping.rules import Config
from app.mapping.template import Templates
from app.mapping.template_entries import ParsedTemplates, parse_templates
from app.model.value import dataclass
from app.observe.logs import Log
from app.observe.metrics import Metrics
from app.providers.base import ProviderType
from app.relay import Snapshot
from app.settings import EXAMPLES, SHORTEST_SECRET, Settings
from app.values.instant import format_instant

_NAME = "RELAY_NECTOR_SECRETS_FILE"
_LONGEST_SECRETS = 65_536


class Keyring:
    """Holds the secrets, and tells `use` each time that others are in force.

    A file that cannot be used keeps the last good ones, as long as they hold. `banned` are never taken from it.
    Raises ConfigError where the file cannot be used at the start.
    """

    def __init__(self, settings: Settings, clock: Clock, metrics: Metrics, log: Log) -> None:
        self.use: Callable[[Sequence[str]], None] = lambda _: None
        self.banned: Collection[str] = ()
        self._path = settings.nector_secrets_file
        self._set = settings.secrets
        self._clock, self._metrics, self._log = clock, metrics, log
        self._reading = asyncio.Lock()
        self._seen = self._stamp()
        self._kept = self._read()
        self._active = self.list_active()
        metrics.secrets_ok.set(1)

    def list_active(self) -> tuple[str, ...]:
        """Return the secrets that hold now."""
        return list_active([*map(Secret, self._set), *self._kept], self._clock())

    async def look(self) -> None:
        """Read the file again if it has changed, and let go of what has lapsed."""
        if self._path is not None:
            if self._stamp() != self._seen:
                await self.reload()
            before = len(self._active)
            self._put()
            if len(self._active) < before:
                left = len(self._active)
                cure = None if left else f"every webhook is refused now: put a new secret into {self._path}"
                self._log.warning("secrets.lapsed", in_force=left, cure=cure)

    async def reload(self) -> str | None:
        """Read the file again; return what is wrong with it, None if it is in force."""
        if self._path is None:
            return None
        async with self._reading:
            self._seen = self._stamp()
            try:
                kept = await asyncio.to_thread(self._read)
            except Exception as error:  # noqa: BLE001  # a file that we cannot even refuse must not end the watching
                fault = str(error) if isinstance(error, ConfigError) else f"unexpected failure: {type(error).__name__}"
                self._metrics.secrets_ok.set(0)
                self._log.error("secrets.refused", detail=fault, in_force=len(self._active))
                return fault
            changed, self._kept = kept != self._kept, kept
            self._metrics.secrets_ok.set(1)
            self._log.info("secrets.reloaded", changed=changed, in_force=len(self.list_active()))
            if changed:
                warn_short(self._log, _NAME, (secret.text for secret in kept))
            self._put()
            return None

    def _put(self) -> None:
        active = self.list_active()
        if active != self._active:
            self._active = active
            self.use(active)

    def _read(self) -> tuple[Secret, ...]:
        path = self._path
        if path is None:
            return ()
        cure = f"; {_NAME} names a file that the relay may read, with one secret a line"
        try:
            if path.exists() and not path.is_file():  # a FIFO would be waited for
                raise ConfigError(f"{path}: is no file{cure}")
            with path.open("rb") as file:
                given = file.read(_LONGEST_SECRETS + 1)
            secrets = read_secrets(given.decode())
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror}){cure}") from None
        except UnicodeDecodeError:
            raise ConfigError(f"{path}: is not UTF-8 text{cure}") from None
        except ValueError as error:
            raise ConfigError(f"{path}: {error}") from None
        if len(given) > _LONGEST_SECRETS:
            raise ConfigError(f"{path}: is longer than {_LONGEST_SECRETS // 1024} KiB{cure}")
        if not list_active(secrets, self._clock()):
            raise ConfigError(f"{path}: holds no secret{' that has not lapsed' if secrets else ''}{cure}")
        if not {secret.text for secret in secrets}.isdisjoint(self.banned):
            raise ConfigError(f"{path}: holds a secret of .env.example, which everybody knows: put your own there")
        return secrets

    def _stamp(self) -> tuple[int, int, int] | None:
        return None if self._path is None else stamp_file(self._path)


def warn_short(log: Log, name: str, secrets: Iterable[str]) -> None:
    """Say so where a secret can be guessed; the examples are told of otherwise."""
    if any(len(secret) < SHORTEST_SECRET and secret not in EXAMPLES for secret in secrets):
        cure = f"make it {SHORTEST_SECRET} characters or more: a shorter one can be guessed"
        log.warning("setting.short", name=name, cure=cure)


LOOK_EVERY_S = 2.0
_LONGEST_FILE = 262_144
ProviderTypes: TypeAlias = Mapping[str, ProviderType]
"""By the YAML's `type:`."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The YAML and the templates beside it ("" if there are none) as text, with the names that messages give them."""

    name: str
    text: str
    templates_name: str
    templates_text: str


def read_sources(settings: Settings) -> Sources:
    """Return the texts in force; raises ConfigError if one cannot be read."""
    templates_path = settings.config.parent / "templates.yaml"
    templates_text = read_text(templates_path) if templates_path.is_file() else ""
    text = settings.config_yaml or read_text(settings.config, "; set RELAY_CONFIG or --config to your YAML file")
    return Sources(_name_source(settings), text, str(templates_path), templates_text)


def _name_source(settings: Settings) -> str:
    """Return what messages call the YAML: its path, or the setting that holds it."""
    return "RELAY_CONFIG_YAML" if settings.config_yaml else str(settings.config)


def read_text(path: Path, cure: str = "", longest: int = _LONGEST_FILE) -> str:
    """Return the text of a file, at most a byte longer than `longest`; raises ConfigError if it cannot be read."""
    try:
        return read_bytes(path, longest, cut=True).decode("utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}){cure}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None


@dataclass(frozen=True, slots=True)
class Reading:
    """The YAML and its templates as read, with the problems of each."""

    sources: Sources
    parsed: Parsed
    templates: ParsedTemplates

    def list_problems(self) -> list[tuple[str, Problem]]:
        """Return (file, problem) of all."""
        own = [(self.sources.name, problem) for problem in self.parsed.problems]
        return own + [(self.sources.templates_name, problem) for problem in self.templates.problems]

    def use(self, *, is_strict: bool = False, is_whole: bool = False) -> Config:
        """Return the rules; raises ConfigError with their errors, of many the first unless `is_whole`.

        `is_strict`: a `${NAME}` that nothing sets is one, too, since a request built from it fails.
        """
        problems = self.list_problems()
        faults = [each for each in problems if each[1].severity == "error" or (is_strict and each[1].unset)]
        if faults or self.parsed.config is None:
            lines = [format_problem(name, replace(problem, severity="error")) for name, problem in faults]
            raise ConfigError(
                f"{self.sources.name} cannot be used:\n" + ("\n".join(lines) if is_whole else cut_lines(lines))
            )
        return self.parsed.config


def read_rules(
    sources: Sources,
    environment: Mapping[str, str],
    types: ProviderTypes,
    *,
    live: Templates | None = None,
    listed: Collection[str] = (),
    recorded: Mapping[str, Collection[str]] | None = None,
) -> Reading:
    """Return the texts as read. `live`: what the `listed` providers have now; `recorded`: see parse_config."""
    templates = parse_templates(sources.templates_text)
    templates = replace(templates, templates=merge_live(templates.templates, live or {}, listed))
    parsed = parse_config(
        sources.text,
        environment=environment,
        provider_types={name: provider_type.settings_type for name, provider_type in types.items()},
        templates=templates.templates,
        listed=listed,
        recorded=recorded,
    )
    return Reading(sources, parsed, templates)


def merge_live(kept: Templates, live: Templates, listed: Collection[str]) -> Templates:
    """Return what is true now: `listed` providers' templates as they listed them, the others' as the file has them."""
    return {**{key: template for key, template in kept.items() if key[0] not in listed}, **live}


def load_snapshot(
    settings: Settings, environment: Mapping[str, str], types: ProviderTypes
) -> tuple[Snapshot, list[Problem]]:
    """Return the rules in force and their warnings; raises ConfigError with every problem, a `${NAME}` unset, too."""
    read = read_rules(read_sources(settings), environment, types)
    return build_snapshot(read.use(is_strict=True), types), list(read.parsed.problems)


def build_snapshot(config: Config, types: ProviderTypes) -> Snapshot:
    """Return what a checked config is used through."""
    providers = {name: types[settings.type](settings) for name, settings in config.providers.items()}
    return Snapshot(config, providers)


class Rules:
    """Reads the YAML again when it changes, and the `keyring` with it; `use` puts each version in force."""

    def __init__(
        self,
        settings: Settings,
        environment: Mapping[str, str],
        types: ProviderTypes,
        snapshot: Snapshot,
        metrics: Metrics,
        log: Log,
        keyring: Keyring,
    ) -> None:
        self.name = _name_source(settings)
        self.use: Callable[[Snapshot], None] = lambda _: None
        self._settings, self._environment, self._types = settings, environment, types
        self._snapshot, self._metrics, self._log, self._keyring = snapshot, metrics, log, keyring
        self._used_at = read_clock()
        self._refused: Refused | None = None
        self._reloading = asyncio.Lock()
        self._seen = self._stamp()
        self._show()

    def read_hash(self) -> str:
        """Return which version of the YAML is in force."""
        return self._snapshot.config.hash

    def show(self) -> ConfigStatus:
        """Return what is in force, and what was refused since."""
        config = self._snapshot.config
        since = format_instant(self._used_at)
        return ConfigStatus(path=self.name, hash=config.hash, since=since, mode=config.mode, refused=self._refused)

    def propose(self, name: str, text: str, templates_text: str | None) -> Snapshot:
        """Return the rules of a YAML that is not in force, to be tried; raises ConfigError with all that is wrong.

        Without templates those in force go with it. Nothing can be sent by it: it has no providers.
        """
        own = read_sources(self._settings)
        given = Sources(name, text, "templates.yaml", own.templates_text if templates_text is None else templates_text)
        config = read_rules(given, self._environment, self._types).use(is_whole=True)
        return Snapshot(config, {})

    async def reload(self) -> str | None:
        """Load the YAML and the file of secrets again; return what is wrong, None if both are in force now."""
        lacking = await self._keyring.reload()
        async with self._reloading:  # one after the other, or an older reading may be put over a newer one
            return await self._reload() or lacking

    async def _reload(self) -> str | None:
        try:
            snapshot, warnings = await asyncio.to_thread(load_snapshot, self._settings, self._environment, self._types)
        except ConfigError as error:
            return self._refuse(str(error))
        except Exception as error:  # noqa: BLE001  # a file that we cannot even refuse must not end the watching
            return self._refuse(f"unexpected failure: {type(error).__name__}", error)
        changed = snapshot.config.hash != self._snapshot.config.hash
        self._snapshot, self._refused = snapshot, None
        self._used_at = read_clock() if changed else self._used_at
        self.use(snapshot)
        self._metrics.reloads.inc("used")
        self._metrics.reload_ok.set(1)
        self._show()
        self._log.info("config.reloaded", hash=snapshot.config.hash, changed=changed, warnings=len(warnings))
        return None

    def _refuse(self, fault: str, error: Exception | None = None) -> str:
        self._metrics.reloads.inc("refused")
        self._metrics.reload_ok.set(0)
        lines = [line.strip() for line in fault.splitlines()]
        self._refused = Refused(at=format_instant(read_clock()), faults=lines[1:] or lines)
        in_force = self._snapshot.config.hash
        self._log.error("config.refused", detail=fault.splitlines(), in_force=in_force, exc_info=error)
        return fault

    async def watch(self) -> None:
        """Reload whenever the file, or the templates beside it, changes; and the file of secrets when that does."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self._keyring.look()
            stamp = self._stamp()
            if stamp != self._seen:
                self._seen = stamp
                async with self._reloading:
                    await self._reload()

    def _stamp(self) -> list[tuple[int, int, int] | None]:
        templates = self._settings.config.parent / "templates.yaml"
        return [stamp_file(templates), None if self._settings.config_yaml else stamp_file(self._settings.config)]

    def _show(self) -> None:
        config = self._snapshot.config
        self._metrics.config_info.replace({(config.hash,): 1})
        self._metrics.expect_providers(config.providers)
        self._metrics.expect_routes((route.name, route.provider) for route in config.routes)

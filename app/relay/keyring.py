"""The webhook secrets in force: those of the settings, and those of a file that is read again when it changes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, SecretStr

from app.clock import Clock
from app.errors import ConfigError
from app.observe.logs import Log
from app.observe.metrics import Metrics
from app.settings import EXAMPLES, SHORTEST_SECRET, Settings

_NAME = "RELAY_NECTOR_SECRETS_FILE"
_LONGEST_FILE = 65_536


def stamp_file(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when a file is written or replaced (a mounted ConfigMap swaps a link: inode)."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


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
                given = file.read(_LONGEST_FILE + 1)
            secrets = read_secrets(given.decode())
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror}){cure}") from None
        except UnicodeDecodeError:
            raise ConfigError(f"{path}: is not UTF-8 text{cure}") from None
        except ValueError as error:
            raise ConfigError(f"{path}: {error}") from None
        if len(given) > _LONGEST_FILE:
            raise ConfigError(f"{path}: is longer than {_LONGEST_FILE // 1024} KiB{cure}")
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


_DAY_MS = 86_400_000
_UNTIL = re.compile(r"until=([0-9]{4}-[0-9]{2}-[0-9]{2})")
_CURE = "write the secret alone, or with a blank and until=YEAR-MONTH-DAY behind it"


def find_quoted(settings: BaseModel) -> list[str]:
    """Return the secrets that begin or end with a quote or a blank: they fit nothing.

    `docker --env-file` keeps quotes, an editor of Windows leaves a carriage return.
    """
    values = [(name, each) for name, value in settings for each in (value if isinstance(value, tuple) else (value,))]
    secrets = [(name, value.get_secret_value()) for name, value in values if isinstance(value, SecretStr)]
    return [name for name, secret in secrets if re.search(r"""^["'\s]|["'\s]$""", secret)]


@dataclass(frozen=True, slots=True)
class Secret:
    """One secret, and when (ms since the epoch) it holds no more; None: never."""

    text: str = field(repr=False)
    ends_at: int | None = None


def read_secrets(text: str) -> tuple[Secret, ...]:
    """Return the secrets that a file's text names; raises ValueError naming a line, never what stands there.

    The day of `until=` is one of UTC, and the secret holds to its end. A line that begins with `#` says nothing.
    """
    lines = text.removeprefix("\ufeff").splitlines()
    return tuple(
        secret
        for number, line in enumerate(lines, 1)
        if not line.lstrip().startswith("#")
        for secret in _read_line(line, number)
    )


def list_active(secrets: Iterable[Secret], now: int) -> tuple[str, ...]:
    """Return the secrets that hold now, each once."""
    return tuple(dict.fromkeys(each.text for each in secrets if each.ends_at is None or now < each.ends_at))


def _read_line(line: str, number: int) -> Iterator[Secret]:
    for part in line.split(","):
        match part.split():
            case []:
                continue
            case [text, *rest] if text.isprintable() and not text.startswith("until=") and len(rest) <= 1:
                yield Secret(text, _read_end(rest[0], number) if rest else None)
            case _:
                raise ValueError(f"line {number}: {_CURE}")


def _read_end(word: str, number: int) -> int:
    found = _UNTIL.fullmatch(word)
    try:
        day = datetime.strptime(found[1] if found else "", "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise ValueError(f"line {number}: {_CURE}") from None
    return round(day.timestamp()) * 1000 + _DAY_MS

"""Settings from the environment, from `.env` and from Docker's secret files.

Every one is listed in `.env.example`; a test holds the two together. The providers' own secrets are
not settings of ours: the YAML reads them through `${NAME}` from the same places (`read_environment`).
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from dotenv import dotenv_values
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.errors import ConfigError
from app.mapping.provider import Way
from app.model.delivery import DEDUP_WINDOW_MS
from app.sources.base import list_schemes
from app.values.address import SCHEMES, Bind, Network, read_bind, read_networks, read_postgres
from app.values.instant import format_duration, parse_duration

SECRETS_FOLDER = Path("/run/secrets")
ENV_FILE = Path(".env")
PREFIX = "RELAY_"
SHORTEST_SECRET = 16
EXAMPLES = frozenset(
    {"sandbox-nector-secret", "sandbox-admin-token", "sandbox-webhook-secret", "sandbox-webhook-token"}
)
"""The secrets of `.env.example` by which others come in: everybody can read them."""


def read_environment(
    process: Mapping[str, str] | None = None, env_file: Path = ENV_FILE, secrets_folder: Path = SECRETS_FOLDER
) -> dict[str, str]:
    """Return every name that settings and the YAML may read: the process's, then `.env`'s, then secret files'."""
    try:
        # Not interpolated: a secret may hold a ${.
        written = dotenv_values(env_file, interpolate=False)
    except UnicodeDecodeError:
        raise ConfigError(f"{env_file}: is not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"{env_file}: cannot be read ({error.strerror})") from None
    return {
        **_read_secret_files(secrets_folder),
        **{name: value for name, value in written.items() if value is not None},
        **(os.environ if process is None else process),
    }


def _read_secret_files(folder: Path) -> dict[str, str]:
    """Return the text of each file by its name; a certificate's binary or another's secret is none of ours."""
    secrets: dict[str, str] = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if path.is_file():
                secrets[path.name] = path.read_text(encoding="utf-8").strip()
    return secrets


def _split_list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _by(read: Callable[[str], object]) -> BeforeValidator:
    """Return what reads a text, and leaves a value that is none as it is."""
    return BeforeValidator(lambda value: read(value) if isinstance(value, str) else value)


def _matching(pattern: str, cure: str) -> AfterValidator:
    """Return what refuses a secret text that is written otherwise."""

    def check(value: SecretStr) -> SecretStr:
        if re.fullmatch(pattern, value.get_secret_value()) is None:
            raise ValueError(cure)
        return value

    return AfterValidator(check)


AnyCase = _by(str.lower)
Duration = Annotated[int, _by(parse_duration)]
"""Milliseconds, written `90s`, `15m`, `6h` or `7d`."""
Networks = Annotated[
    tuple[Network, ...],
    NoDecode,
    _by(lambda text: read_networks(map(str.strip, text.split(","))) if text.strip() else text),
]
"""Networks in CIDR notation, with commas between them."""
Proxy = Annotated[
    SecretStr,
    _matching(r"(https?://[^\s/?#]+/?)?", "write http://HOST:PORT, or http://USER:PASSWORD@HOST:PORT"),
]
Url = Annotated[SecretStr, _matching(r"(https?://[^\s/?#@]+(/[^\s#]*)?)?", "write https://HOST/PATH")]


_DAY_MS = 86_400_000
RETENTIONS: Mapping[str, tuple[int, int]] = {
    "": (7 * _DAY_MS, 90 * _DAY_MS),
    "minimal": (7 * _DAY_MS, 30 * _DAY_MS),
    "dpdp_1y": (7 * _DAY_MS, 365 * _DAY_MS),
}
"""What RELAY_RETENTION stands for, in ms: how long payloads and then records are kept. See docs/privacy.md."""


class Settings(BaseSettings):
    """The settings say how this process runs. Names in the environment: `RELAY_` and the field in capitals."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True, hide_input_in_errors=True)

    config: Path = Path("config/relay.yaml")  # the YAML file of routes
    config_yaml: str = ""  # the whole YAML inline; wins over the file
    # Where the outbox is: sqlite:///PATH, or postgresql://… for several replicas, whose password may stand in it; or
    # `none`: stateless.
    database_url: str = Field("sqlite:///data/relay.db", repr=False)
    nector_secrets: Annotated[tuple[SecretStr, ...], NoDecode, _by(_split_list)] = ()  # comma-separated, all active
    nector_secrets_file: Path | None = None  # a file of more of them, read again when it changes
    nector_hmac: Annotated[Literal["off", "log", "enforce"], AnyCase] = "log"  # what to do with x-nector-webhook-hmac
    nector_hmac_scheme: str = ""  # the one recipe of it, as `verify-capture` names it; else all likely
    insecure_no_auth: bool = False  # accept webhooks from anybody; never in production
    nector_addresses: Networks = ()  # the only ones that Nector's webhooks come from; empty: any
    admin_token: SecretStr | None = None  # opens the ops API; unset: it answers 404
    ops_bind: Annotated[Bind | None, _by(read_bind)] = None  # HOST:PORT: the ops API has an address of its own
    trusted_proxies: Networks = ()  # whose X-Forwarded-For is believed
    test_numbers: Annotated[tuple[str, ...], NoDecode, _by(_split_list)] = ()  # the only ones that `send-test` sends to
    log_level: Annotated[Literal["debug", "info", "warning", "error"], AnyCase] = "info"  # the least that is shown
    log_format: Annotated[Literal["json", "console"], AnyCase] = "json"  # one JSON object a line, or text for people
    settle_after: Duration = 900_000  # how long an unknown delivery waits for its receipt
    retention: Annotated[Literal["", "minimal", "dpdp_1y"], AnyCase] = ""  # a choice of the two below
    payload_retention: Duration = RETENTIONS[""][0]  # how long a payload is kept after its last state
    record_retention: Duration = RETENTIONS[""][1]  # how long an event is known after its last state
    ca_file: Path | None = None  # certificates (PEM) that TLS trusts beside the system's
    proxy: Proxy = SecretStr("")  # the proxy that requests to providers go through
    notify_url: Url = SecretStr("")  # where to post that a hold, a lane or a silence changed
    notify_secret: SecretStr = SecretStr("")  # signs what is posted there: whsec_ and base64
    keep_alive: Duration = 75_000  # how long a connection may wait for its next request
    shutdown_grace: Duration = 20_000  # how long SIGTERM lets open sends finish

    @field_validator("admin_token", mode="before")
    @classmethod
    def _fits_a_header(cls, value: object) -> object:
        token = value.strip() if isinstance(value, str) else ""
        if not (token.isascii() and token.isprintable()):
            raise ValueError("write letters, digits and signs of ASCII only: an HTTP header carries no others")
        return (token or None) if isinstance(value, str) else value

    @field_validator("record_retention")
    @classmethod
    def _outlives_repeats(cls, value: int, info: ValidationInfo) -> int:
        """A forgotten event sent again would be a new one, and a payload cannot outlive its record."""
        if value < DEDUP_WINDOW_MS:
            raise ValueError(f"write {format_duration(DEDUP_WINDOW_MS)} or more: repeats are known for so long")
        payload_retention = info.data.get("payload_retention", 0)
        if value < payload_retention:
            raise ValueError(f"write {format_duration(payload_retention)} or more, as RELAY_PAYLOAD_RETENTION is")
        return value

    @model_validator(mode="before")
    @classmethod
    def _fill_retention(cls, given: dict[str, object]) -> dict[str, object]:
        """Let RELAY_RETENTION say what the two others do not."""
        chosen = RETENTIONS.get(str(given.get("retention", "")).lower(), RETENTIONS[""])
        return {**dict(zip(("payload_retention", "record_retention"), chosen, strict=True)), **given}

    @field_validator("ca_file")
    @classmethod
    def _holds_certificates(cls, value: Path | None) -> Path | None:
        try:
            if value is not None:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(value)
        except OSError as error:  # ssl.SSLError is one
            raise ValueError(f"cannot be read as certificates in PEM ({error.strerror})") from None
        return value

    @field_validator("notify_secret")
    @classmethod
    def _signs(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        """Hold it to https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md."""
        url, secret = info.data.get("notify_url", SecretStr("")).get_secret_value(), value.get_secret_value()
        try:
            key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except ValueError:
            key = b""
        fits = secret.startswith("whsec_") and 24 <= len(key) <= 64  # noqa: PLR2004  # the specification's own bounds
        if (url or secret) and not fits:
            raise ValueError("write whsec_ and the base64 of 24 to 64 random bytes: openssl rand -base64 32")
        return value

    @field_validator("nector_hmac_scheme")
    @classmethod
    def _known_scheme(cls, value: str) -> str:
        if value in {"", *list_schemes()}:
            return value
        raise ValueError("is no known recipe; `nector-relay verify-capture` names the one that holds")

    @field_validator("database_url")
    @classmethod
    def _known_store(cls, value: str) -> str:
        if value == "none" or (value.startswith("sqlite:///") and Path(value.removeprefix("sqlite:///")).name):
            return value
        if value.startswith(SCHEMES):
            read_postgres(value)
            return value
        raise ValueError(
            "write sqlite:///PATH (sqlite:////data/relay.db is /data/relay.db), "
            "postgresql://USER:PASSWORD@HOST/DATABASE for several replicas, or none"
        )

    @classmethod
    def settings_customise_sources(cls, *_: Any, init_settings: Any, **_others: Any) -> tuple[Any, ...]:  # type: ignore[override]  # pydantic names each
        """Read only what `read_settings` passes in, so that settings and the YAML see one environment."""
        return (init_settings,)

    @property
    def stateless(self) -> bool:
        """Tell whether there is no outbox."""
        return self.database_url == "none"

    @property
    def way(self) -> Way:
        """Return how requests to providers leave this network."""
        return Way(self.ca_file, self.proxy.get_secret_value() or None)

    @property
    def shares_database(self) -> bool:
        """Tell whether the outbox is in PostgreSQL, where other replicas may be at it."""
        return self.database_url.startswith(SCHEMES)

    @property
    def database_path(self) -> Path:
        """The SQLite file."""
        return Path(self.database_url.removeprefix("sqlite:///"))

    @property
    def database_place(self) -> str:
        """Return where the outbox is, without a password."""
        return read_postgres(self.database_url).place if self.shares_database else str(self.database_path)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Nector's active webhook secrets of the environment, in the clear."""
        return tuple(secret.get_secret_value() for secret in self.nector_secrets)

    @property
    def asks_for_secret(self) -> bool:
        """Tell whether a webhook needs a secret, also where all have lapsed."""
        return bool(self.nector_secrets or self.nector_secrets_file) or not self.insecure_no_auth


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Return the settings in `environment`; raises ConfigError naming every setting that is wrong."""
    settings, fault = read_sound_settings(environment)
    if fault:
        raise ConfigError(fault)
    return settings


def read_sound_settings(environment: Mapping[str, str]) -> tuple[Settings, str]:
    """Return the settings that can be used, for the others their defaults, and what is wrong with those, "" if none is.

    So whoever starts a relay reads what is wrong in the YAML, too, and not after the next start.
    """
    given = {name: environment.get(f"{PREFIX}{name.upper()}", "") for name in Settings.model_fields}
    fields = {name: value for name, value in given.items() if value != ""}
    lines: list[str] = []
    while True:
        try:
            settings = Settings(**fields)  # type: ignore[arg-type]  # text; pydantic makes each field's type of it
        except ValidationError as error:
            faults = {str(fault["loc"][0]): _describe(fault["msg"]) for fault in error.errors()}
            lines += [f"{PREFIX}{name.upper()}: {told}" for name, told in faults.items()]
            sound = {name: value for name, value in fields.items() if name not in faults}
            fields = sound if len(sound) < len(fields) else {}  # a default that does not fit what is given
        else:
            return settings, "a setting is wrong\n  " + "\n  ".join(lines) if lines else ""


def _describe(message: str) -> str:
    """Return pydantic's words without its own of programming."""
    text = message.removeprefix("Value error, ")
    return "write true or false" if "valid boolean" in text else text.replace("Input should be", "write")


# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_INJECTED = re.compile(
    r"RELAY_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)


def unknown_names(environment: Mapping[str, str]) -> list[str]:
    """Return `RELAY_…` names that no setting has: most likely misspelt. RELAY_URL is the commands' own.

    Of a Service named relay, or relay-x, Kubernetes puts ten names more into every container: those are nobody's.
    """
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | {"RELAY_URL", "RELAY_TEST_POSTGRES_URL"}
    ours = {name for name in environment if name.startswith(PREFIX) and not _INJECTED.fullmatch(name)}
    return sorted(ours - known)

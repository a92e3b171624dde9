"""An entry of `providers:` may hold these settings whatever its type; and requests leave this network in a `Way`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, Field, SecretStr

from app.model.value import dataclass
from app.values.instant import parse_duration, parse_rate

# A key that ends so holds a secret: api_key, apiKey, webhook_token, x-api-key, client-secret, Authorization.
_SECRET_ENDINGS = ("apikey", "secret", "token", "password", "authorization", "credentials", "authkey", "accesskey")


def _check_rate(text: str) -> str:
    parse_rate(text)
    return text


def _check_timeout(text: str) -> str:
    if parse_duration(text) == 0:
        raise ValueError("must be more than 0s")
    return text


class ProviderSettings(BaseModel, extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True):
    """The keys that every `providers:` entry may hold, beside its type's own."""

    named_variables: ClassVar[bool] = False  # True: its API wants template variables by name

    type: str = Field(description="The provider's type.")
    rate: Annotated[str, AfterValidator(_check_rate)] = Field(
        "16/s", description="At most so many messages in a time: 16/s, 1000/min.", examples=["16/s", "1000/min"]
    )
    concurrency: int = Field(64, ge=1, le=1000, description="At most so many requests at once.")
    timeout: Annotated[str, AfterValidator(_check_timeout)] = Field(
        "10s",
        description="How long a request may take; after that nobody knows whether it was sent.",
        examples=["10s", "30s"],
    )
    treat_500_as: Literal["retry", "unknown"] = Field(
        "retry", description="What an answer 500 means: surely not sent (retry), or perhaps sent (unknown)."
    )

    verify_token: SecretStr = Field(
        SecretStr(""), description="Only needed where a webhook is set up by hub.challenge, as Meta does it."
    )

    @property
    def address(self) -> str:
        """The address of the provider's API; "" for a type that has no URL."""
        return ""

    @property
    def is_guessed(self) -> bool:
        """Tell whether the file leaves open how an answer says that the message was taken."""
        return False

    def list_doubts(self) -> Sequence[tuple[str, str]]:
        """Return what `check` should warn of, and the cure of each."""
        return ()

    @property
    def rate_per_s(self) -> float:
        """Messages per second."""
        return parse_rate(self.rate)

    @property
    def timeout_ms(self) -> int:
        """The longest time that a request may take, in ms."""
        return parse_duration(self.timeout)


@dataclass(frozen=True, slots=True)
class Way:
    """A way out of this network tells whom TLS trusts beside the system's authorities, and the proxy in between."""

    ca_file: Path | None = None
    proxy: str | None = field(default=None, repr=False)  # may hold a password


DIRECT = Way()


def is_secret_key(path: Sequence[str | int]) -> bool:
    """Tell whether the key at the end of `path` says that its value is a secret."""
    name = next((key for key in reversed(path) if isinstance(key, str)), "")
    return re.sub(r"[^a-z]", "", name.lower()).endswith(_SECRET_ENDINGS)

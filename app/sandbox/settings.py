"""The settings say what the sandbox expects of its callers and does of its own accord."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """An expected credential left "" means: any that is not empty. Every `_provider` is a name of the YAML.

    `relay_url` is where receipts go, None for nowhere. `faults` as in `parse_faults`. `hang_ms`: for how long a
    hanging request is kept at most.
    """

    relay_url: str | None = None
    receipts: bool = True
    read_receipts: bool = True
    receipt_delay_ms: int = 20
    hang_ms: int = 60_000
    faults: str = ""
    gallabox_provider: str = "gallabox"
    gallabox_channel_id: str = ""
    gallabox_account_id: str = ""
    gallabox_api_key: str = field(default="", repr=False)
    gallabox_api_secret: str = field(default="", repr=False)
    gallabox_webhook_secret: str = field(default="", repr=False)
    bitespeed_provider: str = "bitespeed"
    bitespeed_channel_id: str = ""
    bitespeed_user_id: str = ""
    bitespeed_webhook_token: str = field(default="", repr=False)

"""The commands talk to a running relay through its ops API, with the admin token."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any
from urllib.parse import quote

import httpx2

from app.cli.tables import show_waiting
from app.errors import NoRelayError, NotThereError, OpsError
from app.model.value import dataclass
from app.settings import read_environment
from app.values.address import read_bind

DEFAULT_URL = "http://127.0.0.1:8000"
TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class OpsClient:
    """One relay's ops API."""

    url: str
    token: str = field(repr=False)

    def get(self, path: str, query: Mapping[str, Any] | None = None, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
        """Return the JSON object at `path`; raises OpsError saying what to do."""
        return self.send("GET", path, None, timeout_s, query)

    def send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        timeout_s: float = TIMEOUT_S,
        query: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Return the JSON object that a change answers with, an empty one for no content; raises OpsError."""
        given = {name: value for name, value in (query or {}).items() if value is not None}
        try:
            with show_waiting(f"waiting for the relay at {self.url}"):
                response = httpx2.request(
                    method,
                    self.url + path,
                    params=given,
                    json=body,
                    headers={"Authorization": f"Bearer {self.token}"},
                    timeout=timeout_s,
                    trust_env=False,
                )
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            # Only where nothing was connected to is it certain that nothing was done there.
            kind = NoRelayError if isinstance(error, httpx2.ConnectError) else OpsError
            raise kind(
                f"no relay answers at {self.url} ({type(error).__name__}): start one with `nector-relay serve`, "
                "or set RELAY_URL to where it is"
            ) from None
        if not response.is_success:
            raise _explain_refusal(response, self.url)
        return _read_object(response, self.url)


def open_client() -> OpsClient:
    """Return a client for RELAY_URL with RELAY_ADMIN_TOKEN; raises OpsError where either cannot be used."""
    environment = read_environment()
    token = environment.get("RELAY_ADMIN_TOKEN", "").strip()
    if not token:
        raise NoRelayError("RELAY_ADMIN_TOKEN is not set: set it to the token that the relay was started with")
    if not (token.isascii() and token.isprintable()):
        raise OpsError("RELAY_ADMIN_TOKEN holds a character that no HTTP header can carry: no relay has this token")
    url = environment.get("RELAY_URL", "").strip() or DEFAULT_URL
    if url == DEFAULT_URL and (bind := environment.get("RELAY_OPS_BIND", "").strip()):
        url = _find_url(bind)
    if not re.match(r"https?://[^/]", url):
        raise OpsError(f"RELAY_URL must be a URL such as {DEFAULT_URL}, and is {url}")
    return OpsClient(url.rstrip("/"), token)


def _find_url(bind: str) -> str:
    """Return where a relay with this RELAY_OPS_BIND is reached on its own machine."""
    try:
        host, port = read_bind(bind)
    except ValueError as error:
        raise OpsError(f"RELAY_OPS_BIND: {error}") from None
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # what listens on any address
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def quote_part(text: str) -> str:
    """Return what a user typed as one part of a path, whatever stands in it."""
    return quote(text, safe=":")


def _read_object(response: httpx2.Response, url: str) -> dict[str, Any]:
    if not response.content:
        return {}
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise OpsError(f"what answers at {url} is not a relay: set RELAY_URL to where it is")
    return answer


def _explain_refusal(response: httpx2.Response, url: str) -> OpsError:
    if response.status_code in {401, 429}:
        return OpsError(
            f"the relay at {url} refused the token: RELAY_ADMIN_TOKEN differs from the one it was started with"
        )
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = "no detail"
    if response.status_code == 404 and detail == "not found":  # noqa: PLR2004  # the status itself is the clearest name
        return OpsError(
            f"the relay at {url} has no ops API: start it with RELAY_ADMIN_TOKEN set, and with an outbox; "
            "where it has RELAY_OPS_BIND, set RELAY_URL to that address"
        )
    kind = NotThereError if response.status_code == 404 else OpsError  # noqa: PLR2004  # the status itself is the clearest name
    return kind(f"the relay at {url} answered {response.status_code}: {detail}")

"""How the commands talk to a running relay: its ops API, with the admin token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2

from app.errors import OpsError
from app.settings import read_environment

DEFAULT_URL = "http://127.0.0.1:8000"
TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class OpsClient:
    """One relay's ops API."""

    url: str
    token: str

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """Return the JSON at `path`; raises OpsError saying what to do."""
        return self._call("GET", path, query=query)

    def send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return the JSON that a change answers with, None where it answers nothing; raises OpsError."""
        return self._call(method, path, body=body)

    def _call(
        self, method: str, path: str, *, query: Mapping[str, Any] | None = None, body: Mapping[str, Any] | None = None
    ) -> Any:
        given = {name: value for name, value in (query or {}).items() if value is not None}
        try:
            response = httpx2.request(
                method,
                self.url + path,
                params=given,
                json=body,
                headers={"Authorization": f"Bearer {self.token}"},
                timeout=TIMEOUT_S,
                trust_env=False,
            )
        except httpx2.HTTPError as error:
            raise OpsError(
                f"no relay answers at {self.url} ({type(error).__name__}): start one with `nector-relay serve`, "
                "or set RELAY_URL to where it is"
            ) from None
        if response.is_success:
            return response.json() if response.content else None
        raise OpsError(_explain_refusal(response, self.url))


def open_client() -> OpsClient:
    """Return a client for RELAY_URL with RELAY_ADMIN_TOKEN; raises OpsError where no token is set."""
    environment = read_environment()
    token = environment.get("RELAY_ADMIN_TOKEN", "")
    if not token:
        raise OpsError("RELAY_ADMIN_TOKEN is not set: set it to the token that the relay was started with")
    return OpsClient(environment.get("RELAY_URL", DEFAULT_URL).rstrip("/"), token)


def _explain_refusal(response: httpx2.Response, url: str) -> str:
    if response.status_code == 401:  # noqa: PLR2004  # the status itself is the clearest name
        return f"the relay at {url} refused the token: RELAY_ADMIN_TOKEN differs from the one it was started with"
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = "no detail"
    if response.status_code == 404 and detail == "not found":  # noqa: PLR2004  # the status itself is the clearest name
        return f"the relay at {url} has no ops API: start it with RELAY_ADMIN_TOKEN set"
    return f"the relay at {url} answered {response.status_code}: {detail}"

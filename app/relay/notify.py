"""A webhook of ours notifies the shop of what changed: a hold, a lane that is down, a source that is silent.

It is signed as https://www.standardwebhooks.com/ says, so that any library of theirs verifies it.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from app.delivery.pace import Pace
from app.errors import StoreError
from app.model.delivery import Reason
from app.outbox.holds import list_holds
from app.outbox.lanes import take_notice
from app.outbox.read import read_last_event
from app.providers.base import Request
from app.relay import Context
from app.sources import SOURCE
from app.values.instant import format_instant

if TYPE_CHECKING:
    from app.providers.client import ProviderClient

LOOK_EVERY_S = 5.0
CALM_MS = 60_000
"""After a message about something the next one about it may leave so much later: it says how it stands by then."""
SILENT_MS = 86_400_000
MOST_WAITING = 100
WAITS_S = (5, 30, 120, 600, 1_800, 3_600)
"""Before each further try: some two hours in all, then the message is given up."""
_TYPES = {
    "hold": ("hold.set", "hold.ended"),
    "lane": ("lane.down", "lane.up"),
    "source": ("source.silent", "source.heard"),
}
_REASONS = frozenset(Reason)
Standing = Mapping[str, Mapping[str, str | None]]
"""All that is not as it should be, by kind and name (`hold provider:gallabox`): what is told of it."""


def sign(secret: str, id_: str, at_s: int, body: bytes) -> str:
    """Return `v1,` and the signature of a message."""
    # https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#signature-scheme
    key = base64.b64decode(secret.removeprefix("whsec_"))
    return "v1," + base64.b64encode(hmac.digest(key, f"{id_}.{at_s}.".encode() + body, "sha256")).decode()


def list_changes(
    told: Standing, stands: Standing, calm_until: Mapping[str, int], now: int
) -> Sequence[tuple[str, str]]:
    """Return of what to tell, as (what, type): what stands and was not told, and what was and does not any more."""
    new, gone = stands.keys() - told.keys(), told.keys() - stands.keys()
    changed = [(what, _TYPES[what.split()[0]][what in gone]) for what in sorted(new | gone)]
    # What lies further ahead was noted before the clock was set back.
    return [change for change in changed if not 0 < calm_until.get(change[0], 0) - now <= CALM_MS]


class Notifier:
    """Looks how things stand, and posts what changed. What stands at the start is known already."""

    def __init__(
        self,
        context: Context,
        show_paces: Callable[[], Mapping[str, Pace]],
        open_client: Callable[[str], Awaitable[ProviderClient]],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._context = context
        self._url = context.settings.notify_url.get_secret_value()
        self._secret = context.settings.notify_secret.get_secret_value()
        self._show_paces, self._open_client, self._sleep = show_paces, open_client, sleep
        self._told: Standing | None = None
        self._calm_until: dict[str, int] = {}
        # Id and body of each: the id stays, however often it is tried. The oldest goes: the newest says how it is.
        self._waiting: deque[tuple[str, bytes]] = deque(maxlen=MOST_WAITING)
        self._new = asyncio.Event()

    async def run(self) -> None:
        """Go on for as long as the relay runs; no lane waits for it, and it ends nothing."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._post_all())
            while True:
                await self.look()
                await self._sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Note what has changed since it was told."""
        now = self._context.clock()
        try:
            stands = await self._read_standing(now)
        except StoreError:
            return  # whoever needs the outbox tells of it
        told = dict(stands if self._told is None else self._told)
        for what, type_ in list_changes(told, stands, self._calm_until, now):
            data = stands.get(what) or told[what]
            if data["since"] is None or await self._is_ours(f"{type_} {what} {data['since']}"):
                message = {"type": type_, "timestamp": format_instant(now), "data": data}
                self._waiting.append((f"msg_{self._context.new_id(now)}", json.dumps(message).encode()))
            self._calm_until[what] = now + CALM_MS
            if what in stands:
                told[what] = data
            else:
                del told[what]
        self._told = told
        self._calm_until = {what: until for what, until in self._calm_until.items() if until > now}
        if self._waiting:
            self._new.set()

    async def _is_ours(self, change: str) -> bool:
        """Tell whether this one is to tell of a change: each replica of a fleet sees it, and one posts it."""
        outbox = self._context.outbox
        try:
            return outbox.fleet is None or await outbox.write(partial(take_notice, what=change))
        except StoreError:
            return True  # rather twice than not at all

    async def _read_standing(self, now: int) -> Standing:
        """Return what is not as it should be. A reason that a person wrote may name somebody: it stays here."""
        stands: dict[str, Mapping[str, str | None]] = {}
        for hold in await self._context.outbox.read(list_holds):
            reason = hold.reason if hold.reason in _REASONS else Reason.BY_HAND.value
            stands[f"hold {hold.scope}"] = {"scope": hold.scope, "reason": reason, "since": format_instant(hold.since)}
        for name, pace in self._show_paces().items():
            if pace.recovery.down:
                since = pace.recovery.down_since
                stands[f"lane {name}"] = {"provider": name, "since": None if since is None else format_instant(since)}
        event = await self._context.outbox.read(read_last_event)
        if event is not None and now - event.received_at > SILENT_MS:
            stands[f"source {SOURCE.name}"] = {"source": SOURCE.name, "since": format_instant(event.received_at)}
        return stands

    async def _post_all(self) -> None:
        client = await self._open_client(self._url)
        try:
            while True:
                await self._new.wait()
                while self._waiting:
                    await self._post(client, *self._waiting.popleft())
                self._new.clear()
        finally:
            await client.close()

    async def _post(self, client: ProviderClient, id_: str, body: bytes) -> None:
        """Post a message until it is taken, or given up."""
        status: int | None = None
        for wait_s in (0, *WAITS_S):
            await self._sleep(wait_s)
            answer = await client.fetch(self._sign_request(id_, body))
            status = None if answer is None else answer.status
            if status is not None and 200 <= status < 300:  # noqa: PLR2004  # the status itself is the clearest name
                return
        self._context.log.warning("notify.failed", status=status, tries=len(WAITS_S) + 1)

    def _sign_request(self, id_: str, body: bytes) -> Request:
        at_s = self._context.clock() // 1000
        headers = {
            "content-type": "application/json",
            "webhook-id": id_,
            "webhook-timestamp": str(at_s),
            "webhook-signature": sign(self._secret, id_, at_s, body),
        }
        return Request("POST", self._url, headers, body)

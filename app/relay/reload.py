"""The rules in force, and how they are replaced: checked aside, swapped whole, else the last good ones stay."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from app.errors import ConfigError
from app.observe.logs import Log
from app.observe.metrics import Metrics
from app.relay.snapshot import Snapshot, load_snapshot, name_source
from app.settings import Settings

LOOK_EVERY_S = 2.0


class Rules:
    """Holds the snapshot in force. `current` is read once per event, so an event never mixes two versions."""

    def __init__(
        self, settings: Settings, environment: Mapping[str, str], snapshot: Snapshot, metrics: Metrics, log: Log
    ) -> None:
        self.name = name_source(settings)
        self._settings = settings
        self._environment = environment
        self._snapshot = snapshot
        self._metrics = metrics
        self._log = log
        self._reloading = asyncio.Lock()
        self._seen = self._stamp()
        self._show()

    def current(self) -> Snapshot:
        """Return the rules in force."""
        return self._snapshot

    async def reload(self, use: Callable[[Snapshot], None]) -> str | None:
        """Load the YAML again and hand it to `use`; return what is wrong with it, None if it is in force now."""
        async with self._reloading:  # one after the other, or an older reading may be put over a newer one
            return await self._reload(use)

    async def _reload(self, use: Callable[[Snapshot], None]) -> str | None:
        try:
            snapshot, warnings = await asyncio.to_thread(load_snapshot, self._settings, self._environment)
        except ConfigError as error:
            return self._refuse(str(error))
        except Exception as error:  # noqa: BLE001  # a file that we cannot even refuse must not end the watching
            return self._refuse(f"unexpected failure: {type(error).__name__}", error)
        changed = snapshot.config.hash != self._snapshot.config.hash
        self._snapshot = snapshot
        use(snapshot)
        self._metrics.reloads.labels("used").inc()
        self._metrics.reload_ok.set(1)
        self._show()
        self._log.info("config.reloaded", hash=snapshot.config.hash, changed=changed, warnings=len(warnings))
        return None

    def _refuse(self, fault: str, error: Exception | None = None) -> str:
        self._metrics.reloads.labels("refused").inc()
        self._metrics.reload_ok.set(0)
        self._log.error(
            "config.refused", detail=fault.splitlines(), in_force=self._snapshot.config.hash, exc_info=error
        )
        return fault

    async def watch(self, use: Callable[[Snapshot], None]) -> None:
        """Reload whenever the file, or the templates beside it, changes."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            stamp = self._stamp()
            if stamp != self._seen:
                self._seen = stamp
                await self.reload(use)

    def _stamp(self) -> tuple[tuple[int, int, int] | None, ...]:
        """Return what changes when a file is written or replaced (a mounted ConfigMap swaps a link: inode)."""
        paths = [self._settings.config.parent / "templates.yaml"]
        if not self._settings.config_yaml:
            paths.append(self._settings.config)
        stamps: list[tuple[int, int, int] | None] = []
        for path in paths:
            try:
                status = path.stat()
            except OSError:
                stamps.append(None)
            else:
                stamps.append((status.st_mtime_ns, status.st_size, status.st_ino))
        return tuple(stamps)

    def _show(self) -> None:
        config = self._snapshot.config
        self._metrics.set_config(config.hash)
        self._metrics.expect_providers(config.providers)
        self._metrics.expect_routes((route.name, route.provider) for route in config.routes)

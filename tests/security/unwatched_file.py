"""The known-bad control: a relay that never looks whether its file is still there.

Run as `python unwatched_file.py serve …`.
"""

from __future__ import annotations

from app.outbox.sqlite.sidecars import ProcessLock

if __name__ == "__main__":
    ProcessLock.watch = lambda _self: None  # type: ignore[method-assign,assignment]  # the fault itself
    from app.__main__ import main

    main()

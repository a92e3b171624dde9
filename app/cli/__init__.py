"""The commands, one file a group."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from app.errors import ConfigError, RelayError, StoreBroken, StoreError, StoreInUse


def run_command(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code (the table of DESIGN §3.2); no traceback reaches a user."""
    from app.cli.commands import build_commands  # noqa: PLC0415  # keeps `import app.cli` free of work

    try:
        build_commands(arguments)(list(arguments), prog_name="nector-relay")
    except ConfigError as error:
        return _fail(error, 78)
    except StoreInUse as error:
        return _fail(error, 75)
    except (StoreBroken, StoreError) as error:
        return _fail(error, 74)
    except RelayError as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001  # a traceback helps no user, and its values may be a customer's
        return _fail(RelayError(f"unexpected failure: {describe_place(error)}. This is a fault of ours: please report it"), 70)
    return 0


def _fail(error: RelayError, code: int) -> int:
    print(f"nector-relay: {error}", file=sys.stderr)
    return code


def describe_place(error: BaseException) -> str:
    """Return an exception's type and place, and none of its text."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    place = f" at {frame.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{frame.tb_lineno}" if frame else ""
    return type(error).__name__ + place

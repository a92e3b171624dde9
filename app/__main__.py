"""`nector-relay` and `python -m app`."""

from __future__ import annotations

import gc
import os
import sys


def main() -> None:
    """Run one command; exit with its code."""
    # Importing makes objects that stay: looking for garbage among them costs a tenth of the start-up time. A command
    # switches it on again once its code is there.
    gc.disable()
    # No package looks into what is validated: https://docs.pydantic.dev/latest/concepts/plugins/#disabling-plugins
    # To ask each that is installed whether it would takes another thirtieth.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    from app.cli import run_command  # noqa: PLC0415  # after gc.disable, which is the point

    sys.exit(run_command(sys.argv[1:]))


if __name__ == "__main__":
    main()

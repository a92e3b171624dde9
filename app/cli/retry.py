"""`nector-relay retry`: the same frozen message again, by hand."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.ops_client import open_client
from app.errors import OpsError


def retry(
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID…", help="Deliveries to send again.")] = None,
    state: Annotated[str | None, typer.Option(help="All that are dead, unknown or expired.")] = None,
    route: Annotated[str | None, typer.Option(help="With --state: only this route's.")] = None,
) -> int:
    """Send deliveries again as they are. An unknown one may then arrive twice: that is why nobody but you does it."""
    if bool(ids) == bool(state):
        raise OpsError("give either ids or --state dead|unknown|expired")
    answer = open_client().send("POST", "/deliveries/retry", {"ids": ids or [], "state": state, "route": route})
    print(f"{len(answer['retried'])} will be sent again")
    return 0 if answer["retried"] else 1

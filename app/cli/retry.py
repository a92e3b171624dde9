"""`nector-relay retry`: the same frozen message again, by hand."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from app.cli.ops_client import open_client
from app.cli.wording import count_nouns
from app.errors import OpsError

RetryState = Literal["dead", "unknown", "expired"]


def retry(
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID…", help="Deliveries to send again.")] = None,
    state: Annotated[RetryState | None, typer.Option(help="All that are in this state.")] = None,
    route: Annotated[str | None, typer.Option(help="With --state: only this route's.")] = None,
) -> int:
    """Send deliveries again as they are. An unknown one may then arrive twice: that is why nobody but you does it.

    Exit 1 if there is one that was asked for by its id and cannot be, or none at all.
    """
    if bool(ids) == bool(state):
        raise OpsError("give either ids or --state dead|unknown|expired")
    if route and not state:
        raise OpsError("--route goes with --state; an id names one delivery already")
    answer = open_client().send("POST", "/deliveries/retry", {"ids": ids or [], "state": state, "route": route})
    retried = set(answer["retried"])
    print(f"{count_nouns(len(retried), 'delivery', 'deliveries')} will be sent again")
    left = [id_ for id_ in ids or [] if id_ not in retried]
    for id_ in left:
        print(f"{id_}: not sent again: unknown here, not dead, unknown or expired, or without a message")
    return 0 if retried and not left else 1

"""`nector-relay retry`: the same frozen message again, by hand."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Annotated, Literal

import typer

from app.cli.ops.client import open_client
from app.cli.tables import AsJson, count_nouns, print_json
from app.delivery.replay import explain_no_retry
from app.errors import OpsError

SHOWN = 50  # of those that are left out
RetryState = Literal["dead", "unknown", "expired"]


def retry(
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="Deliveries to send again.")] = None,
    state: Annotated[RetryState | None, typer.Option(help="All that are in this state.")] = None,
    route: Annotated[str | None, typer.Option(help="With --state: only this route's.")] = None,
    as_json: AsJson = False,
) -> int:
    """Send deliveries again as they are. An unknown one may then arrive twice: that is why nobody but you does it.

    Of all that are dead or expired, those that a provider may have taken are only listed: look there, and name the id.
    Exit 1 if there is one that was asked for by its id and cannot be, or none at all.
    """
    if bool(ids) == bool(state):
        raise OpsError("give either ids or --state dead|unknown|expired")
    if route and not state:
        raise OpsError("--route goes with --state; an id names one delivery already")
    answer = open_client().send("POST", "/deliveries/retry", {"ids": ids or [], "state": state, "route": route})
    retried = set(answer["retried"])
    if as_json:
        print_json(answer)
        return 0 if retried and not (ids and answer["why"]) else 1
    print(f"{count_nouns(len(retried), 'delivery', 'deliveries')} will be sent again")
    why: Mapping[str, str] = answer["why"]
    for id_, each in islice(why.items(), SHOWN):
        print(f"{id_}: not sent again: {explain_no_retry(each).replace(' ID`', f' {id_}`')}")
    for each, count in answer["skipped"].items() if state else ():
        print(f"{count_nouns(count, 'delivery', 'deliveries')} not sent again: {explain_no_retry(each)}")
    return 0 if retried and not (ids and why) else 1

"""How a delivery stands, and what to do about it: the end of its story."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from app.core.happening import explain_wait
from app.core.met_holds import MetHold, list_met_holds
from app.core.models import Reason, State
from app.core.steps import Told

FindCure = Callable[[str | None], str]
"""From a reason to what to do about it, "" where that is not known; ID and SCOPE stand for what they name."""

_EXPLAIN = "`nector-relay explain ID`"  # whoever reads this has just done so


def advise(delivery: Told, find_cure: FindCure) -> tuple[str, str]:
    """Return how a delivery stands, and what to do."""
    state, next_at = delivery["state"], delivery["next_attempt_at"]
    match state:
        case "held":
            return _advise_held(delivery, find_cure)
        case State.PENDING:
            waits = explain_wait(delivery, _find_last_state(delivery))
            text = (
                f"pending; waits {waits}. Next attempt at {next_at} or later; its deadline is {delivery['deadline_at']}"
            )
            return text, "nothing"
        case State.SENDING:
            return "sending: an attempt is open", "nothing; it ends within a minute or two"
        case State.ACCEPTED:
            named = f" as {delivery['provider_message_id']}" if delivery["provider_message_id"] else ""
            standing = f"accepted by {delivery['provider']}{named}, {delivery['receipt'] or 'no receipt yet'}"
        case State.UNKNOWN if next_at is not None:
            return f"unknown: it may have arrived. Sent again at {next_at}, unless a receipt settles it", "nothing"
        case State.UNKNOWN:
            standing = "unknown: it may have arrived"
        case _:
            standing = state
    reason = delivery["reason"]
    cure = _fit_cure(find_cure(reason), delivery["id"])
    return f"{standing} ({reason})" if reason else standing, cure or "nothing"


def _advise_held(delivery: Told, find_cure: FindCure) -> tuple[str, str]:
    standing = [hold for hold in list_met_holds(delivery["hold_changes"]) if hold.released_at is None]
    scopes = " and ".join(f"{hold.scope} ({hold.reason})" for hold in standing)
    text = f"held behind {scopes or 'a hold'}; its deadline is {delivery['deadline_at']}"
    return text, "; ".join(dict.fromkeys(_list_releases(standing, find_cure))) or "`nector-relay holds` says why"


def _list_releases(standing: list[MetHold], find_cure: FindCure) -> Iterator[str]:
    for hold in standing:
        cure = find_cure(Reason.BY_HAND) if hold.by_hand else find_cure(hold.reason)
        yield cure.replace("SCOPE", hold.scope) or f"`nector-relay release {hold.scope}`"


def _find_last_state(delivery: Told) -> Told:
    found: Told = [row for row in delivery["timeline"] if row["kind"] == "state"][-1]
    return found


def _fit_cure(cure: str, delivery_id: str) -> str:
    """Put the delivery's id into a cure, and leave out what whoever reads it has done."""
    cure = cure.removeprefix(f"{_EXPLAIN} names it; ").replace(f"{_EXPLAIN} shows the provider's words; ", "")
    return cure.replace(" ID`", f" {delivery_id}`")

"""A status says how a relay stands now, and what of that needs a person: `GET /status`, `nector-relay status`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

from app.delivery.pace import Pace
from app.values.instant import format_instant

_MAPPING = "mend the route, then `nector-relay replay --plan --state dead`"
_LOOK = "look at the provider's dashboard; not there: `nector-relay retry ID`"
_RELEASE = "mend it, then `nector-relay release SCOPE`, then `nector-relay retry --state dead`"

CURES: dict[str, str] = {
    **dict.fromkeys(("duplicate", "not_live", "not_chosen", "recipient_unreachable", "replayed"), "nothing"),
    **dict.fromkeys(
        ("connect_failed", "rate_limited", "unavailable", "server_error"), "nothing; it is tried again by itself"
    ),
    **dict.fromkeys(("timed_out", "connection_lost", "gateway_failed", "process_died", "restored"), _LOOK),
    **dict.fromkeys(
        ("variable_missing", "variable_invalid", "expression_failed"),
        f"`nector-relay explain ID` names it; {_MAPPING}",
    ),
    "recipient_missing": f"set `recipient:`, or the customer has no number at Nector; {_MAPPING}",
    "recipient_invalid": "correct the number at Nector, or `store.country`; it is never guessed",
    "deadline_invalid": f"correct `valid_until`; {_MAPPING}",
    "stalled": "nothing; many: the disk or the machine stood still for a minute, find out why",
    "limit_person": "nothing; many: does somebody post who should not? Else raise `limits: person`",
    "limit_reached": "look who posts; all well: `nector-relay release SCOPE`, and as many may go again",
    "deadline_passed": "nothing; many: find what kept the lane, or lengthen `valid_for`",
    "message_damaged": "the disk is suspect: take a backup, check it, restore",
    "answer_unreadable": f"describe the answer under `accepted:`; {_LOOK}",
    "credentials_refused": "`nector-relay explain ID` shows the provider's words. A key: put the right one into the "
    "environment and restart; a 403 may also be its list of allowed addresses, a page a firewall's",
    "balance_empty": "pay; the next probe releases the hold",
    "account_blocked": "`nector-relay explain ID` shows the provider's words; see its and WhatsApp's dashboards",
    "template_refused": f"correct `template:` or `language:`, or have it approved; {_RELEASE}",
    "template_paused": "see WhatsApp's template manager; a probe tries again",
    "parameters_refused": f"compare the route with the template (`nector-relay check`); {_MAPPING}",
    "recipient_opted_out": "nothing: the customer stopped them; by mistake: `nector-relay suppressions remove NUMBER`",
    "recipient_capped": "nothing; `valid_for` longer than 24h allows a second try",
    "request_refused": f"`nector-relay explain ID` shows the provider's words; {_MAPPING}",
    "request_unbuilt": "a fault of ours: report it; after the upgrade `nector-relay retry ID`",
    "redirected": f"correct `base_url`; {_RELEASE}",
    "answers_unreadable": "`nector-relay explain ID` of an unknown one shows what answers hold: correct `base_url`, or "
    "describe them under `accepted:`; the next probe releases the hold",
    "refused_repeatedly": f"`nector-relay deliveries --state dead` shows why; {_RELEASE}",
    "erased": "nothing: what was kept of this person was erased",
    "by_hand": "`nector-relay release SCOPE`",
}


def find_cure(reason: str | None) -> str:
    """Return what to do about a reason, "" where there is none or a newer relay knows it."""
    return CURES.get(reason or "", "")


Instant = Annotated[str, BeforeValidator(lambda at: format_instant(at) if isinstance(at, int) else at)]
"""An instant as it is shown; may be given in ms since the epoch, too."""
RECENT_MS = 3_600_000
"""A webhook that was refused so long ago needs nobody any more: it is counted, and the next one tells."""
LEAST_FREE = 256 * 1024 * 1024


class _Part(BaseModel):
    """A part of a status is built when one is first asked for: no start has a use of it."""

    model_config = ConfigDict(defer_build=True)


class Refused(_Part):
    """The YAML on disk that is not in force: since when, and what is wrong with it, a line each."""

    at: Instant
    faults: list[str]


class ConfigStatus(_Part):
    """The YAML in force. `refused`: a newer one that cannot be used."""

    path: str
    hash: str
    since: Instant
    mode: str
    refused: Refused | None


class LastEvent(_Part):
    """The newest event of the source."""

    id: str
    topic: str
    at: Instant


class RefusedRequests(_Part):
    """Requests that were refused since the start, by kind of path and reason. `recent`: within the last hour."""

    kind: str
    reason: str
    count: int
    last_at: Instant
    recent: bool
    cure: str


class LaneStatus(_Part):
    """The queue of one provider. `waiting`: all that are pending, held ones too; `state` gone: not in the YAML.

    `next_probe_at`: when one message may feel for a provider that is down. `reported`: of the newest 1,000 deliveries,
    how many accepted ones have a receipt, the last of which came at `last_receipt_at`.
    """

    provider: str
    state: Literal["up", "paused", "down", "gone"]
    rate: str
    paused_until: Instant | None = None
    down_since: Instant | None = None
    next_probe_at: Instant | None = None
    waiting: int = 0
    oldest_due_at: Instant | None = None
    accepted: int = 0
    reported: int = 0
    last_receipt_at: Instant | None = None


class HoldStatus(_Part):
    """A hold that stands. `by` and `until`: who set it by hand, and when it ends by itself, where they said so."""

    scope: str
    reason: str
    since: Instant
    deliveries: int
    probe_at: Instant | None
    by: str | None
    until: Instant | None
    by_hand: bool


class Unhandled(_Part):
    """Deliveries that ended badly and that nobody has handled, by state, reason and route."""

    state: str
    reason: str | None
    route: str
    provider: str
    count: int
    newest_id: str


class StoreStatus(_Part):
    """Tells where the outbox is. Bytes: None where that cannot be known from here."""

    place: str
    can_commit: bool
    size_bytes: int | None
    free_bytes: int | None


class Need(_Part):
    """Something that needs a person, and what to do about it: where there is a command for it, between backticks."""

    what: str
    do: str


class Status(_Part):
    """Tells how a relay stands. `needs` is empty where it needs nobody."""

    version: str
    now: Instant
    started_at: Instant
    config: ConfigStatus
    last_event: LastEvent | None
    refused: list[RefusedRequests]
    lanes: list[LaneStatus]
    holds: list[HoldStatus]
    unhandled: list[Unhandled]
    store: StoreStatus
    needs: list[Need] = []


def list_needs(status: Status) -> Iterator[Need]:
    """Yield what needs a person, the gravest first."""
    yield from _list_store_needs(status.store)
    if (refused := status.config.refused) is not None:
        more = f" (and {len(refused.faults) - 1} more)" if len(refused.faults) > 1 else ""
        what = f"the YAML on disk is refused, the one before is in force: {refused.faults[0]}{more}"
        yield Need(what=what, do="`nector-relay check` names every fault; once mended it is taken by itself")
    for each in status.refused:
        if each.recent and _is_ours(each):
            what = f"{each.kind}s were refused ({each.reason}): {each.count}, the last {each.last_at}"
            yield Need(what=what, do=each.cure)
    for lane in status.lanes:
        yield from _list_lane_needs(lane)
    for hold in status.holds:
        if not hold.by_hand:
            cure = find_cure(hold.reason).replace("SCOPE", hold.scope).replace(" ID`", "` of one that waits")
            what = f"{hold.scope} is on hold: {hold.reason}, {hold.deliveries} waiting"
            yield Need(what=what, do=cure or f"`nector-relay release {hold.scope}`")
    for group in status.unhandled:
        if not (cure := find_cure(group.reason)).startswith("nothing"):
            what = f"{group.count} {group.state}: {group.reason or 'no reason'}, route {group.route}"
            yield Need(what=what, do=cure.replace(" ID`", f" {group.newest_id}`"))


def _list_store_needs(store: StoreStatus) -> Iterator[Need]:
    if not store.can_commit:
        yield Need(what="the outbox cannot commit: events are answered 503", do="see Disk in docs/runbook.md")
    if store.free_bytes is not None and store.free_bytes < LEAST_FREE:
        yield Need(what=f"{store.free_bytes // 1024**2} MiB are free where the outbox is", do="make room on that disk")


def _is_ours(refused: RefusedRequests) -> bool:
    """Tell whether a request was most likely meant for us: strangers knock at any port, and who is busy comes again."""
    if refused.reason in {"busy", "method", "challenge"}:
        return False
    return refused.kind == "webhook" or (refused.kind == "receipt" and refused.reason != "path")


def _list_lane_needs(lane: LaneStatus) -> Iterator[Need]:
    if lane.state == "down":
        what = f"{lane.provider} is down since {lane.down_since}: {lane.waiting} waiting, nothing is lost"
        yield Need(what=what, do=f"see its dashboard, `base_url` and DNS; it is tried again at {lane.next_probe_at}")
    if lane.state == "gone":
        what = f"{lane.waiting} waiting for {lane.provider}, which the YAML does not have"
        yield Need(what=what, do="put it back under providers:, or let them expire")


def show_lane(provider: str, pace: Pace, rate: str, now: int) -> LaneStatus:
    """Return how a lane stands by its pace alone."""
    recovery, paused = pace.recovery, pace.paused_until > now
    told = {
        "provider": provider,
        "state": "down" if recovery.down else "paused" if paused else "up",
        "rate": rate,
        "paused_until": pace.paused_until if paused else None,
        "down_since": recovery.down_since,
        "next_probe_at": max(recovery.probe_at or 0, pace.paused_until, now) if recovery.down else None,
    }
    return LaneStatus.model_validate(told)

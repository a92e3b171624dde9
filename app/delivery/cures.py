"""Each reason has a cure: one line for the person who finds it, with the command that mends it."""

from __future__ import annotations

_MAPPING = "mend the route, then `nector-relay replay --plan --state dead`"
_LATER = "nothing; it is tried again by itself"
_LOOK = "look at the provider's dashboard; not there: `nector-relay retry ID`"
_RELEASE = "mend it, then `nector-relay release SCOPE`, then `nector-relay retry --state dead`"
_NOTHING = "nothing"

CURES: dict[str, str] = {
    "variable_missing": f"`nector-relay explain ID` names it; {_MAPPING}",
    "variable_invalid": f"`nector-relay explain ID` names it; {_MAPPING}",
    "recipient_missing": f"set `recipient:`, or the customer has no number at Nector; {_MAPPING}",
    "recipient_invalid": "correct the number at Nector, or `store.country`; it is never guessed",
    "expression_failed": f"`nector-relay explain ID` names it; {_MAPPING}",
    "deadline_invalid": f"correct `valid_until`; {_MAPPING}",
    "duplicate": _NOTHING,
    "not_live": _NOTHING,
    "not_chosen": _NOTHING,
    "stalled": "nothing; many: the disk or the machine stood still for a minute, find out why",
    "limit_person": "nothing; many: does somebody post who should not? Else raise `limits: person`",
    "limit_reached": "look who posts; all well: `nector-relay release SCOPE`, and as many may go again",
    "deadline_passed": "nothing; many: find what kept the lane, or lengthen `valid_for`",
    "message_damaged": "the disk is suspect: take a backup, check it, restore",
    "connect_failed": _LATER,
    "rate_limited": _LATER,
    "unavailable": _LATER,
    "server_error": _LATER,
    "timed_out": _LOOK,
    "connection_lost": _LOOK,
    "gateway_failed": _LOOK,
    "answer_unreadable": f"describe the answer under `accepted:`; {_LOOK}",
    "process_died": _LOOK,
    "credentials_refused": "`nector-relay explain ID` shows the provider's words. A key: put the right one into the "
    "environment and restart; a 403 may also be its list of allowed addresses, a page a firewall's",
    "balance_empty": "pay; the next probe releases the hold",
    "account_blocked": "`nector-relay explain ID` shows the provider's words; see its and WhatsApp's dashboards",
    "template_refused": f"correct `template:` or `language:`, or have it approved; {_RELEASE}",
    "template_paused": "see WhatsApp's template manager; a probe tries again",
    "parameters_refused": f"compare the route with the template (`nector-relay check`); {_MAPPING}",
    "recipient_unreachable": _NOTHING,
    "recipient_opted_out": "nothing: the customer stopped them; by mistake: `nector-relay suppressions remove NUMBER`",
    "recipient_capped": "nothing; `valid_for` longer than 24h allows a second try",
    "request_refused": f"`nector-relay explain ID` shows the provider's words; {_MAPPING}",
    "request_unbuilt": "a fault of ours: report it; after the upgrade `nector-relay retry ID`",
    "redirected": f"correct `base_url`; {_RELEASE}",
    "answers_unreadable": "`nector-relay explain ID` of an unknown one shows what answers hold: correct `base_url`, or "
    "describe them under `accepted:`; the next probe releases the hold",
    "refused_repeatedly": f"`nector-relay deliveries --state dead` shows why; {_RELEASE}",
    "restored": _LOOK,
    "erased": "nothing: what was kept of this person was erased",
    "by_hand": "`nector-relay release SCOPE`",
    "replayed": _NOTHING,
}


def find_cure(reason: str | None) -> str:
    """Return what to do about a reason, "" where there is none or a newer relay knows it."""
    return CURES.get(reason or "", "")

"""What deploy/prometheus and deploy/grafana ask for, read from the files themselves."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from ruamel.yaml import YAML

from app.model.delivery import State
from app.model.message import ReceiptStatus
from app.observe.metrics import FORGED, REPLY_KINDS, UNREAD, WORKS, Metrics

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy/prometheus/alerts.yml"
SCRAPE = ROOT / "deploy/prometheus/prometheus.yml"
DASHBOARD = ROOT / "deploy/grafana/nector-relay.json"

_OF_PROMETHEUS = {
    "up": set[str](),
    "nector_nector_relay:event_gap_seconds": set[str](),
    "ALERTS": {"alertname", "alertstate"},
}
_EVERYWHERE = {"job", "instance", "le"}
_VALUES: Mapping[str, set[str]] = {
    "state": {state.value for state in State},
    "status": {*(status.value for status in ReceiptStatus), FORGED, UNREAD},
    "kind": {*REPLY_KINDS},
    "result": {
        "accepted", "unrouted", "duplicate", "failed", "refused", "unauthorised", "unavailable", "used",
    },
    "outcome": {"accepted", "retryable", "rejected", "uncertain"},
    "work": set(WORKS),
    "job": {"nector-relay"},
}  # fmt: skip


def read_rules() -> list[dict[str, Any]]:
    """Return every rule of alerts.yml."""
    loaded: dict[str, Any] = YAML(typ="safe").load(RULES)
    return [rule for group in loaded["groups"] for rule in group["rules"]]


def read_alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in read_rules() if "alert" in rule}


def read_panels() -> list[dict[str, Any]]:
    """Return the dashboard's panels that show something."""
    dashboard: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def list_queries() -> Iterator[tuple[str, str]]:
    """Yield (where it stands, PromQL) of the dashboard."""
    dashboard: dict[str, Any] = json.loads(DASHBOARD.read_text())
    for panel in read_panels():
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"]
    for annotation in dashboard["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]


def describe_metrics() -> dict[str, set[str]]:
    """Return the labels of every metric that the relay has, by the name that PromQL uses."""
    known = dict(_OF_PROMETHEUS)
    for each in vars(Metrics()).values():
        if hasattr(each, "_labelnames"):
            family = each.describe()[0]
            endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
            known.update({family.name + ending: set(each._labelnames) for ending in endings})
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    known.update({sample.name: set() for family in registry.collect() for sample in family.samples})
    return known


def find_faults(query: str) -> list[str]:
    """Return what a query asks for that no relay has: a metric, a label of it, a value of that."""
    known = describe_metrics()
    bare = re.sub(r'"[^"]*"', '""', query)
    names = set(re.findall(r"\b(?:(?:nector_)?relay[_:]|process_)[a-z_]+|\bup\b|\bALERTS\b", bare))
    faults = [name for name in names if name not in known]
    labels = _EVERYWHERE.union(*(known.get(name, set()) for name in names))
    for name, matchers in re.findall(r"([\w:]+)\{([^}]*)\}", query):
        for label, values in re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"', matchers):
            if label not in known.get(name, set()) | _EVERYWHERE:
                faults.append(f"{name}{{{label}}}")
            faults += [value for value in values.split("|") if value not in _VALUES.get(label, {value})]
    for grouped in re.findall(r"\bby \(([^)]*)\)", query):
        faults += [label for label in re.findall(r"\w+", grouped) if label not in labels]
    return faults

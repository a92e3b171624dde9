"""`nector-relay schema`: the JSON Schema that lets an editor complete and check the YAML."""

from __future__ import annotations

import json

from app.authoring.schema import build_schema
from app.providers import settings_types


def schema() -> int:
    """Print the JSON Schema of the YAML (config/relay.schema.json is this)."""
    print(json.dumps(build_schema(settings_types()), ensure_ascii=False, indent=2))
    return 0

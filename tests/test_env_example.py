""".env.example is complete, holds nothing that nobody reads, and means the same to all who read it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from dotenv import dotenv_values
from opentelemetry.sdk import environment_variables

from app.settings import PREFIX, Settings, read_settings, unknown_names

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / ".env.example").read_text()
GIVEN = {name: value or "" for name, value in dotenv_values(ROOT / ".env.example").items()}
# The settings whose default is "nobody": the sandbox needs some value.
INVENTED = {"nector_secrets": "sandbox-", "admin_token": "sandbox-", "test_numbers": "9198000000"}


def find_references(yaml: str) -> set[str]:
    lines = [line for line in yaml.splitlines() if not line.lstrip().startswith("#")]
    return set(re.findall(r"\$\{(\w+)", "\n".join(lines)))


@pytest.mark.parametrize("field", sorted(set(Settings.model_fields) - set(INVENTED)))
def test_a_setting_stands_there_with_its_default(field: str) -> None:
    assert f"{PREFIX}{field.upper()}" in GIVEN
    assert getattr(read_settings(GIVEN), field) == getattr(Settings(), field)


@pytest.mark.parametrize("field", sorted(INVENTED))
def test_a_setting_without_a_default_has_an_invented_value(field: str) -> None:
    assert GIVEN[f"{PREFIX}{field.upper()}"].startswith(INVENTED[field])


def test_every_name_of_the_bundled_yaml_stands_there() -> None:
    assert find_references((ROOT / "config/relay.yaml").read_text()) <= set(GIVEN)


def test_every_name_is_read_by_somebody() -> None:
    of_others = {name for name in GIVEN if not name.startswith(PREFIX)}
    assert of_others - set(dir(environment_variables)) <= find_references((ROOT / "config/relay.yaml").read_text())
    assert unknown_names(GIVEN) == []


def test_a_misspelt_name_would_be_noticed() -> None:
    assert unknown_names({**GIVEN, "RELAY_LOG_LEVLE": "info"}) == ["RELAY_LOG_LEVLE"]


@pytest.mark.parametrize("line", [line for line in TEXT.splitlines() if line and not line.startswith("#")])
def test_a_line_means_the_same_to_dotenv_docker_and_the_shell(line: str) -> None:
    assert re.fullmatch(r"[A-Z_]+=[A-Za-z0-9:/._,-]*", line)


def test_no_name_stands_there_twice() -> None:
    names = re.findall(r"^([A-Z_]+)=", TEXT, re.MULTILINE)
    assert len(names) == len(set(names)) == len(GIVEN)


@pytest.mark.parametrize("name", [name for name in GIVEN if name.endswith("_URL") and name != "RELAY_DATABASE_URL"])
def test_whoever_starts_with_the_example_reaches_no_other_machine(name: str) -> None:
    assert GIVEN[name].startswith("http://127.0.0.1:") or not GIVEN[name]  # nowhere is no other machine, either

"""Settings: where they come from, what they become, and how a wrong one is told."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from app.errors import ConfigError
from app.files import find_quoted
from app.mapping.provider import DIRECT, Way
from app.settings import Settings, read_environment, read_settings, read_sound_settings, unknown_names
from tests.faults.certificates import make_certificates

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    return tmp_path / ".env"


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    (tmp_path / "secrets").mkdir()
    return tmp_path / "secrets"


# -- where they come from -------------------------------------------------------------------------


def test_the_process_wins_over_the_env_file_and_that_over_secret_files(env_file: Path, secrets: Path) -> None:
    for name in ("A", "B", "C"):
        (secrets / name).write_text("secret\n")
    env_file.write_text("A=file\nB=file\n")
    assert read_environment({"A": "process"}, env_file, secrets) == {"A": "process", "B": "file", "C": "secret"}


def test_an_empty_name_of_the_process_wins_too(env_file: Path, secrets: Path) -> None:
    env_file.write_text("A=file\n")
    assert read_environment({"A": ""}, env_file, secrets)["A"] == ""


def test_without_any_file_only_the_process_speaks(tmp_path: Path) -> None:
    assert read_environment({"A": "1"}, tmp_path / "no.env", tmp_path / "nothing") == {"A": "1"}


def test_the_processs_own_environment_is_the_default(
    env_file: Path, secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELAY_TEST_NAME", "own")
    assert read_environment(None, env_file, secrets)["RELAY_TEST_NAME"] == "own"


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=b", "b"),
        ("A='b c'", "b c"),
        ('A="b\nc"', "b\nc"),
        ("A=b # why", "b"),
        ("export A=b", "b"),
        ("A=pass${HOME}word", "pass${HOME}word"),
        ("A=", ""),
    ],
)
def test_a_line_of_the_env_file_is_taken_as_written(env_file: Path, secrets: Path, line: str, value: str) -> None:
    env_file.write_text(line + "\n")
    assert read_environment({}, env_file, secrets) == {"A": value}


def test_a_name_without_a_value_is_none(env_file: Path, secrets: Path) -> None:
    env_file.write_text("A\n")
    assert read_environment({}, env_file, secrets) == {}


def test_secret_files_are_read_whole_but_for_the_last_line_break(tmp_path: Path, secrets: Path) -> None:
    (secrets / "KEY").write_text("  a b\n")
    (secrets / "folder").mkdir()
    (secrets / "LINK").symlink_to(secrets / "KEY")
    assert read_environment({}, tmp_path / "no", secrets) == {"KEY": "a b", "LINK": "a b"}


def test_a_secret_file_that_is_none_of_ours_is_passed_over(tmp_path: Path, secrets: Path) -> None:
    (secrets / "keystore.p12").write_bytes(b"\xff\xfe\x00")
    (secrets / "GONE").symlink_to(secrets / "nothing")
    (secrets / "KEY").write_text("a")
    assert read_environment({}, tmp_path / "no", secrets) == {"KEY": "a"}


def test_an_env_file_that_is_no_text_is_told(env_file: Path, secrets: Path) -> None:
    env_file.write_bytes(b"A=\xff\n")
    with pytest.raises(ConfigError, match=r"\.env: is not UTF-8 text"):
        read_environment({}, env_file, secrets)


# -- what they become -----------------------------------------------------------------------------

READ: list[tuple[dict[str, str], dict[str, Any]]] = [
    ({}, {"config": Path("config/relay.yaml"), "config_yaml": "", "nector_hmac": "log", "insecure_no_auth": False}),
    ({}, {"log_level": "info", "log_format": "json", "admin_token": None, "secrets": ()}),
    ({}, {"settle_after": 15 * MINUTE, "payload_retention": 7 * DAY, "shutdown_grace": 20 * SECOND}),
    ({}, {"stateless": False, "database_path": Path("data/relay.db")}),
    ({"RELAY_CONFIG": "/etc/relay.yaml"}, {"config": Path("/etc/relay.yaml")}),
    ({"RELAY_CONFIG": ""}, {"config": Path("config/relay.yaml")}),
    ({"RELAY_CONFIG_YAML": "version: 1\n"}, {"config_yaml": "version: 1\n"}),
    ({"RELAY_DATABASE_URL": "sqlite:////data/relay.db"}, {"database_path": Path("/data/relay.db")}),
    ({"RELAY_DATABASE_URL": "sqlite:///a b.db"}, {"database_path": Path("a b.db")}),
    ({"RELAY_DATABASE_URL": "none"}, {"stateless": True}),
    (
        {"RELAY_DATABASE_URL": "postgresql://u:p@db/r?schema=acme"},
        {"shares_database": True, "database_place": "postgresql://db/r?schema=acme"},
    ),
    ({"RELAY_NECTOR_SECRETS": "one"}, {"secrets": ("one",)}),
    ({"RELAY_NECTOR_SECRETS": " one ,two,, "}, {"secrets": ("one", "two")}),
    ({"RELAY_NECTOR_SECRETS": " , "}, {"secrets": ()}),
    ({"RELAY_NECTOR_HMAC": "ENFORCE"}, {"nector_hmac": "enforce"}),
    ({"RELAY_INSECURE_NO_AUTH": "true"}, {"insecure_no_auth": True}),
    ({"RELAY_INSECURE_NO_AUTH": "0"}, {"insecure_no_auth": False}),
    ({"RELAY_ADMIN_TOKEN": "  "}, {"admin_token": None}),
    ({"RELAY_LOG_LEVEL": "DEBUG"}, {"log_level": "debug"}),
    ({"RELAY_LOG_FORMAT": "Console"}, {"log_format": "console"}),
    ({"RELAY_SHUTDOWN_GRACE": "500ms"}, {"shutdown_grace": 500}),
    ({"RELAY_SHUTDOWN_GRACE": "0s"}, {"shutdown_grace": 0}),
    ({"RELAY_SHUTDOWN_GRACE": "90s"}, {"shutdown_grace": 90 * SECOND}),
    ({}, {"keep_alive": 75 * SECOND}),
    ({"RELAY_KEEP_ALIVE": "2m"}, {"keep_alive": 2 * MINUTE}),
    ({"RELAY_SETTLE_AFTER": "15m"}, {"settle_after": 15 * MINUTE}),
    ({"RELAY_SETTLE_AFTER": "15min"}, {"settle_after": 15 * MINUTE}),
    ({"RELAY_SETTLE_AFTER": " 6h "}, {"settle_after": 6 * HOUR}),
    ({"RELAY_PAYLOAD_RETENTION": "30d"}, {"payload_retention": 30 * DAY, "record_retention": 90 * DAY}),
    ({"RELAY_RECORD_RETENTION": "30d"}, {"payload_retention": 7 * DAY, "record_retention": 30 * DAY}),
    ({"RELAY_RETENTION": "minimal"}, {"payload_retention": 7 * DAY, "record_retention": 30 * DAY}),
    ({"RELAY_RETENTION": "DPDP_1y"}, {"payload_retention": 7 * DAY, "record_retention": 365 * DAY}),
    (
        {"RELAY_RETENTION": "dpdp_1y", "RELAY_PAYLOAD_RETENTION": "1d"},
        {"payload_retention": DAY, "record_retention": 365 * DAY},
    ),
    (
        {"RELAY_RETENTION": "minimal", "RELAY_RECORD_RETENTION": "90d", "RELAY_PAYLOAD_RETENTION": ""},
        {"payload_retention": 7 * DAY, "record_retention": 90 * DAY},
    ),
    ({"RELAY_RECORD_RETENTION": "1000d"}, {"record_retention": 1_000 * DAY}),
    ({"relay_log_level": "debug", "RELAY_Log_Level": "error"}, {"log_level": "info"}),
]


@pytest.mark.parametrize(("environment", "expected"), READ)
def test_an_environment_becomes_settings(environment: Mapping[str, str], expected: Mapping[str, Any]) -> None:
    settings = read_settings(environment)
    assert {name: getattr(settings, name) for name in expected} == expected


def test_a_token_loses_the_blanks_around_it() -> None:
    token = read_settings({"RELAY_ADMIN_TOKEN": " token\n"}).admin_token
    assert token is not None
    assert token.get_secret_value() == "token"


def test_the_real_environment_and_env_file_are_not_read_behind_its_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("RELAY_LOG_LEVEL=error\n")
    monkeypatch.setenv("RELAY_LOG_LEVEL", "warning")
    assert read_settings({}).log_level == "info"
    assert Settings().log_level == "info"


def test_secrets_are_not_in_a_repr() -> None:
    settings = read_settings({"RELAY_NECTOR_SECRETS": "canary-1", "RELAY_ADMIN_TOKEN": "canary-2"})
    assert "canary" not in repr(settings) + str(settings)


@pytest.mark.parametrize("given", [{}, {"RELAY_RECORD_RETENTION": "99d"}, {"RELAY_RETENTION": "minimal"}])
def test_a_record_is_not_forgotten_before_its_payload(given: Mapping[str, str]) -> None:
    with pytest.raises(ConfigError, match="RELAY_RECORD_RETENTION: write 100d or more, as RELAY_PAYLOAD_RETENTION is"):
        read_settings({"RELAY_PAYLOAD_RETENTION": "100d", **given})


# -- how a wrong one is told ----------------------------------------------------------------------

DURATION = "must be a duration such as 90s, 15m, 6h or 7d"
DATABASE = (
    "write sqlite:///PATH (sqlite:////data/relay.db is /data/relay.db), "
    "postgresql://USER:PASSWORD@HOST/DATABASE for several replicas, or none"
)
WRONG = [
    ("RELAY_LOG_LEVEL", "loud", "write 'debug', 'info', 'warning' or 'error'"),
    ("RELAY_LOG_FORMAT", "xml", "write 'json' or 'console'"),
    ("RELAY_NECTOR_HMAC", "on", "write 'off', 'log' or 'enforce'"),
    ("RELAY_INSECURE_NO_AUTH", "maybe", "write true or false"),
    ("RELAY_DATABASE_URL", "mysql://relay.example/relay", DATABASE),
    ("RELAY_DATABASE_URL", "data/relay.db", DATABASE),
    ("RELAY_DATABASE_URL", "sqlite:///", DATABASE),
    ("RELAY_ADMIN_TOKEN", "clé", "write letters, digits and signs of ASCII only: an HTTP header carries no others"),
    *(
        ("RELAY_SHUTDOWN_GRACE", text, DURATION)
        for text in ("20", "-1s", "1.5s", "1 s", "s", "20S", "1h30m", "∞", "٣s")
    ),
    ("RELAY_SETTLE_AFTER", "soon", DURATION),
    ("RELAY_RETENTION", "gdpr", "write '', 'minimal' or 'dpdp_1y'"),
    ("RELAY_PAYLOAD_RETENTION", "1y", DURATION),
    ("RELAY_RECORD_RETENTION", "1y", DURATION),
    ("RELAY_RECORD_RETENTION", "29d", "write 30d or more: repeats are known for so long"),
]


@pytest.mark.parametrize(("name", "value", "said"), WRONG)
def test_a_wrong_setting_is_named_with_its_cure(name: str, value: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_settings({name: value})
    assert str(caught.value) == f"a setting is wrong\n  {name}: {said}"


def test_what_is_sound_is_used_beside_what_is_wrong_and_what_fits_no_default_ends() -> None:
    settings, fault = read_sound_settings({"RELAY_LOG_LEVEL": "loud", "RELAY_KEEP_ALIVE": "30s"})
    assert (settings.log_level, settings.keep_alive) == ("info", 30_000)
    assert fault.startswith("a setting is wrong\n  RELAY_LOG_LEVEL: ")
    settings, fault = read_sound_settings({"RELAY_PAYLOAD_RETENTION": "200d"})
    assert fault == "a setting is wrong\n  RELAY_RECORD_RETENTION: write 200d or more, as RELAY_PAYLOAD_RETENTION is"


def test_all_wrong_settings_are_told_at_once_and_no_value_is() -> None:
    with pytest.raises(ConfigError) as caught:
        read_settings({"RELAY_LOG_LEVEL": "canary", "RELAY_SETTLE_AFTER": "canary", "RELAY_ADMIN_TOKEN": "canarié"})
    assert [line.split(":")[0].strip() for line in str(caught.value).splitlines()[1:]] == [
        "RELAY_ADMIN_TOKEN",
        "RELAY_LOG_LEVEL",
        "RELAY_SETTLE_AFTER",
    ]
    assert "canar" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "unknown"),
    [
        ("RELAY_LOG_LEVLE", True),
        ("RELAY_log_level", True),
        ("RELAY_", True),
        ("RELAY_LOG_LEVEL", False),
        ("RELAY_URL", False),
        ("GALLABOX_API_KEY", False),
        ("relay_log_level", False),
        # What Kubernetes puts into every container beside a Service named relay, or relay-api.
        ("RELAY_SERVICE_HOST", False),
        ("RELAY_SERVICE_PORT", False),
        ("RELAY_SERVICE_PORT_HTTP", False),
        ("RELAY_PORT", False),
        ("RELAY_PORT_8000_TCP", False),
        ("RELAY_PORT_8000_TCP_ADDR", False),
        ("RELAY_PORT_8000_TCP_PORT", False),
        ("RELAY_PORT_8000_TCP_PROTO", False),
        ("RELAY_API_SERVICE_HOST", False),
        ("RELAY_API_PORT_80_UDP_ADDR", False),
        ("RELAY_PORTS", True),
        ("RELAY_PORT_HTTP", True),
        ("RELAY_SERVICE", True),
    ],
)
def test_a_relay_name_that_no_setting_has_is_unknown(name: str, unknown: bool) -> None:
    assert unknown_names({name: "x"}) == ([name] if unknown else [])


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("RELAY_CA_FILE", "/nowhere/ca.pem", "cannot be read as certificates in PEM (No such file or directory)"),
        ("RELAY_CA_FILE", str(Path(__file__)), "cannot be read as certificates in PEM"),
        ("RELAY_PROXY", "proxy.example:3128", "write http://HOST:PORT"),
        ("RELAY_PROXY", "socks5://user:canary@proxy.example", "write http://HOST:PORT"),
        ("RELAY_PROXY", "http://proxy.example/path", "write http://HOST:PORT"),
    ],
)
def test_a_way_out_that_leads_nowhere_is_named_at_the_start(name: str, value: str, told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)) as caught:
        read_settings({name: value})
    assert "canary" not in str(caught.value)


def test_the_way_out_is_what_the_settings_say(tmp_path: Path) -> None:
    assert read_settings({"RELAY_CA_FILE": "", "RELAY_PROXY": ""}).way == DIRECT
    make_certificates(tmp_path)
    given = {"RELAY_CA_FILE": f"{tmp_path}/authority.pem", "RELAY_PROXY": "http://user:canary@proxy.example:3128"}
    settings = read_settings(given)
    assert settings.way == Way(tmp_path / "authority.pem", "http://user:canary@proxy.example:3128")
    assert "canary" not in repr(settings)


@pytest.mark.parametrize(
    ("given", "quoted"),
    [
        ({"RELAY_NECTOR_SECRETS": '"sandbox"', "RELAY_ADMIN_TOKEN": "'t'"}, ["nector_secrets", "admin_token"]),
        ({"RELAY_NECTOR_SECRETS": "'one,two'"}, ["nector_secrets"] * 2),
        ({"RELAY_NECTOR_SECRETS": "o'ne\r", "RELAY_ADMIN_TOKEN": " t "}, []),  # what is around them is left out anyway
    ],
)
def test_a_secret_in_quotes_is_found(given: dict[str, str], quoted: list[str]) -> None:
    assert find_quoted(read_settings(given)) == quoted

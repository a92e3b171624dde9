"""What the image and compose.yaml promise, read from the files; `long` builds and runs the image."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from app.settings import Settings
from app.values.instant import parse_duration

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"
SERVICES = ("relay", "sandbox")


def read_instructions(text: str) -> list[tuple[str, str]]:
    """The Dockerfile's (instruction, argument) pairs: comments gone, continued lines joined."""
    kept = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    lines = re.sub(r"\\\n\s*", "", kept).splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines if line)]


@pytest.fixture(scope="module")
def stages() -> list[list[tuple[str, str]]]:
    stages: list[list[tuple[str, str]]] = [[]]
    for word, rest in read_instructions(DOCKERFILE.read_text()):
        if word == "FROM":
            stages.append([])
        stages[-1].append((word, rest))
    return stages[1:]


@pytest.fixture(scope="module")
def runtime(stages: list[list[tuple[str, str]]]) -> dict[str, str]:
    """The last stage; of an instruction that stands there twice the last one, which is the one that counts."""
    return dict(stages[-1])


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = YAML(typ="safe").load(ROOT / "deploy/compose.yaml")
    return loaded


def lint(dockerfile: Path) -> subprocess.CompletedProcess[str]:
    hadolint = Path(sys.executable).parent / "hadolint"
    return subprocess.run([hadolint, dockerfile], capture_output=True, text=True, check=False)


def test_hadolint_finds_nothing() -> None:
    answer = lint(DOCKERFILE)
    assert (answer.returncode, answer.stdout) == (0, "")


def test_hadolint_would_find_something(tmp_path: Path) -> None:
    worse = tmp_path / "Dockerfile"
    worse.write_text(DOCKERFILE.read_text().replace('ENTRYPOINT ["nector-relay"]', "ENTRYPOINT nector-relay"))
    assert lint(worse).returncode == 1


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        ("USER", "10001:10001"),
        ("VOLUME", "/data"),
        ("EXPOSE", "8000"),
        ("STOPSIGNAL", "SIGTERM"),
        ("ENTRYPOINT", '["nector-relay"]'),
        ("CMD", '["serve"]'),
    ],
)
def test_the_runtime_stage_says(runtime: dict[str, str], instruction: str, expected: str) -> None:
    assert runtime[instruction] == expected


def test_nothing_runs_as_root_after_user(stages: list[list[tuple[str, str]]]) -> None:
    words = [word for word, _ in stages[-1]]
    assert not {"RUN", "COPY", "ADD", "USER"} & set(words[words.index("USER") + 1 :])


def test_both_stages_are_of_one_base_and_keep_the_environment_at_one_path(
    stages: list[list[tuple[str, str]]],
) -> None:
    assert [rest.split()[0] for stage in stages for word, rest in stage if word == "FROM"] == ["${BASE}", "${BASE}"]
    assert [rest for stage in stages for word, rest in stage if word == "WORKDIR"] == ["/app", "/app"]
    assert ("COPY", "--from=build /app/.venv .venv") in stages[-1]


def find_default_base(dockerfile: str) -> str:
    (base,) = re.findall(r"^ARG BASE=(\S+)$", dockerfile, re.MULTILINE)
    return str(base)


PINNED = re.compile(r"python:3\.\d+\.\d+-slim-\w+@sha256:[0-9a-f]{64}")


def test_the_base_is_named_by_its_digest() -> None:
    assert PINNED.fullmatch(find_default_base(DOCKERFILE.read_text()))


def test_control_a_base_that_moves_is_noticed() -> None:
    assert not PINNED.fullmatch(find_default_base("ARG BASE=python:3.13-slim-bookworm\n"))


def test_health_check_needs_nothing_but_python(runtime: dict[str, str]) -> None:
    command = json.loads(runtime["HEALTHCHECK"].partition("CMD ")[2])
    assert command[0] == "python"
    assert "/healthz" in command[-1]
    compile(command[-1], "HEALTHCHECK", "exec")


def test_every_download_is_checked_by_its_hash(stages: list[list[tuple[str, str]]]) -> None:
    runs = [rest for stage in stages for word, rest in stage if word == "RUN"]
    installs = [command for run in runs for command in run.split("&&") if "pip" in command and "install" in command]
    assert len(installs) == 3
    assert all("--require-hashes" in command or "--offline" in command for command in installs)


@pytest.mark.parametrize("extras", ["", "otel"])
def test_the_image_has_what_traces_need_only_if_it_is_asked_for(extras: str) -> None:
    (command,) = re.findall(r"uv (export [^&]+) --output-file", DOCKERFILE.read_text())
    done = subprocess.run(
        ["sh", "-c", f"{Path(sys.executable).with_name('uv')} {command}"],
        cwd=ROOT,
        env={**os.environ, "EXTRAS": extras},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ("opentelemetry-sdk==" in done.stdout) is (extras == "otel")
    assert "fastapi==" in done.stdout


def test_only_what_the_image_is_made_of_goes_to_the_builder() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    sent = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {
        source
        for word, rest in read_instructions(DOCKERFILE.read_text())
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    }
    assert rules[0] == "*"
    assert sent == copied
    assert all((ROOT / source).exists() for source in copied)


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("read_only", True),
        ("cap_drop", ["ALL"]),
        ("security_opt", ["no-new-privileges:true"]),
        ("ulimits", {"core": 0}),
        ("privileged", None),
        ("user", None),
        ("cap_add", None),
    ],
)
def test_a_service_is_contained(compose: dict[str, Any], service: str, key: str, expected: object) -> None:
    assert compose["services"][service].get(key) == expected


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_can_write_to_data_and_tmp_only(compose: dict[str, Any], service: str) -> None:
    given = compose["services"][service]
    mounts = [*given.get("volumes", []), *given["tmpfs"]]
    places = {mount.split(":")[0 if mount.startswith("/") else 1] for mount in mounts if not mount.endswith(":ro")}
    assert places == {"/data", "/tmp"}  # noqa: S108  # a place in the container


def test_the_outbox_is_in_a_named_volume(compose: dict[str, Any]) -> None:
    assert "data:/data" in compose["services"]["relay"]["volumes"]
    assert "data" in compose["volumes"]


def test_ports_are_open_to_this_machine_only(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_relay_is_told_where_its_port_is_published(compose: dict[str, Any]) -> None:
    relay = compose["services"]["relay"]
    assert relay["command"] == ["serve", "--published-on", "127.0.0.1"]
    assert {port.split(":")[0] for port in relay["ports"]} == {"127.0.0.1"}


def test_docker_waits_longer_than_the_relay_takes_to_stop(compose: dict[str, Any]) -> None:
    waits = parse_duration(compose["services"]["relay"]["stop_grace_period"])
    assert waits > Settings().shutdown_grace


def test_the_sandbox_is_on_the_relays_loopback(compose: dict[str, Any]) -> None:
    sandbox = compose["services"]["sandbox"]
    assert sandbox["network_mode"] == "service:relay"
    assert sandbox["command"] == ["sandbox", "--host", "0.0.0.0", "--port", "9100"]  # noqa: S104  # in the container
    assert "127.0.0.1', 9100" in sandbox["healthcheck"]["test"][-1]


def test_compose_holds_no_secret(compose: dict[str, Any]) -> None:
    assert all("environment" not in service for service in compose["services"].values())


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.skipif(os.geteuid() != 0, reason="makes namespaces and a chroot: needs root")
@pytest.mark.skipif(
    not (shutil.which("buildah") and shutil.which("debootstrap")), reason="needs Debian's buildah and debootstrap"
)
def test_the_image_keeps_its_promises() -> None:
    answer = subprocess.run([ROOT / "deploy/verify-image.sh"], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr


# -- what the image leaves out ---------------------------------------------------------------------


def load_slim() -> Any:
    spec = importlib.util.spec_from_file_location("slim", ROOT / "deploy/slim.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_locales_that_a_store_names_stay_and_others_go(tmp_path: Path) -> None:
    data = tmp_path / "babel/locale-data"
    data.mkdir(parents=True)
    kept = ("root", "en", "en_001", "en_IN", "hi", "hi_IN", "hi_Latn_IN", "ta_IN", "ar_AE", "pt_BR", "zh_Hant_TW")
    for name in (*kept, "yo", "bgn_PK", "ff_Adlm_GN"):
        (data / f"{name}.dat").write_text("")
    load_slim().drop_locales(tmp_path)
    assert {path.stem for path in data.iterdir()} == set(kept)


def test_a_library_that_was_stripped_still_loads(tmp_path: Path) -> None:
    spec = importlib.util.find_spec("uvloop.loop")
    assert spec is not None
    assert spec.origin is not None
    library = tmp_path / Path(spec.origin).name
    shutil.copy(spec.origin, library)
    before = library.stat().st_size
    load_slim().strip_library(library)
    assert library.stat().st_size < before / 2
    code = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("uvloop.loop", {str(library)!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(module.Loop.__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "Loop\n"


def test_what_is_no_library_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.so").write_bytes(b"!<arch>\n")
    load_slim().strip_library(tmp_path / "a.so")
    assert (tmp_path / "a.so").read_bytes() == b"!<arch>\n"


def test_the_image_says_what_it_is(stages: list[list[tuple[str, str]]]) -> None:
    (label,) = [rest for word, rest in stages[-1] if word == "LABEL"]
    named = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', label))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert named == {
        "title": project["name"],
        "description": project["description"],
        "source": project["urls"]["Repository"],
        "documentation": project["urls"]["Documentation"],
        "licenses": project["license"],
        "version": project["version"],
    }


def test_every_dependency_has_a_lower_bound() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [*project["dependencies"], *project["optional-dependencies"]["otel"]]
    assert [name for name in named if ">=" not in name] == []
    assert any(each.startswith("Programming Language :: Python :: 3.11") for each in project["classifiers"])

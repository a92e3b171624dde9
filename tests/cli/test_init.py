"""The first minute: a package alone in an empty folder, and the files that it starts a shop from."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values
from ruamel.yaml import YAML

from app.cli.demo import find_example
from app.cli.files import STARTER

ROOT = Path(__file__).parents[2]
WRITTEN = ["relay.yaml", "templates.yaml", "relay.schema.json", ".env", "compose.yaml"]


def read_env(folder: Path) -> dict[str, str]:
    return {name: value or "" for name, value in dotenv_values(folder / ".env").items()}


@pytest.mark.parametrize("name", ["relay.yaml", "templates.yaml"])
def test_the_package_brings_the_files_of_config(name: str) -> None:
    assert (STARTER / name).read_bytes() == (ROOT / "config" / name).read_bytes()
    assert (STARTER / "env.example").read_bytes() == (ROOT / ".env.example").read_bytes()


def test_the_example_is_taken_only_where_there_is_no_yaml(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_example() == Path("config/relay.yaml")
    monkeypatch.chdir(folder.parent)
    assert find_example() == STARTER / "relay.yaml"


def test_a_folder_gets_all_it_needs_and_says_what_to_do_next(run: Callable[..., Any], folder: Path) -> None:
    done = run("init", "shop")
    assert (done.code, done.err) == (0, "")
    assert [line for line in done.out.splitlines() if line.startswith("wrote ")] == [f"wrote shop/{n}" for n in WRITTEN]
    assert {"nector-relay sandbox", "nector-relay serve", "nector-relay post coins-earned"} <= set(
        re.findall(r"nector-relay (?:sandbox|serve|post coins-earned)", done.out)
    )
    assert max(map(len, done.out.splitlines())) <= 79
    assert sorted(path.name for path in (folder / "shop").iterdir()) == sorted(WRITTEN)
    assert (folder / "shop/.env").stat().st_mode & 0o777 == 0o600


def test_its_secrets_are_random_and_nobody_elses(run: Callable[..., Any], folder: Path) -> None:
    run("init", "one")
    run("init", "other")
    one, other = read_env(folder / "one"), read_env(folder / "other")
    example = {name: value or "" for name, value in dotenv_values(ROOT / ".env.example").items()}
    invented = [name for name, value in example.items() if value.startswith("sandbox-")]
    assert {"RELAY_NECTOR_SECRETS", "RELAY_ADMIN_TOKEN", "GALLABOX_API_SECRET"} <= set(invented)
    assert all(len(one[name]) == 32 and one[name] != other[name] for name in invented)
    assert one.keys() == example.keys()


def test_it_passes_check(run: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("init", "shop")
    monkeypatch.chdir(folder / "shop")
    done = run("check", "--strict")
    assert (done.code, done.out) == (0, "relay.yaml: 11 routes, 17 of 17 examples right, 0 errors, 0 warnings\n")


def test_it_starts_a_relay_that_takes_what_post_signs(
    run: Callable[..., Any], folder: Path, start_serving: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("init", "shop")
    monkeypatch.chdir(folder / "shop")
    with start_serving(folder / "shop", {}) as (_, url):
        done = run("post", "coins-earned", "--url", url)
    assert done.code == 0, done.text
    assert "202 after" in done.out


def test_nothing_is_overwritten_without_force(run: Callable[..., Any], folder: Path) -> None:
    (folder / "shop").mkdir()
    (folder / "shop/relay.yaml").write_text("mine")
    done = run("init", "shop")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("nector-relay: shop: has relay.yaml already; ")
    assert [path.name for path in (folder / "shop").iterdir()] == ["relay.yaml"]
    assert run("init", "shop", "--force").code == 0
    assert (folder / "shop/relay.yaml").read_text() != "mine"


def test_an_env_that_others_could_read_is_the_owners_alone_afterwards(run: Callable[..., Any], folder: Path) -> None:
    (folder / ".env").write_text("A=1\n")
    (folder / ".env").chmod(0o644)
    assert run("init", "--force").code == 0
    assert (folder / ".env").stat().st_mode & 0o777 == 0o600


def test_a_folder_that_cannot_be_made_is_told(run: Callable[..., Any], folder: Path) -> None:
    (folder / "file").write_text("")
    done = run("init", "file/shop")
    assert (done.code, done.out) == (1, "")
    assert "file/shop" in done.err


def test_it_is_told_as_json(run: Callable[..., Any]) -> None:
    assert json.loads(run("init", "shop", "--json").out) == {"folder": "shop", "written": WRITTEN}


def read_compose(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = YAML(typ="safe").load(path)
    return loaded


def test_its_containers_are_those_of_the_repository() -> None:
    """But for where the image comes from, that the YAML is in this folder, and that its secrets are nobody else's."""
    services: dict[Path, Mapping[str, Any]] = {}
    for path in (STARTER / "compose.yaml", ROOT / "deploy/compose.yaml"):
        services[path] = read_compose(path)["services"]
        for service in services[path].values():
            for key in ("build", "env_file", "environment"):
                service.pop(key, None)
            if service.get("command", [])[:1] == ["serve"]:  # with --published-on, for the secrets of .env.example
                del service["command"]
            service["volumes"] = [mount.replace("../config:", ".:") for mount in service["volumes"]]
    ours, theirs = services.values()
    assert ours == theirs


# -- the package ------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_built_package_shows_its_demo_in_an_empty_folder(tmp_path: Path) -> None:
    """As `pipx install` leaves it: the wheel in an environment of its own. What it needs is that of this one."""
    uv = Path(sys.executable).with_name("uv")
    subprocess.run([uv, "build", "--offline", "--quiet", "--wheel", "-o", tmp_path, ROOT], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "venv")
    python = tmp_path / "venv/bin/python"
    install = [
        "pip",
        "install",
        "--offline",
        "--quiet",
        "--no-deps",
        "--no-config",
        "--python",
        str(python),
        str(wheel),
    ]
    subprocess.run([str(uv), *install], check=True, cwd=tmp_path)
    (packages,) = (tmp_path / "venv/lib").glob("python*/site-packages")
    (here,) = {path for path in sys.path if path.endswith("site-packages")}
    (packages / "needed.pth").write_text(f"{here}\n")
    empty = tmp_path / "empty"
    empty.mkdir()
    command = tmp_path / "venv/bin/nector-relay"
    given = {"PATH": os.environ["PATH"], "HOME": str(empty)}
    place = subprocess.run(
        [python, "-c", "import app; print(app.__file__)"], cwd=empty, env=given, capture_output=True, check=True
    )
    assert Path(place.stdout.decode().strip()).is_relative_to(tmp_path), "the repository's own would be another test"
    done = subprocess.run([command, "demo"], cwd=empty, env=given, capture_output=True, check=False)
    assert done.stdout.decode().endswith("\n11 of 11 messages accepted and delivered\n"), done.stderr
    assert done.returncode == 0
    for arguments in (["init"], ["check", "--strict"]):
        done = subprocess.run([command, *arguments], cwd=empty, env=given, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr

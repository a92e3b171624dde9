"""What other repositories use of this one: the hooks of pre-commit, and the GitHub action."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
COMMANDS: dict[str, Any] = json.loads((ROOT / "tests/surface.json").read_text())["commands"]


def read(name: str) -> Any:
    return YAML(typ="safe").load((ROOT / name).read_text())


def test_every_hook_runs_a_command_with_options_that_it_has() -> None:
    hooks = read(".pre-commit-hooks.yaml")
    assert [hook["id"] for hook in hooks] == ["nector-relay-check", "nector-relay-preview"]
    for hook in hooks:
        program, command, *options = hook["entry"].split()
        assert program == "nector-relay"
        known = " ".join(COMMANDS[command]["options"])
        assert all(option in known for option in options)
        assert (hook["language"], hook["pass_filenames"]) == ("python", False)


@pytest.fixture
def steps() -> dict[str, dict[str, Any]]:
    return {step["name"]: step for step in read("action.yml")["runs"]["steps"] if "name" in step}


def run_step(step: dict[str, Any], folder: Path, **inputs: str) -> subprocess.CompletedProcess[str]:
    (folder / "nector-relay/bin").mkdir(parents=True, exist_ok=True)
    program = folder / "nector-relay/bin/nector-relay"
    program.unlink(missing_ok=True)
    program.symlink_to(Path(sys.executable).with_name("nector-relay"))
    given = {name: value.replace("${{ inputs.", "").replace(" }}", "") for name, value in step["env"].items()}
    environment = {name: inputs[key] for name, key in given.items()}
    environment |= {"RUNNER_TEMP": str(folder), "CI": "true", "PATH": os.environ["PATH"], "HOME": str(folder)}
    command = [
        "bash",
        "--noprofile",
        "--norc",
        "-e",
        "-o",
        "pipefail",
        "-c",
        step["run"],
    ]  # as a runner's `shell: bash`
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(("strict", "code"), [("true", 1), ("false", 0)])
def test_the_action_checks_with_annotations_and_strictly_unless_told_otherwise(
    steps: dict[str, dict[str, Any]], tmp_path: Path, strict: str, code: int
) -> None:
    shutil.copytree(ROOT / "config", tmp_path / "config")
    done = run_step(steps["Check"], tmp_path, config="config/relay.yaml", strict=strict)
    assert done.returncode == code, done.stderr  # no variable is set here, which is a warning
    assert "::warning file=config/relay.yaml,line=" in done.stdout


def test_the_action_compares_the_messages_and_fails_where_nobody_has_reviewed_them(
    steps: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    shutil.copytree(ROOT / "config", tmp_path / "config")
    given = {"config": "config/relay.yaml", "golden": "messages"}
    assert run_step(steps["Compare the messages"], tmp_path, **given).returncode == 1
    assert steps["Compare the messages"]["if"] == "inputs.golden != ''"


def test_the_action_installs_what_it_comes_with(steps: dict[str, dict[str, Any]]) -> None:
    assert '"$GITHUB_ACTION_PATH"' in steps["Install"]["run"]

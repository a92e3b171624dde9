"""The list of commands. A command's module is imported only when that command runs: `serve` must start fast."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import typer

# Each name is also the function's, with `_` for `-`.
COMMANDS: dict[str, str] = {
    "serve": "app.cli.serve",
    "check": "app.cli.mapping.check",
    "route": "app.cli.mapping.route",
    "preview": "app.cli.mapping.preview",
    "templates": "app.cli.mapping.templates",
    "examples": "app.cli.mapping.examples",
    "send-test": "app.cli.mapping.send_test",
    "verify-capture": "app.cli.mapping.verify_capture",
    "schema": "app.cli.mapping.schema",
    "status": "app.cli.ops.status",
    "deliveries": "app.cli.ops.deliveries",
    "explain": "app.cli.ops.explain",
    "retry": "app.cli.ops.retry",
    "replay": "app.cli.ops.replay",
    "report": "app.cli.ops.report",
    "hold": "app.cli.ops.holds",
    "release": "app.cli.ops.holds",
    "holds": "app.cli.ops.holds",
    "suppressions": "app.cli.ops.people",
    "backup": "app.cli.backup",
    "erase": "app.cli.ops.people",
    "export": "app.cli.ops.people",
    "sandbox": "app.cli.sandbox",
    "demo": "app.cli.demo",
}


def build_commands(arguments: Sequence[str]) -> typer.Typer:
    """Return the application with the command that `arguments` asks for, or with all where it names none (--help)."""
    wanted = [arguments[0]] if arguments and arguments[0] in COMMANDS else list(COMMANDS)
    commands = typer.Typer(
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # frames wrap a message at 80 columns, in a log, too
        help="The webhook relay that turns a Nector loyalty event into one right WhatsApp message.",
    )
    commands.callback()(_nothing)
    for name in wanted:
        function = getattr(importlib.import_module(COMMANDS[name]), name.replace("-", "_"))
        commands.command(name=name)(_exit_with_result(function))
    return commands


def _nothing() -> None:
    """The webhook relay that turns a Nector loyalty event into one right WhatsApp message."""


def _exit_with_result(function: Callable[..., int]) -> Callable[..., None]:
    """Let a command return its exit code as a value, as the rest of our code does."""

    @functools.wraps(function)
    def run(*args: Any, **options: Any) -> None:
        raise typer.Exit(function(*args, **options))

    return run

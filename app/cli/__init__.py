"""The commands, one file a group, each imported only when a command of it runs: `serve` must start fast."""

from __future__ import annotations

import ast
import functools
import gc
import importlib
import importlib.util
import inspect
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from typer import Option
from typer.core import TyperCommand, TyperGroup

from app.errors import ConfigError, RelayError, StoreBusy, StoreError, StoreInUse, find_place
from app.mapping import ask_similar
from app.model.value import dataclass

# Each name is also the function's, with `_` for `-`.
COMMANDS: dict[str, str] = {
    "init": "app.cli.files",
    "serve": "app.cli.serve",
    "check": "app.cli.check",
    "route": "app.cli.preview",
    "preview": "app.cli.preview",
    "templates": "app.cli.check",
    "examples": "app.cli.captures",
    "send-test": "app.cli.trial",
    "echo": "app.cli.files",
    "diff": "app.cli.replay",
    "verify-capture": "app.cli.captures",
    "schema": "app.cli.files",
    "status": "app.cli.status",
    "deliveries": "app.cli.deliveries",
    "explain": "app.cli.deliveries",
    "retry": "app.cli.replay",
    "replay": "app.cli.replay",
    "report": "app.cli.report",
    "hold": "app.cli.status",
    "release": "app.cli.status",
    "holds": "app.cli.status",
    "suppressions": "app.cli.people",
    "backup": "app.cli.files",
    "erase": "app.cli.people",
    "export": "app.cli.people",
    "post": "app.cli.trial",
    "sandbox": "app.cli.demo",
    "demo": "app.cli.demo",
}
ENDED_BY_PIPE = 141
"""What a shell says of a program that SIGPIPE ended: whoever read its output has gone."""
_CONTEXT = {"help_option_names": ["-h", "--help"]}


def run_command(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code (Exit codes in docs/reference.md); no traceback reaches a user."""
    _write_what_can_be_written()
    try:
        commands = build_commands(arguments)
        try:
            commands(list(arguments), prog_name="nector-relay")
        finally:
            if sys.stdout is not None:  # it was closed before the start
                sys.stdout.flush()
    except (SystemExit, BrokenPipeError) as end:
        if isinstance(end, BrokenPipeError) or isinstance(end.__context__, BrokenPipeError):  # typer makes a 1 of it
            # Else Python flushes what nobody reads once more at the exit, and exits with 120.
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  # until the end
            return ENDED_BY_PIPE
        return end.code if isinstance(end.code, int) else 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001  # a traceback helps no user, and its values may be a customer's
        _say(f"nector-relay: {_explain(error)}")
        return _choose_code(error, serving=next(iter(arguments), "") == "serve")
    return 0


def _write_what_can_be_written() -> None:
    """Let a stream that cannot show ₹ or a frame escape it, rather than fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _say(text: str) -> None:
    """Print to stderr; whether anybody reads there must not change the exit code."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        sys.stderr = None  # else Python flushes it once more at the exit, and exits with 120


def _choose_code(error: Exception, *, serving: bool) -> int:
    """Return the exit code: a supervisor tells serve's apart, everybody else's failure is 1."""
    match error:
        case RelayError() | OSError() if not serving:
            return 1
        case ConfigError():
            return os.EX_CONFIG
        case StoreInUse() | StoreBusy():  # a relay, or another program that keeps the file locked
            return os.EX_TEMPFAIL
        case StoreError() | OSError():
            return os.EX_IOERR
        case RelayError():
            return 1
        case _:
            return os.EX_SOFTWARE


def _explain(error: Exception) -> str:
    match error:
        case RelayError():
            return str(error)
        case OSError(strerror=str(strerror)):
            named = f"{error.filename}: " if isinstance(error.filename, str) else ""
            return f"{named}{strerror}"
        case _:
            told = " at ".join(filter(None, (type(error).__name__, find_place(error))))  # and none of its text
            return f"unexpected failure: {told}. This is a fault of ours: please report it"


# -- how typer is told of them -------------------------------------------------------------------------


def build_commands(arguments: Sequence[str]) -> typer.Typer:
    """Return the application. Where `arguments` begin with a command, there is nothing to say about completion."""
    commands = typer.Typer(
        cls=LazyGroup,
        no_args_is_help=True,
        context_settings=_CONTEXT,
        add_completion=next(iter(arguments), "") not in COMMANDS,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # frames wrap a message at 80 columns, in a log, too
    )
    commands.callback()(_take_options)
    return commands


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"nector-relay {version('nector-relay')}")
        raise typer.Exit


def _take_options(
    *,
    _version: Annotated[
        bool, Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """The webhook relay that turns a Nector loyalty event into one right WhatsApp message."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A command came to this. The option --json of each that returns one prints `told`; without it `show` prints."""

    told: Any
    show: Callable[[], object]
    code: int = 0


AsJson = Annotated[bool, Option("--json", help="Print one JSON object.")]
ConfigFile = Annotated[Path | None, Option(help="The YAML file (else RELAY_CONFIG).")]


def print_json(told: Any) -> None:
    """Print what a command came to for programs."""
    print(json.dumps(told, ensure_ascii=False, indent=2, default=str))


def write_file(path: Path, text: str) -> None:
    """Write a file that a person named; raises RelayError where it cannot be."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RelayError(f"{path}: cannot be written ({error.strerror})") from None


class LazyGroup(TyperGroup):
    """Loads a command when it is asked for, and lists all of them from the texts of their files."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = dict.fromkeys(COMMANDS, cast("Any", None))  # for "did you mean"

    def get_command(self, _ctx: Any, name: str) -> Any:
        """Return the command of this name; None where there is none."""
        return _load_command(name) if name in COMMANDS else None

    def format_commands(self, _ctx: Any, formatter: Any) -> None:
        """List each command with the whole first sentence about it."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, read_summary(name)) for name in COMMANDS])


class PlainCommand(TyperCommand):
    """Calls values FILE, N and TEXT in its help, and not by their types in Python."""

    def make_context(self, *given: Any, **more: Any) -> typer.Context:
        """Read the arguments; of a word that is none of a few, say which is near."""
        try:
            return cast("typer.Context", super().make_context(*given, **more))
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")
            if found := re.match("'(.*)' is not one of (.*)", error.message):
                near = ask_similar(found[1], re.findall("'(.*?)'", found[2]), "", quote="'")
                error.message = f"{error.message} {near[:1].upper()}{near[1:]}".rstrip()
            raise

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, then the options."""
        for kind in ("argument", "option"):
            found = [each.get_help_record(ctx) for each in self.get_params(ctx) if each.param_type_name == kind]
            if rows := [(row[0].partition(" <")[0], row[1]) for row in found if row is not None]:
                with formatter.section(f"{kind.capitalize()}s"):
                    formatter.write_dl(rows)


@functools.cache
def _load_command(name: str) -> TyperCommand:
    """Return a command with its options, as click has it."""
    function = getattr(importlib.import_module(COMMANDS[name]), name.replace("-", "_"))
    single = typer.Typer(
        add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, context_settings=_CONTEXT
    )
    single.command(name=name, cls=PlainCommand)(_exit_with_result(function))
    command = cast("TyperCommand", typer.main.get_command(single))
    for each in command.params:
        _describe(each)
    return command


def _describe(parameter: Any) -> None:
    """Give a parameter the words of its help, and of a name in the YAML what a shell may complete."""
    kind = parameter.type_descriptor
    if parameter.metavar is None and parameter.param_type_name == "argument":
        parameter.metavar = parameter.name.upper()
    elif parameter.metavar is None and kind.choices is not None:
        parameter.metavar = "|".join(map(str, kind.choices))
    elif parameter.metavar is None:
        parameter.metavar = "FILE" if kind.is_path else "N" if kind.annotation is int else "TEXT"
    if parameter.name in NAMES:
        parameter._custom_shell_complete = complete_name  # noqa: SLF001  # else each command would say it of each name


def read_summary(name: str) -> str:
    """Return the first sentence about a command, from the text of its file: to import them all takes a second."""
    found = importlib.util.find_spec(COMMANDS[name])
    tree = ast.parse(Path(str(found and found.origin)).read_text(encoding="utf-8"))
    functions = [
        node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name.replace("-", "_")
    ]
    about = " ".join((ast.get_docstring(functions[0]) or "").split())
    return re.split(r"(?<=\.) ", about, maxsplit=1)[0]


def _exit_with_result(function: Callable[..., int | Answer]) -> Callable[..., None]:
    """Let a command return its exit code as a value, or an Answer, which gives it the option --json."""
    signature = inspect.signature(function, eval_str=True)
    has_json = signature.return_annotation is Answer

    def run(*args: Any, **options: Any) -> None:
        gc.freeze()
        gc.enable()  # __main__ switched it off while the command's code was loaded
        as_json = has_json and options.pop("as_json")
        done = function(*args, **options)
        if isinstance(done, Answer):
            print_json(done.told) if as_json else done.show()
        raise typer.Exit(done.code if isinstance(done, Answer) else done)

    option = inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=AsJson)
    parameters = [*signature.parameters.values(), *([option] if has_json else [])]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # what typer reads
    run.__doc__ = function.__doc__
    return run


# -- completion: a shell offers the names that the YAML of the settings has ---------------------------

NAMES = frozenset({"route", "provider", "topic", "scope"})


def complete_name(_context: Any, parameter: Any, begun: str) -> list[str]:
    """Return what an argument or option with one of NAMES may be; nothing where the YAML cannot be read."""
    try:
        return [name for name in list_names(parameter.name, _read_yaml()) if name.startswith(begun)]
    except Exception:  # noqa: BLE001  # nothing is to be said between two keys
        return []


def list_names(kind: str, yaml: Mapping[str, Any]) -> Iterable[str]:
    """Return the names of a kind, sorted."""
    routes = {str(name): {**(yaml.get("defaults") or {}), **(route or {})} for name, route in yaml["routes"].items()}
    match kind:
        case "route":
            found: Iterable[str] = routes
        case "provider":
            found = yaml["providers"]
        case "topic":
            found = {str(route["event"]) for route in routes.values()}
        case _:
            sent = {f"template:{route.get('provider')}/{route.get('template')}" for route in routes.values()}
            found = {*(f"route:{name}" for name in routes), *(f"provider:{name}" for name in yaml["providers"]), *sent}
    return sorted(found)


def _read_yaml() -> Any:
    from ruamel.yaml import YAML  # noqa: PLC0415  # only a shell that asks pays for it

    from app.settings import read_environment  # noqa: PLC0415

    environment = read_environment()
    path = Path(environment.get("RELAY_CONFIG") or "config/relay.yaml")
    return YAML(typ="safe").load(environment.get("RELAY_CONFIG_YAML") or path.read_text(encoding="utf-8"))

"""docs/reference/command-line.md: every command with its arguments and options, as `--help` prints them."""

from __future__ import annotations

import html
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import typer

from agents.cli import COMMANDS, PROGRAM, application
from agents.role import exit_codes
from tools.reference.struct_docs import plain, table

HEAD: Final = """\
# Command line

<!-- Generated from the code by `make reference`. Edit the help texts in agents/cli instead. -->

Every command of `tierwise`, as `--help` describes it. `-h` and `--help` work everywhere.
"""
_HOME: Final = str(Path.home())


def page() -> str:
    """Return the page."""
    parts = [HEAD, _exits()]
    for panel in dict.fromkeys(entry.panel for entry in COMMANDS):
        parts.append(f"## {panel}\n")
        for entry in (each for each in COMMANDS if each.panel == panel):
            parts += _command(loaded(entry.name), f"{PROGRAM} {entry.name}")
    return "\n".join(parts)


def loaded(name: str) -> Any:
    """Return a command with all commands below it; the command line loads only what its words name."""
    (entry,) = (each for each in COMMANDS if each.name == name)
    group: Any = typer.main.get_command(application([name, *_names(entry)]))
    return group.commands[name]


def _names(entry: Any) -> Iterator[str]:
    for each in getattr(entry, "commands", ()):
        yield each.name
        yield from _names(each)


def _exits() -> str:
    source = inspect.getsource(exit_codes).splitlines()
    rows = [
        (str(value), plain(source[number + 1].strip('"')))
        for number, line in enumerate(source)
        for name, value in vars(exit_codes).items()
        if line.startswith(f"{name}: Final")
    ]
    return table(("exit code", "meaning"), *rows) + "\n"


def _command(command: Any, path: str) -> Iterator[str]:
    if getattr(command, "hidden", False):
        return
    context = typer.Context(command, info_name=path)
    yield f"### {path}\n"
    help_text = inspect.cleandoc(command.help or "").partition("\f")[0]
    yield "\n\n".join(plain(each) for each in help_text.split("\n\n")) + "\n"
    subcommands = getattr(command, "commands", {})
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    if not subcommands or command.invoke_without_command:
        yield f"```text\n{usage}\n```\n"
        rows = list(_rows(command, context))
        if rows:
            yield table(("argument or option", "meaning"), *rows) + "\n"
    for name, each in subcommands.items():
        yield from _command(each, f"{path} {name}")


def _rows(command: Any, context: typer.Context) -> Iterator[tuple[str, str]]:
    for parameter in command.params:
        record = None if getattr(parameter, "hidden", False) else parameter.get_help_record(context)
        if record is not None and "--help" not in parameter.opts:
            names, meaning = record
            yield _code(names), html.escape(plain(meaning).replace(_HOME, "~"), quote=False)


def _code(text: str) -> str:
    """Return code for a table's cell; a bar within backticks would end the cell."""
    escaped = html.escape(text, quote=False).replace("|", "&#124;")
    return f"<code>{escaped}</code>"

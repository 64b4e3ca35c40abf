"""The `tierwise` command. `commands.py` holds the table of all commands; each subject has a folder.

Only the command that was asked for is imported, so that `tierwise --help` stays quick and a device that has no Faust
installed can run every command that does not need it.

    $ tierwise publish cat.jpg
    $ tierwise watch
    $ tierwise --install-completion        # Tab completes commands from now on

Exit codes: 0 done; 1 not possible now, try again (a broker is away); 2 something must be changed first (settings,
arguments, input). The line on stderr says which.
"""

from __future__ import annotations

import importlib
import logging
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from agents.cli.commands import COMMANDS, Command, renewed, spellings
from agents.role import exit_codes
from agents.up.plan import EXTRAS
from agents.up.role_process import plain_role, start
from pipeline.credentials import hidden
from pipeline.errors import Retry, TierwiseError
from pipeline.files import private_files

if TYPE_CHECKING:
    import typer

__all__ = ["COMMANDS", "PROGRAM", "application", "main", "spellings"]

PROGRAM: Final = "tierwise"

IN_CLONES_ONLY: Final = ("models.train", "agents.demo.learning")
"""Modules that the wheel leaves out, since they need the training pictures."""

COMPLETING: Final = "_TIERWISE_COMPLETE"
"""The environment variable with which a shell asks for completions; the line so far stands in one of `LINES`."""
LINES: Final = ("_TYPER_COMPLETE_ARGS", "COMP_WORDS")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if len(words) == 2 and words[0] == "health" and not words[1].startswith("-"):
            from agents.up.health_probe import (
                print_health,  # what a container's health check runs: typer alone takes longer
            )

            sys.exit(print_health(words[1]))
        # Our heads are small: BLAS's threads wait for each other longer than they work, and the cores are the workers'.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        # A command reports problems itself; without this handler, Python prints the lines of libraries.
        logging.getLogger().addHandler(logging.NullHandler())
        if role := plain_role(words):
            with private_files.disk_errors_mapped():
                sys.exit(start(*role))
        words, notice = renewed(words)
        if notice:
            _complain(notice)
        with private_files.disk_errors_mapped():
            application(_line_to_complete() or words)(words, prog_name=PROGRAM)
    except TierwiseError as error:
        _complain(str(error))
        sys.exit(exit_codes.FAILED if isinstance(error, Retry) else exit_codes.STOP)
    except ModuleNotFoundError as error:
        name = error.name or ""
        extra = EXTRAS.get(name.partition(".")[0])
        if name.startswith(IN_CLONES_ONLY):
            _complain(
                "this needs the training recipes, which the installed package lacks: "
                "run it in a clone of the repository (make setup, then .venv/bin/tierwise)"
            )
        elif extra is not None:
            _complain(f"this needs {name}, which is not installed: pip install 'tierwise[{extra}]'")
        else:
            raise
        sys.exit(exit_codes.STOP)


def application(words: Sequence[str]) -> typer.Typer:
    """Build the command line and load the command that the words name. The others have only their lines in the help."""
    import typer  # here, since it takes longer to load than a health check to run

    def root(
        version: bool = typer.Option(
            False, "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ) -> None:
        pass

    app = typer.Typer(
        help="Sensors and cameras answered tier by tier: device, edge, cloud. Privacy decides how far a record goes.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(root)
    first = next((word for word in words if not word.startswith("-")), "")
    _fill(app, COMMANDS, {first}, words)
    return app


def _fill(app: typer.Typer, commands: Sequence[Command], wanted: set[str], words: Sequence[str]) -> None:
    """Add these commands; load those that are wanted, and within a group all that the words name."""
    import typer

    for command in commands:
        asked = command.name in wanted
        if asked and command.commands:
            group = typer.Typer(no_args_is_help=not command.target)
            if command.target:
                group.callback(invoke_without_command=True)(_load(command.target))
            _fill(group, command.commands, set(words), words)
            app.add_typer(
                group,
                name=command.name,
                help=None if command.target else command.help,
                rich_help_panel=command.panel,
            )
        else:
            target: Callable[..., object] = _load(command.target) if asked else _not_loaded
            app.command(command.name, help=None if asked else command.help, rich_help_panel=command.panel)(target)


def _line_to_complete() -> list[str]:
    """Return the words of a line that a shell wants completed; empty if there is nothing to complete."""
    if COMPLETING not in os.environ:
        return []
    line = next((os.environ[name] for name in LINES if name in os.environ), "")
    return line.split()[1:]


def _load(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(f"agents.cli.{module}"), name)


def _not_loaded() -> None:
    """Stand in the help for a command that was not asked for."""


def _print_version(wanted: bool) -> None:
    if wanted:
        from agents.cli.machine.version import version

        version()
        sys.exit(exit_codes.ASKED)


def _complain(text: str) -> None:
    """Print a line on stderr; a terminal wraps it between words."""
    text = f"{PROGRAM}: {hidden(text)}"
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns
        text = "\n".join(textwrap.fill(line, width, break_long_words=False) for line in text.splitlines())
    print(text, file=sys.stderr)

"""The `tierwise` command: one file a command, and this table of them.

Only the command that was asked for is imported, so that `tierwise --help` stays quick and a device that has no Faust
installed can run every command that needs none.

    $ tierwise publish cat.jpg
    $ tierwise watch

Exit codes: 0 done; 1 could not be done now, try again (a broker is away); 2 something must be changed first (settings,
arguments, input), which the one line on stderr says.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from agents.role import exit_codes
from agents.up.plan import EXTRAS
from pipeline.errors import Retry, TierwiseError

if TYPE_CHECKING:
    import typer

PROGRAM: Final = "tierwise"

ROLES: Final = "Roles, one process each"
PEOPLE: Final = "For people"
CARE: Final = "Looking after it"


@dataclass(frozen=True, slots=True)
class Entry:
    """One command: where it is, a function or a `typer.Typer` with commands of its own, and its line in the help."""

    name: str
    target: str
    help: str
    panel: str


COMMANDS: Final = (
    Entry("demo", "agents.cli.demo:app", "See all of it on this machine, with real photos.", PEOPLE),
    Entry("up", "agents.cli.up:up", "Start brokers and roles on this machine and look after them.", PEOPLE),
    Entry(
        "publish",
        "agents.cli.publish:publish",
        "Publish a photo, a folder or a reading; see it answered.",
        PEOPLE,
    ),
    Entry(
        "classify",
        "agents.cli.classify:classify",
        "Answer photos with all tiers in this process; no broker.",
        PEOPLE,
    ),
    Entry(
        "learn", "agents.cli.learn:learn", "Learn a fixed camera's place from labels of some frames.", PEOPLE
    ),
    Entry("watch", "agents.cli.watch:watch", "A live table of answers, refined in place.", PEOPLE),
    Entry("counts", "agents.cli.counts:counts", "What was seen where, without any picture.", PEOPLE),
    Entry("label", "agents.cli.label:label", "Say what an event shows; the edge learns from it.", PEOPLE),
    Entry(
        "review",
        "agents.cli.review:review",
        "Go through the events whose labels would teach most.",
        PEOPLE,
    ),
    Entry("picture", "agents.cli.picture:picture", "Find the picture of an event on its device.", PEOPLE),
    Entry("device", "agents.cli.roles:device", "Answers frames and readings at their source.", ROLES),
    Entry(
        "edge", "agents.cli.roles:edge", "Refines a site's answers, sends what it may to the cloud.", ROLES
    ),
    Entry(
        "gateway", "agents.cli.roles:gateway", "Takes what edges send into Kafka, sends answers back.", ROLES
    ),
    Entry("stream", "agents.cli.roles:stream", "Routes by privacy, sums up and counts (Faust).", ROLES),
    Entry("cloud", "agents.cli.roles:cloud", "Answers public features: species, patterns, forecasts.", ROLES),
    Entry(
        "trainer", "agents.cli.roles:trainer", "Learns from labels, and releases better heads, signed.", ROLES
    ),
    Entry("doctor", "agents.cli.doctor:doctor", "Check this machine and say what to do.", CARE),
    Entry("health", "agents.cli.health:health", "Ask the roles of this machine how they are.", CARE),
    Entry(
        "models", "agents.cli.models:app", "Which models answer, and how right they are on your photos.", CARE
    ),
    Entry("releases", "agents.cli.releases:app", "What tiers trust releases by, and who signs them.", CARE),
    Entry("settings", "agents.cli.settings:app", "Check the settings file, or print a starter.", CARE),
    Entry(
        "bench",
        "agents.cli.bench:app",
        "Measure ingest, routing and the whole road; figures as ratios.",
        CARE,
    ),
    Entry("init", "agents.cli.init:init", "Make every secret of a deployment, once (compose runs it).", CARE),
    Entry(
        "provision",
        "agents.cli.provision:app",
        "Give logins their rights at Kafka and InfluxDB (compose runs it).",
        CARE,
    ),
    Entry("credentials", "agents.cli.credentials:credentials", "Print what people log in with.", CARE),
    Entry("version", "agents.cli.version:version", "Which version this is.", CARE),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if len(words) == 2 and words[0] == "health" and not words[1].startswith("-"):
            from agents.up.health_probe import (
                print_health,  # what a container's health check runs: typer alone takes longer
            )

            sys.exit(print_health(words[1]))
        application(words)(words, prog_name=PROGRAM)
    except TierwiseError as error:
        _complain(str(error))
        sys.exit(exit_codes.FAILED if isinstance(error, Retry) else exit_codes.STOP)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        _complain(f"this needs {error.name}, which is not installed: pip install 'tierwise[{extra}]'")
        sys.exit(exit_codes.STOP)


def application(words: Sequence[str]) -> typer.Typer:
    """The command line with the asked command in place; of the others only their lines in the help."""
    import typer  # here, since it takes longer to load than a health check to run

    asked = next((word for word in words if not word.startswith("-")), "")
    app = typer.Typer(
        help="Sensors and cameras answered tier by tier: device, edge, cloud. Privacy decides how far a record goes.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for entry in COMMANDS:
        target = _load(entry.target) if entry.name == asked else _unasked
        if isinstance(target, typer.Typer):
            app.add_typer(target, name=entry.name, help=entry.help, rich_help_panel=entry.panel)
        else:
            app.command(
                entry.name, help=None if entry.name == asked else entry.help, rich_help_panel=entry.panel
            )(target)
    return app


def _load(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def _unasked() -> None:
    """Stands in the help for a command that was not asked for."""


def _complain(text: str) -> None:
    print(f"{PROGRAM}: {text}", file=sys.stderr)

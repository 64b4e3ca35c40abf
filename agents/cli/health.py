"""`tierwise health [ROLE]`: what the roles that run on this machine say about themselves."""

from __future__ import annotations

import json
from typing import Annotated, Final

import typer

from agents import exits
from agents.cli.options import AsJson, SettingsFile
from agents.plan import ROLE_NAMES
from agents.running import ask_health, running
from pipeline.errors import Stop
from pipeline.settings import Settings

PATIENCE_S: Final = 5.0
"""A machine that is very busy is slow, and not ill."""


def health(
    role: Annotated[str, typer.Argument(help="One role; otherwise all that run here.")] = "",
    as_json: AsJson = False,
    settings: SettingsFile = None,
) -> None:
    """Ask the roles of this machine how they are. Exit code 0: all of them are ready."""
    if role and role not in ROLE_NAMES:
        raise Stop(f'there is no role "{role}"; there are {", ".join(ROLE_NAMES)}')
    loaded = Settings.load(settings)
    all_ready = True
    found = 0
    for name in (role,) if role else ROLE_NAMES:
        told = running(loaded.data_dir, name)
        if told is None:
            continue
        found += 1
        ready, parts = (
            ask_health(told.port, PATIENCE_S) if told.port is not None else (True, {"http": "switched off"})
        )
        all_ready &= ready
        if as_json:
            typer.echo(json.dumps({"role": name, "ready": ready, "pid": told.pid, "parts": parts}))
        else:
            state = "ready" if ready else "NOT READY"
            typer.echo(f"{name:<8} {state:<9} {', '.join(f'{part}: {how}' for part, how in parts.items())}")
    if not found:
        typer.echo(
            f"{role or 'no role'} runs on {loaded.data_dir}; `tierwise up` starts all of them", err=True
        )
    if not (found and all_ready):
        raise typer.Exit(exits.FAILED)

"""`tierwise device|edge|gateway|stream|cloud|trainer`: one role in this process."""

from __future__ import annotations

from typing import Annotated

import typer

from agents.cli.options import ParentPid, SettingsFile
from agents.up.role_process import start
from pipeline.settings.settings import Settings


def device(settings: SettingsFile = None, parent_pid: ParentPid = None) -> None:
    """Answer frames and readings at their source, and send on what policy lets go further."""
    _run("device", settings, parent_pid)


def edge(settings: SettingsFile = None, parent_pid: ParentPid = None) -> None:
    """Refine a site's answers, watch its rooms, and send on what may go to the cloud."""
    _run("edge", settings, parent_pid)


def gateway(settings: SettingsFile = None, parent_pid: ParentPid = None) -> None:
    """Write what edges send to Kafka, acknowledge it after Kafka did, and send answers back."""
    _run("gateway", settings, parent_pid)


def stream(settings: SettingsFile = None, parent_pid: ParentPid = None) -> None:
    """Route records by their privacy, sum up hours and count sightings: the Faust worker."""
    _run("stream", settings, parent_pid)


def cloud(settings: SettingsFile = None, parent_pid: ParentPid = None) -> None:
    """Answer public features with species, and public hourly sums with patterns and forecasts."""
    _run("cloud", settings, parent_pid)


def trainer(
    settings: SettingsFile = None,
    parent_pid: ParentPid = None,
    now: Annotated[
        bool, typer.Option("--now", help="Begin with a training, even if there is little to learn.")
    ] = False,
) -> None:
    """Add labelled features to sums, train when a rule says so, and release better heads, signed."""
    if now:
        from agents.client.trainings import Reports  # only the trainer needs it

        Reports(Settings.load(settings).data_dir).request_training("tierwise trainer --now")
    _run("trainer", settings, parent_pid)


def _run(name: str, settings: SettingsFile, parent_pid: ParentPid) -> None:
    raise typer.Exit(start(name, settings, parent_pid))

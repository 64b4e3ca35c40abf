"""Read the name of a release in a command: `lite0@3`, its number alone, or `last`."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from agents.rollout.inventory import local_releases
from models.releases.targets import MODEL
from pipeline.errors import Stop
from pipeline.settings.settings import Settings

LAST: Final = "last"

TITLE_HELP: Final = "A release: lite0@3, 3, or `last`."

Title = Annotated[str, typer.Argument(metavar="RELEASE", help=TITLE_HELP)]


def full_title(settings: Settings, text: str) -> str:
    """Return the name and version that a person means. Raises `Stop` if there is no last release."""
    if text.isdecimal():
        return f"{MODEL}@{text}"
    if text != LAST:
        return text
    newest = max(local_releases(settings), default=0)
    if not newest:
        raise Stop("there is no release on this machine yet, and so no last one")
    return f"{MODEL}@{newest}"

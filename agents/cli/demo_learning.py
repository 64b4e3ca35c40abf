"""`tierwise demo learning`: teach species that no tier knows by 20 labels each, and compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from agents.cli.tables import text_console
from agents.demo.learning.demo import LearningDemo, LearningRequest
from agents.demo.learning.lessons import Amounts
from agents.demo.learning.worth import LAST, Score, Worth
from agents.role import exit_codes
from agents.up.supervisor import News, UpEvent

FOLDER: Final = Path("tierwise-learning")


def learning(
    pack: Annotated[
        str, typer.Option(help="The pack of photos; TIERWISE_DATASETS names the folder that holds it.")
    ] = "wild256",
    labels: Annotated[int, typer.Option(min=20, help="Labels for each new species.")] = 20,
    tests: Annotated[int, typer.Option(min=1, help="Photos of each new species to test.")] = 12,
    species: Annotated[int | None, typer.Option(min=1, help="How many of the seven new species; default: all.")] = None,
    known: Annotated[int, typer.Option(min=1, help="Photos of known species to test, in all.")] = 120,
    canary_s: Annotated[
        float, typer.Option(min=1, help="Seconds for which a share of the streams tries the release first.")
    ] = 20,
    report: Annotated[Path | None, typer.Option(help="Write the figures as JSON into this file.")] = None,
    folder: Annotated[Path, typer.Option(help="The folder of the demo; existing contents are replaced.")] = FOLDER,
) -> None:
    """Show the loop: photos of new species, labels over MQTT, a signed release, and the same photos again."""
    from models.evaluation.photo_pack import (
        open_pack,  # not in every installation, and `tierwise demo` does not need it
    )

    console = text_console()

    def starting(news: News) -> None:
        if news.event in (UpEvent.SLOW, UpEvent.DIED, UpEvent.GAVE_UP):
            console.print(f"{news.part:<8} {escape(news.text)}")

    def stage(text: str) -> None:
        console.print(f"[dim]…[/] {text}")

    stage("starting brokers and roles, with a model that does not know some species")
    run = LearningDemo(
        LearningRequest(folder.absolute(), Amounts(labels, tests, known, species), canary_s),
        open_pack(pack),
        starting,
        stage,
    )
    try:
        run.start()
        worth = run.run()
    finally:
        run.stop()
    if report is not None:
        report.write_bytes(msgspec.json.format(msgspec.json.encode(worth)))
    console.print(table(worth))
    console.print(summary(worth))
    if worth.new[LAST][1].species <= worth.new[LAST][0].species:
        raise typer.Exit(exit_codes.FAILED)


def table(worth: Worth) -> Table:
    """Draw the figures before and after, by species."""
    made = Table(title=f"{worth.labels} labels, in %: {worth.models[0]} → {worth.models[1]}")
    made.add_column("photos of", no_wrap=True)
    for column in ("", "species", "family", "wrong"):
        made.add_column(column, justify="right", no_wrap=True)
    rows = [
        *((f"[b]new[/], {by}", *shares) for by, shares in worth.new.items()),
        *((f"  {species}", *shares) for species, shares in worth.by_species.items()),
        (f"[b]known[/], {LAST}", *worth.known),
    ]
    for name, before, after in rows:
        cells = [_pair(before, after, field) for field in ("species", "family", "wrong")]
        made.add_row(name, str(before.photos), *cells)
    return made


def _pair(before: Score, after: Score, field: str) -> str:
    old, new = (score.percent(getattr(score, field)) for score in (before, after))
    return f"{old:.1f} → {new:.1f}"


def summary(worth: Worth) -> str:
    """Return the summary below the table."""
    new, known = worth.nearest_mean
    return (
        f"The nearest class mean over the same labels names {new:.1f}% of the new species' photos, and {known:.1f}% of the known "
        f"ones'. Edge and cloud served {worth.models[1]} {worth.learned_s:.0f} s after the last label; nothing was started again."
    )

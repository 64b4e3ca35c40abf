"""`tierwise labels tree`: every label that there is, from kingdom to species."""

from __future__ import annotations

from typing import Annotated

import typer

from models.labels.taxonomy import load_taxonomy


def tree(
    word: Annotated[str, typer.Argument(metavar="[WORD]", help="Only labels with this in one of their names.")] = "",
) -> None:
    """List the label tree: the names that labels, folders of photos and models of your own may use."""
    taxonomy = load_taxonomy()
    for row in taxonomy.rows:
        names = (row.kingdom, row.family, row.label, row.english, *row.names)
        if any(word.casefold() in name.casefold() for name in names):
            path = " > ".join(taxonomy.path(row.label))
            typer.echo(f"{path}  ({row.english})" if row.english != row.label else path)

"""Which files are generated, and from what: whole pages, and blocks within pages that people write.

A block stands between two comments, and only its name is written by hand::

    <!-- mqtt topics of a site -->
    | topic | ...
    <!-- end -->
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from agents.device.intake import profiles
from agents.rollout import rules as update_rules
from models.answering import cascade
from pipeline.settings.starter import STARTER
from tools.reference import asyncapi, command_line, message_page, settings_tables, topic_tables

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"

PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "reference/command-line.md": command_line.page,
    "reference/messages.md": message_page.page,
    "reference/asyncapi.yaml": asyncapi.document,
}
"""Files that are generated as a whole, relative to docs/."""

BLOCKS: Final[Mapping[str, Callable[[], str]]] = {
    "cascade rules": cascade.table,
    "update rules": update_rules.table,
    "camera profiles": profiles.table,
    "starter file": lambda: f"```toml\n{STARTER}```",
    **topic_tables.BLOCKS,
    **settings_tables.BLOCKS,
}
"""Tables within pages, by the name in their opening comment."""

_BLOCK: Final = re.compile(r"<!-- ([a-z0-9_. -]+) -->\n(.*?)<!-- end -->", re.DOTALL)


def generated() -> dict[Path, str]:
    """Return every generated file with its text, and every page that holds a block with its blocks renewed."""
    files = {DOCS / name: page() for name, page in PAGES.items()}
    for file in sorted(DOCS.rglob("*.md")):
        text = file.read_text("utf-8")
        if file not in files and _BLOCK.search(text):
            files[file] = filled(text)
    return files


def filled(page: str) -> str:
    """Return the page with each of its blocks generated anew.

    Raises
    ------
    KeyError
        A comment names a block that `BLOCKS` lacks.
    """
    return _BLOCK.sub(lambda block: f"<!-- {block[1]} -->\n\n{BLOCKS[block[1]]()}\n\n<!-- end -->", page)

"""Every example runs: doctests of the modules, settings, messages and Python in README and docs."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from agents.cli import COMMANDS
from agents.up.plan import EXTRAS
from models.answering import cascade
from pipeline import messages, readings, records
from pipeline.settings.settings import Settings

ROOT = Path(__file__).parent.parent
PACKAGES = ("pipeline", "models", "agents")
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]

FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
RULES = re.compile(r"<!-- cascade rules -->\n(.*?)\n<!-- end -->", re.DOTALL)
LINK = re.compile(r"\]\((?!https?://|mailto:)([^)#\s]+)(#[^)\s]*)?\)")
COMMAND = re.compile(r"`tierwise ([a-z]+)")


# --- modules ---------------------------------------------------------------------------------------------------


def modules() -> Iterator[str]:
    for package in PACKAGES:
        found = pkgutil.walk_packages([str(ROOT / package)], prefix=f"{package}.")
        yield from (each.name for each in found if not each.name.endswith("__main__"))


@pytest.mark.parametrize("name", sorted(modules()))
def test_examples_of_a_module_hold(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        assert missing in EXTRAS, f"{name} needs {missing}, which no extra brings"
        pytest.skip(f"{missing} is not installed")
    failed, _ = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert not failed


# --- pages -----------------------------------------------------------------------------------------------------


class Example(NamedTuple):
    """One fenced block."""

    page: Path
    line: int
    info: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.name}:{self.line}"


def examples(*languages: str) -> list[Example]:
    found = []
    for page in PAGES:
        text = page.read_text("utf-8")
        for match in FENCE.finditer(text):
            if match["info"].partition(" ")[0] in languages:
                line = text[: match.start()].count("\n") + 1
                found.append(Example(page, line, match["info"].strip(), match["text"]))
    return found


def by_name(example: Example) -> str:
    return example.name


@pytest.mark.parametrize("example", examples("toml"), ids=by_name)
def test_settings_in_the_docs_are_accepted(example: Example, tmp_path: Path) -> None:
    file = tmp_path / "tierwise.toml"
    file.write_text(example.text, "utf-8")
    Settings.load(file, {})


@pytest.mark.parametrize("example", examples("json"), ids=by_name)
def test_messages_in_the_docs_are_what_we_send_and_take(example: Example) -> None:
    """``json Result`` is that message (bytes in Base64); plain ``json`` is what a sensor publishes."""
    _, _, kind = example.info.partition(" ")
    if not kind:
        assert readings.parse(example.text.encode(), received_s=1_700_000_000.0)
        return
    types = {**vars(messages), **vars(records), **_counts()}
    assert msgspec.json.decode(example.text, type=types[kind])


def _counts() -> dict[str, object]:
    counts = pytest.importorskip("pipeline.stream.counts")
    return vars(counts)


@pytest.mark.parametrize("example", examples("python", "pycon"), ids=by_name)
def test_python_in_the_docs_runs(example: Example) -> None:
    if ">>>" not in example.text:
        exec(compile(example.text, example.name, "exec"), {})
        return
    test = doctest.DocTestParser().get_doctest(
        example.text, {}, example.name, str(example.page), example.line
    )
    assert not doctest.DocTestRunner().run(test).failed


def test_the_architecture_page_shows_the_rules_that_are_in_force() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    shown = RULES.search(page)
    assert shown is not None, "docs/architecture.md has no <!-- cascade rules --> ... <!-- end -->"
    assert shown[1] == cascade.table()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text("utf-8"))
    broken = [target for target, _ in LINK.findall(text) if not (page.parent / target).exists()]
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_named_in_the_docs_exist(page: Path) -> None:
    known = {entry.name for entry in COMMANDS}
    later = {"trainer", "console"}
    """Roles that the architecture plans and says so."""
    assert set(COMMAND.findall(page.read_text("utf-8"))) <= known | later

"""The docs hold: examples run, links lead somewhere, commands exist, generated pages are up to date, prose wraps."""

from __future__ import annotations

import doctest
import functools
import importlib
import pkgutil
import re
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from agents.cli import COMMANDS
from agents.up.plan import EXTRAS
from models.answering import cascade
from pipeline import messages, readings, records
from pipeline.settings.settings import Settings
from tools.reference.command_line import loaded
from tools.reference.examples import examples as message_examples
from tools.reference.pages import PAGES as GENERATED
from tools.reference.pages import generated

ROOT = Path(__file__).parent.parent
PACKAGES = ("pipeline", "models", "agents", "tools")
CARDS = sorted((ROOT / "models" / "zoo").glob("*/CARD.md"))
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), *CARDS]
WRITTEN = [page for page in PAGES if page.relative_to(ROOT).as_posix().removeprefix("docs/") not in GENERATED]
PROSE_COLUMNS = 120

FENCE = re.compile(r"^ *```(?P<info>[^\n]*)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"<!-- [a-z0-9_. -]+ -->\n.*?<!-- end -->", re.DOTALL)
RULES = re.compile(r"<!-- cascade rules -->\n(.*?)\n<!-- end -->", re.DOTALL)
LINK = re.compile(r"\]\((?!https?://|mailto:)([^)#\s]*)(#[^)\s]*)?\)")
OWN_URL = re.compile(r"https://github\.com/tierwise/tierwise/(?:blob|tree)/main/([^)#\s]+)")
SHELL = frozenset({"sh", "console", "shell", "bash"})
COMMAND = re.compile(r"(?:^|[\s$;|&`(])tierwise ((?:[a-z][a-z0-9-]*)(?: [a-z][a-z0-9-]*)*)")
CODE_SPAN = re.compile(r"`([^`\n]+)`")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


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
        return f"{name_of(self.page)}:{self.line}"


def examples(*languages: str) -> list[Example]:
    found = []
    for page in WRITTEN:
        text = page.read_text("utf-8")
        for match in FENCE.finditer(text):
            if match["info"].partition(" ")[0] in languages:
                line = text[: match.start()].count("\n") + 1
                found.append(Example(page, line, match["info"].strip(), textwrap.dedent(match["text"])))
    return found


def by_name(example: Example) -> str:
    return example.name


@pytest.mark.parametrize("example", examples("toml"), ids=by_name)
def test_settings_in_the_docs_are_accepted(example: Example, tmp_path: Path) -> None:
    file = tmp_path / "tierwise.toml"
    file.write_text(example.text, "utf-8")
    for name in re.findall(r'^\w+_file = "([\w.-]+)"', example.text, re.MULTILINE):
        (tmp_path / name).write_text("user:password\n")
    Settings.load(file, {})


@pytest.mark.parametrize("example", examples("json"), ids=by_name)
def test_messages_in_the_docs_are_what_we_send_and_take(example: Example) -> None:
    """``json title="Result"`` is that message (bytes in Base64); plain ``json`` is what a sensor publishes."""
    _, _, kind = example.info.partition("title=")
    if not kind:
        assert readings.parse(example.text.encode(), received_s=1_700_000_000.0)
        return
    types = {**vars(messages), **vars(records), **_counts()}
    assert msgspec.json.decode(example.text, type=types[kind.strip('"')])


def _counts() -> dict[str, object]:
    counts = pytest.importorskip("pipeline.stream.counts")
    return vars(counts)


@pytest.mark.parametrize("example", examples("python", "pycon"), ids=by_name)
def test_python_in_the_docs_runs(example: Example) -> None:
    if ">>>" not in example.text:
        exec(compile(example.text, example.name, "exec"), {})
        return
    test = doctest.DocTestParser().get_doctest(example.text, {}, example.name, str(example.page), example.line)
    assert not doctest.DocTestRunner().run(test).failed


def test_the_architecture_page_shows_the_rules_that_are_in_force() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    shown = RULES.search(page)
    assert shown is not None, "docs/architecture.md has no <!-- cascade rules --> ... <!-- end -->"
    assert shown[1].strip() == cascade.table()


@pytest.mark.parametrize("file", sorted(generated()), ids=name_of)
def test_generated_pages_are_what_the_code_gives(file: Path) -> None:
    assert file.read_text("utf-8") == generated()[file], f"{name_of(file)} is out of date: make reference"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text("utf-8"))
    broken = [target for target in OWN_URL.findall(text) if not (ROOT / target).exists()]
    for target, anchor in LINK.findall(text):
        file = page.parent / target if target else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor[1:] not in anchors(file)):
            broken.append(target + anchor)
    assert broken == []


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the docs site both make them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


command = functools.cache(loaded)


def unknown_commands(text: str) -> Iterator[str]:
    for words in COMMAND.findall(text):
        first, *rest = words.split()
        if first not in {entry.name for entry in COMMANDS}:
            yield words
            continue
        at = command(first)
        for word in rest:
            if not getattr(at, "commands", None):
                break  # what follows is an argument
            if word not in at.commands:
                yield words
                break
            at = at.commands[word]


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_commands_named_in_the_docs_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    shown = [match["text"] for match in FENCE.finditer(text) if match["info"].strip() in SHELL]
    shown += CODE_SPAN.findall(FENCE.sub("", text))
    assert [bad for each in shown for bad in unknown_commands(re.sub(r"#.*", "", each))] == []


def test_every_page_is_in_the_sites_navigation() -> None:
    site = tomllib.loads((ROOT / "zensical.toml").read_text("utf-8"))
    listed = set(entries(site["project"]["nav"]))
    assert listed == {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}


def entries(nav: Any) -> Iterator[str]:
    """The files that a part of the navigation names, whatever their depth."""
    if isinstance(nav, str):
        yield nav
    else:
        for part in nav.values() if isinstance(nav, dict) else nav:
            yield from entries(part)


# --- form ------------------------------------------------------------------------------------------------------


def prose(page: Path) -> Iterator[tuple[int, str]]:
    """The lines that a person wrote as prose, with their numbers: no code, no tables, nothing generated."""
    text = page.read_text("utf-8")
    for pattern in (FENCE, BLOCK):
        text = pattern.sub(lambda match: "\n" * match[0].count("\n"), text)
    yield from ((number, line) for number, line in enumerate(text.splitlines(), 1) if not line.startswith("|"))


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_prose_wraps(page: Path) -> None:
    """A line may be longer for the target of a link, which cannot be broken."""
    shown = [(number, re.sub(r"\]\([^)]*\)", "]", line)) for number, line in prose(page)]
    assert [(number, line) for number, line in shown if len(line) > PROSE_COLUMNS] == []


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_lists_begin_after_an_empty_line(page: Path) -> None:
    """The site's Markdown takes a list for a part of the paragraph above it otherwise."""
    bullet = re.compile(r" *([*-]|\d+\.) ")
    before, inside = "", False
    for number, line in prose(page):
        if bullet.match(line):
            assert inside or not before.strip(), f"{name_of(page)}:{number}: no empty line above this list"
            inside = True
        elif line.strip() and not line.startswith(" "):
            inside = False
        before = line


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_merge_left_its_marks(page: Path) -> None:
    assert not re.search(r"^(<{7}|>{7}) ", page.read_text("utf-8"), re.MULTILINE)


def test_every_message_example_names_a_message() -> None:
    types = {**vars(messages), **vars(records), **_counts()}
    assert set(message_examples()) <= set(types)

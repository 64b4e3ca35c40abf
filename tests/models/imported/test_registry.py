"""The registry on disk: an entry is whole or is not there, versions only grow, what is read is what was written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from models.imported.registry import Draft, Registry
from pipeline.errors import Stop


def draft(content: bytes = b"weights") -> Draft:
    return Draft(
        files={"model.onnx": content},
        card=lambda title: f"# {title}\n",
        labels=("Panthera tigris",),
        terms="CC0",
    )


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "data" / "models")


def contents(registry: Registry) -> dict[str, bytes]:
    return {
        str(path.relative_to(registry.folder)): path.read_bytes()
        for path in sorted(registry.folder.rglob("*"))
        if path.is_file()
    }


def test_an_entry_is_read_as_it_was_written(registry: Registry) -> None:
    entry = registry.add("mine", draft())
    assert entry.title == "mine@1"
    assert registry.entry("mine@1").read("model.onnx") == b"weights"
    assert registry.entry("mine").card == "# mine@1\n"
    assert [its.title for its in registry.entries()] == ["mine@1"]


def test_only_its_owner_can_read_the_registry(registry: Registry) -> None:
    registry.add("mine", draft())
    assert registry.folder.stat().st_mode & 0o077 == 0


def test_versions_only_grow_also_after_one_was_removed(registry: Registry) -> None:
    for number in (1, 2, 3):
        assert registry.add("mine", draft()).title == f"mine@{number}"
    registry.remove("mine@3")
    registry.remove("mine@1")
    assert [its.title for its in registry.entries()] == ["mine@2"]
    assert registry.add("mine", draft()).title == "mine@4"
    assert registry.entry("mine").title == "mine@4"


def test_ten_comes_after_nine(registry: Registry) -> None:
    for _ in range(10):
        registry.add("mine", draft())
    assert registry.entry("mine").title == "mine@10"
    assert registry.add("mine", draft()).title == "mine@11"


@pytest.mark.parametrize("title", ["other", "mine@7", "mine@x", "", "@1", "../mine@1"])
def test_what_is_not_there_is_told_with_what_is(registry: Registry, title: str) -> None:
    registry.add("mine", draft())
    with pytest.raises(Stop, match=r"there is no model .* \(models there: mine@1\)"):
        registry.entry(title)


def test_an_empty_registry_says_so(registry: Registry) -> None:
    with pytest.raises(Stop, match="none yet"):
        registry.entry("mine@1")
    assert registry.entries() == ()


@pytest.mark.parametrize("title", ["mine", "mine@2", "../mine@1"])
def test_removing_needs_a_version_that_is_there(registry: Registry, title: str) -> None:
    registry.add("mine", draft())
    before = contents(registry)
    with pytest.raises(Stop):
        registry.remove(title)
    assert contents(registry) == before


@pytest.mark.parametrize("name", ["Mine", "../mine", "", "a/b", "uplink"])
def test_a_name_that_topics_could_not_carry_is_refused(registry: Registry, name: str) -> None:
    with pytest.raises(Stop, match="is not a valid name for a model"):
        registry.add(name, draft())
    assert registry.entries() == ()


def test_a_changed_file_is_never_read(registry: Registry) -> None:
    entry = registry.add("mine", draft())
    (entry.manifest.folder / "model.onnx").write_bytes(b"weightz")
    with pytest.raises(Stop, match=r"mine@1: .*model\.onnx is damaged or was changed"):
        registry.entry("mine@1").check()


def test_a_missing_file_is_told(registry: Registry) -> None:
    entry = registry.add("mine", draft())
    (entry.manifest.folder / "model.onnx").unlink()
    with pytest.raises(Stop, match="cannot be read"):
        registry.entry("mine@1").read("model.onnx")


def test_a_damaged_manifest_hides_no_other_entry(registry: Registry) -> None:
    registry.add("mine", draft())
    broken = registry.add("mine", draft())
    (broken.manifest.folder / "manifest.json").write_bytes(b"{")
    assert [its.title for its in registry.entries()] == ["mine@1"]
    assert registry.damaged()[0].startswith("mine@2: ")
    for title in ("mine@2", "mine"):
        # Nor is an older one taken in its place.
        with pytest.raises(Stop, match=r"mine@2: .* is no manifest"):
            registry.entry(title)


def test_an_entry_that_was_moved_by_hand_is_not_taken_for_another(registry: Registry) -> None:
    entry = registry.add("mine", draft())
    entry.manifest.folder.rename(entry.manifest.folder.with_name("5"))
    with pytest.raises(Stop, match="holds mine@1"):
        registry.entry("mine@5")


@pytest.mark.parametrize("at", ["write", "fsync", "rename", "card"])
def test_a_failure_leaves_the_registry_as_it_was(registry: Registry, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    registry.add("mine", draft())
    before = contents(registry)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    bad = draft()
    if at == "write":
        monkeypatch.setattr("pipeline.files.fsync.write_file", full)
    elif at == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    elif at == "rename":
        monkeypatch.setattr(Path, "rename", full)
    else:
        bad = Draft(files=bad.files, card=lambda _: full() or "", labels=(), terms="")
    with pytest.raises(Stop, match=r"No space left on device.*nothing was changed"):
        registry.add("mine", bad)
    with pytest.raises(Stop):
        registry.add("fresh", bad)
    monkeypatch.undo()
    assert contents(registry) == before
    assert not (registry.folder / "fresh").exists()
    assert not list(registry.folder.glob(".new-*"))


def test_what_a_killed_import_left_is_no_entry_and_goes_in_time(registry: Registry) -> None:
    registry.add("mine", draft())
    left = registry.folder / ".new-killed"
    left.mkdir()
    (left / "model.onnx").write_bytes(b"half")
    assert [its.title for its in registry.entries()] == ["mine@1"]
    os.utime(left, (0, 0))
    registry.add("mine", draft())
    assert not left.exists()


def test_two_imports_at_the_same_time_get_two_versions(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    renamed = Path.rename

    def slower(self: Path, target: Path) -> Path:
        monkeypatch.undo()
        registry.add("mine", draft(b"quicker"))
        return renamed(self, target)

    monkeypatch.setattr(Path, "rename", slower)
    assert registry.add("mine", draft(b"slower")).title == "mine@2"
    assert registry.entry("mine@1").read("model.onnx") == b"quicker"
    assert registry.entry("mine@2").read("model.onnx") == b"slower"
    assert registry.entry("mine@2").card == "# mine@2\n"

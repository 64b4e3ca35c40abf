"""A model runs only if its bytes are the released ones; anything else says what to do."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from models.manifest import FILE, digest_of_labels, read_manifest
from models.shipped import ZOO, load_zoo
from pipeline.errors import Stop


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    shutil.copytree(ZOO / "lite0", tmp_path / "lite0")
    return tmp_path


def test_every_model_of_the_zoo_is_as_its_manifest_says() -> None:
    titles = [manifest.title for manifest in load_zoo().manifests]
    assert titles == sorted(titles)
    assert "lite0@2" in titles and "occupancy@1" in titles
    for manifest in load_zoo().manifests:
        assert all(manifest.read(file) for file in manifest.files)
        assert (manifest.folder / "CARD.md").is_file()


def test_a_changed_file_is_refused(zoo: Path) -> None:
    file = zoo / "lite0" / "vector.npz"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    with pytest.raises(Stop, match=r"vector\.npz has SHA-256 .* damaged or was changed"):
        load_zoo(zoo).cloud_model()


def test_a_missing_file_is_refused(zoo: Path) -> None:
    (zoo / "lite0" / "backbone.onnx").unlink()
    with pytest.raises(Stop, match=r"backbone\.onnx cannot be read"):
        load_zoo(zoo).edge_model()


@pytest.mark.parametrize("content", [b"", b"[]", b'{"name": "x"}', b'{"unknown": 1}'])
def test_a_broken_manifest_is_refused(zoo: Path, content: bytes) -> None:
    (zoo / "lite0" / "manifest.json").write_bytes(content)
    with pytest.raises(Stop, match="is no manifest"):
        load_zoo(zoo)


def test_a_folder_without_a_model_is_no_zoo(tmp_path: Path) -> None:
    with pytest.raises(Stop, match="holds no model"):
        load_zoo(tmp_path)


def test_models_of_ones_own_folder_stand_in_for_those_of_the_same_name(zoo: Path) -> None:
    names = [manifest.name for manifest in load_zoo().manifests]
    own = load_zoo(zoo)
    assert [manifest.name for manifest in own.manifests] == names
    assert own.manifest("lite0").folder == zoo / "lite0"
    assert own.manifest("occupancy").folder == load_zoo().manifest("occupancy").folder


def test_a_zoo_names_the_models_that_it_has() -> None:
    with pytest.raises(Stop, match=r"no model mine \(it has: .*lite0@"):
        load_zoo().manifest("mine")


def test_a_model_for_another_label_tree_is_refused(zoo: Path) -> None:
    manifest = read_manifest(zoo / "lite0")
    other = msgspec.structs.replace(manifest, version=2, labels=digest_of_labels(("cat", "dog")))
    (zoo / "lite0" / FILE).write_bytes(other.encoded())
    assert read_manifest(zoo / "lite0").labels == digest_of_labels(("cat", "dog"))
    with pytest.raises(Stop, match="another label tree"):
        load_zoo(zoo).cloud_model()

"""`tierwise models compress`: a smaller file beside the network, what that costs, and a word where it cannot be
done."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from sample_messages import photo_jpeg

from agents.cli import main
from pipeline.errors import Stop


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return int(ended.value.code or 0)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "1.jpg").write_bytes(photo_jpeg("chelsea.png"))
    return folder


@pytest.fixture
def network(tmp_path: Path) -> Path:
    pytest.importorskip("onnx", reason="compressing needs onnx: pip install 'tierwise[train]'")
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(0).normal(0, 0.2, (8, 3, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["y"], name="conv"),
            helper.make_node("GlobalAveragePool", ["y"], ["z"], name="pool"),
        ],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 32, 32])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 8, 1, 1])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    file = tmp_path / "mine.onnx"
    file.write_bytes(model.SerializeToString())
    return file


@pytest.mark.parametrize("kind", ["int8", "fp16"])
def test_a_smaller_network_is_written_beside_it_and_compared(
    kind: str, network: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("models", "compress", kind, str(network), "--photos", str(photos)) == 0
    assert network.with_suffix(f".{kind}.onnx").is_file()
    told = capsys.readouterr().out
    assert "same top" in told and f"mine.{kind}.onnx" in told


@pytest.mark.parametrize("kind", ["int8", "fp16"])
@pytest.mark.parametrize("out", ["mine.onnx", "photos/../mine.onnx", "link.onnx"])
def test_the_float_network_is_never_overwritten(
    kind: str, out: str, network: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (network.parent / "link.onnx").symlink_to(network)
    before = network.read_bytes()
    words = (str(network), "--photos", str(photos), "--out", str(network.parent / out))
    assert run("models", "compress", kind, *words) == 2
    assert "is the network itself" in capsys.readouterr().err
    assert network.read_bytes() == before


def test_what_fails_half_way_leaves_an_earlier_file_as_it_was(
    network: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half_way(_: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise Stop("the disk is full")

    target = network.with_suffix(".fp16.onnx")
    target.write_bytes(b"earlier")
    monkeypatch.setattr("models.imported.compress.halve", half_way)
    assert run("models", "compress", "fp16", str(network), "--photos", str(photos)) == 2
    assert target.read_bytes() == b"earlier"
    assert {its.name for its in network.parent.glob("*.onnx")} == {network.name, target.name}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "module", "missing"),
    [
        (("int8", "mine.onnx", "--photos", "photos"), "models.imported.compress", "onnx"),
        (("fp16", "mine.onnx", "--photos", "photos"), "models.imported.compress", "onnx"),
        (("prune",), "models.train.glimpse.prune", "torch"),
    ],
)
def test_what_is_not_installed_is_told_with_what_to_install(
    words: tuple[str, ...],
    module: str,
    missing: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    assert run("models", "compress", *words) == 2
    assert f"{missing} is not installed; pip install 'tierwise[train]'" in capsys.readouterr().err


def test_an_installed_package_says_that_it_holds_no_training_recipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in [name for name in sys.modules if name.startswith("models.train.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "models.train", None)
    assert run("models", "compress", "prune") == 2
    assert "which the installed package lacks: run it in a clone of the repository" in capsys.readouterr().err

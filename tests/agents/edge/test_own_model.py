"""The edge with a model of the site's own: it answers families, results name it, and where it is missing the edge
ends."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from sample_messages import NOW_S, edge_model, event, event_id, result, settings
from sample_onnx import RED, coloured, colours, save
from sample_release import sample_release, vectors_of_new

from agents.edge.agent import build
from agents.rollout.imported_models import edge_model_opener, open_edge_model, registry_of
from models.answering.edge import Families
from models.answering.model_source import FixedModel
from models.imported.imported_model import PRESETS
from models.imported.importing import Wanted, prepare
from models.imported.registry import Registry
from models.labels.taxonomy import load_taxonomy
from models.shipped import load_zoo
from models.vision import images
from pipeline.errors import Stop
from pipeline.messages import Crop, Tier, Vector
from pipeline.privacy.policy import Policy
from pipeline.privacy.seal import Keyring
from pipeline.settings.settings import EdgeSettings, Settings

TREE = load_taxonomy()


@pytest.fixture
def own(tmp_path: Path) -> Settings:
    """Settings that name an imported model, which takes red for tigers."""
    configured = settings(tmp_path, edge=EdgeSettings(model="mine@1"))
    (tmp_path / "labels.txt").write_text("tiger\nwolf\nother\n")
    wanted = Wanted(
        save(colours(), tmp_path / "mine.onnx"),
        "classifier",
        labels=tmp_path / "labels.txt",
        intake=PRESETS["unit"],
    )
    draft, _ = prepare(wanted, TREE, lite0=lambda each: each, who="ada", when="today")
    registry_of(configured).add("mine", draft)
    return configured


def families(configured: Settings) -> Families:
    return Families(Policy(configured), FixedModel(open_edge_model(load_zoo(), configured)), Keyring(), ())


def test_families_are_the_own_models_and_results_name_it(own: Settings) -> None:
    given = event(result(event_id()), body=Crop(jpeg=images.encode_jpeg(coloured(RED)), box=(0, 0, 1, 1)))
    answer = families(own).answer(given, revision=2, asked=None, now=lambda: NOW_S)
    assert (answer.result.label, answer.result.model) == ("Felidae", "mine@1")
    assert answer.feature is not None
    # What goes on is the released backbone's vector, which the cloud can read.
    assert answer.feature.space == edge_model().space
    assert answer.result.pending is Tier.CLOUD


def test_of_a_vector_the_released_head_answers_under_its_own_name(own: Settings) -> None:
    vector = edge_model().predict(coloured(RED)).vector
    given = event(result(event_id()), body=Vector(space=edge_model().space, data=vector.tobytes()))
    answer = families(own).answer(given, revision=2, asked=None, now=lambda: NOW_S)
    assert answer.result.model == edge_model().name


def test_a_release_reaches_the_vectors_beside_an_own_model_and_not_its_families(own: Settings) -> None:
    eye = edge_model_opener(load_zoo(), own)(sample_release(3))
    assert eye.predict(coloured(RED)).model == "mine@1"
    assert eye.predict_vector(vectors_of_new(1)[0]).model == "lite0@3"
    assert sample_release(3).smoke.complaints(eye.head, eye.tree) == ()


@pytest.mark.parametrize("what", ["missing", "damaged"])
def test_an_edge_whose_model_is_missing_or_damaged_ends_with_one_clear_line(own: Settings, what: str) -> None:
    if what == "missing":
        own = msgspec.structs.replace(own, edge=EdgeSettings(model="mine@2"))
        complaint = r"^edge\.model: there is no model mine@2 in .* \(models there: mine@1\)"
    else:
        (Registry(registry_of(own).folder).entry("mine@1").manifest.folder / "model.onnx").write_bytes(b"x")
        complaint = r"^edge\.model: model mine@1: .*model\.onnx is damaged or was changed"
    (own.data_dir / "edge").mkdir()
    edge = build(own)
    with pytest.raises(Stop, match=complaint):
        edge.start()
    edge.stop(0.1)

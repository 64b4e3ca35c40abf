"""`tierwise models`: what is there, how right it is on one's own photos, and models of one's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sample_messages import photo_jpeg
from sample_onnx import GREEN, RED, coloured, colours, features, png, save

from agents.cli import main
from agents.cli.machine.doctor import examine


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return int(ended.value.code or 0)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own, without settings: data goes into tierwise-data there."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cats(home: Path) -> Path:
    (home / "photos" / "cat").mkdir(parents=True)
    (home / "photos" / "cat" / "1.jpg").write_bytes(photo_jpeg("chelsea.png"))
    return home / "photos"


@pytest.fixture
def classifier(home: Path) -> Path:
    (home / "labels.txt").write_text("cat\tFelis catus\nwolf\nrock\t-\n")
    return save(colours(), home / "Mine v2.onnx")


@pytest.fixture
def labelled(home: Path) -> Path:
    for label, colour in (("cat", RED), ("wolf", GREEN)):
        (home / "train" / label).mkdir(parents=True)
        for seed in range(6):
            (home / "train" / label / f"{seed}.png").write_bytes(png(coloured(colour, seed)))
    return home / "train"


def bring(file: Path) -> int:
    return run("models", "import", str(file), "--labels", "labels.txt", "--preprocess", "unit")


def registry_files(home: Path) -> list[str]:
    return sorted(str(its.relative_to(home)) for its in (home / "tierwise-data").rglob("*") if its.is_file())


# --- list, show, remove ------------------------------------------------------------------------------------------


def test_the_models_of_this_installation_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", "list", "--json") == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {model["task"] for model in told} == {"wildlife", "occupancy"}
    assert {model["from"] for model in told} == {"zoo"}


def test_a_released_model_shows_its_card_and_cannot_be_removed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", "show", "lite0") == 0
    assert "EfficientNet-Lite0" in capsys.readouterr().out
    assert run("models", "remove", "lite0@1") == 2
    assert "came with this installation" in capsys.readouterr().err


@pytest.mark.slow
def test_an_imported_model_is_listed_shown_and_removed(classifier: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bring(classifier) == 0
    assert "mine-v2@1: " in capsys.readouterr().out
    assert run("models", "list") == 0
    assert "mine-v2@1" in capsys.readouterr().out
    assert run("models", "show", "mine-v2", "--json") == 0
    assert json.loads(capsys.readouterr().out)["from"] == "registry"
    assert run("models", "show", "mine-v2@1") == 0
    assert "opset 17" in capsys.readouterr().out
    assert run("models", "remove", "mine-v2@1") == 0
    assert run("models", "show", "mine-v2") == 2
    assert "there is no model mine-v2" in capsys.readouterr().err


@pytest.mark.slow
def test_a_damaged_entry_is_told_and_hides_no_other(
    home: Path, classifier: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bring(classifier)
    bring(classifier)
    (home / "tierwise-data" / "models" / "mine-v2" / "1" / "manifest.json").write_text("{")
    capsys.readouterr()
    assert run("models", "list") == 0
    told = capsys.readouterr()
    assert "mine-v2@2" in told.out
    assert "damaged: mine-v2@1" in told.err


@pytest.mark.slow
def test_the_model_that_serves_is_not_removed(home: Path, classifier: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bring(classifier)
    (home / "tierwise.toml").write_text('[edge]\nmodel = "mine-v2@1"\n')
    assert run("models", "remove", "mine-v2@1") == 2
    assert "serves at the edge" in capsys.readouterr().err


def test_the_labels_that_the_tree_knows_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("labels", "tree", "tiger") == 0
    assert "animal > Felidae > Panthera tigris  (tiger)" in capsys.readouterr().out.splitlines()
    assert run("labels", "tree") == 0
    told = capsys.readouterr().out.splitlines()
    assert [line for line in told if line.startswith(("person", "other  "))]
    assert len(told) > 300


@pytest.mark.slow
def test_the_doctor_looks_at_the_edges_model(home: Path, classifier: Path) -> None:
    (home / "tierwise.toml").write_text('[edge]\nmodel = "mine-v2@1"\n')
    missing = next(its for its in examine(None) if its.what == "models")
    assert (missing.status, "there is no model mine-v2@1" in missing.text) == ("fail", True)
    bring(classifier)
    there = next(its for its in examine(None) if its.what == "models")
    assert (there.status, "mine-v2@1" in there.text) == ("ok", True)


def test_a_released_model_that_names_no_families_is_told_by_the_doctor_and_not_listed_as_serving(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "tierwise.toml").write_text('[edge]\nmodel = "glimpse@1"\n')
    found = next(its for its in examine(None) if its.what == "models")
    assert (found.status, "edge.model: glimpse@1 answers no families" in found.text) == ("fail", True)
    assert run("models", "list") == 0
    row = next(text for text in capsys.readouterr().out.splitlines() if "glimpse@1" in text)
    assert "edge" not in row
    assert run("models", "remove", "glimpse@1") == 2
    assert "came with this installation" in capsys.readouterr().err


# --- import ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--labels", "nowhere.txt"), "nowhere.txt cannot be read"),
        (("--labels", "labels.txt", "--name", "lite0"), "'lite0' cannot be the name of a model"),
        (("--labels", "labels.txt", "--name", "../x"), "cannot be the name of a model"),
        (("--labels", "labels.txt", "--mean", "1,2"), "--mean '1,2': give three numbers"),
        (("--labels", "labels.txt", "--std", "1,0,1"), "a standard deviation must be above 0"),
        (("--labels", "labels.txt", "--smoke", "nowhere"), "--smoke: nowhere: no photos there"),
        (("--kind", "classifier"), "a classifier needs --labels"),
        (("--kind", "backbone"), "gives 3 numbers; a feature has 16"),
    ],
)
def test_a_failed_import_says_why_and_leaves_the_registry_as_it_was(
    home: Path, classifier: Path, words: tuple[str, ...], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bring(classifier)
    before = registry_files(home)
    capsys.readouterr()
    assert run("models", "import", str(classifier), *words) == 2
    told = capsys.readouterr().err
    assert complaint in told
    assert "Traceback" not in told
    assert registry_files(home) == before


@pytest.mark.slow
def test_of_many_photos_of_ones_own_fifty_are_tried_and_named(
    home: Path, classifier: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "many").mkdir()
    for at in range(100):
        (home / "many" / f"{at:02}.png").write_bytes(png(coloured(RED, at, side=32)))
    words = ("--labels", "labels.txt", "--preprocess", "unit", "--smoke", "many")
    assert run("models", "import", str(classifier), *words) == 0
    told = capsys.readouterr().err
    assert "--smoke: 50 of 100 photos are tried, spread evenly by name: 00.png, 02.png, " in told
    assert run("models", "show", "mine-v2") == 0
    assert "55 pictures" in capsys.readouterr().out


def test_an_import_by_mean_and_std_is_the_preset_it_spells(
    home: Path, classifier: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--labels", "labels.txt", "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5")
    assert run("models", "import", str(classifier), *words) == 0
    spec = json.loads((home / "tierwise-data/models/mine-v2/1/model.json").read_text())
    assert spec["intake"] == {"order": "rgb", "mean": [127.5] * 3, "std": [127.5] * 3}


# --- fit, evaluate, classify ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_backbone_is_fitted_evaluated_and_classifies(
    home: Path, labelled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("models", "import", str(save(features(), home / "net.onnx")), "--preprocess", "unit") == 0
    assert "net@1" in capsys.readouterr().out
    assert run("classify", str(labelled / "cat"), "--edge-model", "net@1") == 2
    assert "backbone without a head" in capsys.readouterr().err
    assert run("models", "fit", "net", "--data", str(labelled)) == 0
    assert "net@2: 2 labels, likeliest right 100.0%" in capsys.readouterr().out
    assert run("models", "evaluate", str(labelled), "--edge-model", "net@2", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["models"]["edge"] == "net@2"
    (family,) = (its for its in report["ranks"] if (its["tier"], its["rank"]) == ("edge", "family"))
    assert family["likeliest"]["share"] == 1.0


@pytest.mark.slow
def test_classify_asks_the_edges_own_model(
    cats: Path, classifier: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bring(classifier)
    (home / "tierwise.toml").write_text('[edge]\nmodel = "mine-v2@1"\n')
    capsys.readouterr()
    assert run("classify", str(cats), "--json") == 0
    answers = json.loads(capsys.readouterr().out)["answers"]
    assert [each["model"] for each in answers][:2] == ["lite0@2", "mine-v2@1"]


def test_a_model_that_is_not_there_is_told_before_the_work_begins(
    cats: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (("classify", str(cats)), ("models", "evaluate", str(cats))):
        assert run(*words, "--edge-model", "mine@3") == 2
        assert "there is no model mine@3" in capsys.readouterr().err


@pytest.mark.slow
def test_labelled_photos_are_evaluated_by_rank_and_tier(cats: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", "evaluate", str(cats), "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["photos"] == 1
    assert report["species"][0]["label"] == "Felis catus"
    assert run("models", "evaluate", "--data", str(cats), "--frames", "--group", "Felidae") == 0
    assert "Nothing moved in 0.0% of the frames" in capsys.readouterr().out


@pytest.mark.slow
def test_a_weak_devices_eye_is_evaluated_and_hands_on_what_the_settings_accept(
    home: Path, cats: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for accepted, asks in ((0.02, 0), (0.05, 1)):
        (home / "tierwise.toml").write_text(f"[device]\nperson_miss_rate = {accepted}\n")
        assert run("models", "evaluate", str(cats), "--device-model", "glimpse", "--json") == 0
        report = json.loads(capsys.readouterr().out)
        assert report["models"]["device"] == "glimpse@1"
        assert {its["wants"]: its["device"]["count"] for its in report["forwards"]}["family"] == asks


@pytest.mark.slow
def test_a_label_that_the_tree_does_not_hold_is_told(cats: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (cats / "blah").mkdir()
    (cats / "blah" / "1.jpg").write_bytes(photo_jpeg("chelsea.png"))
    assert run("models", "evaluate", str(cats)) == 2
    told = capsys.readouterr().err
    assert "blah" in told and "--labels-map" in told
    assert run("models", "evaluate", str(cats), "--skip-bad") == 0
    assert "1 left out" in capsys.readouterr().out


def test_what_makes_no_sense_together_is_refused(
    cats: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIERWISE_DATASETS", str(cats))
    for words, complaint in (
        ((), "no photos are given"),
        ((str(cats), "--pack", "wild256"), "not both"),
        (("--pack", "wild256"), "set TIERWISE_DATASETS"),
        ((str(cats), "--group", "dragon"), "--group: the label tree has no 'dragon'"),
    ):
        assert run("models", "evaluate", *words) == 2
        assert complaint in capsys.readouterr().err


@pytest.mark.slow
def test_pictures_are_drawn_where_they_are_asked_for(
    cats: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    assert run("models", "evaluate", str(cats), "--pictures", "charts", "--json") == 0
    assert sorted(its.name for its in (home / "charts").iterdir()) == [
        "answered.svg",
        "families.svg",
        "reliability.svg",
    ]

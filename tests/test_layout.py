"""What docs/architecture.md promises of the code's layout and no linter checks."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("pipeline", "models", "agents")
FILES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
NAMES = {file: file.relative_to(ROOT).as_posix() for file in FILES}

BENCH_PEERS = ("agents/bench/contestants.py", "agents/bench/receivers.py")
"""What we are measured against: each is run as a process of its own, never imported."""

TRAINING = "models/train/"
COMPRESSION = "models/imported/compress.py"

CONFINED = {
    "paho": ("pipeline/mqtt/session.py", *BENCH_PEERS),
    "kafka": ("pipeline/kafka/", "pipeline/brokers/kafka/", "pipeline/stream/", *BENCH_PEERS),
    "aiokafka": ("pipeline/kafka/", "pipeline/stream/", *BENCH_PEERS),
    "faust": ("pipeline/stream/", "agents/stream/agent.py", *BENCH_PEERS),
    "mode": ("pipeline/stream/",),
    "influxdb_client": ("pipeline/series/influx.py",),
    "onnxruntime": ("models/onnx_session.py", COMPRESSION, TRAINING),
    "onnx": (COMPRESSION, TRAINING),
    "torch": (TRAINING,),
    "PIL": ("models/vision/capture_time.py",),
    "simplejpeg": ("models/vision/images.py",),
    "OpenSSL": ("agents/device/intake/ftp_server.py",),
    "pyftpdlib": ("agents/device/intake/ftp_server.py",),
    "matplotlib": ("models/evaluation/plots.py", TRAINING),
    "jmespath": ("pipeline/foreign/formats.py",),
    "iotcore": ("pipeline/brokers/mqtt.py",),
    "quixstreams": BENCH_PEERS,
    "tuf": ("models/releases/",),
    "securesystemslib": ("models/releases/",),
    "cryptography": ("pipeline/privacy/seal.py", "agents/deploy/certificates.py"),
}
"""Each library is known in one place: it can be replaced there, and its errors are mapped there."""

LINES_MAX = 400
LONG = {
    "pipeline/messages.py": "every message in one leaf",
    "pipeline/settings/keys.py": "every key with its meaning, which docs/settings.md prints",
    "models/train/lite0/heads.py": "one training run from data to the zoo's files, run by hand",
}


def imported(tree: ast.AST) -> Iterator[str]:
    """First words of all modules that a file imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


@functools.cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text("utf-8"), file.name)


@pytest.mark.parametrize("library", CONFINED)
def test_a_library_is_imported_only_where_it_is_confined(library: str) -> None:
    strays = [
        name
        for file, name in NAMES.items()
        if not name.startswith(CONFINED[library]) and library in imported(parsed(file))
    ]
    assert strays == []


def strings(tree: ast.Module) -> Iterator[str]:
    """Texts of a file, but docstrings."""
    told = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node.value


def test_topic_names_are_spelled_in_one_place() -> None:
    allowed = {
        "pipeline/topics.py",
        "pipeline/settings/starter.py",
    }  # the starter settings tell a person what to type
    stems = ("tierwise/v1", "tierwise.features", "tierwise.results", "tierwise.summaries", "tierwise.counts")
    strays = [
        (name, text)
        for file, name in NAMES.items()
        if name not in allowed
        for text in strings(parsed(file))
        if any(stem in text for stem in stems)
    ]
    assert strays == []


WORK = frozenset({"open", "connect", "socket", "Thread", "Popen", "run", "read_text", "read_bytes", "mkdir", "getenv"})
"""Names of calls that open files, sockets, threads or processes, or ask the environment."""


def at_import(tree: ast.Module) -> Iterator[ast.Call]:
    """Calls that run when a module is imported: those outside of functions, and of the main guard."""
    waiting: list[ast.AST] = [node for node in tree.body if not (isinstance(node, ast.If) and _is_main(node.test))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Call):
            yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting += [*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)]
        elif not isinstance(node, ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def _is_main(test: ast.expr) -> bool:
    return isinstance(test, ast.Compare) and isinstance(test.left, ast.Name) and test.left.id == "__name__"


def called(call: ast.Call) -> str:
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


@pytest.mark.parametrize("file", FILES, ids=NAMES.get)
def test_nothing_is_opened_or_started_at_import(file: Path) -> None:
    assert [called(call) for call in at_import(parsed(file)) if called(call) in WORK] == []


@pytest.mark.parametrize("file", FILES, ids=NAMES.get)
def test_a_module_tells_what_it_is_for(file: Path) -> None:
    tree = parsed(file)
    assert not tree.body or ast.get_docstring(tree), f"{NAMES[file]} has no docstring"


def test_no_file_grows_beyond_what_a_person_reads() -> None:
    long = {name for file, name in NAMES.items() if len(file.read_text("utf-8").splitlines()) > LINES_MAX}
    assert long <= LONG.keys()


FOLDER_MAX = 25


def test_no_folder_holds_more_files_than_a_person_oversees() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split("\0")
    python = [name for name in tracked if name.endswith(".py")] or list(NAMES.values())
    crowds = Counter(name.rpartition("/")[0] for name in python)
    assert {folder: count for folder, count in crowds.items() if count > FOLDER_MAX} == {}


def test_no_two_public_classes_share_a_name() -> None:
    places: dict[str, list[str]] = {}
    for file, name in NAMES.items():
        for node in ast.walk(parsed(file)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(name)
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


RIDDLES = frozenset({"its", "told", "one", "came", "over"})
"""Names that say nothing about the value they hold."""


def bound(tree: ast.Module) -> Iterator[str]:
    """Names of variables, parameters, functions and fields."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name


@pytest.mark.parametrize("file", FILES, ids=NAMES.get)
def test_no_variable_is_a_riddle(file: Path) -> None:
    assert RIDDLES.isdisjoint(bound(parsed(file)))


def test_no_file_is_called_a_drawer() -> None:
    drawers = {"utils", "helpers", "common", "manager", "misc"}
    assert not [name for file, name in NAMES.items() if file.stem in drawers]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("agents.cloud.agent", ("cv2", "onnxruntime", "faust")),
        ("agents.gateway.agent", ("cv2", "onnxruntime", "faust")),
        ("agents.device.agent", ("kafka", "aiokafka", "faust", "influxdb_client", "torch")),
        ("agents.edge.agent", ("kafka", "aiokafka", "faust", "torch")),
        ("agents.stream.agent", ("cv2", "onnxruntime", "torch")),
        ("agents.cli", ("cv2", "onnxruntime", "kafka", "faust", "numpy")),
        ("pipeline.messages", ("pipeline.topics", "models", "agents", "numpy")),
    ],
)
def test_a_role_brings_only_what_it_needs(module: str, without: tuple[str, ...]) -> None:
    """A device has no Kafka client, a cloud agent neither OpenCV nor ONNX Runtime: they start and stay small."""
    script = f"import sys, {module}; print([name for name in {without!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


IN_CLONES_ONLY = (TRAINING, "agents/demo/learning/")


@pytest.mark.slow
def test_the_wheel_holds_the_packages_and_nothing_that_needs_training_pictures(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as held:
        installed = {name for name in held.namelist() if name.endswith(".py")}
    assert installed == {name for name in NAMES.values() if not name.startswith(IN_CLONES_ONLY)}

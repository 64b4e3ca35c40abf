"""Import an ONNX file into the registry, or refuse it with a clear reason.

::

    file --onnx_file--> opset, operators, external data?
         --ONNX Runtime--> loads? one input, one output of a known shape?
         --labels--> all in the tree?
         --trial--> finite, the same twice, not the same for all
         --benchmark--> entry

The registry gets the entry after all checks, so that a failure leaves it unchanged. `models.imported.onnx_file` reads
opset and operators' domains from the file; ONNX Runtime, which will run the model, checks the operators themselves. So
an import needs only the packages of a device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final, Literal

import msgspec
import numpy as np

from models.evaluation.photo_set import LEAVE_OUT
from models.imported.imported_model import MODEL, PRESETS, SPEC, ImportedNetwork, Intake, Picture, Spec
from models.imported.onnx_file import inspect_onnx
from models.imported.registry import Draft
from models.imported.trial_run import FIGURES, ImportFigures, benchmark, generated, own_pictures, try_out
from models.labels.taxonomy import Taxonomy, UnknownLabel
from models.manifest import digest
from models.onnx_session import Network, Port
from pipeline.errors import Rejected, Stop

Kind = Literal["classifier", "backbone"]

MAX_BYTES: Final = 256 << 20
"""The released backbone has 4 MB; a model above this limit is too large for an edge."""

OPSETS: Final = range(7, 22)
"""ONNX Runtime supports 7 and later; 21 is the newest of ONNX Runtime 1.20, the oldest that Tierwise supports."""

DOMAINS: Final = ("", "ai.onnx.ml", "com.microsoft")
"""ONNX's own operators and those of ONNX Runtime."""

ENDLESS: Final = frozenset({("", "Loop"), ("", "Scan")})
"""Operators that repeat as often as the model states: a model of 1 kB may run for ever, and a run cannot be
interrupted."""

SIDES_PX: Final = range(32, 1025)
FREE_SIDE_PX: Final = 224
FEATURE_NUMBERS: Final = range(16, 4097)
TYPES: Final = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}
SUM_TOLERANCE: Final = 1e-2
"""Probabilities sum to 1 within this error of float16 and int8."""

COMPLAINTS_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """The user's facts about the model. `size_px` sets free sides; `intake` is the preparation used in training."""

    file: Path
    kind: Kind
    labels: Path | None = None
    size_px: int | None = None
    intake: Intake = PRESETS["imagenet"]
    terms: str = "not stated"


def prepare(
    wanted: Wanted,
    tree: Taxonomy,
    *,
    lite0: Callable[[Picture], object],
    smoke: Sequence[Path] = (),
    who: str,
    when: str,
) -> tuple[Draft, ImportFigures]:
    """Check, try and measure the model; return the draft of its entry and the figures.

    `lite0` is the released backbone, measured beside the model in the same run. `smoke` are the user's own pictures
    for the trial, beside the generated ones. `who` and `when` are for the card. Raises `Stop` for anything wrong with
    the model, its labels or the pictures.
    """
    data = _read(wanted.file)
    opset = _check_file(wanted.file, data)
    try:
        network = Network(data)
    except Stop as error:
        raise Stop(f"{wanted.file}: {str(error).removeprefix('the given bytes ')}") from error
    spec = _spec(wanted, network, tree, digest(data))
    own = ImportedNetwork(spec, network)
    pictures = chain(generated(), own_pictures(smoke, at_least_px=max(spec.size)))
    outputs = try_out(own, pictures, wanted.file)
    spec = msgspec.structs.replace(spec, length=outputs.shape[1])
    spec = _with_outputs(spec, wanted, outputs)
    figures = benchmark(own.output, lite0, len(outputs))
    card = _card(spec, wanted, figures, opset=opset, size=len(data), who=who, when=when)
    draft = Draft(
        files={
            MODEL: data,
            SPEC: msgspec.json.format(msgspec.json.encode(spec)),
            FIGURES: msgspec.json.encode(figures),
        },
        card=card,
        labels=spec.labels,
        terms=wanted.terms,
        size_px=spec.size[0],
        space=None if spec.kind == "classifier" else f"own-{spec.sha256[:16]}",
    )
    return draft, figures


# --- the file --------------------------------------------------------------------------------------------------


def _read(file: Path) -> bytes:
    try:
        size = file.stat().st_size
        if size > MAX_BYTES:
            raise Stop(f"{file} has {size >> 20:,} MiB, the limit is {MAX_BYTES >> 20}; import a smaller model")
        return file.read_bytes()
    except OSError as error:
        raise Stop(f"{file} cannot be read: {error.strerror}") from error


def _check_file(file: Path, data: bytes) -> int:
    """Return the opset. Raises `Stop` if the file must not be loaded, or does not run everywhere that Tierwise runs."""
    try:
        facts = inspect_onnx(data)
    except Rejected as error:
        raise Stop(f"{file}: {error}") from error
    if facts.external_data:
        raise Stop(
            f"{file} keeps its weights in other files; save it as one (onnx.save with save_as_external_data=False)"
        )
    opset = facts.opsets.get("", 0)
    if opset not in OPSETS:
        raise Stop(
            f"{file} has opset {opset}; Tierwise runs {OPSETS[0]} to {OPSETS[-1]}: export it again, "
            "as with torch.onnx.export(..., opset_version=17)"
        )
    strange = sorted(f"{domain}:{name}" for domain, name in facts.operators - facts.functions if domain not in DOMAINS)
    if strange:
        raise Stop(
            f"{file} needs operators that ONNX Runtime does not have: {', '.join(strange[:COMPLAINTS_SHOWN])}; "
            "export it with ONNX's own operators only"
        )
    endless = sorted(name for _, name in facts.operators & ENDLESS)
    if endless:
        raise Stop(
            f"{file} has operators that may never end ({', '.join(endless)}); export it with its loops unrolled, "
            "as torch.onnx.export does without scripting"
        )
    return opset


# --- shapes ----------------------------------------------------------------------------------------------------


def _spec(wanted: Wanted, network: Network, tree: Taxonomy, sha256: str) -> Spec:
    """Read the spec from the network's ports; the trial completes it with the length and kind of the output."""
    file = wanted.file
    ports = {"input": network.inputs, "output": network.outputs}
    for kind, found in ports.items():
        if len(found) != 1:
            names = ", ".join(port.name for port in found) or "none"
            raise Stop(f"{file} has {len(found)} {kind}s ({names}); it needs exactly one: export only that one")
    (given,), (out,) = ports["input"], ports["output"]
    if given.type not in TYPES:
        raise Stop(f"{file}: its input {given.name} is a {given.type}; it has to be float32 or uint8")
    if out.type != "tensor(float)":
        raise Stop(f"{file}: its output {out.name} is a {out.type}; it has to be float32")
    layout, size = _picture_shape(file, given, wanted.size_px)
    labels = _labels(wanted, tree)
    dtype: Literal["float32", "uint8"] = "uint8" if TYPES[given.type] == "uint8" else "float32"
    if dtype == "uint8" and wanted.intake not in (PRESETS["raw"], PRESETS["imagenet"]):
        raise Stop(f"{file} takes uint8 pictures, so it scales them itself: leave --mean, --std and --preprocess out")
    intake = PRESETS["raw"] if dtype == "uint8" else wanted.intake
    return Spec(wanted.kind, layout, size, dtype, intake, "feature", 0, labels, file.name, sha256)


def _picture_shape(file: Path, port: Port, size_px: int | None) -> tuple[Literal["nchw", "nhwc"], tuple[int, int]]:
    shape = "x".join("?" if side is None else str(side) for side in port.shape)
    if len(port.shape) != 4 or 3 not in (port.shape[1], port.shape[3]):
        raise Stop(
            f"{file}: its input {port.name} is {shape or 'a single number'}; a picture is 1x3xHxW or 1xHxWx3 (three channels)"
        )
    if port.shape[0] not in (None, 1):
        raise Stop(f"{file}: its input {port.name} is {shape}, a batch of {port.shape[0]}; it has to take one picture")
    first = port.shape[1] == 3
    sides = port.shape[2:] if first else port.shape[1:3]
    for side in sides:
        if size_px is not None and side not in (None, size_px):
            raise Stop(
                f"{file}: its input {port.name} is {shape}, which --input-size {size_px} does not fit; leave it out"
            )
    high, wide = ((size_px or FREE_SIDE_PX) if side is None else side for side in sides)
    if high not in SIDES_PX or wide not in SIDES_PX:
        raise Stop(f"{file}: pictures of {wide}x{high}; each side may have {SIDES_PX[0]} to {SIDES_PX[-1]} pixels")
    return ("nchw" if first else "nhwc"), (high, wide)


# --- labels ----------------------------------------------------------------------------------------------------


def _labels(wanted: Wanted, tree: Taxonomy) -> tuple[str, ...]:
    if wanted.kind == "backbone":
        if wanted.labels is not None:
            raise Stop("a backbone has no labels: leave --labels out, or use --kind classifier")
        return ()
    if wanted.labels is None:
        raise Stop("a classifier needs --labels FILE: a line for each of its outputs, in their order")
    try:
        text = wanted.labels.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Stop(f"{wanted.labels} cannot be read: {error}") from error
    return read_labels(text, tree, str(wanted.labels))


def read_labels(text: str, tree: Taxonomy, file: str) -> tuple[str, ...]:
    r"""Return the tree's label for each line: a name that the tree knows, or ``model's name<TAB>tree's name``.

    `-` after the tab means that the tree has no place for the label: `other`. Raises `Stop` with all wrong lines.

    >>> from models.labels.taxonomy import load_taxonomy
    >>> read_labels("tiger\nbig_dog\tCanidae\nrock\t-\n", load_taxonomy(), "labels.txt")
    ('Panthera tigris', 'Canidae', 'other')
    """
    labels, complaints = [], []
    for number, line in enumerate(text.rstrip().splitlines(), 1):
        name = line.rpartition("\t")[2].strip()
        try:
            labels.append("other" if name == LEAVE_OUT else tree.find(name))
        except UnknownLabel as error:
            complaints.append(f"line {number}: {error}" if name else f"line {number} is empty")
    if complaints:
        more = len(complaints) - COMPLAINTS_SHOWN
        listed = [*complaints[:COMPLAINTS_SHOWN], *([f"and {more:,} more"] if more > 0 else [])]
        raise Stop(
            f"{file} names labels that are not in the tree:\n" + "\n".join(listed) + "\n"
            "write a line as `name<TAB>label of the tree`, of any rank, or `name<TAB>-` if it has no place there; "
            "`tierwise labels tree` lists the tree's labels"
        )
    return tuple(labels)


def _with_outputs(spec: Spec, wanted: Wanted, outputs: np.ndarray) -> Spec:
    """Complete the spec by the number and values of the outputs. Raises `Stop` if the number does not fit."""
    if spec.kind == "backbone":
        if spec.length not in FEATURE_NUMBERS:
            raise Stop(
                f"{wanted.file} gives {spec.length:,} numbers; a feature has {FEATURE_NUMBERS[0]} to "
                f"{FEATURE_NUMBERS[-1]:,}: export the pooled layer"
            )
        return spec
    if spec.length != len(spec.labels):
        raise Stop(
            f"{wanted.file} has {spec.length:,} outputs, {wanted.labels} {len(spec.labels):,} lines; "
            "each output needs a line"
        )
    whole = np.abs(outputs.sum(1) - 1) <= SUM_TOLERANCE
    given = bool(whole.all() and (outputs >= 0).all())
    return msgspec.structs.replace(spec, outputs="probabilities" if given else "logits")


# --- card ------------------------------------------------------------------------------------------------------


def _card(
    spec: Spec, wanted: Wanted, figures: ImportFigures, *, opset: int, size: int, who: str, when: str
) -> Callable[[str], str]:
    """Return a function from the title to the model's card."""
    high, wide = spec.size
    intake = spec.intake
    labels = f"{len(spec.labels):,}, {len(set(spec.labels)):,} of them different in the tree" if spec.labels else "none"
    rows = {
        "kind": spec.kind,
        "source": f"`{spec.source}`, {size:,} bytes, SHA-256 `{spec.sha256}`",
        "terms": wanted.terms,
        "imported": f"by {who}, {when}",
        "ONNX": f"opset {opset}",
        "input": f"{spec.dtype}, {spec.layout.upper()}, {wide}x{high} pixels (stretched), "
        f"{intake.order.upper()}, less {_numbers(intake.mean)}, by {_numbers(intake.std)}",
        "output": f"{spec.length:,} numbers: {spec.outputs}",
        "labels": labels,
        "trial": f"{figures.pictures} pictures: finite, the same twice, different for different pictures",
        "time": f"{figures.ms:.1f} ms a picture on one thread, lite0 beside it {figures.lite0_ms:.1f} ms "
        f"({figures.ratio:.2f} of it)",
    }
    body = "\n".join(f"| {name} | {text} |" for name, text in rows.items())

    def card(title: str) -> str:
        name, _, version = title.partition("@")
        return (
            f"# {name}, version {version}\n\n| | |\n| --- | --- |\n{body}\n\n"
            "How right it is on your photos was not measured by the import: "
            f"`tierwise models evaluate DIR --edge-model {title}`.\n"
        )

    return card


def _numbers(three: tuple[float, float, float]) -> str:
    return ", ".join(f"{number:g}" for number in three)

"""An imported model: how it takes a picture, and how families follow from its output.

A *classifier* answers labels of the tree, of any rank; its probabilities are summed up the tree. A *backbone* answers
a feature, which is turned into bytes by a stored range and read by a head that `models.imported.fit_head` solved from
labelled photos::

    picture --Intake--> network --> classifier: probabilities of labels ----------------------+--> families, kingdoms
                               `--> backbone: feature --ByteRange--> bytes --LinearHead--------+

Files of an entry: ``model.onnx``, ``model.json`` (`Spec`), and after a fit ``head.npz``, ``sums.bin``.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from types import MappingProxyType
from typing import Final, Literal

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from models.heads.solve import LinearHead
from models.imported.registry import ModelEntry
from models.labels.scores import Scores, softmax
from models.labels.taxonomy import KINGDOMS, Taxonomy, UnknownLabel
from models.onnx_session import Network
from pipeline.errors import Rejected, Stop

MODEL: Final = "model.onnx"
SPEC: Final = "model.json"
HEAD: Final = "head.npz"
SUMS: Final = "sums.bin"

Picture = NDArray[np.uint8]
Floats = NDArray[np.float32]


class Intake(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The preparation of a picture for the network: (value - mean) / std of values 0 to 255, by channel."""

    order: Literal["rgb", "bgr"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


PRESETS: Final = MappingProxyType(
    {
        # torchvision and timm, of values 0 to 1: mean 0.485, 0.456, 0.406, std 0.229, 0.224, 0.225.
        "imagenet": Intake("rgb", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
        # TensorFlow's Inception, MobileNet, ViT: -1 to 1.
        "inception": Intake("rgb", (127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
        # Ultralytics and CLIP-less exports: 0 to 1.
        "unit": Intake("rgb", (0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
        # The network scales by itself: 0 to 255.
        "raw": Intake("rgb", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        # Caffe's and old Keras' ResNets and VGGs.
        "caffe": Intake("bgr", (103.939, 116.779, 123.68), (1.0, 1.0, 1.0)),
    }
)


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``model.json``, written by the import. `labels` are the tree's, in the order of a classifier's outputs.

    `source` is the name of the given file, `sha256` the digest of its bytes; `size` is (height, width).
    """

    kind: Literal["classifier", "backbone"]
    layout: Literal["nchw", "nhwc"]
    size: tuple[int, int]
    dtype: Literal["float32", "uint8"]
    intake: Intake
    outputs: Literal["probabilities", "logits", "feature"]
    length: int
    labels: tuple[str, ...]
    source: str
    sha256: str


@dataclass(frozen=True, slots=True, eq=False)
class ByteRange:
    """Turns a feature into bytes: `low` and below become 0, `high` and above 255; both are float32 (d,)."""

    low: Floats
    high: Floats

    @classmethod
    def of(cls, features: Floats) -> ByteRange:
        """Measure the range of features (n, d), without the outermost half percent on each side: outliers."""
        low, high = np.percentile(features, (0.5, 99.5), axis=0).astype(np.float32)
        return cls(low, np.maximum(high, low + np.float32(1e-6)))

    def bytes(self, features: Floats) -> NDArray[np.uint8]:
        """Turn float32 (..., d) into uint8 (..., d)."""
        scaled: Floats = (features - self.low) / (self.high - self.low)
        return np.asarray(np.rint(np.clip(scaled, 0, 1) * 255), np.uint8)


class ImportedNetwork:
    """A network that takes pictures."""

    def __init__(self, spec: Spec, network: Network) -> None:
        self.spec = spec
        self._network = network
        self._mean = np.array(spec.intake.mean, np.float32)
        self._std = np.array(spec.intake.std, np.float32)

    def serve(self, picture: Picture) -> Floats | Picture:
        """Stretch a BGR uint8 picture to the network's input, a batch of one."""
        high, wide = self.spec.size
        shrinks = high * wide < picture.shape[0] * picture.shape[1]
        resized = cv2.resize(picture, (wide, high), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
        ordered = resized[:, :, ::-1] if self.spec.intake.order == "rgb" else resized
        x = ordered if self.spec.dtype == "uint8" else (ordered.astype(np.float32) - self._mean) / self._std
        laid = x.transpose(2, 0, 1) if self.spec.layout == "nchw" else x
        return np.ascontiguousarray(laid[None], dtype=self.spec.dtype)

    def raw(self, picture: Picture) -> Floats:
        """Run on BGR uint8 (height, width, 3); return float32 in the network's own shape."""
        return self.run(self.serve(picture))

    def run(self, x: Floats | Picture) -> Floats:
        """Run on the result of `serve`; return float32 in the network's own shape."""
        return self._network.run(x)

    def output(self, picture: Picture) -> Floats:
        """Run on BGR uint8 (height, width, 3); return one vector, (length,)."""
        return self.raw(picture).reshape(-1)


class ImportedModel:
    """Predicts families and kingdoms by a classifier, or by a backbone and its head."""

    def __init__(
        self,
        title: str,
        tree: Taxonomy,
        network: ImportedNetwork,
        head: LinearHead | None = None,
        byte_range: ByteRange | None = None,
    ) -> None:
        self.name = title
        self._network = network
        self._head = head
        self._range = byte_range
        self._sums = TreeSums(tree, head.labels if head else network.spec.labels)

    def predict(self, picture: Picture) -> tuple[Scores, Scores]:
        """Return scores over (families, kingdoms). Raises `Rejected`, naming the model, if it fails on this picture."""
        return self._sums.up(self._probabilities(self._output(picture)))

    def _output(self, picture: Picture) -> Floats:
        """Return float32 (length,), checked to be finite: the trial of an import saw other pictures."""
        x = self._network.serve(picture)
        try:
            output = self._network.run(x).reshape(-1)
        except MemoryError:
            raise
        except Exception as error:  # onnxruntime's own errors share no base class
            raise self._bad(f"fails on this picture: {error}") from error
        if len(output) != self._network.spec.length:
            raise self._bad(f"gives {len(output):,} numbers for this picture, not {self._network.spec.length:,}")
        if not np.isfinite(output).all():
            raise self._bad("gives numbers that are not finite (NaN or infinity) for this picture")
        return output

    def _bad(self, what: str) -> Rejected:
        return Rejected(
            "bad-output", f"the model {self.name} {what}; correct and import it again, or serve another one"
        )

    def _probabilities(self, output: Floats) -> Floats:
        if self._head is not None and self._range is not None:
            return self._head.scores(self._range.bytes(output)).probabilities
        return output if self._network.spec.outputs == "probabilities" else softmax(output)


class TreeSums:
    """Sums probabilities over labels of any rank into families and kingdoms.

    The family scores hold what the model distinguishes: families, leaves, and a kingdom if one of its labels is no
    deeper. So an answer about a kingdom is never mistaken for a family.
    """

    def __init__(self, tree: Taxonomy, labels: tuple[str, ...]) -> None:
        """Raise `UnknownLabel` for a label that the tree lacks."""
        paths = [tree.path(label) for label in labels]
        at_family = [path[min(1, len(path) - 1)] for path in paths]
        self._families = tuple(dict.fromkeys(at_family))
        self._family_of = np.array([self._families.index(label) for label in at_family], np.intp)
        self._kingdom_of = np.array([KINGDOMS.index(path[0]) for path in paths], np.intp)

    def up(self, probabilities: Floats) -> tuple[Scores, Scores]:
        """Return scores over (families, kingdoms) of probabilities, float32 (labels,)."""
        families = np.bincount(self._family_of, probabilities, len(self._families)).astype(np.float32)
        kingdoms = np.bincount(self._kingdom_of, probabilities, len(KINGDOMS)).astype(np.float32)
        return Scores("family", self._families, families), Scores("kingdom", KINGDOMS, kingdoms)


def read_spec(entry: ModelEntry) -> Spec:
    """Read the entry's ``model.json``. Raises `Stop` if the entry was not imported, or is damaged."""
    if not entry.has(SPEC):
        raise Stop(f"{entry.title} was not imported: it has no {SPEC}")
    try:
        return msgspec.json.decode(entry.read(SPEC), type=Spec)
    except msgspec.MsgspecError as error:
        raise Stop(f"{entry.title}: {SPEC} is of another version ({error}); import the model again") from error


def open_network(entry: ModelEntry) -> ImportedNetwork:
    """Open the network of an entry. Raises `Stop`."""
    return ImportedNetwork(read_spec(entry), Network(entry.read(MODEL)))


def open_model(entry: ModelEntry, tree: Taxonomy) -> ImportedModel:
    """Open a model that answers families. Raises `Stop` if it is damaged, or a backbone without a head."""
    network = open_network(entry)
    head, byte_range = None, None
    if network.spec.kind == "backbone":
        if not entry.has(HEAD):
            name = entry.manifest.name
            raise Stop(
                f"{entry.title} is a backbone without a head and answers nothing yet: "
                f"`tierwise models fit {name} --data DIR` fits a head from labelled photos"
            )
        head, byte_range = read_head(entry.read(HEAD), str(entry.manifest.space))
    try:
        return ImportedModel(entry.title, tree, network, head, byte_range)
    except UnknownLabel as error:
        raise Stop(f"{entry.title} was made for another label tree: {error}; import it again") from error


def write_head(head: LinearHead, byte_range: ByteRange) -> bytes:
    """Encode ``head.npz``."""
    file = BytesIO()
    np.savez(
        file,
        rank=np.array(head.rank),
        labels=np.array(head.labels),
        weights=head.weights,
        bias=head.bias,
        temperature=np.float32(head.temperature),
        low=byte_range.low,
        high=byte_range.high,
    )
    return file.getvalue()


def read_head(data: bytes, space: str) -> tuple[LinearHead, ByteRange]:
    """Read ``head.npz``."""
    with np.load(BytesIO(data), allow_pickle=False) as arrays:
        head = LinearHead(
            space,
            str(arrays["rank"]),
            tuple(str(label) for label in arrays["labels"]),
            arrays["weights"],
            arrays["bias"],
            float(arrays["temperature"]),
        )
        return head, ByteRange(arrays["low"], arrays["high"])

"""The weights' pickle is read without PyTorch, and asks for nothing but tensors."""

from __future__ import annotations

import io
import pickle
import struct

import numpy as np
import pytest

pytest.importorskip("onnx", reason="training needs onnx: pip install 'tierwise[train]'")

from models.train.lite0.lite0 import read_weights
from pipeline.errors import Stop


def test_a_pickle_that_asks_for_anything_else_is_refused() -> None:
    headers = b"".join(pickle.dumps(header, 2) for header in (1, 2, {}))
    with pytest.raises(Stop, match=r"posix\.system, which weights do not need"):
        read_weights(io.BytesIO(headers + b"cposix\nsystem\n(S'true'\ntR."))


def test_a_transposed_storage_is_read_by_its_strides() -> None:
    values = np.arange(6, dtype=np.float32)
    state = (
        b"\x80\x02}U\x01wctorch._utils\n_rebuild_tensor_v2\n(("
        b"U\x07storagectorch\nFloatStorage\nU\x01kU\x03cpuK\x06NtQ"
        b"K\x00K\x02K\x03\x86K\x01K\x02\x86tRs."
    )
    headers = b"".join(pickle.dumps(header, 2) for header in (1, 2, {}))
    keys = pickle.dumps(["k"], 2)
    file = io.BytesIO(headers + state + keys + struct.pack("<q", 6) + values.tobytes())
    np.testing.assert_array_equal(read_weights(file)["w"], values.reshape(3, 2).T)

"""The golden set that ships fits its model, and no other bytes are taken for one."""

from __future__ import annotations

import pytest

from models.heads.golden_set import GoldenSet
from models.shipped import load_zoo
from pipeline.errors import Rejected

ZOO = load_zoo()
GOLDEN = ZOO.golden()


def test_the_shipped_set_fits_the_shipped_model() -> None:
    base = ZOO.base()
    assert GOLDEN.space == base.sums.space
    assert len(GOLDEN.truths(base.tree, base.sums.space)) == len(GOLDEN.vectors)
    assert GOLDEN.counts["person"] >= 100
    assert len(GOLDEN.to_bytes()) < 600_000


def test_a_set_is_read_back_as_it_was_written() -> None:
    assert GoldenSet.of(GOLDEN.to_bytes()).digest == GOLDEN.digest


@pytest.mark.parametrize("data", [b"", b"no archive", GOLDEN.to_bytes()[:-500]])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(Rejected) as refused:
        GoldenSet.of(data)
    assert refused.value.reason == "golden-mismatch"

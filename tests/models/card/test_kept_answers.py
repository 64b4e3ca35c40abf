"""Kept answers: found again, private, begun anew if damaged, dropped when unused."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.card import kept_answers
from models.card.kept_answers import KeptAnswers


def test_an_answer_is_found_by_the_next_run_and_by_nobody_else(tmp_path: Path) -> None:
    file = tmp_path / "classify" / "answers.db"
    first = KeptAnswers(file)
    first.put([(b"key", b"body")])
    first.close()
    again = KeptAnswers(file)
    assert (again.get(b"key"), again.get(b"other")) == (b"body", None)
    again.close()
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_damaged_file_is_begun_anew(tmp_path: Path) -> None:
    file = tmp_path / "answers.db"
    file.write_bytes(b"no database at all" * 100)
    kept = KeptAnswers(file)
    kept.put([(b"key", b"body")])
    assert kept.get(b"key") == b"body"
    kept.close()


def test_what_nobody_used_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = KeptAnswers(tmp_path / "answers.db")
    kept.put([(b"key", b"body")])
    monkeypatch.setattr(kept_answers, "KEPT_S", -1.0)
    kept.close()
    again = KeptAnswers(tmp_path / "answers.db")
    assert again.get(b"key") is None
    again.close()

"""A role that `tierwise up` starts loads no command line, and any other spelling goes through it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agents.up.role_process import plain_role


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("device", ("device", None, None)),
        ("stream --parent-pid 7 --settings a.toml", ("stream", Path("a.toml"), 7)),
        ("", None),
        ("up", None),
        ("device --help", None),
        ("device --settings", None),
        ("device --settings a --settings b", None),
        ("device --parent-pid x", None),
        ("trainer --now", None),
        ("device -s a.toml", None),
    ],
)
def test_a_plain_role_is_recognised_and_nothing_else(words: str, expected: object) -> None:
    assert plain_role(words.split()) == expected


def test_a_plain_role_loads_neither_typer_nor_rich_and_says_in_a_line_what_is_wrong(tmp_path: Path) -> None:
    missing = tmp_path / "none.toml"
    script = (
        "import atexit, sys\n"
        "atexit.register(lambda: print(*(name for name in ('typer', 'rich') if sys.modules.get(name))))\n"
        f"from agents.cli import main; main(['device', '--settings', {str(missing)!r}])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "none.toml" in done.stderr

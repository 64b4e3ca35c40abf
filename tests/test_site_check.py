"""The check of the docs site: it finds whatever a page would load from another host."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.site.check import problems

POLICY = """<meta http-equiv="Content-Security-Policy" content="default-src 'self'">"""


@pytest.mark.parametrize(
    "loads",
    [
        '<script src="https://cdn.example.org/x.js"></script>',
        '<link rel="stylesheet" href="//fonts.example.org/css">',
        '<img src="http://example.org/badge.svg">',
        """<p style="background: url('https://example.org/x.png')">""",
    ],
)
def test_a_page_that_loads_from_another_host_is_found(tmp_path: Path, loads: str) -> None:
    (tmp_path / "index.html").write_text(POLICY + loads)
    assert ["loads" in each for each in problems(tmp_path)] == [True]


def test_a_style_that_loads_from_another_host_is_found(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(POLICY)
    (tmp_path / "site.css").write_text('@import "https://fonts.example.org/css";')
    assert len(list(problems(tmp_path))) == 1


def test_links_and_own_files_are_fine(tmp_path: Path) -> None:
    page = '<a href="https://example.org">there</a><script src="assets/x.js"></script>'
    (tmp_path / "index.html").write_text(POLICY + page)
    assert list(problems(tmp_path)) == []


def test_a_page_without_the_policy_and_an_empty_site_are_found(tmp_path: Path) -> None:
    assert len(list(problems(tmp_path))) == 1
    (tmp_path / "index.html").write_text("<p>no policy</p>")
    assert len(list(problems(tmp_path))) == 1

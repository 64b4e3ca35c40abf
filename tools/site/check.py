"""Check that a built site loads nothing from other hosts: ``python tools/site/check.py build/site``.

Links that a reader may follow are allowed. Scripts, styles, fonts, pictures and frames of other hosts are not. The
theme's script can load parts of its own from other hosts (diagrams, a repository's stars); no page asks for them, and
the policy that every page carries lets the browser refuse them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Final

POLICY: Final = "default-src 'self'"
LOADED: Final = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "video": "src",
    "audio": "src",
    "source": "src",
}
LINKED: Final = frozenset({"stylesheet", "preconnect", "preload", "prefetch", "dns-prefetch", "icon", "manifest"})
"""What a browser loads for a `link` element without being asked."""
STYLE: Final = re.compile(r"""(?:url\(\s*["']?|@import\s+["'])((?:https?:)?//[^"')\s]+)""")


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.policies: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag in LOADED:
            self.loads.append(given.get(LOADED[tag], ""))
        elif tag == "link" and LINKED & set(given.get("rel", "").split()):
            self.loads.append(given.get("href", ""))
        elif tag == "meta" and given.get("http-equiv", "").lower() == "content-security-policy":
            self.policies.append(given.get("content", ""))
        self.loads += STYLE.findall(given.get("style", ""))


def problems(site: Path) -> Iterator[str]:
    """Return each load from another host, and each page without the policy."""
    pages = sorted(site.rglob("*.html"))
    if not pages:
        yield f"{site}: no page was built"
    for file in pages:
        page = _Page()
        page.feed(file.read_text("utf-8"))
        yield from (f"{file}: loads {each}" for each in page.loads if re.match(r"(https?:)?//", each))
        if not any(each.startswith(POLICY) for each in page.policies):
            yield f"{file}: has no policy against loads from other hosts"
    for file in sorted(site.rglob("*.css")):
        yield from (f"{file}: loads {each}" for each in STYLE.findall(file.read_text("utf-8")))


if __name__ == "__main__":
    found = list(problems(Path(sys.argv[1])))
    print("\n".join(found) or "the site loads nothing from other hosts")
    sys.exit(bool(found))

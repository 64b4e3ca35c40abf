"""Write every generated page: ``python -m tools.reference``."""

from __future__ import annotations

from tools.reference.pages import ROOT, generated


def main() -> None:
    """Write each generated file, and name those that changed."""
    for file, text in generated().items():
        if not file.exists() or file.read_text("utf-8") != text:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf-8")
            print(f"wrote {file.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

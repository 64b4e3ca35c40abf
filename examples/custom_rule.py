"""Raise the privacy of some events by a rule of your own, and see what the rule does: `python custom_rule.py`.

A rule stands in `tierwise.toml`. It can only raise levels, never lower them, so a mistake in a rule cannot publish
anything. This script asks the policy that the device agent asks, with no broker.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.clock import seconds
from pipeline.privacy.policy import Policy
from pipeline.settings.settings import Settings

SETTINGS = """
timezone = "Europe/Berlin"

[streams."cam1/garden"]
pixels = "edge-private"
feature = "public"
result = "public"

[[rules]]
name = "our-evenings"
stream = "cam1/*"
hours = "18:00-23:00"
raise = { pixels = "user-private", feature = "user-private" }
reason = "we sit in the garden then"

[[rules]]
name = "hide-rare-cats"
label = "Lynx lynx"
raise = { result = "edge-private" }
reason = "nobody outside the project may learn where the lynx lives"
"""


def main() -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "tierwise.toml"
        file.write_text(SETTINGS, encoding="utf-8")
        policy = Policy(Settings.load(file, {}))
    for time, path in [
        ("2026-05-01T10:00:00Z", ("animal",)),
        ("2026-05-01T18:30:00Z", ("animal",)),
        ("2026-05-01T10:00:00Z", ("animal", "Felidae", "Lynx lynx")),
    ]:
        verdict = policy.levels("home/cam1/garden", seconds(time), path=path)
        levels = verdict.levels
        print(f"{time} {path[-1]}: feature {levels.feature}, result {levels.result}, by {verdict.rules[1:]}")


if __name__ == "__main__":
    main()

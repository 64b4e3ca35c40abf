"""From the settings file on the disk to a table that means the same anywhere.

`pipeline.settings.settings` reads it with `read`, checks it, lays the environment over it, and has it completed here: relative
paths become absolute, secrets are read from their files, streams get their full names.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Final

from pipeline import topics
from pipeline.errors import Stop
from pipeline.messages import RANKS, Task

SECRETS: Final = {
    "mqtt": "password",
    "uplink": "password",
    "kafka": "password",
    "influx": "token",
    "cloud_influx": "token",
}
"""Sections that log in somewhere, and the key of their secret; `<key>_file` names a file that holds it."""

DEFAULT_SITE: Final = "home"
DEFAULT_DATA: Final = "tierwise-data"
PATHS: Final = (
    ("data",),
    ("zoo",),
    *((section, f"{key}_file") for section, key in SECRETS.items()),
    *((section, "ca") for section in ("mqtt", "uplink", "kafka")),
    ("releases", "root"),
)
"""Keys that are paths: what is relative in a file is relative to that file's folder."""


def read(file: Path, *, must_exist: bool) -> dict[str, Any]:
    """The file's table as it stands there; an empty one of a file that need not exist.

    Raises
    ------
    Stop
        The file is missing, or is no TOML.
    """
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        if not must_exist:
            return {}
        raise Stop(
            f"{file}: no such settings file; `tierwise settings starter > {file}` writes one"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise Stop(f"{file}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise Stop(f"{file}: no valid TOML: {error}") from None


def complete(raw: dict[str, Any], file: Path) -> None:
    """Put in the table what the file leaves to be understood.

    Raises
    ------
    Stop
        A secret cannot be read, a stream's name is none, or no stream is there for the camera.
    """
    raw.setdefault("site", DEFAULT_SITE)
    raw.setdefault("data", DEFAULT_DATA)
    _place_camera(raw, str(file))
    _locate_paths(raw, file.absolute().parent)
    _read_secrets(raw, str(file))
    _name_streams(raw, str(file))


def _place_camera(raw: dict[str, Any], file: str) -> None:
    """Give `device.camera` to the first camera stream, whatever source that had."""
    camera = raw.get("device", {}).get("camera")
    if not camera:
        return
    for stream in raw.get("streams", {}).values():
        if stream.get("task", Task.WILDLIFE) == Task.WILDLIFE:
            stream["source"] = camera
            return
    raise Stop(
        f'{file}: device.camera: no camera stream is named that could be its; add [streams."cam1/garden"] with its levels'
    )


def _locate_paths(raw: dict[str, Any], folder: Path) -> None:
    for *section, key in PATHS:
        table = raw.get(section[0], {}) if section else raw
        if table.get(key):
            table[key] = _located(table[key], folder)
    for stream in raw.get("streams", {}).values():
        source = stream.get("source", "")
        if source and not source.isdecimal() and "://" not in source:
            stream["source"] = _located(source, folder)


def _located(path: str, folder: Path) -> str:
    try:
        return str(folder / Path(path).expanduser())
    except RuntimeError:  # of a ~name that nobody here has: then it is a plain folder of that name
        return str(folder / path)


def _read_secrets(raw: dict[str, Any], file: str) -> None:
    for section, key in SECRETS.items():
        table = raw.get(section, {})
        path = table.get(f"{key}_file")
        if not path or (key == "token" and not table.get("url")):  # no server, no token
            continue
        if table.get(key):
            raise Stop(f"{file}: {section}.{key}: there is a {key}_file, too; keep one of them")
        try:
            table[key] = Path(path).read_text("utf-8").strip()
        except (OSError, ValueError) as error:
            raise Stop(f"{file}: {section}.{key}_file: the {key} cannot be read: {error}") from None


def _name_streams(raw: dict[str, Any], file: str) -> None:
    """Give each stream its full source as its key, and its task's deepest rank where it says none."""
    site = raw["site"]
    named: dict[str, Any] = {}
    for key, stream in raw.get("streams", {}).items():
        parts = key.split("/")
        source = key if len(parts) == 3 else f"{site}/{key}"
        if len(parts) not in (2, 3) or not all(map(topics.is_name, parts)):
            raise Stop(
                f'{file}: streams."{key}": a stream is called "device/stream"; each name is made of a-z, 0-9, - and _, '
                "and starts with a letter or digit"
            )
        if source.partition("/")[0] != site:
            raise Stop(f'{file}: streams."{key}": another site\'s stream; this site is "{site}"')
        if source in named:
            raise Stop(f'{file}: streams."{key}": named twice; keep one of them')
        stream.setdefault("wants", RANKS[Task(stream.get("task", Task.WILDLIFE))][-1].value)
        named[source] = stream
    raw["streams"] = named

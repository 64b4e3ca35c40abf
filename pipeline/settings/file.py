"""Reads the settings file and completes its table, so that the table is the same whatever the working folder.

`pipeline.settings.settings` reads the file with `read`, checks it, and applies the environment. Then `complete` makes
relative paths absolute, reads secrets from their files, and gives streams their full names::

    raw = read(Path("tierwise.toml"), must_exist=True)
    complete(raw, Path("tierwise.toml"))
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Final

from pipeline import topics, units
from pipeline.errors import Stop
from pipeline.messages import RANKS, Task
from pipeline.settings import patterns

SECRETS: Final = {
    "mqtt": "password",
    "uplink": "password",
    "kafka": "password",
    "influx": "token",
    "cloud_influx": "token",
    "intake.mail": "password",
}
"""Sections with a login, and the key of their secret; `<key>_file` names a file that holds the secret."""

LOGIN: Final = ("login", "login_file")
"""Keys of a stream for the login of its source."""

OF_SENSORS: Final = frozenset({"format", "value", "time", "scale", "unit", "deadband", "room"})
"""Keys of a stream with a topic that is no camera."""

DEFAULT_SITE: Final = "home"
DEFAULT_DATA: Final = "tierwise-data"
PATHS: Final = (
    ("data",),
    ("zoo",),
    *((section, f"{key}_file") for section, key in SECRETS.items()),
    *((section, "ca") for section in ("mqtt", "uplink", "kafka", "intake.mail")),
    ("intake.ftp", "certificate"),
    ("releases", "root"),
)
"""Keys that are paths: a relative path starts at the folder of the settings file."""


def read(file: Path, *, must_exist: bool) -> dict[str, Any]:
    """Return the file's table, or an empty table for a missing file that need not exist.

    Raises
    ------
    Stop
        The file is missing, or is not TOML.
    """
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        if not must_exist:
            return {}
        raise Stop(f"{file}: no such settings file; `tierwise settings starter > {file}` writes one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise Stop(f"{file}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise Stop(f"{file}: not valid TOML: {error}") from None


def complete(raw: dict[str, Any], file: Path) -> None:
    """Add to the table everything that the file leaves implicit.

    Raises
    ------
    Stop
        A secret cannot be read, a stream has an invalid name, or the camera has no stream.
    """
    raw.setdefault("site", DEFAULT_SITE)
    raw.setdefault("data", DEFAULT_DATA)
    _place_camera(raw, str(file))
    _locate_paths(raw, file.absolute().parent)
    _read_secrets(raw, str(file))
    _name_streams(raw, str(file))


def _place_camera(raw: dict[str, Any], file: str) -> None:
    """Make `device.camera` the source of the first camera stream, in place of its own source."""
    camera = raw.get("device", {}).get("camera")
    if not camera:
        return
    for key, stream in raw.get("streams", {}).items():
        if stream.get("task", Task.WILDLIFE) == Task.WILDLIFE and not patterns.is_pattern(key):
            stream["source"] = camera
            stream.update({key: login for key in LOGIN if (login := raw["device"].get(f"camera_{key}"))})
            return
    raise Stop(f'{file}: device.camera: there is no camera stream for it; add [streams."cam1/garden"] with its levels')


def _locate_paths(raw: dict[str, Any], folder: Path) -> None:
    for *section, key in PATHS:
        table = _table(raw, section[0]) if section else raw
        if table.get(key):
            table[key] = _located(table[key], folder)
    for stream in raw.get("streams", {}).values():
        if stream.get("login_file"):
            stream["login_file"] = _located(stream["login_file"], folder)
        source = stream.get("source", "")
        if source and not source.isdecimal() and "://" not in source:
            stream["source"] = _located(source, folder)


def _table(raw: dict[str, Any], section: str) -> dict[str, Any]:
    """Return the table of a section, as ``intake.mail``; an empty one if the file has none."""
    table = raw
    for name in section.split("."):
        table = table.get(name, {})
    return table


def _located(path: str, folder: Path) -> str:
    try:
        return str(folder / Path(path).expanduser())
    except RuntimeError:  # there is no user of this ~name: then it is a plain folder of this name
        return str(folder / path)


def _read_secrets(raw: dict[str, Any], file: str) -> None:
    secrets = [(section, key, _table(raw, section)) for section, key in SECRETS.items()]
    secrets += [(f'streams."{name}"', "login", stream) for name, stream in raw.get("streams", {}).items()]
    for section, key, table in secrets:
        path = table.get(f"{key}_file")
        if not path or (key == "token" and not table.get("url")):  # no server, no token
            continue
        if table.get(key):
            raise Stop(f"{file}: {section}.{key}: there is a {key}_file, too; keep only one")
        try:
            table[key] = Path(path).read_text("utf-8").strip()
        except (OSError, ValueError) as error:
            raise Stop(f"{file}: {section}.{key}_file: the {key} cannot be read: {error}") from None


def _name_streams(raw: dict[str, Any], file: str) -> None:
    """Make each stream's full name its key, and give it the defaults that follow from its other keys."""
    site = raw["site"]
    named: dict[str, Any] = {}
    for key, stream in raw.get("streams", {}).items():
        parts = key.split("/")
        source = key if len(parts) == 3 else f"{site}/{key}"
        if len(parts) not in (2, 3) or not all(topics.is_name(part) or patterns.is_part(part) for part in parts):
            raise Stop(
                f'{file}: streams."{key}": a stream\'s name is "device/stream"; each part consists of a-z, 0-9, - and _, '
                'and starts with a letter or digit; "*" and "?" stand for any text and any one character'
            )
        if source.partition("/")[0] != site:
            raise Stop(f'{file}: streams."{key}": belongs to another site; this site is "{site}"')
        if source in named:
            raise Stop(f'{file}: streams."{key}": named twice; keep only one')
        _complete_stream(stream)
        named[source] = stream
    raw["streams"] = named


def _complete_stream(stream: dict[str, Any]) -> None:
    """Find the task of a stream with a topic; let it want the task's deepest rank; use one spelling of its unit."""
    given = OF_SENSORS & stream.keys()
    if stream.get("topic") and given and not (given == {"format"} and stream["format"] in ("", "frigate")):
        stream.setdefault("task", (Task.OCCUPANCY if "room" in stream else Task.METER).value)
    task = Task(stream.get("task", Task.WILDLIFE))
    stream.setdefault("wants", RANKS[task][-1].value)
    if (unit := stream.get("unit")) is not None:
        name = units.canonical(unit) or unit
        stream["unit"] = "%RH" if name == "%" and task is Task.OCCUPANCY else name

"""Loads the settings file (TOML); every role reads it once at its start.

The file holds the addresses of a site's brokers, its streams, and how far their records may travel. Every key has a
default, and `tierwise up` writes a first file (`pipeline.settings.starter`). Unknown keys and impossible values are
refused with the name of the file and the key. The environment can set each key of a section, for containers::

    TIERWISE_SITE=barn TIERWISE_MQTT__ADDRESS=broker.lan:1883 tierwise edge

    >>> settings = Settings.load(environ={"TIERWISE_SITE": "barn", "TIERWISE_MQTT__ADDRESS": "broker.lan:1883"})
    >>> settings.site, settings.mqtt.host, settings.mqtt.is_embedded
    ('barn', 'broker.lan', False)

docs/settings.md describes every key; a test compares that page with `keys.py`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from pipeline.errors import Stop
from pipeline.settings import file as settings_file
from pipeline.settings import strict
from pipeline.settings.checks import problems
from pipeline.settings.keys import (
    DeviceSettings,
    EdgeSettings,
    HttpSettings,
    InfluxSettings,
    KafkaSettings,
    Keys,
    LogSettings,
    MqttSettings,
    ReleaseSettings,
    RuleSettings,
    StreamSettings,
    TrainerSettings,
    UplinkSettings,
)
from pipeline.settings.starter import STARTER

__all__ = [
    "FILE",
    "FILE_VARIABLE",
    "STARTER",
    "DeviceSettings",
    "EdgeSettings",
    "HttpSettings",
    "InfluxSettings",
    "KafkaSettings",
    "LogSettings",
    "MqttSettings",
    "ReleaseSettings",
    "RuleSettings",
    "Settings",
    "StreamSettings",
    "TrainerSettings",
    "UplinkSettings",
]

FILE: Final = "tierwise.toml"
FILE_VARIABLE: Final = "TIERWISE_SETTINGS"


class Settings(Keys, frozen=True, kw_only=True):
    """The settings of a role: all keys (`keys.py`), from a file or by default."""

    @classmethod
    def load(cls, path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read the settings file, and the keys that the environment sets in its place.

        Parameters
        ----------
        path
            The file; by default the one that ``TIERWISE_SETTINGS`` names, or ``./tierwise.toml`` if it exists.

        Raises
        ------
        Stop
            The file cannot be read, or has an impossible value; the message names file and key.
        """
        named = path or (Path(environ[FILE_VARIABLE]) if environ.get(FILE_VARIABLE) else None)
        file = named or Path(FILE)
        raw = settings_file.read(file, must_exist=named is not None)
        strict.check(raw, cls, str(file))
        raw = strict.overridden(raw, cls, environ)
        settings_file.complete(raw, file)
        settings = msgspec.convert(raw, cls)
        for problem in problems(settings):
            raise Stop(f"{file}: {problem}")
        return settings

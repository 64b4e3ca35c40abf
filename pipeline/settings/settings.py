"""One settings file (TOML), read once at the start of every role.

It says where a site's brokers are, which streams it has and how far their records may travel. Nothing in it is
needed to begin: every key has a default, and `pipeline.settings.starter` holds the text that `tierwise up` writes where there
is no file. A key that is not known is refused, naming the nearest one that is; a value that cannot be meant is refused,
naming file and key. Each key of a section can be given from outside, as a container likes it::

    TIERWISE_SITE=barn TIERWISE_MQTT__ADDRESS=broker.lan:1883 tierwise edge

    >>> settings = Settings.load(environ={"TIERWISE_SITE": "barn", "TIERWISE_MQTT__ADDRESS": "broker.lan:1883"})
    >>> settings.site, settings.mqtt.host, settings.mqtt.is_embedded
    ('barn', 'broker.lan', False)

docs/settings.md tells every key; a test holds that page and this file together.
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
    """What every role is given: all keys (`settings_keys.py`), of a file or by default."""

    @classmethod
    def load(cls, path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read the settings file and what the environment says over it.

        Parameters
        ----------
        path
            None: the file that ``TIERWISE_SETTINGS`` names, or ``./tierwise.toml`` where there is one.

        Raises
        ------
        Stop
            The file cannot be read, or something in it cannot be meant; the text names file and key.
        """
        asked = path or (Path(environ[FILE_VARIABLE]) if environ.get(FILE_VARIABLE) else None)
        file = asked or Path(FILE)
        raw = settings_file.read(file, must_exist=asked is not None)
        strict.check(raw, cls, str(file))
        raw = strict.overridden(raw, cls, environ)
        settings_file.complete(raw, file)
        settings = msgspec.convert(raw, cls)
        for problem in problems(settings):
            raise Stop(f"{file}: {problem}")
        return settings

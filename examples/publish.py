"""Publish a photo to the starter's camera stream: `python publish.py cat.jpg`. It needs paho-mqtt alone."""

import os
import sys
from pathlib import Path

from paho.mqtt import publish

publish.single(
    "tierwise/v1/home/cam1/frame/garden",  # tierwise/v1/{site}/{device}/frame/{stream}
    Path(sys.argv[1]).read_bytes(),
    qos=1,
    hostname=os.environ.get("MQTT_HOST", "127.0.0.1"),
    port=int(os.environ.get("MQTT_PORT", "1883")),
)

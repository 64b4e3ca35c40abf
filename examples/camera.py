"""Make a camera of whatever OpenCV can open: `python camera.py 0` (a webcam) or `python camera.py visit.avi`.

It reads the settings of the folder that it is started in, as `tierwise` does. A frame is published again until the
device agent acknowledges that it is on disk: then nothing will lose it. (For a plain webcam or RTSP stream you need
no code: write `source = ...` under the stream in the settings.)
"""

import sys
import time

import cv2

from agents.client.connection import Inbox, at_site
from agents.client.publishing import Item, Publishing
from pipeline import topics
from pipeline.mqtt import Connection
from pipeline.privacy.gate import clear_capture
from pipeline.settings.settings import Settings

DEVICE, STREAM = "cam1", "garden"
EVERY_S = 1.0


def publish(frame: Item, connection: Connection, inbox: Inbox) -> str:
    """Publish a frame until it is acknowledged, and return the id of its event."""
    publishing = Publishing([frame])
    while not publishing.acknowledged():
        for item in publishing.to_publish(time.monotonic()):
            connection.publish(clear_capture(item.topic, item.payload))
            item.published_s = time.monotonic()
        for message in inbox.take(timeout_s=0.2):
            publishing.hear(message.topic, message.payload)
    return frame.event if frame.refusal is None else f"refused: {frame.refusal.detail}"


def main(source: str) -> None:
    settings = Settings.load()
    camera = cv2.VideoCapture(int(source) if source.isdecimal() else source)
    replies = [topics.ack(settings.site, DEVICE), topics.rejected(settings.site, DEVICE)]
    with at_site(settings, "camera", replies) as (connection, inbox):
        found, picture = camera.read()
        while found:
            jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
            frame = Item("frame", topics.frame(settings.site, DEVICE, STREAM), jpeg)
            print(publish(frame, connection, inbox), flush=True)
            time.sleep(EVERY_S)
            found, picture = camera.read()


if __name__ == "__main__":
    main(sys.argv[1])

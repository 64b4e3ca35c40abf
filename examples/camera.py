"""Make a camera of whatever OpenCV can open: `python camera.py 0` (a webcam) or `python camera.py visit.avi`.

It reads the settings of the folder that it is started in, as `tierwise` does. A frame is published again until the
device agent acknowledges that it is on disk: then nothing will lose it. (A plain webcam or RTSP stream needs no code:
write `source = ...` under the stream in the settings.)
"""

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2

from agents.client import connect

EVERY_S = 1.0


def main(source: str) -> None:
    camera = cv2.VideoCapture(int(source) if source.isdecimal() else source)
    with connect() as site, TemporaryDirectory() as folder:
        photo = Path(folder) / "frame.jpg"
        found, picture = camera.read()
        while found:
            cv2.imwrite(str(photo), picture)
            answer = site.publish_photo(photo, "cam1/garden")
            print(answer.event, answer.label, f"{answer.probability:.2f}", flush=True)
            time.sleep(EVERY_S)
            found, picture = camera.read()


if __name__ == "__main__":
    main(sys.argv[1])

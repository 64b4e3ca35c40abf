"""Models of the tiers: how they answer, learn and travel."""

import os

# Read by OpenCV when it is loaded. Its own lines and FFmpeg's would stand between ours, with the addresses of cameras.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

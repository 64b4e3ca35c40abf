"""Detect a camera that is dark, frozen, moved or out of focus. All functions are pure.

Every frame that the device decodes is reduced to the size of the motion gate and compared with the past of its camera,
separately by day and by infrared night::

    frame --glance--> Glance (small grey, edges, sharpness, night?) --check--> Camera (remembered), Finding | None

    camera, finding = check(camera or Camera(), glance(frame), at_s=now_s, hour=13)

| fault | sign | reported after | limits |
| --- | --- | --- | --- |
| dark | a black frame, in an hour of the day that was light throughout when last seen | 30 min | a lens covered by
night is reported after sunrise; a camera that is dark from its first hour on, after 20 h |
| frozen | all frames are equal to the last pixel | 10 frames, 1 min | a recorder that draws a clock into its frozen
picture, or encodes it again, is not detected |
| moved | edges are in other places than before, and stay there | 10 frames, 5 min | not detected for a source whose
pictures never agreed |
| blurred | edges are in the same places, but softer than ever before | 10 frames, 5 min | a slight loss of focus is
invisible at 96 pixels |

A camera is `well` again after ten good frames in a row. A moved camera is reported once and gets a new past.

Sources: variance of the Laplacian as a measure of focus, Pech-Pacheco et al. 2000 (ICPR 3:314); for tampering as loss
of edges and of the background's own edges, Saglam & Temizel 2009 (AVSS); phase correlation, Kuglin & Hines 1975.
"""

from __future__ import annotations

import math
import zlib
from typing import Final, Literal, NamedTuple

import cv2
import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from models.vision import motion
from models.vision.night_background import NIGHT_BELOW

Fault = Literal["", "dark", "frozen", "moved", "blurred"]

BLACK_MEAN, BLACK_SPREAD = 16.0, 6.0
"""Grey levels: a frame below both is black. A frame lit by an infrared lamp is brighter and less even."""

LEARNED: Final = 30
"""The number of frames of a light (day or lamp) that make its past."""

FOLLOWS: Final = 0.02
"""Weight of each later frame in the past: it follows the seasons, but not a fault."""

UNLIKE: Final = 4.0
"""A difference of this many standard deviations from the mean is significant..."""

LEAST_LOST: Final = 0.25
"""...if the agreement of the edges (correlation) is also lower by this..."""

LEAST_SOFTER: Final = 0.5
"""...or the sharpness by this (nats: to 60%)."""

SETTLED: Final = 0.5
"""If the edges agree so well with the previous frame, the scene stands still."""

SAME_PLACE: Final = 0.25
"""Blurred edges still agree this much with the past; edges of another place do not."""

HOLDS: Final[dict[Fault, tuple[int, float]]] = {
    "dark": (5, 1800.0),
    "frozen": (10, 60.0),
    "moved": (10, 300.0),
    "blurred": (10, 300.0),
}
"""Frames in a row, and seconds from first to last, until a fault is reported: passers-by, rain and clouds take less."""

ALWAYS_DARK_S: Final = 20 * 3600.0
"""Longer than any night that a camera is meant for."""

WELL_FRAMES: Final = 10

UNSEEN, LIGHT, DARK = 0, 1, 2
"""The last state of an hour of the day: never seen; light throughout; black at times."""


class Glance(NamedTuple):
    """The features of a frame: mean and spread of grey levels, edges uint8 (h, w), log sharpness."""

    mean: float
    spread: float
    edges: NDArray[np.uint8]
    sharpness: float
    night: bool
    digest: int


class ReferenceView(msgspec.Struct, frozen=True, array_like=True):
    """The past of a camera in one light: its edges, and mean and variance of their agreement and of the sharpness."""

    frames: int = 0
    edges: bytes = b""
    agreement: float = 1.0
    agreement_variance: float = 0.0
    sharpness: float = 0.0
    sharpness_variance: float = 0.0


class Camera(msgspec.Struct, frozen=True, array_like=True):
    """The memory of one camera, about 20 KB."""

    shape: tuple[int, int] = (0, 0)
    day: ReferenceView = ReferenceView()
    night: ReferenceView = ReferenceView()
    last: bytes = b""
    """The edges of the last frame."""
    digest: int = -1
    hours: tuple[int, ...] = (UNSEEN,) * 24
    hour: int = -1
    hour_was: int = LIGHT
    """The state of the current hour so far."""
    dark_since_s: float | None = None
    suspect: Fault = ""
    suspect_frames: int = 0
    suspect_since_s: float = 0.0
    fault: Fault = ""
    """The reported fault."""


class Finding(NamedTuple):
    """Reports a camera that broke, or is well again (`rule` ``camera-well``)."""

    rule: str
    signal: str
    before: float
    now: float
    reason: str


def glance(frame: NDArray[np.uint8]) -> Glance:
    """Compute the features of a BGR frame of any size. Takes about 1.6 ms of processor time at 640x480."""
    small = motion.small(frame)
    grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).astype(np.float32)
    soft = cv2.GaussianBlur(grey, (5, 5), 0)
    strength = cv2.magnitude(cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1))
    peak = max(1.0, float(np.percentile(strength, 99)))
    variance = float(grey.var())
    return Glance(
        mean=float(grey.mean()),
        spread=math.sqrt(variance),
        edges=np.clip(strength * (255.0 / peak), 0, 255).astype(np.uint8),
        sharpness=math.log((float(cv2.Laplacian(grey, cv2.CV_32F).var()) + 1.0) / (variance + 1.0)),
        night=float((small.max(2) - small.min(2)).mean()) < NIGHT_BELOW,
        digest=zlib.crc32(small.tobytes()),
    )


def check(camera: Camera, seen: Glance, *, at_s: float, hour: int) -> tuple[Camera, Finding | None]:
    """Return the camera's memory with one more frame, and a finding if there is one.

    `at_s` is when the frame was taken, in UTC seconds, `hour` the hour of the site's own day.
    """
    shape = seen.edges.shape[0], seen.edges.shape[1]
    if camera.shape != shape:
        camera = Camera(shape=shape, hours=camera.hours, hour=camera.hour, hour_was=camera.hour_was)
    black = seen.mean < BLACK_MEAN and seen.spread < BLACK_SPREAD
    camera = _timed(camera, black, at_s, hour)
    view = camera.night if seen.night else camera.day
    fault = _fault(camera, view, seen, black, at_s, hour)
    if not fault and not black:
        learned = _learned(view, seen)
        camera = replace(camera, night=learned) if seen.night else replace(camera, day=learned)
    camera = replace(camera, last=seen.edges.tobytes(), digest=seen.digest)
    return _judged(camera, view, seen, fault, at_s)


def _timed(camera: Camera, black: bool, at_s: float, hour: int) -> Camera:
    """Update the state of the hours of the day. A camera that was reported as dark teaches nothing about hours."""
    if hour != camera.hour:
        hours = camera.hours
        if camera.hour >= 0 and camera.fault != "dark":
            hours = (*hours[: camera.hour], camera.hour_was, *hours[camera.hour + 1 :])
        camera = replace(camera, hours=hours, hour=hour, hour_was=LIGHT)
    if not black:
        return replace(camera, dark_since_s=None) if camera.dark_since_s is not None else camera
    since_s = at_s if camera.dark_since_s is None else camera.dark_since_s
    return replace(camera, hour_was=DARK, dark_since_s=since_s)


def _fault(camera: Camera, view: ReferenceView, seen: Glance, black: bool, at_s: float, hour: int) -> Fault:
    """Return the fault that this frame alone suggests."""
    if black:
        long = camera.dark_since_s is not None and at_s - camera.dark_since_s >= ALWAYS_DARK_S
        return "dark" if long or camera.hours[hour] == LIGHT or camera.fault == "dark" else ""
    if seen.digest == camera.digest:
        return "frozen"
    if view.frames < LEARNED:
        return ""
    agreement = agreement_of(view.edges, seen.edges)
    lost = max(LEAST_LOST, UNLIKE * math.sqrt(view.agreement_variance))
    elsewhere = agreement < view.agreement - lost
    softer = max(LEAST_SOFTER, UNLIKE * math.sqrt(view.sharpness_variance))
    if seen.sharpness < view.sharpness - softer and agreement > SAME_PLACE:
        return "blurred"
    if elsewhere and camera.last and agreement_of(camera.last, seen.edges) > SETTLED:
        return "moved"
    return ""


def _learned(view: ReferenceView, seen: Glance) -> ReferenceView:
    """Add a frame to the past: the plain mean at first, then a fading mean."""
    rate = max(FOLLOWS, 1 / (view.frames + 1))
    if not view.frames:
        return ReferenceView(1, seen.edges.tobytes(), 1.0, 0.0, seen.sharpness, 0.0)
    agreement = agreement_of(view.edges, seen.edges)
    edges = np.frombuffer(view.edges, np.uint8).astype(np.float32).reshape(seen.edges.shape)
    off, softer = agreement - view.agreement, seen.sharpness - view.sharpness
    # The first frames are compared with themselves.
    early = view.frames < LEARNED // 3
    return ReferenceView(
        view.frames + 1,
        np.rint(edges + max(0.05, rate) * (seen.edges - edges)).astype(np.uint8).tobytes(),
        agreement if early else view.agreement + rate * off,
        0.0 if early else (1 - rate) * (view.agreement_variance + rate * off * off),
        view.sharpness + rate * softer,
        (1 - rate) * (view.sharpness_variance + rate * softer * softer),
    )


def _judged(
    camera: Camera, view: ReferenceView, seen: Glance, fault: Fault, at_s: float
) -> tuple[Camera, Finding | None]:
    """Return a finding if the suspicion has lasted long enough."""
    if fault != camera.suspect:
        camera = replace(camera, suspect=fault, suspect_frames=1, suspect_since_s=at_s)
    else:
        camera = replace(camera, suspect_frames=camera.suspect_frames + 1)
    if fault == camera.fault:
        return camera, None
    if not fault:
        if camera.suspect_frames < WELL_FRAMES:
            return camera, None
        reason = f"the camera is no longer {camera.fault}"
        return replace(camera, fault=""), Finding("camera-well", "frames in a row", 0, WELL_FRAMES, reason)
    frames, seconds = HOLDS[fault]
    held_s = at_s - camera.suspect_since_s
    if camera.suspect_frames < frames or held_s < seconds:
        return camera, None
    found = _finding(fault, view, seen, held_s)
    if fault == "moved":
        return Camera(shape=camera.shape, hours=camera.hours, hour=camera.hour), found
    return replace(camera, fault=fault), found


def _finding(fault: Fault, view: ReferenceView, seen: Glance, held_s: float) -> Finding:
    since = f"for {held_s / 60:.0f} min"
    match fault:
        case "dark":
            return Finding("camera-dark", "mean grey level", BLACK_MEAN, round(seen.mean, 1),
                           f"black {since}, in an hour that is light on other days: check the lens and the lamp")  # fmt: skip
        case "frozen":
            return Finding("camera-frozen", "change of the picture", 1.0, 0.0,
                           f"all frames {since} are equal to the last pixel: restart the camera or its recorder")  # fmt: skip
        case "moved":
            way = _way(view, seen)
            return Finding("camera-moved", "agreement of edges", round(view.agreement, 2),
                           round(agreement_of(view.edges, seen.edges), 2),
                           f"the picture is shifted {since}{way}: the camera was moved, and its new place is learned")  # fmt: skip
        case _:
            return Finding("camera-blurred", "sharpness (log)", round(view.sharpness, 2), round(seen.sharpness, 2),
                           f"edges are softer than ever before {since}: clean or focus the lens")  # fmt: skip


def _way(view: ReferenceView, seen: Glance) -> str:
    """Describe how far the scene was shifted, if that can be measured."""
    before = np.frombuffer(view.edges, np.uint8).astype(np.float32).reshape(seen.edges.shape)
    window = cv2.createHanningWindow(before.shape[::-1], cv2.CV_32F)
    (right, down), response = cv2.phaseCorrelate(before, seen.edges.astype(np.float32), window)
    if response < 0.1:
        return ""
    return f" (by {math.hypot(right, down) / max(before.shape):.0%} of the picture)"


def agreement_of(before: bytes, edges: NDArray[np.uint8]) -> float:
    """Return the correlation of two pictures of edges, -1 to 1; 0 if one of them has none."""
    old, new = (each.astype(np.float32) for each in (np.frombuffer(before, np.uint8), edges.ravel()))
    old, new = old - old.mean(), new - new.mean()
    norm = float(np.sqrt(np.square(old).sum() * np.square(new).sum()))
    return float(old @ new) / norm if norm else 0.0

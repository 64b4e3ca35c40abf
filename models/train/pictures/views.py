"""Make pictures like those of cameras: crops, blur, small sensors, night, JPEG, and small subjects in a large scene.

The packs' pictures are cleaner and closer than a fixed camera's, and their sizes reveal their classes (all 100x100 are
scenes, all 224x224 are cats). `random_view` removes this: every view is cropped and rescaled at random.

Example::

    rng = np.random.default_rng(0)
    view = random_view(rng, picture)              # BGR, other size than before
    scene = compose(rng, subject=view, scene=background)   # the subject covers 3 to 40% of the scene
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

# The range of a view's short side, from a tile of a poor camera to a full photo.
SHORT_SIDE_PX = (56, 256)
SCENE_SIZE_PX = 256


def random_crop(rng: np.random.Generator, picture: Picture, least_share: float) -> Picture:
    """Return a window that keeps at least `least_share` of the area, its aspect within 3:4 to 4:3 of the picture's."""
    height, width = picture.shape[:2]
    share, stretch = rng.uniform(least_share, 1.0), np.exp(rng.uniform(-0.28, 0.28))
    high = int(min(height, max(16, height * np.sqrt(share) * stretch)))
    wide = int(min(width, max(16, width * np.sqrt(share) / stretch)))
    top, left = rng.integers(0, height - high + 1), rng.integers(0, width - wide + 1)
    return picture[top : top + high, left : left + wide]


def resize(picture: Picture, short_px: int) -> Picture:
    """Resize to a short side: by area if it shrinks, linearly if it grows."""
    height, width = picture.shape[:2]
    scale = short_px / min(height, width)
    size = (max(16, round(width * scale)), max(16, round(height * scale)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR).astype(np.uint8)


def night(rng: np.random.Generator, picture: Picture) -> Picture:
    """Imitate an infrared lamp: grey, bright in the middle, dark at the edge, noisy."""
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).astype(np.float32)
    height, width = grey.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    lamp = rng.uniform(0.5, 1.1) * np.exp(-rng.uniform(0.3, 1.2) * (x * x + y * y))
    noisy = grey * lamp + rng.normal(0, rng.uniform(1, 8), grey.shape)
    return np.repeat(np.clip(noisy, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def weather(rng: np.random.Generator, picture: Picture) -> Picture:
    """Apply light, blur, sensor and compression, each with some probability."""
    out = picture
    if rng.random() < 0.12:
        out = night(rng, out)
    elif rng.random() < 0.08:
        out = np.repeat(cv2.cvtColor(out, cv2.COLOR_BGR2GRAY)[:, :, None], 3, axis=2)
    if rng.random() < 0.4:
        gain, lift = rng.uniform(0.65, 1.3), rng.uniform(-25, 25)
        tint = rng.uniform(0.92, 1.08, 3)
        out = np.clip(out.astype(np.float32) * (gain * tint) + lift, 0, 255).astype(np.uint8)
    if rng.random() < 0.15:
        out = cv2.GaussianBlur(out, (0, 0), rng.uniform(0.5, 1.6)).astype(np.uint8)
    if rng.random() < 0.5:
        quality = int(rng.integers(35, 92))
        out = cv2.imdecode(cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)  # type: ignore[assignment]
    return out


def random_view(rng: np.random.Generator, picture: Picture, least_share: float = 0.35) -> Picture:
    """Return a random view of a picture: flipped, cropped, rescaled, and with `weather`."""
    out = picture[:, ::-1] if rng.random() < 0.5 else picture
    out = random_crop(rng, out, least_share)
    low, high = np.log(SHORT_SIDE_PX)
    short_px = int(min(np.exp(rng.uniform(low, high)), 1.5 * min(out.shape[:2])))
    return weather(rng, resize(np.ascontiguousarray(out), short_px))


def compose(rng: np.random.Generator, subject: Picture, scene: Picture, share: tuple[float, float]) -> Picture:
    """Blend a subject into a scene at a random place, covering a share of its area."""
    return weather(rng, _laid(rng, subject, scene, share)[0])


def trapped(rng: np.random.Generator, subject: Picture, scene: Picture, share: tuple[float, float]) -> Picture:
    """Imitate a camera trap's crop: a subject in a scene, cropped to what moved, half of them by night."""
    out, (top, left, high, wide) = _laid(rng, subject, scene, share)
    # Motion boxes are never tight: they include surroundings of a fifth to twice the subject's size.
    around = rng.uniform(0.1, 1.0, 4) * [high, wide, high, wide]
    rows = slice(max(0, int(top - around[0])), int(top + high + around[2]))
    columns = slice(max(0, int(left - around[1])), int(left + wide + around[3]))
    crop = np.ascontiguousarray(out[rows, columns])
    return weather(rng, night(rng, crop) if rng.random() < 0.5 else crop)


def _laid(
    rng: np.random.Generator, subject: Picture, scene: Picture, share: tuple[float, float]
) -> tuple[Picture, tuple[int, int, int, int]]:
    """Return a subject in a scene, and its place: top, left, height, width.

    The subject fades out towards an ellipse: there are no masks, and a network would learn a hard rectangle.
    """
    backdrop = cv2.resize(random_crop(rng, scene, 0.4), (SCENE_SIZE_PX, SCENE_SIZE_PX), interpolation=cv2.INTER_LINEAR)
    aspect = np.clip(subject.shape[1] / subject.shape[0], 0.4, 2.5)
    area = rng.uniform(*share) * SCENE_SIZE_PX**2
    wide = int(np.clip(np.sqrt(area * aspect), 20, SCENE_SIZE_PX))
    high = int(np.clip(np.sqrt(area / aspect), 20, SCENE_SIZE_PX))
    patch = cv2.resize(subject, (wide, high), interpolation=cv2.INTER_AREA).astype(np.float32)
    # The subject gets the light of its surroundings, since its brightness alone would reveal it.
    top, left = rng.integers(0, SCENE_SIZE_PX - high + 1), rng.integers(0, SCENE_SIZE_PX - wide + 1)
    window = backdrop[top : top + high, left : left + wide].astype(np.float32)
    patch += rng.uniform(0.3, 0.8) * (window.mean((0, 1)) - patch.mean((0, 1)))
    y, x = np.mgrid[-1 : 1 : high * 1j, -1 : 1 : wide * 1j]
    radius = (np.abs(x) ** 3 + np.abs(y) ** 3) ** (1 / 3)
    alpha = np.clip((1.0 - radius) / rng.uniform(0.1, 0.3), 0, 1)[:, :, None]
    out = backdrop.copy()
    out[top : top + high, left : left + wide] = np.clip(alpha * patch + (1 - alpha) * window, 0, 255)
    return out.astype(np.uint8), (int(top), int(left), high, wide)

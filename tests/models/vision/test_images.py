"""Pictures from outside: every kind that is refused, with its reason; every kind that is handled, handled right."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.vision import images
from models.vision.images import ImageRefused, decode, encode_jpeg, inspect
from models.vision.motion import Box

# A 24x16 CMYK JPEG of one colour (no cyan, much magenta and yellow: red).
CMYK = base64.b64decode(
    "/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwAQCwwODAoQDg0OEhEQExgoGhgWFhgxIyUdKDozPTw5Mzg3QEhcTkBEV0U3OFBtUVdfYmdoZz5NcXlwZHhcZWdj"
    "/8AAFAgAEAAYBEMRAE0RAFkRAEsRAP/EABYAAQEBAAAAAAAAAAAAAAAAAAAGB//EABQQAQAAAAAAAAAAAAAAAAAAAAD/2gAOBEMATQBZAEsAAD8A0BNJ"
    "poAAAAAAAP/Z"
)


def photo(height: int = 300, width: int = 400) -> np.ndarray:
    """Left half dark, right half bright blue; the upper left corner red."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:, width // 2 :] = (220, 60, 40)
    picture[: height // 4, : width // 4] = (20, 20, 230)
    return picture


def png(picture: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", picture)[1])


def png_header(width: int, height: int) -> bytes:
    """A valid PNG header with next to nothing behind it."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\0IEND\xaeB`\x82"


def with_orientation(jpeg: bytes, orientation: int, order: str = "<") -> bytes:
    """The same JPEG with an EXIF segment that says how the camera was held."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    tiff = mark + struct.pack(order + "IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    body = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "image-empty"),
        (b"GIF89a" + bytes(100), "image-unknown-format"),
        (b"hello", "image-unknown-format"),
        (b"\xff\xd8" + bytes(images.MAX_BYTES), "image-too-large"),
        (png_header(30_000, 30_000), "image-too-many-pixels"),
        (png_header(0xFFFFFFFF, 0xFFFFFFFF), "image-too-many-pixels"),
        (png(photo(1, 1)), "image-too-small"),
        (encode_jpeg(photo(15, 400)), "image-too-small"),
        (encode_jpeg(photo())[:-2], "image-truncated"),
        (encode_jpeg(photo())[: len(encode_jpeg(photo())) // 2], "image-truncated"),
        (encode_jpeg(photo())[:40], "image-truncated"),
        (png(photo())[:-8], "image-truncated"),
        (png(photo())[:20], "image-truncated"),
        (b"\xff\xd8\xff\xe0\x00\x00", "image-damaged"),
        (b"\xff\xd8\x00\x00\x00\x00", "image-damaged"),
        (b"\xff\xd8\xff\xd9\x00\x00", "image-damaged"),
    ],
)
def test_bad_pictures_are_refused_with_their_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ImageRefused) as refused:
        decode(data)
    assert refused.value.reason == reason


def test_a_truncated_jpeg_with_a_whole_thumbnail_in_its_exif_is_refused() -> None:
    thumbnail = encode_jpeg(photo(60, 80))
    jpeg = encode_jpeg(photo())
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 8) + b"Exif\0\0" + thumbnail
    whole = jpeg[:2] + segment + jpeg[2:]
    assert inspect(whole).width == 400
    with pytest.raises(ImageRefused, match="before its end marker"):
        inspect(whole[:-200])


def test_bytes_after_the_end_marker_are_no_damage() -> None:
    assert decode(encode_jpeg(photo()) + bytes(64)).shape == (300, 400, 3)


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_alpha_become_three_channels(channels: int) -> None:
    picture = photo()[:, :, 0] if channels == 1 else cv2.cvtColor(photo(), cv2.COLOR_BGR2BGRA)
    assert inspect(png(picture)).channels == channels
    assert decode(png(picture)).shape == (300, 400, 3)


def test_sixteen_bits_a_channel_become_eight() -> None:
    decoded = decode(png(photo().astype(np.uint16) * 257))
    assert decoded.dtype == np.uint8
    np.testing.assert_allclose(decoded, photo(), atol=1)


def test_a_cmyk_jpeg_becomes_bgr() -> None:
    assert inspect(CMYK).channels == 4
    blue, green, red = decode(CMYK).mean((0, 1))
    assert red > 150 and blue < 90 and green < 90


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("at_least_px", [None, 64])
def test_a_picture_from_a_turned_camera_is_upright(order: str, at_least_px: int | None) -> None:
    turned = cv2.rotate(photo(), cv2.ROTATE_90_COUNTERCLOCKWISE)
    data = with_orientation(encode_jpeg(turned), 6, order)
    upright = decode(data, at_least_px)
    height, width = upright.shape[:2]
    assert width > height
    assert upright[height // 8, width // 8, 2] > 180  # the red corner is at the upper left again


@pytest.mark.parametrize("orientation", [0, 9, 40_000])
def test_an_orientation_that_makes_no_sense_is_upright(orientation: int) -> None:
    jpeg = encode_jpeg(photo())
    np.testing.assert_array_equal(decode(with_orientation(jpeg, orientation)), decode(jpeg))


@pytest.mark.parametrize(
    ("at_least_px", "height"),
    [(None, 1200), (1200, 1200), (601, 1200), (600, 600), (224, 300), (64, 150), (1, 150)],
)
def test_the_smallest_decode_with_enough_pixels_is_taken(at_least_px: int | None, height: int) -> None:
    assert decode(encode_jpeg(photo(1200, 1600)), at_least_px).shape[0] == height


NOISY = cv2.resize(np.random.default_rng(1).integers(0, 256, (150, 200, 3), np.uint8), (600, 450))
"""As many data in every part, so that a share of the data is a share of the picture."""


def noisy_jpeg(*options: int) -> bytes:
    return bytes(cv2.imencode(".jpg", NOISY, [cv2.IMWRITE_JPEG_QUALITY, 90, *options])[1])


def zeroed(jpeg: bytes, size: int) -> bytes:
    start = len(jpeg) // 3 // 512 * 512
    return jpeg[:start] + bytes(size) + jpeg[start + size :]


def with_size(jpeg: bytes, width: int, height: int) -> bytes:
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + struct.pack(">HH", height, width) + jpeg[at + 4 :]


@pytest.mark.parametrize("options", [(), (cv2.IMWRITE_JPEG_OPTIMIZE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 4)])
@pytest.mark.parametrize(
    ("damage", "least", "most"),
    [
        (lambda jpeg: jpeg[: len(jpeg) // 2] + b"\xff\xd9", 0.4, 0.6),
        (lambda jpeg: zeroed(jpeg, 512), 0.001, 0.4),
        (lambda jpeg: zeroed(jpeg, 8192), 0.01, 0.4),
        (lambda jpeg: with_size(jpeg, 4000, 3000), 0.9, 0.999),
        (lambda jpeg: with_size(jpeg, 608, 300), 0.1, 0.9),
    ],
    ids=["half missing", "a sector of zeros", "16 sectors of zeros", "header too large", "header too small"],
)
def test_a_damaged_jpeg_with_its_end_marker_says_how_much_is_missing(
    damage: Callable[[bytes], bytes], least: float, most: float, options: tuple[int, ...]
) -> None:
    whole = noisy_jpeg(*options)
    assert not images.examine(whole).damaged
    seen = images.examine(damage(whole), 100)
    assert seen.damaged
    if least != 0.1 or options != (cv2.IMWRITE_JPEG_RST_INTERVAL, 4):  # then the decoder counts no unread data
        assert seen.missing is not None and least < seen.missing < most


def test_a_sector_of_another_file_is_damage() -> None:
    jpeg, half = noisy_jpeg(), len(noisy_jpeg()) // 2
    assert images.examine(jpeg[:half] + noisy_jpeg()[:512] + jpeg[half + 512 :]).damaged
    assert images.examine(jpeg[:half] + jpeg[half + 512 :]).damaged


def test_damage_to_a_cmyk_jpeg_is_seen_too() -> None:
    photo_file = io.BytesIO()
    Image.fromarray(NOISY).convert("CMYK").save(photo_file, "JPEG", quality=90)
    jpeg = photo_file.getvalue()
    assert not images.examine(jpeg).damaged
    for damage in (jpeg[: len(jpeg) // 2] + b"\xff\xd9", zeroed(jpeg, 4096)):
        assert images.examine(damage).damaged
        assert images.examine(damage, 100).damaged


def test_padding_grey_pictures_and_black_nights_are_no_damage() -> None:
    jpeg = noisy_jpeg()
    for whole in (
        jpeg[:-2] + b"\0\0" + jpeg[-2:],
        jpeg[:-2] + b"\xff" * 40 + jpeg[-2:],
        encode_jpeg(np.full((300, 400, 3), 128, np.uint8)),
        bytes(cv2.imencode(".jpg", np.zeros((600, 800, 3), np.uint8), [cv2.IMWRITE_JPEG_OPTIMIZE, 1])[1]),
    ):
        assert not images.examine(whole).damaged


@pytest.mark.parametrize("damage", [lambda d: d[: len(d) // 2] + d[-12:], lambda d: zeroed(d, 2000)])
def test_a_damaged_png_is_refused(damage: Callable[[bytes], bytes]) -> None:
    with pytest.raises(ImageRefused, match="does not decode"):
        decode(damage(png(NOISY)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_opencv_turns_it(orientation: int) -> None:
    data = with_orientation(noisy_jpeg(), orientation)
    np.testing.assert_array_equal(decode(data), cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))


@pytest.mark.parametrize("size", [(301, 403), (17, 1000), (64, 64)])
@pytest.mark.parametrize("at_least_px", [None, 16, 70, 140])
def test_reduced_pictures_are_those_of_opencv(size: tuple[int, int], at_least_px: int | None) -> None:
    data = encode_jpeg(cv2.resize(NOISY, size[::-1]))
    shape = decode(data, at_least_px).shape
    flags = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}
    flag = flags.get(round(size[0] / shape[0]), cv2.IMREAD_REDUCED_COLOR_8)
    np.testing.assert_array_equal(decode(data, at_least_px), cv2.imdecode(np.frombuffer(data, np.uint8), flag))


def test_a_crop_is_never_empty() -> None:
    picture = photo()
    assert images.crop(picture, Box(0.25, 0.25, 0.75, 0.75)).shape == (150, 200, 3)
    assert images.crop(picture, Box(1.0, 1.0, 1.0, 1.0)).shape == (1, 1, 3)
    assert images.crop(picture, Box.WHOLE).shape == picture.shape


def test_shrinking_keeps_the_shape_and_never_enlarges() -> None:
    assert images.shrink(photo(), 200).shape == (150, 200, 3)
    assert images.shrink(photo(), 4000).shape == (300, 400, 3)


@given(st.integers(0, 4000), st.binary(min_size=1, max_size=8))
@settings(deadline=None, max_examples=150)
def test_a_damaged_jpeg_is_decoded_or_refused_never_anything_else(at: int, noise: bytes) -> None:
    whole = encode_jpeg(photo(64, 96))
    at %= len(whole)
    try:
        assert decode(whole[:at] + noise + whole[at + len(noise) :]).ndim == 3
    except ImageRefused as refused:
        assert str(refused)


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_arbitrary_bytes_behind_a_jpeg_start_are_refused_clearly(data: bytes) -> None:
    with pytest.raises(ImageRefused):
        decode(b"\xff\xd8" + data)

"""Decode and encode pictures within limits: a header is checked before any pixel is decoded.

Every camera picture passes here first. A bad picture raises `ImageRefused`, whose reason goes to the rejected topic;
any other picture becomes BGR, three channels, upright (from grey, alpha, CMYK or a rotation in EXIF). A JPEG without
its end marker, and any damaged PNG, is refused. A JPEG whose data are damaged before its end marker is decoded as far
as it goes, and `Decoded` says how much of it is missing: a person may be in that part.

Example::

    header = inspect(data)                # ImageHeader(format="jpeg", width=4000, height=3000, channels=3)
    small = decode(data, at_least_px=64)  # (375, 500, 3): decoded at an eighth, in an eighth of the time
    full = decode(data)                   # (3000, 4000, 3)
    examine(data).missing                 # 0.0, or 0.48 if the card lost the second half

The order of the steps::

    bytes -> inspect (size, format, end marker) -> decode (reduced where asked) -> Box -> crop -> encode_jpeg -> bytes

JPEGs are decoded by libjpeg-turbo through simplejpeg, which reports the decoder's warnings. OpenCV uses the same
library, gives the same pixels in the same time, and prints the warnings to the terminal.

Sources: JPEG is ITU-T T.81 (markers, annex B), PNG is RFC 2083.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from models.vision.boxes import crop as crop
from models.vision.capture_time import orientation
from pipeline.errors import Rejected

Picture = NDArray[np.uint8]

MAX_BYTES = 16 * 1024 * 1024  # the frame limit of the topics
MAX_PIXELS = 50_000_000  # the largest consumer cameras; decoded, it takes 150 MB for a moment
MIN_SIDE_PX = 16  # nothing can be recognised in a smaller picture

_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB`\x82"
ENDS = (_JPEG_END, _PNG_END)
# Start-of-frame markers: C0 to CF without DHT (C4), JPG (C8) and DAC (CC).
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_REDUCTIONS = (
    (8, cv2.IMREAD_REDUCED_COLOR_8),
    (4, cv2.IMREAD_REDUCED_COLOR_4),
    (2, cv2.IMREAD_REDUCED_COLOR_2),
    (1, cv2.IMREAD_COLOR),
)
PADDING_BYTES: Final = 16
"""Cameras leave a few bytes between the picture and its end marker. More of them are part of the picture."""

_UNDECODED: Final = 128
"""libjpeg decodes missing data to this grey."""
_EXIF, _EXIF_WITHIN = b"Exif\0\0", 1 << 17
_UNREAD: Final = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
_BASELINE: Final = {0xC0, 0xC1}
_FIRST_AC_TABLE, _END_OF_BLOCK = 0x10, 0x00
_UPRIGHT: Final[dict[int, Callable[[Picture], Picture]]] = {
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: p.transpose(1, 0, 2)[:, ::-1],
    7: lambda p: p.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda p: p.transpose(1, 0, 2)[::-1],
}
"""How a picture is turned upright, by its EXIF orientation (TIFF 6.0; 1 is upright)."""

Reason = Literal[
    "image-empty",
    "image-too-large",
    "image-unknown-format",
    "image-truncated",
    "image-damaged",
    "image-too-small",
    "image-too-many-pixels",
]


class ImageRefused(Rejected):
    """The picture is refused; `reason` is one of `Reason`."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(reason, message)


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """The header of a picture. Width and height are as stored, before the decoder turns the picture upright."""

    format: Literal["jpeg", "png"]
    width: int
    height: int
    channels: int

    @property
    def pixels(self) -> int:
        """The number of pixels."""
        return self.width * self.height


def inspect(data: bytes) -> ImageHeader:
    """Read the header and check every limit, without decoding. Raises `ImageRefused`."""
    if not data:
        raise ImageRefused("image-empty", "the frame has 0 bytes; the camera sent nothing")
    if len(data) > MAX_BYTES:
        raise too_large(len(data))
    if data.startswith(_JPEG_START):
        header = _jpeg_header(data)
    elif data.startswith(_PNG_START):
        header = _png_header(data)
    else:
        raise ImageRefused(
            "image-unknown-format",
            f"the frame is neither JPEG nor PNG (it starts with {data[:4].hex(' ')}); send one of these",
        )
    if header.pixels > MAX_PIXELS:
        raise ImageRefused(
            "image-too-many-pixels",
            f"the picture has {header.width}x{header.height}, the limit is {MAX_PIXELS:,} pixels; send a smaller one",
        )
    if min(header.width, header.height) < MIN_SIDE_PX:
        raise ImageRefused(
            "image-too-small",
            f"the picture is {header.width}x{header.height}; each side needs at least {MIN_SIDE_PX} pixels",
        )
    return header


def too_large(size: int) -> ImageRefused:
    """Return the refusal of a picture of so many bytes."""
    return ImageRefused(
        "image-too-large",
        f"the frame has {size:,} bytes, the limit is {MAX_BYTES:,}; lower the camera's resolution or quality",
    )


def _jpeg_header(data: bytes) -> ImageHeader:
    """Walk the marker segments up to the frame header."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            raise ImageRefused("image-damaged", f"the JPEG has no marker at byte {at}; it was damaged on its way")
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # stand-alone markers
            at += 2
            continue
        if marker in (0xD9, 0xDA):
            raise ImageRefused("image-damaged", "the JPEG has no frame header; it was damaged on its way")
        (length,) = struct.unpack_from(">H", data, at + 2)
        if length < 2:
            raise ImageRefused("image-damaged", f"the JPEG has an empty segment at byte {at}")
        body = data[at + 4 : at + 2 + length]
        if marker in _JPEG_FRAMES:
            if len(body) < 6:
                break
            _, height, width, channels = struct.unpack_from(">BHHB", body)
            # Search anywhere after the frame header: cameras append padding, previews, even films after the end marker.
            if data.find(_JPEG_END, at) < 0:
                break
            return ImageHeader("jpeg", width, height, channels)
        at += 2 + length
    raise ImageRefused(
        "image-truncated", f"the JPEG ends after {len(data):,} bytes, before its end marker; send it again"
    )


def _png_header(data: bytes) -> ImageHeader:
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise ImageRefused("image-truncated", f"the PNG ends after {len(data)} bytes, within its header; send it again")
    width, height, _, colour = struct.unpack_from(">IIBB", data, 16)
    if colour not in _PNG_CHANNELS:
        raise ImageRefused("image-damaged", f"the PNG names colour type {colour}, which does not exist")
    if data.rfind(_PNG_END) < 0:
        raise ImageRefused("image-truncated", f"the PNG ends after {len(data):,} bytes, before its end; send it again")
    return ImageHeader("png", width, height, _PNG_CHANNELS[colour])


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """A decoded picture, and how much of it the file does not hold any more."""

    picture: Picture
    missing: float | None = 0.0
    """Share of the picture that is lost at least; 0 for a whole one, None if it is damaged in an unknown place."""

    @property
    def damaged(self) -> bool:
        """Return whether anything is missing."""
        return self.missing != 0.0


def decode(data: bytes, at_least_px: int | None = None) -> Picture:
    """Decode bytes to BGR uint8 (height, width, 3), upright, as far as they go. Raises `ImageRefused`.

    With `at_least_px` a JPEG is decoded at 1/8, 1/4 or 1/2: the smallest size whose short side still has that many
    pixels. This skips most of the work. Alpha is dropped, grey and CMYK become BGR.
    """
    return examine(data, at_least_px).picture


def examine(data: bytes, at_least_px: int | None = None) -> Decoded:
    """Decode as `decode` does, and tell whether the data are whole. Raises `ImageRefused`."""
    header = inspect(data)
    short = min(header.width, header.height)
    by, flag = next((by, flag) for by, flag in _REDUCTIONS if by == 1 or (at_least_px and short // by >= at_least_px))
    if header.format == "jpeg":
        decoded = _decode_jpeg(data, -(-header.height // by), -(-header.width // by), cmyk=header.channels == 4)
        if decoded is not None:
            return decoded
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    except cv2.error as error:
        raise ImageRefused("image-damaged", f"the {header.format.upper()} does not decode: {error.err}") from error
    if picture is None:
        raise ImageRefused(
            "image-damaged",
            f"the {header.format.upper()} of {header.width}x{header.height} does not decode; it was damaged on its way",
        )
    return Decoded(picture.astype(np.uint8, copy=False))


def _decode_jpeg(data: bytes, height: int, width: int, *, cmyk: bool) -> Decoded | None:
    """Decode a JPEG at this size, a fraction of its own; None if nothing of it decodes here."""
    colours, channels = ("CMYK", 4) if cmyk else ("BGR", 3)
    picture = np.full((height, width, channels), _UNDECODED, np.uint8)
    warning = ""
    try:
        simplejpeg.decode_jpeg(data, colours, min_height=height, min_width=width, buffer=picture)
    except ValueError as error:
        warning = str(error)
    missing = _missing(data, picture, warning)
    if missing == 1.0:
        return None
    if cmyk:  # Adobe's, which is inverted: each colour times black
        picture = (picture[:, :, 2::-1].astype(np.uint16) * picture[:, :, 3:] // 255).astype(np.uint8)
    turn = _UPRIGHT.get(orientation(io.BytesIO(data))) if _EXIF in data[:_EXIF_WITHIN] else None
    return Decoded(np.ascontiguousarray(turn(picture)) if turn else picture, missing)


def _missing(data: bytes, picture: Picture, warning: str) -> float | None:
    """Return the share of a damaged JPEG that is lost at least, or None if it cannot be told; 0 if it is whole."""
    unread = _UNREAD.search(warning)
    unread_bytes = int(unread[1]) if unread else 0
    zero_bytes = _zeros_in_scan(data)
    if not zero_bytes and (not warning or 0 < unread_bytes <= PADDING_BYTES):
        return 0.0
    blank = (picture == _UNDECODED).all((1, 2)) if warning else np.zeros(1, np.bool_)
    tail = len(blank) if blank.all() else int(np.argmin(blank[::-1]))
    return round(max(tail / len(blank), unread_bytes / len(data), zero_bytes / len(data)), 4) or None


def _zeros_in_scan(data: bytes) -> int:
    """Return the length of a run of zeros that no encoder writes into a baseline scan: sectors that a card lost.

    The decoder may read them without a warning. With a Huffman table whose code of zeros ends a block, such a run is
    an even area; then a lost sector stands for far too many blocks, and the decoder warns of unread data.
    """
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        marker, end = data[at + 1], at + 2 + int.from_bytes(data[at + 2 : at + 4])
        if marker in _JPEG_FRAMES - _BASELINE:
            return 0
        if marker == 0xC4:
            table = at + 4
            while table + 17 < min(end, len(data)):
                if data[table] == _FIRST_AC_TABLE and data[table + 17] == _END_OF_BLOCK:
                    return 0
                table += 17 + sum(data[table + 1 : table + 17])
        at = at + 1 if marker == 0xFF else end
    start = data.find(bytes(64), at, data.find(_JPEG_END, at))
    return len(data) - start - len(data[start:].lstrip(b"\0")) if start >= 0 else 0


def shrink(picture: Picture, longest_px: int) -> Picture:
    """Shrink a picture to a longer side of `longest_px` by area averaging; never enlarge it."""
    height, width = picture.shape[:2]
    scale = longest_px / max(height, width)
    if scale >= 1:
        return picture
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def pad(picture: Picture, least_px: int = MIN_SIDE_PX) -> Picture:
    """Extend short sides to `least_px` by repeating the border, so that a crop of a thin frame is a valid picture."""
    high, wide = (max(0, least_px - side) for side in picture.shape[:2])
    if not high and not wide:
        return picture
    return cv2.copyMakeBorder(picture, 0, high, 0, wide, cv2.BORDER_REPLICATE).astype(np.uint8, copy=False)


def encode_jpeg(picture: Picture, quality: int = 85) -> bytes:
    """Encode a BGR picture as JPEG. At quality 85 a 256-pixel crop takes some 15 kB and loses no accuracy."""
    done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ImageRefused("image-damaged", f"a picture of shape {picture.shape} cannot be encoded as JPEG")
    return data.tobytes()

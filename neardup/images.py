"""Read image files as upright 8-bit RGB, or refuse them with a reason."""

import hashlib
import io
import os
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from threading import Lock
from types import MappingProxyType

import numpy as np
from PIL import ExifTags, Image, ImageFile, ImageOps, features

from neardup.errors import UnreadableImageError

MAX_PIXELS = 200_000_000
"""Pixels over which an image counts as a decompression bomb: an A2 page at 600 dpi has 140 million."""
MAX_BYTES = 2**32
"""Bytes over which no file is read: a TIFF's addresses and a BMP's length have 32 bits, other formats are denser."""
_JPEG = (".jpg", ".jpeg", ".jfif", ".jpe", ".jif")
_JPEG_2000 = (".jp2", ".j2k", ".jpf", ".jpx", ".jpc", ".j2c")
FORMATS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "JPEG": _JPEG,
        "MPO": _JPEG,
        "PNG": (".png",),
        "TIFF": (".tif", ".tiff"),
        "BMP": (".bmp",),
        "GIF": (".gif",),
        "WEBP": (".webp",),
        **({"JPEG2000": _JPEG_2000} if features.check("jpg_2000") else {}),
    }
)
"""Pillow's names of the formats that are decoded, each with the ends of its files' names in lower case.

Not every Pillow reads JPEG 2000.
"""
READERS = tuple(name for name in FORMATS if name != "MPO")
"""Pillow's readers: that of JPEG reads MPO, too. Its others are never tried on a stranger's file."""
SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)
"""Ends of the names of image files that are read, in lower case."""
_UNREAD_NAMES = (
    "3fr arw cr2 cr3 crw dcr dng erf fff iiq kdc mef mos mrw nef nrw orf pef raf rw2 srw "
    "avif djvu eps exr heic heif hif jxl jxr pbm pcd pcx pdf pgm pict pnm ppm psb psd tga xcf"
)
UNREAD_SUFFIXES = frozenset({*_JPEG_2000, *(f".{name}" for name in _UNREAD_NAMES.split())}) - SUFFIXES
"""Ends of the names of files that may hold a photo and are not read; they are listed: none is lost in silence."""
UNREAD = "of a format that is not read: convert it to TIFF or JPEG"
"""What is said of a file with such a name."""
PNG_LEVEL = 1
"""zlib's level, 1 to 9: the default of 6 takes most of a picture's time and saves an eighth of its bytes."""
UPRIGHT: Mapping[int, Image.Transpose] = MappingProxyType(
    {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
)
"""EXIF orientation → transposition that makes the picture upright."""
WHITE = 255
"""The lightest of 256 tones."""
WHITES = (WHITE, 4095, 65535)
"""The lightest tone of pictures of 8, 12 and 16 bits; scanners keep 12 bits in files of 16."""
TRAILING = " .\t\r\n\u00a0"
"""Invisible characters that programs leave at the end of a file's name, which are not part of its suffix."""


class Quiet:
    """A context for any number of threads in which Pillow reads as neardup has it, and warns of nothing.

    A broken EXIF block does not harm a picture. Pillow's own guard against bombs only warns at first; `open_image`
    refuses by the header, before anything is decoded. A truncated picture is refused, whatever the program around
    neardup has chosen. What is turned off is restored after the last thread has left: each thread by itself would
    restore what it found, and the second one finds warnings off.
    """

    def __init__(self) -> None:
        """Begin without any thread inside."""
        self._lock, self._inside, self._before = Lock(), 0, ExitStack()

    def __enter__(self) -> None:
        """Turn Pillow's warnings and limits off for the first thread that enters."""
        with self._lock:
            if not self._inside:
                self._before.enter_context(warnings.catch_warnings(action="ignore"))
                self._before.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
                self._before.callback(setattr, ImageFile, "LOAD_TRUNCATED_IMAGES", ImageFile.LOAD_TRUNCATED_IMAGES)
                Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = None, False
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        """Restore them after the last thread has left."""
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._before.close()


quiet = Quiet()
"""Entered wherever a picture is read."""


def suffix_of(name: str) -> str:
    """Return the suffix of a file's name in lower case, ignoring trailing spaces and dots.

    >>> suffix_of("a/photo.JPG ."), suffix_of("photo")
    ('.jpg', '')
    """
    # A path object for each of a million names would take 20 s.
    return os.path.splitext(name.rstrip(TRAILING))[1].lower()  # noqa: PTH122


def read_file(path: Path) -> bytes:
    """The bytes of an image file.

    Raises:
        FileNotFoundError: the file is gone.
        UnreadableImageError: the file cannot be opened, its disk fails, or it is larger than an image may be.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UnreadableImageError(f"the file has {size:,} bytes, over the limit of {MAX_BYTES:,}")
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except PermissionError as error:
        raise UnreadableImageError("no permission to read the file") from error
    except OSError as error:
        raise UnreadableImageError(f"the file cannot be read ({error.strerror})") from error


def read_content(path: Path, sha256: str) -> bytes:
    """Read an image file and check that its bytes have a known digest, under which results are kept.

    Args:
        path: path of the file when its digest was taken.
        sha256: the digest, in hex.

    Raises:
        FileNotFoundError: the file is gone.
        UnreadableImageError: the file cannot be opened, its disk fails, or it has other bytes by now.
    """
    data = read_file(path)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise UnreadableImageError("the file has changed since it was found")
    return data


def open_image(source: Path | bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Open an image by its content, whatever its name says; only the header is read.

    Args:
        source: a file, or its bytes.
        max_pixels: larger images are refused.

    Raises:
        FileNotFoundError: the file is gone.
        UnreadableImageError: the file cannot be read, is empty, is no image of a known format, or has over
            `max_pixels` pixels.
    """
    data = source if isinstance(source, bytes) else read_file(source)
    if not data:
        raise UnreadableImageError("the file is empty")
    try:
        with quiet:
            image = Image.open(io.BytesIO(data), formats=READERS)
    except MemoryError:  # says nothing of the file
        raise
    except Exception as error:  # Pillow's readers raise whatever their format led to
        raise UnreadableImageError(
            "the content is no whole JPEG, PNG, TIFF, BMP, GIF, WebP or JPEG 2000 image"
        ) from error
    if image.width * image.height > max_pixels:
        raise UnreadableImageError(
            f"{image.width} x {image.height} pixels are over the limit of {max_pixels}: "
            "raise prepare.max_pixels to read it",
        )
    return image


def read_image(source: Path | bytes, *, max_pixels: int = MAX_PIXELS, draft: int | None = None) -> Image.Image:
    """Decode an image as a person sees it.

    Args:
        source: a file, or its bytes.
        max_pixels: larger images are refused before they are decoded.
        draft: the shortest side that is needed; a JPEG is then decoded at a half, a quarter or an eighth where that
            leaves at least twice as much, which is several times faster.

    Returns:
        uint8 RGB, EXIF orientation applied; CMYK, 16-bit, palette converted; transparency on white.

    Raises:
        FileNotFoundError: the file is gone.
        UnreadableImageError: the file cannot be read, is empty, truncated, no image, or over `max_pixels`.
    """
    image = open_image(source, max_pixels=max_pixels)
    if draft is not None and image.format == "JPEG":
        image.draft(None, (2 * draft, 2 * draft))
    try:
        with quiet:
            # A TIFF may count its tones from white; Pillow does not invert those of 16 bits.
            from_white = (
                image.mode.startswith("I;16")
                and getattr(image, "tag_v2", {}).get(ExifTags.Base.PhotometricInterpretation) == 0
            )
            image.load()
            # `ImageOps.exif_transpose` rewrites the whole EXIF block, and fails on any malformed tag.
            turn = UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
            upright = _rgb(image if turn is None else image.transpose(turn))
            return ImageOps.invert(upright) if from_white else upright
    except MemoryError:  # says nothing of the file
        raise
    except Exception as error:  # a decoder may raise anything on a broken file
        raise UnreadableImageError(f"the {image.format} image is truncated or broken ({error})") from error


def require_enlargeable(image: Image.Image, shortest: int) -> None:
    """Refuse a picture so thin that enlarging its shorter side to the needed length would make it huge.

    Args:
        image: the picture that is to be encoded.
        shortest: pixels that its shorter side will have.

    Raises:
        UnreadableImageError: it would have over `MAX_PIXELS` pixels.
    """
    if shortest**2 * max(image.size) > MAX_PIXELS * min(image.size):
        raise UnreadableImageError(f"a picture of {image.width} x {image.height} pixels is too thin to be compared")


def _rgb(image: Image.Image) -> Image.Image:
    """The image as 8-bit RGB, transparency on white."""
    if image.mode.startswith(("I", "F")):
        image = _eight_bit(image)
    if "transparency" in image.info or image.mode in {"RGBA", "LA", "PA", "La", "RGBa"}:
        image = image.convert("RGBA")
        page = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(page, image).convert("RGB")
    return image.convert("RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    """A 16-bit, 32-bit or float grey image as 8-bit grey; Pillow's own conversion would clip all above 255 to white.

    Pixels of a float image that are no finite number are black.
    """
    grey = np.nan_to_num(np.array(image, dtype=np.float32), copy=False, posinf=0.0, neginf=0.0)
    greatest, clear = float(grey.max(initial=0)), image.info.get("transparency")
    whites = WHITES if image.mode.startswith("I") else (1.0,)
    top = next((white for white in whites if greatest <= white), greatest)
    seen_through = None if clear is None else grey == clear
    grey *= WHITE / top
    eight = np.clip(grey, 0, WHITE, out=grey).round(out=grey).astype(np.uint8)
    if seen_through is not None:
        eight[seen_through] = WHITE
    return Image.fromarray(eight)

"""HTML pages for people: one file each, with embedded pictures, that needs no network."""

import base64
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from PIL import Image

from neardup.errors import ArchiveError, UnreadableImageError
from neardup.images import MAX_PIXELS, read_image
from neardup.stages import replacing
from neardup.tables import encodable

SHOWN_STRIPS = 60
"""Most groups on a page of strips; with `SHOWN_IN_STRIP` photos each, the page stays under about 10 MB."""
SHOWN_IN_STRIP = 12
"""Photos of one group that a page of strips shows; it says how many more there are."""
SIDE = 150
"""Pixels of a picture's longer side as a page shows it; the file holds twice as many, for dense screens."""
THUMB = 220
"""Pixels of a picture's longer side in a PNG of pictures."""
QUALITY = 70
"""JPEG quality, 1 to 95, of the pictures in a page: enough for small pictures, of which a page holds hundreds."""


@dataclass(frozen=True)
class Picture:
    """A photo on a page: an embedded small copy, and the text below.

    Attributes:
        source: data URI of the small copy.
        name: what the photo is called.
        label: text below the picture, or nothing.
        right: whether the photo is what it should be; None where there is nothing to mark.
        file: address of the photo's own file, which a click opens; empty where the page may be far from it.
    """

    source: str
    name: str
    label: str = ""
    right: bool | None = None
    file: str = ""

    @classmethod
    def of(
        cls, file: Path, name: str, label: str = "", *, right: bool | None = None, max_pixels: int = MAX_PIXELS
    ) -> "Picture":
        """Make the small copy of a photo's file.

        Args:
            file: of the photo.
            name: what the photo is called.
            label: text below the picture, or nothing.
            right: whether the photo is what it should be; None where there is nothing to mark.
            max_pixels: a larger image is refused.

        Raises:
            UnreadableImageError: the file is no image, or has over `max_pixels` pixels.
        """
        data = jpeg(thumbnail(file, SIDE * 2, max_pixels))
        return cls(f"data:image/jpeg;base64,{base64.b64encode(data).decode()}", name, label, right)

    @classmethod
    def if_readable(
        cls, file: Path, name: str, label: str = "", *, right: bool | None = None, max_pixels: int = MAX_PIXELS
    ) -> "Picture":
        """Make the picture of a photo's file, as `of` does, or one that says `no picture` if the file cannot be read.

        A page of results must not fail because of one photo that was deleted or damaged since the search.

        Args:
            file: of the photo.
            name: what the photo is called.
            label: text below the picture, or nothing.
            right: whether the photo is what it should be; None where there is nothing to mark.
            max_pixels: a larger image is not shown.
        """
        try:
            return cls.of(file, name, label, right=right, max_pixels=max_pixels)
        except (OSError, UnreadableImageError):
            return cls("", name, f"{label}, no picture" if label else "no picture", right)


def jpeg(image: Image.Image) -> bytes:
    """The bytes of a small picture's JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def thumbnail(source: Path | bytes, side: int = THUMB, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """A small copy of a photo, given by its file or its bytes: RGB, within a square of `side` pixels.

    Raises:
        UnreadableImageError: the file is no image, or has over `max_pixels` pixels.
    """
    image = read_image(source, max_pixels=max_pixels, draft=side)
    image.thumbnail((side, side))
    return image


def write_page(path: Path, template: str, **values: Any) -> Path:
    """Render a template and write the page atomically; text is escaped, and a missing value is an error.

    Args:
        path: the file to write.
        template: name of a file of `neardup/templates`, without `.html.j2`.
        values: what the template shows, by name.

    Returns:
        The file.
    """
    environment = Environment(
        loader=PackageLoader("neardup"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["code"] = _code
    page = environment.get_template(f"{template}.html.j2").render(values).lstrip()
    with replacing(path) as partial:
        partial.write_text(encodable(page), encoding="utf-8")
    return path


def _code(text: str) -> Markup:
    """Convert a sentence to HTML: text between backticks becomes code, everything is escaped."""
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part)
        for place, part in enumerate(text.split("`"))
    )


def write_hits(
    path: Path,
    queries: Path,
    gallery: Path,
    results: Sequence[tuple[str, Sequence[tuple[str, str]]]],
    max_pixels: int = MAX_PIXELS,
) -> Path:
    """Write one HTML page that shows each query with its hits.

    Args:
        path: the file to write.
        queries: folder of the queries.
        gallery: folder of the photos that were searched.
        results: for each query, its path in `queries`, and the path in `gallery` and a label of each of its hits.
        max_pixels: a larger image is refused.

    Returns:
        The file.

    Raises:
        ArchiveError: a hit is not in `gallery`: another folder was embedded.
        UnreadableImageError: a photo is no image, or has over `max_pixels` pixels.
    """
    rows = []
    for query, hits in results:
        row = [Picture.of(queries / query, query, "searched for", max_pixels=max_pixels)]
        for hit, label in hits:
            if not (gallery / hit).is_file():
                raise ArchiveError(f"{gallery / hit} is not there: name with --photos the folder that was embedded")
            row.append(Picture.of(gallery / hit, hit, label, max_pixels=max_pixels))
        rows.append(row)
    return write_page(path, "hits", rows=rows)


def write_strips(
    path: Path,
    template: str,
    archive: Path,
    groups: Sequence[Sequence[tuple[str, str, bool]]],
    sentence: str,
    max_pixels: int,
    note: str = "",
    links: Sequence[tuple[str, str]] = (),
) -> Path:
    """Write one HTML page that shows groups as strips of pictures, each a link to its file.

    An unreadable file is shown by its name alone.

    Args:
        path: the file to write.
        template: `watch` for groups that new photos belong to, `duplicates` for all of a folder.
        archive: folder of the photos.
        groups: for each group, its photos: path in the archive, label, whether it is new.
        sentence: what happened, in plain words.
        max_pixels: a larger image is not shown.
        note: explanation of a row and its labels, where the template leaves that open.
        links: files beside the page that it links to, each with its content.

    Returns:
        The file.
    """
    root = archive.resolve()

    def picture(photo: tuple[str, str, bool]) -> Picture:
        name, label, new = photo
        shown = Picture.if_readable(root / name, name, label, right=new, max_pixels=max_pixels)
        return replace(shown, file=(root / name).as_uri())

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        strips = [
            (list(pool.map(picture, group[:SHOWN_IN_STRIP])), len(group[SHOWN_IN_STRIP:]))
            for group in groups[:SHOWN_STRIPS]
        ]
    return write_page(path, template, strips=strips, total=len(groups), sentence=sentence, note=note, links=links)

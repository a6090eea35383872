"""Share groups as a folder that needs no neardup: a page for people, IIIF manifests and annotations for programs."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from neardup.errors import UnreadableImageError, VerdictError
from neardup.images import open_image, read_file, read_image
from neardup.pages import write_page
from neardup.review.exchange.iiif import Addresses, Group, SharedPhoto, links_page, manifest, pairs_of
from neardup.review.found.candidates import Found
from neardup.review.record.verdicts import Verdict, by_pair
from neardup.stages import claim, replacing, write_json
from neardup.verify.evidence import Evidence

SIDE = 1200
"""Pixels of the longer side of a shared picture: enough to see retouches, a tenth of the bytes of a scan."""
THUMB = 240
"""Pixels of the longer side of a picture on the page."""
QUALITY = 82
"""JPEG quality, 1 to 95, of the shared pictures."""


def share(
    folder: Path,
    found: Found,
    verdicts: Sequence[Verdict],
    evidence: Mapping[tuple[str, str], Evidence],
    base: str,
) -> tuple[list[Path], list[str]]:
    """Write a folder that can be served or sent as it is; the archive is only read.

    Earlier groups and pictures that are no longer shared are deleted.

    Args:
        folder: folder to write; its page is `index.html`.
        found: the groups and pairs of a search.
        verdicts: verdicts in force.
        evidence: pair → its evidence.
        base: address at which the folder will be served, for the ids of the manifests.

    Returns:
        The page, the manifests and the annotations; and the paths of photos that are gone, were replaced or are not
        images.

    Raises:
        VerdictError: the address is not valid.
        ArchiveError: the folder holds files that neardup did not write.
    """
    if not _is_address(base):
        raise VerdictError(
            f"{base!r} is no address of a folder: write the one at which it will be, https://host/folder"
        )
    claim(folder)
    addresses = Addresses(base.rstrip("/"))
    groups, missing = [], []
    for number, paths in enumerate(found.groups, 1):
        photos = [_shared(folder, found, path) for path in paths]
        missing += [path for path, photo in zip(paths, photos, strict=True) if photo is None]
        once = {photo.sha256: photo for photo in reversed(photos) if photo}
        if once:
            groups.append(Group(number, tuple(reversed(once.values()))))
    written = []
    for group in groups:
        page = links_page(group, found.by_pair, verdicts, evidence, addresses)
        for kind, value in (("manifests", manifest(group, addresses)), ("annotations", page)):
            path = folder / kind / f"group-{group.number}.json"
            write_json(path, value)
            written.append(path)
    lines = _lines(found, verdicts)
    strips = [(group, [lines[pair] for pair in pairs_of(group) if pair in lines]) for group in groups]
    written.insert(0, write_page(folder / "index.html", "share", groups=strips, missing=missing))
    _delete_others(folder, groups)
    return written, missing


def _is_address(base: str) -> bool:
    """Whether a text is the address of a folder that a browser could open."""
    try:
        address = urlsplit(base)
    except ValueError:  # as for a bracket that is not closed
        return False
    return address.scheme in {"http", "https"} and bool(address.netloc) and not (address.query or address.fragment)


def _delete_others(folder: Path, groups: Sequence[Group]) -> None:
    """Delete the files of groups and photos that an earlier run shared and that are no longer shared."""
    names = {f"group-{group.number}.json" for group in groups}
    names |= {f"{photo.sha256}.jpg" for group in groups for photo in group.photos}
    group, picture = "group-[0-9]*.json", f"{'[0-9a-f]' * 64}.jpg"
    for kind, pattern in {"manifests": group, "annotations": group, "pictures": picture, "thumbnails": picture}.items():
        for file in (folder / kind).glob(pattern):
            if file.name not in names:
                file.unlink()


def _shared(folder: Path, found: Found, path: str) -> SharedPhoto | None:
    """Make the two pictures of a photo unless they exist; None if it is gone, was replaced or is not an image."""
    sha256, file = found.digests.get(path, ""), found.root / path
    picture, thumb = (folder / kind / f"{sha256}.jpg" for kind in ("pictures", "thumbnails"))
    try:
        data = read_file(file)
        if hashlib.sha256(data).hexdigest() != sha256:
            return None
        image = read_image(data, max_pixels=found.max_pixels)
        for target, side in ((picture, SIDE), (thumb, THUMB)):
            if not target.is_file():
                small = image.copy()
                small.thumbnail((side, side))
                with replacing(target) as partial:
                    small.save(partial, "JPEG", quality=QUALITY)
        stored = open_image(picture)
    except (OSError, UnreadableImageError):
        return None
    return SharedPhoto(sha256, path, image.width, image.height, stored.width, stored.height)


def _lines(found: Found, verdicts: Sequence[Verdict]) -> dict[tuple[str, str], str]:
    """Map each pair to what is known of it: the machine's sentence, and what people said."""
    verdicts_of, lines = by_pair(verdicts), {}
    for pair in found.by_pair.keys() | verdicts_of.keys():
        candidate = found.by_pair.get(pair)
        words = [candidate.sentence or candidate.relation] if candidate else []
        for verdict in verdicts_of.get(pair, ()):
            note = f" ({verdict.note})" if verdict.note else ""
            words.append(f"{verdict.who}: {verdict.verdict}{note}")
        photos = (candidate.photo, candidate.partner) if candidate else [found.paths.get(photo, "") for photo in pair]
        if any(words) and all(photos):
            lines[pair] = f"{' – '.join(photos)}: {'; '.join(filter(None, words))}"
    return lines

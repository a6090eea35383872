"""Groups for other programs: one IIIF Presentation 3 manifest per group, and W3C annotations that link its photos."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from neardup.review.found.candidates import Candidate
from neardup.review.record.verdicts import Verdict, by_pair, pair_of
from neardup.tables import encodable
from neardup.verify.evidence import Box, Evidence
from neardup.verify.frames import box_in_first, inverse

CONTEXT = "http://iiif.io/api/presentation/3/context.json"
"""JSON-LD context of IIIF's Presentation API, version 3."""


@dataclass(frozen=True)
class SharedPhoto:
    """A photo as it is shared.

    Attributes:
        sha256: digest of its bytes; it names the canvas and the picture.
        path: path in the archive, which is its label.
        width: width in pixels of the upright photo, and of its canvas.
        height: height in pixels of the upright photo, and of its canvas.
        picture_width: width in pixels of the shared JPEG.
        picture_height: height in pixels of the shared JPEG.
    """

    sha256: str
    path: str
    width: int
    height: int
    picture_width: int
    picture_height: int


@dataclass(frozen=True)
class Group:
    """A group with its number, from 1, and its photos, the reference first."""

    number: int
    photos: tuple[SharedPhoto, ...]


@dataclass(frozen=True)
class Addresses:
    """The addresses of what is shared, below the one at which the folder will be served."""

    base: str

    def manifest(self, group: Group) -> str:
        """The address of a group's manifest."""
        return f"{self.base}/manifests/group-{group.number}.json"

    def annotations(self, group: Group) -> str:
        """The address of the annotations that link a group's photos."""
        return f"{self.base}/annotations/group-{group.number}.json"

    def canvas(self, group: Group, sha256: str) -> str:
        """The address of a photo's canvas in a group's manifest."""
        return f"{self.base}/manifests/group-{group.number}/canvas/{sha256}"

    def picture(self, sha256: str) -> str:
        """The address of the JPEG of a photo."""
        return f"{self.base}/pictures/{sha256}.jpg"


def manifest(group: Group, addresses: Addresses) -> dict[str, Any]:
    """Make the manifest of a group, as JSON: one canvas per photo, at the photo's own size."""
    items = [_canvas(group, photo, addresses) for photo in group.photos]
    return {
        "@context": CONTEXT,
        "id": addresses.manifest(group),
        "type": "Manifest",
        "label": {"en": [f"Group {group.number}: {len(group.photos)} near-duplicates"]},
        "items": items,
    }


def _canvas(group: Group, photo: SharedPhoto, addresses: Addresses) -> dict[str, Any]:
    """The canvas of a photo with its picture, and the page of links beside it."""
    canvas = addresses.canvas(group, photo.sha256)
    body = {
        "id": addresses.picture(photo.sha256),
        "type": "Image",
        "format": "image/jpeg",
        "width": photo.picture_width,
        "height": photo.picture_height,
    }
    painting = {
        "id": f"{canvas}/painting",
        "type": "Annotation",
        "motivation": "painting",
        "body": body,
        "target": canvas,
    }
    return {
        "id": canvas,
        "type": "Canvas",
        "label": {"none": [encodable(photo.path)]},
        "metadata": [{"label": {"en": ["SHA-256"]}, "value": {"none": [photo.sha256]}}],
        "width": photo.width,
        "height": photo.height,
        "items": [{"id": f"{canvas}/page", "type": "AnnotationPage", "items": [painting]}],
        "annotations": [{"id": addresses.annotations(group), "type": "AnnotationPage"}],
    }


def links_page(
    group: Group,
    candidates: Mapping[tuple[str, str], Candidate],
    verdicts: Sequence[Verdict],
    evidence: Mapping[tuple[str, str], Evidence],
    addresses: Addresses,
) -> dict[str, Any]:
    """The annotations of a group, as JSON: each links a part of one photo to the same part of another.

    Args:
        group: group whose photos are linked.
        candidates: pair → the machine's opinion.
        verdicts: verdicts in force.
        evidence: pair → evidence; a pair without evidence links the whole photos.
        addresses: of what is shared.
    """
    verdicts_of = by_pair(verdicts)
    items = []
    photo_of = {photo.sha256: photo for photo in group.photos}
    for pair in pairs_of(group):
        if pair not in candidates and pair not in verdicts_of:
            continue
        first, second = photo_of[pair[0]], photo_of[pair[1]]
        boxes = places(evidence[pair]) if pair in evidence and evidence[pair].matched else None
        ends = [
            _part(group, photo, box, addresses)
            for photo, box in zip((first, second), boxes or (None, None), strict=True)
        ]
        texts = _texts(candidates.get(pair), verdicts_of.get(pair, []))
        items.append(
            {
                "id": f"{addresses.annotations(group)}#{pair[0][:16]}-{pair[1][:16]}",
                "type": "Annotation",
                "motivation": "linking",
                "body": [ends[1], *({"type": "TextualBody", "value": text, "format": "text/plain"} for text in texts)],
                "target": ends[0],
            }
        )
    return {"@context": CONTEXT, "id": addresses.annotations(group), "type": "AnnotationPage", "items": items}


def pairs_of(group: Group) -> Iterator[tuple[str, str]]:
    """Every two contents of a group, ordered as verdicts order them."""
    for one, other in combinations(group.photos, 2):
        yield pair_of(one.sha256, other.sha256)


def _part(group: Group, photo: SharedPhoto, box: Box | None, addresses: Addresses) -> dict[str, Any]:
    """Make the target of an annotation: a box of a photo's canvas, or the whole canvas, with its manifest."""
    left, top, width, height = box or (0, 0, photo.width, photo.height)
    canvas = addresses.canvas(group, photo.sha256)
    source = {
        "id": canvas,
        "type": "Canvas",
        "partOf": [{"id": addresses.manifest(group), "type": "Manifest"}],
    }
    region = f"xywh={round(left)},{round(top)},{max(1, round(width))},{max(1, round(height))}"
    selector = {"type": "FragmentSelector", "conformsTo": "http://www.w3.org/TR/media-frags/", "value": region}
    return {"type": "SpecificResource", "source": source, "selector": selector}


def _texts(candidate: Candidate | None, verdicts: Sequence[Verdict]) -> list[str]:
    """Say what the machine and people think of a pair, one line each."""
    texts = []
    if candidate:
        facts = [candidate.sentence or candidate.relation]
        facts += [f"probability {candidate.probability:.3f}"] if candidate.probability is not None else []
        texts += [encodable("; ".join(filter(None, facts)))] if any(facts) else []
    for verdict in verdicts:
        more = "".join(f"; {word}" for word in (verdict.relation, verdict.note) if word)
        texts.append(encodable(f"{verdict.who}, {verdict.time[:10]}: {verdict.verdict}{more}"))
    return texts


def places(evidence: Evidence) -> tuple[Box | None, Box | None]:
    """Find the common part of a matched pair's photos: a box in the first and one in the second."""
    if evidence.transform is None:
        raise AssertionError("a pair that does not match has no common part")
    first, second = (evidence.width_first, evidence.height_first), (evidence.width_second, evidence.height_second)
    there = box_in_first(inverse(evidence.transform), second, first)
    return box_in_first(evidence.transform, first, second), there

"""What surrounds a crop is told apart: plain paper, or more of a picture; and no box is drawn where nothing is seen."""

import numpy as np
import pytest
from PIL import Image, ImageDraw
from test_verify import cropped, scene, screened, verified

from neardup.verify.relation import Kind, relation_of
from neardup.verify.spots import spots_of


def mounted(photo: Image.Image, tone: str) -> Image.Image:
    """A photo in the middle of a mount twice as large, with a line of text under it."""
    page = Image.new("RGB", (photo.width * 2, photo.height * 2), tone)
    page.paste(photo, (photo.width // 2, photo.height // 2))
    ImageDraw.Draw(page).text((photo.width // 2, photo.height * 3 // 2 + 10), "Devant Tripoli, 1911", fill="grey")
    return page


@pytest.mark.parametrize("tone", ["white", "black", "wheat"])
def test_a_photo_on_a_mount_is_not_called_a_detail(tone: str) -> None:
    """The mount is called plain, whichever photo comes first, though the photo is a quarter of it."""
    photo = scene(81)
    for pair, letter in (((photo, mounted(photo, tone)), "B"), ((mounted(photo, tone), photo), "A")):
        relation = relation_of(verified(*pair))
        assert (relation.kind, relation.plain, relation.montage) == (Kind.CROP, True, "")
        assert f"the rest of {letter} is plain" in relation.sentence()


def test_a_mount_of_dots_is_plain() -> None:
    """A grey mount is printed with its photo through one screen."""
    photo = scene(81).resize((160, 120))
    assert relation_of(verified(photo, screened(mounted(photo, "grey")))).plain


def test_what_was_cut_off_is_not_called_plain() -> None:
    """Where the other photo shows more of the picture."""
    relation = relation_of(verified(scene(82), cropped(scene(82))))
    assert (relation.kind, relation.plain) == (Kind.CROP, False)


@pytest.mark.parametrize(("tone", "boxes"), [(246, 0), (225, 1)])
def test_a_box_is_drawn_only_where_a_difference_is_seen(tone: int, boxes: int) -> None:
    """In an empty sky four grey levels differ significantly, and nobody sees them."""
    sky = scene(83)
    ImageDraw.Draw(sky).rectangle((0, 0, 480, 150), fill=(250, 250, 250))
    cloud = sky.copy()
    ImageDraw.Draw(cloud).rectangle((200, 40, 290, 100), fill=(tone, tone, tone))
    assert len(verified(sky, cloud).differences) == boxes


@pytest.mark.parametrize(("greatest", "boxes"), [(30, 0), (90, 1)])
def test_a_place_stands_out_of_a_pair_that_differs_in_many(greatest: int, boxes: int) -> None:
    """As two exposures do, of which no place is named; what was painted on one of them is."""
    levels = np.zeros((120, 160), np.float32)
    for top in range(8, 120, 24):
        for left in range(8, 160, 24):
            levels[top : top + 12, left : left + 12] = 30
    levels[56:68, 80:92] = greatest
    found = [box for _, box in spots_of(levels / 10, levels, np.ones((120, 160), np.bool_), (320, 240))]
    assert len(found) == boxes
    assert all(left <= 172 <= left + width and top <= 124 <= top + height for left, top, width, height in found)

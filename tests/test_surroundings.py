"""What surrounds a crop is told apart: plain paper, or more of a picture; and no box is drawn where nothing is seen."""

import numpy as np
import pytest
from PIL import Image, ImageColor, ImageDraw, ImageOps
from test_verify import cropped, scene, screened, verified

from neardup.verify.keypoints import features_of_image
from neardup.verify.match import Prepared
from neardup.verify.picture import NOT_SHOWN, panels_of
from neardup.verify.pixels import AlignedPair, subtract
from neardup.verify.relation import Kind, relation_of
from neardup.verify.spots import MOST_BOXES, spots_of
from neardup.verify.tones import reversed_share
from neardup.verify.verifier import proof_of


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


def test_a_mount_that_is_lit_from_one_side_is_plain() -> None:
    """From one edge to the other it has 40 grey levels, which no single tone of 16 is."""
    page = mounted(scene(81), "silver").convert("L")
    light = np.linspace(-20, 20, page.width)[None]
    lit = Image.fromarray(np.clip(np.asarray(page) + light, 0, 255).astype(np.uint8))
    assert relation_of(verified(scene(81), lit)).plain


@pytest.mark.parametrize("tone", ["white", "black"])
def test_a_page_with_another_picture_is_not_called_plain(tone: str) -> None:
    """Though the other one, as on a page of an album, takes no more than a tenth of what surrounds the first."""
    page = mounted(scene(81), tone)
    page.paste(scene(84).resize((200, 150)), (page.width - 230, page.height - 180))
    relation = relation_of(verified(scene(81), page))
    assert (relation.kind, relation.plain, relation.montage) == (Kind.CROP, False, "second")


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


def test_at_most_five_places_are_named_and_each_once() -> None:
    """Nine spots are another picture; a spot within the box of a stronger one is the rest of it."""
    everywhere, levels = np.ones((120, 160), np.bool_), np.zeros((120, 160), np.float32)
    for top in (10, 50, 90):
        for left in (10, 70, 130):
            levels[top : top + 12, left : left + 12] = 90
    assert len(spots_of(levels / 10, levels, everywhere, (320, 240))) == MOST_BOXES
    corner = np.zeros((120, 160), np.float32)
    corner[20:90, 20:26] = corner[20:26, 20:90] = 90
    corner[60:72, 60:72] = 50
    assert len(spots_of(corner / 10, corner, everywhere, (320, 240))) == 1


def test_what_surrounds_a_crop_is_neither_counted_nor_a_difference() -> None:
    """A crop on a mount that lies where the photo goes on has its picture's share and place, and no box."""
    photo, page = scene(81), Image.new("RGB", (340, 340), (235, 228, 210))
    page.paste(photo.crop((60, 40, 300, 300)), (50, 30))
    for pair, letter in (((photo, page), "B"), ((page, photo), "A")):
        evidence = verified(*pair)
        relation = relation_of(evidence)
        which = "second" if letter == "B" else "first"
        assert (relation.kind, relation.crop, relation.framed, relation.retouched) == (Kind.CROP, which, which, ())
        assert (relation.montage, relation.plain) == ("", False)
        assert relation.share == pytest.approx(240 * 260 / (480 * 360), abs=0.02)
        assert relation.place_box == pytest.approx((60, 40, 240, 260), abs=6)
        assert f"the picture in {letter} (mount, text, other pictures) is left out" in relation.sentence()


@pytest.mark.parametrize("tone", [(235, 228, 210), (40, 40, 40)])
def test_a_caption_below_a_crop_is_left_out_with_its_mount(tone: tuple[int, int, int]) -> None:
    """Where the picture ends is told by the paper's straight edges on all sides, lines of text included."""
    photo, page = scene(85), Image.new("RGB", (300, 380), tone)
    page.paste(photo.crop((100, 60, 360, 300)), (16, 12))
    ink = ImageColor.getrgb("black" if sum(tone) > 300 else "white")
    for top in (272, 302, 332, 352):
        ImageDraw.Draw(page).text((20, top), "Devant Tripoli, le port et la ville de loin", ink)
    mirrored = ImageOps.mirror(page)
    for copy in (page, mirrored):
        relation = relation_of(verified(photo, copy))
        assert (relation.kind, relation.crop, relation.framed, relation.retouched) == (
            Kind.CROP,
            "second",
            "second",
            (),
        )
        assert relation.share == pytest.approx(260 * 240 / (480 * 360), abs=0.02)
        assert relation.mirrored == (copy is mirrored)


def test_a_caption_beyond_the_edge_of_the_original_is_left_out() -> None:
    """Below a crop that reaches down to it; of a whole photo above a caption the caption is the rest of a page."""
    photo, strip = scene(92), Image.new("RGB", (300, 90), (235, 228, 210))
    ImageDraw.Draw(strip).text((20, 30), "Devant Tripoli, le port et la ville de loin", "black")
    page = Image.new("RGB", (300, 330))
    page.paste(photo.crop((100, 120, 400, 360)), (0, 0))
    page.paste(strip, (0, 240))
    relation = relation_of(verified(photo, page))
    assert (relation.kind, relation.crop, relation.framed) == (Kind.CROP, "second", "second")
    assert relation.share == pytest.approx(300 * 240 / (480 * 360), abs=0.02)
    whole = Image.new("RGB", (480, 450))
    whole.paste(photo, (0, 0))
    whole.paste(strip.resize((480, 90)), (0, 360))
    relation = relation_of(verified(photo, whole))
    assert (relation.kind, relation.crop, relation.framed) == (Kind.CROP, "first", "")


@pytest.mark.parametrize("tone", ["white", "black"])
@pytest.mark.parametrize("boxes", [[(70, 50, 410, 310)], [(150, 60, 330, 240), (110, 160, 370, 345)]])
@pytest.mark.parametrize("seed", [86, 88])
def test_a_ground_that_was_painted_over_is_no_mount(tone: str, boxes: list[tuple[int, ...]], seed: int) -> None:
    """One tone around a subject without straight edges leaves the frame as it was."""
    photo = scene(seed)
    mask = Image.new("L", photo.size, 0)
    for box in boxes:
        ImageDraw.Draw(mask).ellipse(box, fill=255)
    relation = relation_of(verified(photo, Image.composite(photo, Image.new("RGB", photo.size, tone), mask)))
    assert (relation.kind, relation.framed) == (Kind.SAME_FRAME, "")


def test_a_sky_is_no_paper_though_a_caption_lies_on_some() -> None:
    """A plain sky that ends at a straight horizon belongs to the picture, unlike the strip of paper below it."""
    photo = scene(88)
    ImageDraw.Draw(photo).rectangle((0, 0, 480, 90), fill=(150, 150, 150))
    copy = photo.copy()
    ImageDraw.Draw(copy).rectangle((0, 290, 480, 360), fill=(235, 228, 210))
    ImageDraw.Draw(copy).text((20, 315), "Devant Tripoli, le port et la ville de loin", "black")
    relation = relation_of(verified(photo, copy))
    assert (relation.kind, relation.framed) == (Kind.CROP, "second")
    assert relation.share == pytest.approx(290 / 360, abs=0.02)


def test_paper_over_paper_is_no_mount() -> None:
    """A crop that takes a part of its original's white margin with it, yellowed meanwhile, ends where it ends."""
    dark = scene(87).point([level * 40 // 100 for level in range(256)] * 3)
    photo = ImageOps.expand(dark, (60, 40, 60, 40), "white")
    crop = photo.crop((20, 10, 420, 330)).point([20 + level * 170 // 255 for level in range(256)] * 3)
    relation = relation_of(verified(photo, crop))
    assert (relation.kind, relation.crop, relation.framed) == (Kind.CROP, "second", "")
    assert relation.share == pytest.approx(400 * 320 / (600 * 440), abs=0.02)


def test_a_sky_below_a_mount_is_no_part_of_it() -> None:
    """A strip of paper above it is as plain, and the horizon as straight, but the sky has another tone."""
    photo, page = scene(93), Image.new("RGB", (300, 300), (235, 228, 210))
    ImageDraw.Draw(photo).rectangle((0, 0, 480, 100), fill=(150, 150, 150))
    page.paste(photo.crop((90, 60, 390, 320)), (0, 20))
    relation = relation_of(verified(photo, page))
    assert (relation.kind, relation.crop, relation.framed) == (Kind.CROP, "second", "second")
    assert relation.share == pytest.approx(300 * 260 / (480 * 360), abs=0.02)


def test_a_faded_wall_is_no_paper() -> None:
    """What is almost plain in a faded copy has the tones of what it lies over, once tones are matched."""
    y, x = np.mgrid[:110, :480]
    wall = 128 + 25 * np.sin(x / 9) * np.sin(y / 7)
    photo = np.asarray(scene(91).convert("L"), dtype=np.float64).copy()
    photo[:110] = wall
    photo[110:] = np.where(photo[110:] < 128, photo[110:] / 2, 128 + photo[110:] / 2)
    pair = (Image.fromarray(grey.astype(np.uint8)).convert("RGB") for grey in (photo, 128 + (photo - 128) / 4))
    relation = relation_of(verified(*pair))
    assert (relation.kind, relation.framed) == (Kind.SAME_FRAME, "")


def test_no_difference_is_drawn_where_a_mount_lies() -> None:
    """The panel shows there what it shows beside a photo's frame."""
    photo, page = scene(81), Image.new("RGB", (340, 340), (235, 228, 210))
    page.paste(photo.crop((60, 40, 300, 300)), (50, 30))
    one, other = (Prepared.of(features_of_image(image, image.size)) for image in (photo, page))
    panel = np.asarray(panels_of(photo, page, *proof_of(one, other, ("a", "b")), width=480).difference)
    assert (panel[100:200, 20:50] == NOT_SHOWN).all()
    assert (panel[100:200, 100:250] != NOT_SHOWN).any(axis=-1).all()


@pytest.mark.parametrize("seed", [94, 97])
def test_a_line_of_the_tone_of_an_edge_ends_no_paper(seed: int) -> None:
    """Between a dark edge and a dark line both photos go on, so that what was painted there is a place that differs."""
    photo = scene(seed)
    for top in (0, 122):
        ImageDraw.Draw(photo).rectangle((0, top, 480, top + 8), fill=(8, 8, 8))
    retouched = photo.copy()
    ImageDraw.Draw(retouched).ellipse((170, 30, 310, 104), fill=(235, 235, 235))
    relation = relation_of(verified(photo, retouched))
    assert (relation.kind, relation.framed, len(relation.retouched)) == (Kind.SAME_FRAME, "", 1)


def test_a_retouch_in_a_corner_is_no_mount() -> None:
    """A box that was painted over there is a place that differs, and the frame stays the whole photo's."""
    photo, retouched = scene(81), scene(81)
    ImageDraw.Draw(retouched).rectangle((360, 200, 480, 360), fill=(235, 235, 235))
    relation = relation_of(verified(photo, retouched))
    assert (relation.kind, relation.framed, len(relation.retouched)) == (Kind.SAME_FRAME, "", 1)


@pytest.mark.parametrize(("top", "bottom", "found"), [(60, 300, True), (0, 360, False)])
def test_a_retouch_that_runs_along_two_thirds_of_a_side_is_found(top: int, bottom: int, *, found: bool) -> None:
    """As where a person at the edge was taken out; along all of the side, it may be a border."""
    retouched = scene(81)
    retouched.paste(scene(84).crop((0, top, 110, bottom)), (370, top))
    boxes = relation_of(verified(scene(81), retouched)).retouched
    assert bool(boxes) == found
    assert all(left > 350 and above > top - 20 for left, above, _, _ in boxes)


def test_a_retouch_at_the_edge_is_no_mount() -> None:
    """Two thirds of a side were painted over with a straight edge; above it points agree, so that the photo goes on."""
    photo, retouched = scene(81), scene(81)
    ImageDraw.Draw(retouched).rectangle((330, 130, 480, 360), fill=(235, 235, 235))
    relation = relation_of(verified(photo, retouched))
    assert (relation.kind, relation.framed) == (Kind.SAME_FRAME, "")


def with_shadow() -> tuple[Image.Image, Image.Image]:
    """A photo with a figure in a soft shadow, and a hard print of it that has lost both."""
    photo = scene(83)
    draw = ImageDraw.Draw(photo)
    draw.rectangle((40, 60, 170, 190), fill=(12, 12, 12))
    draw.ellipse((60, 80, 150, 170), fill=(70, 70, 70))
    return photo, photo.point([max(0, (level - 75) * 255 // 180) for level in range(256)] * 3)


def test_shadows_that_a_print_lost_are_no_places_that_differ() -> None:
    """A soft shadow with a figure in it is black in the copy; a white box beside it is still found."""
    photo, hard = with_shadow()
    assert relation_of(verified(photo, hard)).retouched == ()
    ImageDraw.Draw(hard).rectangle((320, 100, 430, 220), fill=(240, 240, 240))
    (box,) = relation_of(verified(photo, hard)).retouched
    assert box == pytest.approx((320, 100, 110, 120), abs=12)


def test_uneven_light_is_taken_away() -> None:
    """Of the difference that a vignette makes most is gone, and that of a copy in even light stays as it is."""
    grey = np.asarray(scene(84).convert("L").resize((160, 120)), dtype=np.float32) / 2 + 90
    y, x = np.mgrid[-1:1:120j, -1:1:160j]
    dark = (grey * (1 - 0.3 * (x * x + y * y))).astype(np.float32)
    everywhere = np.ones(grey.shape, dtype=bool)
    for copy, least, most in ((dark, 0.0, 0.6), (255 - grey, 1.0, 1.0)):
        aligned = AlignedPair(grey, copy, everywhere, reversed_share(grey, copy, everywhere))
        uneven, even = subtract(aligned, uneven=True), subtract(aligned)
        assert uneven is not None
        assert even is not None
        left = np.abs(uneven.levels).mean() / np.abs(even.levels).mean()
        assert least <= left <= most


def test_shadows_that_a_print_lost_are_white_in_its_negative() -> None:
    """A soft shadow with a figure in it is no place that differs there either."""
    photo, hard = with_shadow()
    assert relation_of(verified(photo, ImageOps.invert(hard))).retouched == ()

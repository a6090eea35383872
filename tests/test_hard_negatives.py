"""Different photos that share what press photos share: captions, mastheads, borders, ranks of columns, skies."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont, ImageOps
from test_verify import scene, verified

from neardup.train.press import press
from neardup.verify.picture_area import Agreement, agreeing_share, picture_box
from neardup.verify.pixels import GreyPhoto, LaidPair

SIZE = (480, 360)


def caption(photo: Image.Image) -> Image.Image:
    """A photo with two lines of text below it."""
    page = ImageOps.expand(photo, (0, 0, 0, 60), "white")
    text = "Nos troupes devant Tripoli : le débarquement du 5 octobre\nCliché de notre envoyé spécial, droits réservés"
    ImageDraw.Draw(page).multiline_text((8, photo.height + 6), text, "black", font=ImageFont.load_default(18))
    return page


def masthead(photo: Image.Image) -> Image.Image:
    """A photo below a newspaper's name."""
    page = ImageOps.expand(photo, (0, 90, 0, 0), "white")
    draw = ImageDraw.Draw(page)
    draw.text((20, 8), "EXCELSIOR", "black", font=ImageFont.load_default(56))
    draw.text((24, 68), "Journal illustré quotidien, 10 centimes, 88 avenue", "black", font=ImageFont.load_default(14))
    return page


def postcard(photo: Image.Image) -> Image.Image:
    """A photo on a card, below a headline and above an imprint."""
    card = ImageOps.expand(photo, (40, 60, 40, 60), (240, 234, 220))
    draw, font = ImageDraw.Draw(card), ImageFont.load_default(20)
    draw.text((40, 20), "GUERRE ITALO-TURQUE 1911-1912 - TRIPOLITAINE", "black", font=font)
    draw.text((40, card.height - 40), "Edition de L'Illustration, 13 rue Saint-Georges, Paris", "black", font=font)
    return card


def ornate(photo: Image.Image) -> Image.Image:
    """A photo within a border of rings, no two of which are alike."""
    card, rng = ImageOps.expand(photo, 50, (240, 234, 220)), np.random.default_rng(1)
    draw = ImageDraw.Draw(card)
    for _ in range(160):
        along, off, radius = rng.random(), rng.uniform(8, 40), rng.uniform(4, 14)
        across = bool(rng.integers(2))
        far = (card.height if across else card.width) - off if rng.integers(2) else off
        x, y = (along * card.width, far) if across else (far, along * card.height)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline="black", width=2)
    return card


def clipping(photo: Image.Image) -> Image.Image:
    """A photo cut out of a newspaper together with the advertisement below it."""
    page = ImageOps.expand(photo, (0, 0, 0, 130), (228, 222, 210))
    draw = ImageDraw.Draw(page)
    draw.rectangle((8, photo.height + 8, page.width - 8, page.height - 8), outline="black", width=4)
    draw.text((24, photo.height + 14), "SUCHARD", "black", font=ImageFont.load_default(52))
    draw.text((26, photo.height + 84), "le meilleur chocolat au lait", "black", font=ImageFont.load_default(24))
    draw.ellipse((360, photo.height + 18, 460, photo.height + 110), fill="black")
    draw.line((372, photo.height + 30, 448, photo.height + 98), fill="white", width=5)
    return page


def marked(photo: Image.Image) -> Image.Image:
    """A photo with an agency's mark in its corner."""
    page, left, top = photo.copy(), photo.width - 180, photo.height - 180
    draw = ImageDraw.Draw(page)
    draw.rectangle((left, top, page.width, page.height), fill=(240, 240, 240))
    draw.ellipse((left + 8, top + 8, left + 172, top + 172), outline="black", width=6)
    for line, size, words in ((38, 32, "PHOTO"), (72, 32, "AGENCE"), (108, 24, "ROL & Cie"), (136, 14, "Rue Richer 4")):
        draw.text((left + 36, top + line), words, "black", font=ImageFont.load_default(size))
    return page


def oval(photo: Image.Image) -> Image.Image:
    """A photo in the oval window of a studio's woven frame with rings, no two of which are alike."""
    rng, (width, height) = np.random.default_rng(2), photo.size
    woven = np.sin(np.arange(height) / 5)[:, None, None] * np.sin(np.arange(width) / 6)[None, :, None]
    frame = Image.fromarray(np.clip(np.array([226, 214, 190]) + 30 * woven, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(frame)
    for across, down, share in rng.random((120, 3)):
        x, y, radius = across * width, down * height, 4 + 9 * share
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline="black", width=2)
    window = Image.new("L", photo.size)
    ImageDraw.Draw(window).ellipse((80, 60, width - 80, height - 60), fill=255)
    frame.paste(photo, mask=window)
    return frame


def ruled(photo: Image.Image) -> Image.Image:
    """A photo in a mount with three ruled lines and corners."""
    page = ImageOps.expand(photo, 40, "white")
    draw = ImageDraw.Draw(page)
    for inset in (6, 14, 30):
        draw.rectangle((inset, inset, page.width - inset, page.height - inset), outline="black", width=2)
    return page


def columns(_: Image.Image) -> Image.Image:
    """Nothing but a rank of equal columns."""
    image = Image.new("L", SIZE, 200)
    draw = ImageDraw.Draw(image)
    for x in range(10, SIZE[0], 40):
        draw.rectangle((x, 60, x + 16, 330), fill=90)
        draw.rectangle((x - 4, 50, x + 20, 62), fill=60)
    return image.convert("RGB")


def sky(photo: Image.Image) -> Image.Image:
    """A flat sky with a strip of the photo below."""
    tones = np.linspace(220, 190, SIZE[1])[:, None].repeat(SIZE[0], axis=1).astype(np.uint8)
    image = Image.fromarray(tones).convert("RGB")
    image.paste(photo.crop((0, 0, SIZE[0], 60)), (0, 300))
    return image


SHARED: dict[str, Callable[[Image.Image], Image.Image]] = {
    "caption": caption,
    "masthead": masthead,
    "headline and imprint": postcard,
    "ornate border": ornate,
    "ruled border": ruled,
    "advertisement": clipping,
    "agency's mark": marked,
    "studio's oval frame": oval,
    "sky": sky,
}


@pytest.mark.parametrize("shared", SHARED.values(), ids=SHARED)
@pytest.mark.parametrize("seed", [40, 41, 42])
def test_what_different_photos_share_is_no_match(shared: Callable[[Image.Image], Image.Image], seed: int) -> None:
    """Neither what surrounds them nor an empty sky makes one picture of two."""
    assert not verified(shared(scene(seed)), shared(scene(seed + 50))).matched


@pytest.mark.parametrize("shared", [postcard, ornate, clipping, marked])
def test_one_photo_on_two_cards_is_a_match(shared: Callable[[Image.Image], Image.Image]) -> None:
    """What surrounds it agrees as well, and so does all between; beside the photo alone nothing of the card matches."""
    photo = scene(45)
    assert verified(shared(photo), shared(press(photo, 3))).matched
    assert verified(photo, shared(photo)).matched


@pytest.mark.parametrize("shared", [clipping, marked, oval])
def test_a_press_copy_of_one_card_is_a_match(shared: Callable[[Image.Image], Image.Image]) -> None:
    """The photo agrees as well as the advertisement, the mark or the frame does."""
    card = shared(scene(47))
    assert verified(card, press(card, 5)).matched


def test_photos_that_agree_only_in_their_imprint_have_no_empty_picture() -> None:
    """The paper of the imprint begins where the agreement does, so that between them nothing would be left."""
    mark = marked(scene(1)).crop((300, 180, 480, 360))
    greys = []
    for seed in (47, 43):
        page = ImageOps.expand(scene(seed), (0, 0, 0, 180), (240, 240, 240))
        for left in (0, 180, 360):
            page.paste(mark, (left, 360))
        greys.append(GreyPhoto(cv2.cvtColor(np.asarray(page.resize((240, 270))), cv2.COLOR_RGB2GRAY), page.size))
    found = Agreement.of(LaidPair(greys[0], greys[1], (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    points = np.array([[20, 380], [460, 380], [20, 520], [460, 520], [240, 450]], dtype=np.float32)
    assert picture_box(found, points) is None


def test_a_retouched_print_in_even_tones_is_a_match() -> None:
    """Spots of paint have the strongest edges of an even photo; points of the photo itself lie all around them."""
    photo = scene(46)
    dull, retouched = (Image.blend(photo, Image.new("RGB", photo.size, "grey"), 0.7) for _ in range(2))
    draw = ImageDraw.Draw(retouched)
    for x, y in ((60, 60), (250, 90), (140, 230), (360, 250)):
        draw.ellipse((x, y, x + 90, y + 60), fill="white")
    assert verified(dull, retouched).matched


@pytest.mark.parametrize("seed", [43, 44])
def test_two_halls_of_columns_are_no_match(seed: int) -> None:
    """Equal columns in front of different scenes leave no transform that more of the picture agrees on."""
    halls = []
    for number in (seed, seed + 50):
        hall = scene(number)
        rank = columns(hall)
        hall.paste(rank.crop((0, 40, 480, 150)), (0, 40 + (number % 7) * 10))
        halls.append(hall)
    found = verified(*halls)
    assert not found.matched or max(found.coverage_first, found.coverage_second) < 1


@pytest.mark.parametrize("noise", [0, 1])
def test_noise_matches_nothing(noise: int) -> None:
    """Grain has keypoints everywhere and no picture."""
    rng = np.random.default_rng(noise)
    grains = [Image.fromarray(rng.integers(0, 255, (240, 320), dtype=np.uint8)).convert("RGB") for _ in range(2)]
    assert not verified(*grains).matched
    soft = [Image.fromarray(cv2.GaussianBlur(np.asarray(grain), (0, 0), 2)) for grain in grains]
    assert not verified(*soft).matched


def test_what_hardly_overlaps_is_left_to_the_other_checks() -> None:
    """In small no pixel shows both photos, as of a photo and a speck of it: nothing is compared, and nothing fails."""
    photo = GreyPhoto(np.asarray(scene(47).convert("L")), SIZE)
    found = Agreement.of(LaidPair(photo, photo, (1, 0, SIZE[0] - 1, 0, 1, 0, 0, 0, 1)))
    assert found is None
    points = np.array([[1, 1], [20, 2], [5, 20], [20, 20]], dtype=np.float32)
    assert (agreeing_share(found, points), picture_box(found, points)) == (1.0, None)

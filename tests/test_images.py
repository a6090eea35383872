"""Any image comes out upright, 8-bit RGB, or is refused with a reason."""

import io
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from oracles import phash_distance
from PIL import Image, ImageFile, ImageOps

from neardup.archive.hashes import phash_of
from neardup.builtin.scenes import Scene
from neardup.errors import UnreadableImageError
from neardup.images import MAX_BYTES, open_image, quiet, read_file, read_image, require_enlargeable


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def half_and_half(mode: str, left: object, right: object) -> Image.Image:
    """An image of 40 × 20 with one value left and another right."""
    image = Image.new(mode, (40, 20), left)  # type: ignore[arg-type]
    image.paste(right, (20, 0, 40, 20))  # type: ignore[call-overload]
    return image


def test_orientation_is_honoured() -> None:
    """A photo that the camera says lies on its side is stood up."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image = read_image(encoded(half_and_half("RGB", "black", "white"), "PNG", exif=exif))
    assert (image.size, image.getpixel((10, 2)), image.getpixel((10, 38))) == ((20, 40), (0, 0, 0), (255, 255, 255))


@pytest.mark.parametrize("orientation", range(10))
def test_every_orientation_is_pillows(orientation: int) -> None:
    """Turned and mirrored as Pillow itself does it, and not at all for a number that there is not."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    drawn = Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 40, 3), dtype=np.uint8))
    data = encoded(drawn, "PNG", exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert np.array_equal(np.asarray(read_image(data)), np.asarray(expected))


def test_sixteen_bits_may_count_from_white() -> None:
    """As scanners write TIFFs; in 8 bits Pillow turns them around itself."""
    read = read_image(encoded(half_and_half("I;16", 0, 65535), "TIFF", tiffinfo={262: 0}))
    assert [read.getpixel((x, 10)) for x in (0, 39)] == [(255, 255, 255), (0, 0, 0)]


def test_thirty_two_bits_keep_their_tones() -> None:
    """Levels above 65,535 are no white: the greatest one is."""
    ramp = Image.fromarray(np.linspace(0, 2_000_000_000, 256, dtype=np.int32).reshape(16, 16))
    read = np.asarray(read_image(encoded(ramp, "TIFF")).convert("L")).ravel()
    assert np.abs(read - np.arange(256.0)).max() <= 1


def test_what_is_transparent_in_sixteen_bits_becomes_paper() -> None:
    """A grey level that stands for nothing."""
    image = half_and_half("I;16", 7, 30000)
    assert read_image(encoded(image, "PNG", transparency=7)).getpixel((0, 0)) == (255, 255, 255)


def test_too_little_memory_is_not_said_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be kept as unreadable and never be looked at again."""

    def full(*_: object, **__: object) -> None:
        raise MemoryError

    data = encoded(Image.new("I;16", (8, 8)), "PNG")
    for reader in ("open", "fromarray"):
        with monkeypatch.context() as patch:
            patch.setattr(Image, reader, full)
            with pytest.raises(MemoryError):
                read_image(data)


def test_a_thin_picture_is_not_enlarged_to_a_huge_one() -> None:
    """Two hundred bytes would take gigabytes."""
    require_enlargeable(Image.new("L", (6000, 40)), 224)
    with pytest.raises(UnreadableImageError, match="30000 x 2 pixels is too thin"):
        require_enlargeable(Image.new("L", (30000, 2)), 224)


def test_sixteen_bits_keep_their_tones() -> None:
    """Half of 65535 is a middle grey, not white."""
    deep = Image.fromarray(np.array([[0, 32768, 65535]], dtype=np.uint16))
    assert [read_image(encoded(deep, "TIFF")).getpixel((x, 0))[0] for x in range(3)] == [0, 128, 255]


def test_twelve_bits_in_sixteen_are_not_black() -> None:
    """As scanners keep them: 4095 is white."""
    deep = Image.fromarray(np.array([[0, 2048, 4095]], dtype=np.uint16))
    assert [read_image(encoded(deep, "TIFF")).getpixel((x, 0))[0] for x in range(3)] == [0, 128, 255]


def test_transparency_becomes_paper() -> None:
    """What is transparent is white, as on a page."""
    image = read_image(encoded(half_and_half("RGBA", (255, 0, 0, 255), (0, 0, 0, 0)), "PNG"))
    assert (image.getpixel((5, 5)), image.getpixel((35, 5))) == ((255, 0, 0), (255, 255, 255))


@pytest.mark.parametrize(
    ("mode", "kind"), [("CMYK", "JPEG"), ("P", "GIF"), ("L", "WEBP"), ("1", "TIFF"), ("LA", "PNG"), ("RGB", "BMP")]
)
def test_every_mode_becomes_rgb(mode: str, kind: str) -> None:
    """CMYK, palette, grey, bilevel and alpha come out as RGB of the same look."""
    image = read_image(encoded(half_and_half("RGB", "black", "white").convert(mode), kind))
    dark, light = image.getpixel((5, 10)), image.getpixel((35, 10))
    assert (image.mode, max(dark) < 40, min(light) > 215) == ("RGB", True, True)


def test_the_content_decides_not_the_name(tmp_path: Path) -> None:
    """A PNG called .jpg is read as a PNG."""
    path = tmp_path / "x.jpg"
    path.write_bytes(encoded(Image.new("RGB", (4, 4)), "PNG"))
    assert open_image(path).format == "PNG"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"this is no picture", "the content is no"),
        (encoded(Scene.of(1).image, "JPEG")[:4000], "truncated"),
    ],
    ids=["empty", "text", "truncated"],
)
def test_what_is_no_image_is_refused_with_a_reason(data: bytes, reason: str) -> None:
    """The sentence says what is wrong with the file."""
    with pytest.raises(UnreadableImageError, match=reason):
        read_image(data)


def test_a_bomb_is_refused_by_its_header() -> None:
    """The limit is looked at before a pixel is decoded."""
    with pytest.raises(UnreadableImageError, match=r"40 x 20 pixels are over the limit of 799"):
        read_image(encoded(half_and_half("RGB", 0, 0), "PNG"), max_pixels=799)


def test_a_draft_is_large_enough() -> None:
    """A JPEG decoded at a fraction of its size still has twice the side that is needed."""
    large = encoded(Scene.of(2).image.resize((1680, 1260)), "JPEG")
    assert min(read_image(large, draft=224).size) >= 2 * 224


def test_a_smaller_print_has_the_same_look() -> None:
    """The perceptual hash hardly changes with the size, and much with the picture."""
    image = Scene.of(3).image
    near = phash_distance(phash_of(image), phash_of(image.resize((200, 150))))
    far = phash_distance(phash_of(image), phash_of(Scene.of(21).image))
    assert near <= 6 < far


def test_pictures_read_by_threads_leave_warnings_as_they_were() -> None:
    """Else nobody would be told afterwards what is left out."""
    data = encoded(Scene.of(3).image, "JPEG")
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read_image, [data] * 400))
    assert warnings.filters == before


def test_pillow_s_limits_are_the_program_s_own_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither keeps neardup from reading a picture, or from refusing half of one."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = encoded(half_and_half("RGB", 0, 0), "PNG")
    assert read_image(data).size == (40, 20)
    with pytest.raises(UnreadableImageError, match="truncated or broken"):
        read_image(data[:-40])
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES) == (100, True)


def test_warnings_stay_off_until_the_last_picture_is_read() -> None:
    """They are errors in a test, so that one would be raised here."""
    with quiet:
        with quiet:
            pass
        warnings.warn("a broken EXIF block", stacklevel=1)
    with pytest.raises(UserWarning, match="a broken EXIF block"):
        warnings.warn("a broken EXIF block", stacklevel=1)


def test_a_file_larger_than_any_image_is_not_read(tmp_path: Path) -> None:
    """As a film that is called `x.jpg`; its bytes would fill the memory."""
    with (tmp_path / "x.jpg").open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    with pytest.raises(UnreadableImageError, match="the file has 4,294,967,297 bytes, over the limit of 4,294,967,296"):
        read_file(tmp_path / "x.jpg")

"""The training set: photos with their legends and captions, as tables on disk."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from neardup.stages import digest_of
from neardup.tables import load_table, save_rows, write_table


@dataclass(frozen=True)
class Caption:
    """The English text that a photo is trained with, and how its legend became English.

    Attributes:
        text: the English text that training uses.
        language: ISO 639-1 code of the legend's language; empty if it has no words.
        translator: name of the translator: `deepl`, a model's name, `none` (English already) or `untranslated`.
    """

    text: str
    language: str
    translator: str


@dataclass(frozen=True)
class TrainingPhoto:
    """One photo of the training set, with the legend that the historian gave it.

    Attributes:
        image_name: its file name in `training_set/`, unique there.
        path: path of the photo in the archive.
        sha256: digest of its bytes, which identifies the photo.
        legend: the sheet's text, with normalised white space.
        collection: the folder above the sheet whose pattern applies.
        workbook: the workbook that has the legend, relative to the archive.
        sheet: the sheet's name.
        row: the row as Excel counts.
        page: number of the page, or empty.
        photo: number of the photo in the sheet.
        phash: perceptual hash, 16 hex digits.
        phash_mirrored: perceptual hash of its mirror image.
    """

    image_name: str
    path: str
    sha256: str
    legend: str
    collection: str
    workbook: str
    sheet: str
    row: int
    page: str
    photo: str
    phash: str
    phash_mirrored: str


@dataclass(frozen=True)
class TrainingSet:
    """Photos with legends, in the order of the sheets."""

    photos: tuple[TrainingPhoto, ...]

    @cached_property
    def digest(self) -> str:
        """Digest of the photos' contents and legends, but not of names and paths."""
        return digest_of([(photo.sha256, photo.legend) for photo in self.photos])

    def save(self, out: Path) -> Path:
        """Write the table `training_set.csv`, which `load` reads."""
        return save_rows(out / "training_set.csv", TrainingPhoto, self.photos)

    @classmethod
    def load(cls, out: Path) -> "TrainingSet":
        """Read the training set that `save` wrote.

        Raises:
            ArchiveError: nothing has been prepared in `out`, or another version prepared it.
        """
        return cls(load_table(out / "training_set.csv", TrainingPhoto))


def write_training_sheet(out: Path, training: TrainingSet, captions: Mapping[str, Caption]) -> Path:
    """Write `df_training.xlsx`, a row per photo; a legend without a caption is its own caption, marked untranslated."""
    columns = (
        "image_name",
        "legend",
        "caption",
        "language",
        "translator",
        "collection",
        "workbook",
        "sheet",
        "row",
        "page",
        "photo",
    )
    rows = []
    for photo in training.photos:
        caption = captions.get(photo.legend, Caption(photo.legend, "", "untranslated"))
        texts = (photo.legend, caption.text, caption.language, caption.translator)
        place = (photo.collection, photo.workbook, photo.sheet, photo.row, photo.page, photo.photo)
        rows.append((photo.image_name, *texts, *place))
    write_table(out / "df_training.xlsx", columns, rows)
    return out / "df_training.xlsx"

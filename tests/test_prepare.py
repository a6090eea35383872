"""From sheets and folders to a test set and a training set, with every fault in the report."""

import csv
import shutil
import struct
import unicodedata
import zipfile
from collections import defaultdict
from pathlib import Path

import openpyxl
import pandas as pd
import pytest

from neardup.archive.prepare import copy_photos, prepare, remembered_root
from neardup.archive.sheets import MAX_UNPACKED
from neardup.archive.testset import TestSet
from neardup.archive.trainingset import TrainingSet
from neardup.builtin.demo import MadeArchive
from neardup.builtin.scenes import Scene
from neardup.errors import ArchiveError
from neardup.settings.file import load_settings
from neardup.settings.schema import PrepareSettings
from neardup.stages import digest_file


def report(out: Path) -> list[dict[str, str]]:
    """The lines of the discrepancy report."""
    with (out / "discrepancies.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def snapshot(folder: Path) -> dict[str, tuple[int, str]]:
    """Time and content of every file below a folder."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, digest_file(path))
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_every_planted_fault_is_in_the_report(made: MadeArchive, prepared: Path) -> None:
    """Each name or path that was planted has a line of its kind."""
    lines = [(line["kind"], unicodedata.normalize("NFC", " ".join(line.values()))) for line in report(prepared)]
    missed = [
        (kind, name)
        for kind, names in made.faults.items()
        for name in names
        if not any(kind == found and unicodedata.normalize("NFC", name) in text for found, text in lines)
    ]
    assert missed == []


def test_the_groups_are_the_true_ones(made: MadeArchive, prepared: Path) -> None:
    """Composed accents, lost accents, extensions and folders in the cells notwithstanding."""
    groups: defaultdict[int, list[str]] = defaultdict(list)
    for photo in TestSet.load(prepared).photos:
        groups[photo.group].append(photo.path)
    assert sorted(map(sorted, groups.values())) == sorted(map(sorted, made.groups))


def test_the_training_photos_have_their_legends(made: MadeArchive, prepared: Path) -> None:
    """Every legend is true of its photo, cleaned of breaks and spaces."""
    found = {photo.path: photo.legend for photo in TrainingSet.load(prepared).photos}
    assert found == made.training


def test_the_leaked_photo_is_not_in_training(made: MadeArchive, prepared: Path) -> None:
    """It was filed again, byte for byte, with a legend of its own."""
    (leaked,) = made.faults["left out"]
    test_contents = {photo.sha256 for photo in TestSet.load(prepared).photos}
    training = TrainingSet.load(prepared).photos
    assert leaked not in {photo.path for photo in training}
    assert not test_contents & {photo.sha256 for photo in training}


def test_both_namesakes_survive(made: MadeArchive, prepared: Path) -> None:
    """Two files of one name lie side by side under distinct names, with their own bytes."""
    copies = {photo.path: photo.name for photo in TestSet.load(prepared).photos}
    assert len(made.faults["ambiguous"]) == 2
    for path in made.faults["ambiguous"]:
        assert digest_file(prepared / "test_dataset" / copies[path]) == digest_file(made.root / path)


def test_the_books_balance(made: MadeArchive, tmp_path: Path) -> None:
    """Each block's `listed` is the sum of its other lines."""
    counts = prepare(made.root, tmp_path, PrepareSettings()).counts
    blocks: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for name, count in counts.items():
        block, kind = name.split(": ", 1)
        blocks[block][kind] = count
    assert {kinds.pop("listed") == sum(kinds.values()) > 0 for kinds in blocks.values()} == {True}


def test_new_is_has_a_row_a_group_with_names_as_on_disk(made: MadeArchive, prepared: Path) -> None:
    """The historian can open it, and every name in it is a file's, a namesake's after its folder."""
    sheet = openpyxl.load_workbook(prepared / "new_IS.xlsx").active
    rows = [[cell for cell in row if cell] for row in sheet.iter_rows(values_only=True)]
    assert [[name.rpartition("/")[2] for name in row] for row in rows] == [
        [Path(photo).name for photo in group] for group in made.groups
    ]
    assert rows[-2:] == [["agence_rol/namesake_01.jpg"], ["presse/namesake_01.jpg"]]


def test_new_is_read_back_gives_the_same_test_set(made: MadeArchive, prepared: Path, tmp_path: Path) -> None:
    """As the ground truth of the same archive it means every photo that it was made of, and nothing is amiss."""
    shutil.copytree(made.root, tmp_path / "archive")
    shutil.copy(prepared / "new_IS.xlsx", tmp_path / "archive" / "donnees_IS.xlsx")
    again = prepare(tmp_path / "archive", tmp_path / "out", PrepareSettings())
    first = TestSet.load(prepared)
    assert [(p.name, p.path, p.group) for p in again.test_set.photos] == [
        (p.name, p.path, p.group) for p in first.photos
    ]
    assert again.counts["names of the ground truth: listed"] == len(first.photos)


def test_bad_entries_are_lines_of_the_report(made: MadeArchive, tmp_path: Path) -> None:
    """Links to nothing, Latin-1 names, failing disks, bombs and resource forks stop nothing."""
    root, photos = tmp_path / "archive", tmp_path / "archive/presse/photos/jpg"
    shutil.copytree(made.root, root)
    for path in (photos / "dangling.jpg", root / "surlevif/dangling.xlsx"):
        path.symlink_to(root / "gone")
    for path in (photos / "failing.jpg", root / "surlevif/failing.xlsx"):
        path.symlink_to("/proc/self/mem")
    for path in (photos / "caf\udce9.jpg", root / "surlevif/caf\udce9.xlsx", photos / "._x.jpg", root / "._x.xlsx"):
        path.write_bytes(b"\x00\x05\x16\x07")
    with zipfile.ZipFile(root / "surlevif/bomb.xlsx", "w") as parts:
        parts.writestr("x", b" " * 12_345)
    data = (root / "surlevif/bomb.xlsx").read_bytes()
    large = data.replace(struct.pack("<L", 12_345), struct.pack("<L", MAX_UNPACKED + 1))
    (root / "surlevif/bomb.xlsx").write_bytes(large)
    before, after = (prepare(folder, tmp_path / folder.parent.name, PrepareSettings()) for folder in (made.root, root))
    assert (after.test_set.digest, after.training_set.digest) == (before.test_set.digest, before.training_set.digest)
    new = {line["file"]: line["detail"] for line in report(tmp_path / tmp_path.name)}
    for line in report(tmp_path / made.root.parent.name):
        new.pop(line["file"], None)
    assert new == {
        "presse/photos/jpg/dangling.jpg": "it is a link to a file that is not there",
        "surlevif/dangling.xlsx": "it is a link to a file that is not there",
        "presse/photos/jpg/failing.jpg": "the file cannot be read (Input/output error)",
        "surlevif/failing.xlsx": "the workbook cannot be read (Input/output error)",
        r"presse/photos/jpg/caf\xe9.jpg": "the name or a folder above it is not UTF-8: rename it",
        r"surlevif/caf\xe9.xlsx": "the name or a folder above it is not UTF-8: rename it",
        "surlevif/bomb.xlsx": f"the workbook has {MAX_UNPACKED + 1:,} bytes when it is unpacked, over the limit of "
        f"{MAX_UNPACKED:,}: delete the rows that nobody needs",
    }


def test_a_second_run_of_an_archive_with_bad_entries_does_nothing(made: MadeArchive, tmp_path: Path) -> None:
    """What cannot be read is no reason to make all of it anew; what it says is, and so are other settings."""
    root, out, bad = tmp_path / "archive", tmp_path / "out", tmp_path / "archive/surlevif/dangling.xlsx"
    shutil.copytree(made.root, root)
    bad.symlink_to(tmp_path / "gone")
    assert [prepare(root, out, PrepareSettings()).reused for _ in range(2)] == [False, True]
    bad.unlink()
    assert not prepare(root, out, PrepareSettings()).reused
    assert not prepare(root, out, PrepareSettings(look_alike_bits=0)).reused


def test_the_name_of_the_ground_truth_may_be_composed_or_not(tmp_path: Path) -> None:
    """The disk has decomposed accents where the setting has composed ones; the workbook is not read as legends too."""
    root = tmp_path / "archive"
    (root / "photos").mkdir(parents=True)
    Scene.of(1).image.save(root / "photos/a.png")
    book = openpyxl.Workbook()
    book.active.append(["a"])
    book.save(root / unicodedata.normalize("NFD", "données.xlsx"))
    settings = PrepareSettings(ground_truth=unicodedata.normalize("NFC", "données.xlsx"))
    made = prepare(root, tmp_path / "out", settings)
    assert ([p.path for p in made.test_set.photos], report(tmp_path / "out")) == (["photos/a.png"], [])


def test_df_training_opens_in_pandas(prepared: Path, made: MadeArchive) -> None:
    """It has the columns that a notebook expects, a row a photo."""
    table = pd.read_excel(prepared / "df_training.xlsx", engine="openpyxl")
    assert list(table.columns[:2]) == ["image_name", "legend"]
    assert {"collection", "row", "page", "photo", "language", "caption"} <= set(table.columns)
    assert len(table) == len(made.training)


def test_df_training_names_workbook_and_sheet(prepared: Path) -> None:
    """They are two facts: the file in the archive, and the sheet in it."""
    table = pd.read_excel(prepared / "df_training.xlsx", engine="openpyxl")
    assert table["workbook"].str.fullmatch(r"(\w+)/(\w+)/\2\.xlsx").all()
    assert set(table["sheet"]) == {"Sheet"}


def test_the_copies_are_the_archives_bytes(prepared: Path, made: MadeArchive) -> None:
    """Nothing is encoded anew on the way."""
    photos = TrainingSet.load(prepared).photos
    assert photos
    for photo in photos:
        assert digest_file(prepared / "training_set" / photo.image_name) == digest_file(made.root / photo.path)


def test_the_archive_is_never_written_to(made: MadeArchive, tmp_path: Path) -> None:
    """Not a byte, not a time of it changes."""
    before = snapshot(made.root)
    prepare(made.root, tmp_path / "out", PrepareSettings())
    assert snapshot(made.root) == before


def test_a_second_run_does_nothing(made: MadeArchive, tmp_path: Path) -> None:
    """It says so, and no file is touched."""
    prepare(made.root, tmp_path, PrepareSettings())
    before = snapshot(tmp_path)
    again = prepare(made.root, tmp_path, PrepareSettings())
    assert (again.reused, again.archive.read_anew, snapshot(tmp_path)) == (True, 0, before)


def test_a_damaged_output_is_made_again(made: MadeArchive, tmp_path: Path) -> None:
    """What was deleted comes back, a copy of other bytes gets the archive's again, and what is no copy goes away."""
    photo = prepare(made.root, tmp_path, PrepareSettings()).test_set.photos[0]
    (tmp_path / "new_IS.xlsx").unlink()
    (tmp_path / "test_dataset" / photo.name).write_bytes(b"another photo")
    (tmp_path / "test_dataset" / "former.jpg").write_bytes(b"of a former test set")
    assert not prepare(made.root, tmp_path, PrepareSettings()).reused
    assert (tmp_path / "new_IS.xlsx").is_file()
    assert digest_file(tmp_path / "test_dataset" / photo.name) == photo.sha256
    assert not (tmp_path / "test_dataset" / "former.jpg").exists()


def test_a_sheet_of_captions_that_was_deleted_is_written_again(made: MadeArchive, tmp_path: Path) -> None:
    """It is no output of the stage, for `translate` writes it too; nothing else is made anew."""
    prepare(made.root, tmp_path, PrepareSettings())
    before = (tmp_path / "df_training.xlsx").read_bytes()
    (tmp_path / "df_training.xlsx").unlink()
    assert prepare(made.root, tmp_path, PrepareSettings()).reused
    assert (tmp_path / "df_training.xlsx").read_bytes() == before


def test_an_archive_that_cannot_be_prepared_is_not_remembered(made: MadeArchive, tmp_path: Path) -> None:
    """The tables of the folder are still another archive's."""
    prepare(made.root, tmp_path / "out", PrepareSettings())
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "donnees_IS.xlsx").write_bytes(b"no workbook")
    with pytest.raises(ArchiveError, match="not a workbook"):
        prepare(tmp_path / "broken", tmp_path / "out", PrepareSettings())
    assert remembered_root(tmp_path / "out") == made.root.resolve()


def test_a_copy_has_the_bytes_that_the_scan_saw(made: MadeArchive, tmp_path: Path) -> None:
    """A photo that is replaced while the archive is read is copied under no digest of another one."""
    photo = made.groups[0][0]
    with pytest.raises(ArchiveError, match=rf"{photo} cannot be copied \(the file has changed"):
        copy_photos(made.root, [(photo, "x.jpg", "00")], tmp_path / "copies")
    assert list((tmp_path / "copies").iterdir()) == []


def test_two_runs_give_equal_files(made: MadeArchive, prepared: Path, tmp_path: Path) -> None:
    """Tables and sheets are the same to the last byte."""
    prepare(made.root, tmp_path, PrepareSettings())
    names = ("new_IS.xlsx", "df_training.xlsx", "discrepancies.xlsx", "test_set.csv", "training_set.csv")
    assert [(tmp_path / name).read_bytes() for name in names] == [(prepared / name).read_bytes() for name in names]


def test_an_output_folder_in_the_archive_is_refused(made: MadeArchive) -> None:
    """Before anything is written."""
    with pytest.raises(ArchiveError, match="lies inside the archive"):
        prepare(made.root, made.root / "out", PrepareSettings())


def test_a_folder_of_somebody_else_is_left_alone(made: MadeArchive, tmp_path: Path) -> None:
    """What lies in `training_set/` and is not ours is neither deleted nor mixed with ours."""
    (tmp_path / "training_set").mkdir()
    (tmp_path / "training_set" / "mine.jpg").write_text("mine")
    with pytest.raises(ArchiveError, match="holds files that neardup did not write"):
        prepare(made.root, tmp_path, PrepareSettings())
    assert (tmp_path / "training_set" / "mine.jpg").read_text() == "mine"


def test_an_archive_without_ground_truth_is_one_sentence(tmp_path: Path) -> None:
    """It says which file is missing and where to name another."""
    (tmp_path / "archive").mkdir()
    with pytest.raises(ArchiveError, match=r"donnees_IS\.xlsx is not there.*neardup\.toml"):
        prepare(tmp_path / "archive", tmp_path / "out", PrepareSettings())


def test_a_broken_ground_truth_is_one_sentence(tmp_path: Path) -> None:
    """It names the file."""
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "donnees_IS.xlsx").write_bytes(b"no workbook")
    with pytest.raises(ArchiveError, match=r"donnees_IS\.xlsx: not a workbook"):
        prepare(tmp_path / "archive", tmp_path / "out", PrepareSettings())


def test_another_archive_is_read_by_its_settings(tmp_path: Path) -> None:
    """Other folders, other sheet, other pattern: all of it is said in neardup.toml; a changed sheet is read again."""
    root = tmp_path / "archive"
    for name, seed in (("lavie/12/bilder/12-3-4.png", 1), ("lavie/12/bilder/12-3-5.png", 2), ("rest/bilder/a.png", 3)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Scene.of(seed).image.save(root / name)
    for path, rows in (
        (
            "lavie/12/legenden.xlsx",
            [["Seite", "Bild", "Bildunterschrift"], [3, 4, "Der König"], ["3", 5.0, "Das Heer"]],
        ),
        ("gruppen.xlsx", [["a"]]),
    ):
        book = openpyxl.Workbook()
        for row in rows:
            book.active.append(row)
        book.save(root / path)
    (root / "neardup.toml").write_text(
        '[prepare]\nphotos = ["**/bilder/*"]\nground_truth = "gruppen.xlsx"\n[prepare.patterns]\n'
        'lavie = "{issue}-{page}-{photo}"\n'
    )
    made = prepare(root, tmp_path / "out", load_settings(root / "neardup.toml").prepare)
    assert [photo.legend for photo in made.training_set.photos] == ["Der König", "Das Heer"]
    assert [photo.path for photo in made.test_set.photos] == ["rest/bilder/a.png"]
    book = openpyxl.load_workbook(root / "lavie/12/legenden.xlsx")
    book.active["C3"] = "Die Flotte"
    book.save(root / "lavie/12/legenden.xlsx")
    again = prepare(root, tmp_path / "out", load_settings(root / "neardup.toml").prepare)
    assert [photo.legend for photo in again.training_set.photos] == ["Der König", "Die Flotte"]


def test_namesakes_of_another_suffix_are_reported(tmp_path: Path) -> None:
    """A cell without a suffix may mean any of them."""
    root = tmp_path / "archive"
    for seed, path in enumerate(("a/photos/x.png", "b/photos/x.jpg", "c/photos/x.jpg", "c/photos/y.png")):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Scene.of(seed).image.save(root / path)
    book = openpyxl.Workbook()
    book.active.append(["y"])
    book.save(root / "donnees_IS.xlsx")
    prepare(root, tmp_path / "out", PrepareSettings())
    assert [(line["kind"], line["file"], line["detail"].partition(": ")[2]) for line in report(tmp_path / "out")] == [
        ("ambiguous", "a/photos/x.png", "a/photos/x.png, b/photos/x.jpg, c/photos/x.jpg")
    ]


def test_the_photos_of_each_set_are_counted(made: MadeArchive, tmp_path: Path) -> None:
    """The counts are those of the tables, where no two files are equal."""
    result = prepare(made.root, tmp_path, PrepareSettings())
    counted = (result.counts["image files: in the test set"], result.counts["image files: in the training set"])
    sets = ({photo.sha256 for photo in each.photos} for each in (result.test_set, result.training_set))
    assert counted == tuple(sum(photo.sha256 in each for photo in result.archive.photos) for each in sets)


def test_text_of_the_sheets_never_becomes_a_formula(made: MadeArchive, prepared: Path) -> None:
    """The report quotes formulas as text."""
    sheet = openpyxl.load_workbook(prepared / "discrepancies.xlsx").active
    cells = [cell for row in sheet.iter_rows() for cell in row if cell.value == "=1+1"]
    assert ({cell.data_type for cell in cells}, "=1+1" in made.faults["unsafe cell"]) == ({"s"}, True)


@pytest.mark.slow
def test_the_real_archive(real_archive: Path, tmp_path: Path) -> None:
    """Its listed photos, all but the eight that are not there, and its planted faults."""
    made = prepare(real_archive, tmp_path, PrepareSettings())
    kinds = [line["kind"] for line in report(tmp_path) if line["file"] == "donnees_IS.xlsx"]
    assert (len(made.test_set.photos), kinds.count("not found")) == (462, 8)
    assert not {p.sha256 for p in made.test_set.photos} & {p.sha256 for p in made.training_set.photos}


def test_what_the_ground_truth_names_is_not_trained_on_though_it_is_in_no_group(tmp_path: Path) -> None:
    """A photo in two rows and one that is misspelt are crops of what is tested; each has its line in the report."""
    root, issue = tmp_path / "archive", tmp_path / "archive/surlevif/1911"
    for folder in (issue / "photos/jpg", root / "rol/photos/jpg"):
        folder.mkdir(parents=True)
    scene = Scene.of(5).image
    width, height = scene.size
    scene.save(root / "rol/photos/jpg/original.jpg")
    Scene.of(7).image.save(root / "rol/photos/jpg/other.jpg")
    crops = [(width // 5, height // 5, width, height), (0, 0, width * 3 // 4, height * 4 // 5)]
    for number, picture in enumerate([*map(scene.crop, crops), Scene.of(8).image], 1):
        picture.save(issue / f"photos/jpg/np_surlevif_1911_01_{number:02d}.jpg")
    first, misspelt = "np_surlevif_1911_01_01", "np_surlevif_1911_01_O2"
    legends = [["Num page", "Num photo", "Légende"], *([1, number, f"Légende {number}"] for number in (1, 2, 3))]
    write_workbook(root / "donnees_IS.xlsx", [["original", first, misspelt], ["other", first]])
    write_workbook(issue / "1911.xlsx", legends)
    prepared = prepare(root, tmp_path / "out", PrepareSettings())
    assert [photo.legend for photo in prepared.training_set.photos] == ["Légende 3"]
    assert prepared.counts["rows of the legend sheets: named by the ground truth"] == 2
    lines = [line for line in report(tmp_path / "out") if line["kind"] == "left out"]
    assert [(line["row"], line["detail"].partition(" means ")[0]) for line in lines] == [
        ("2", "a cell of the ground truth"),
        ("3", "a cell of the ground truth"),
    ]


def write_workbook(path: Path, rows: list[list[object]], *merged: str) -> None:
    """A workbook of one sheet, in which ranges of cells are merged."""
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    for cells in merged:
        book.active.merge_cells(cells)
    book.save(path)


def archive_of_issue(root: Path, photos: int) -> Path:
    """An archive with the photos 1, 2, … of page 1 of an issue, and the folder of the issue."""
    issue = root / "surlevif/1911"
    (issue / "photos/jpg").mkdir(parents=True)
    for number in range(1, photos + 1):
        Scene.of(number).image.save(issue / f"photos/jpg/np_surlevif_1911_01_{number:02d}.jpg")
    return issue


NAMES = [f"np_surlevif_1911_01_{number:02d}" for number in range(1, 7)]
"""Names of the photos of `archive_of_issue`, without extension."""


def test_rows_that_a_merged_cell_joins_are_one_group(tmp_path: Path) -> None:
    """Each name in a row of its own beside the group's number; a line says so, and faults keep their own rows."""
    archive_of_issue(tmp_path / "archive", 6)
    rows = [["Groupe", "Photo"], [101, NAMES[0]], [None, NAMES[1]], [None, "gone"], [102, NAMES[2]], [None, NAMES[3]]]
    write_workbook(tmp_path / "archive/donnees_IS.xlsx", [*rows, [NAMES[4], NAMES[5]]], "A2:A4", "A5:A6")
    made = prepare(tmp_path / "archive", tmp_path / "out", PrepareSettings())
    assert [(photo.group, photo.row) for photo in made.test_set.photos] == [(1, 2)] * 2 + [(2, 5)] * 2 + [(3, 7)] * 2
    lines = {line["cell"]: (line["kind"], line["row"], line["detail"]) for line in report(tmp_path / "out")}
    notes = [line["detail"] for line in report(tmp_path / "out") if line["kind"] == "note"]
    assert notes == [f"rows {rows} are one group: this cell is merged over them" for rows in ("2 to 4", "5 to 6")]
    assert lines["B4"] == ("not found", "4", "no photo of that name is in the archive")


def test_a_cell_that_is_merged_over_rows_of_several_names_is_reported(tmp_path: Path) -> None:
    """It may be the heading of several groups or the number of one that is continued below: each row stays a group."""
    archive_of_issue(tmp_path / "archive", 4)
    rows = [["Série A", *NAMES[:2]], [None, *NAMES[2:4]]]
    write_workbook(tmp_path / "archive/donnees_IS.xlsx", rows, "A1:A2")
    made = prepare(tmp_path / "archive", tmp_path / "out", PrepareSettings())
    assert [photo.group for photo in made.test_set.photos] == [1, 1, 2, 2]
    assert ("ambiguous", "1", "A1") in [(line["kind"], line["row"], line["cell"]) for line in report(tmp_path / "out")]


def test_a_hidden_sheet_is_left_out_with_a_line(tmp_path: Path) -> None:
    """A former list that nobody sees contradicts nothing, neither as groups nor as legends."""
    issue = archive_of_issue(tmp_path / "archive", 3)
    legends = [["Num page", "Num photo", "Légende"], [1, 3, "Le roi"]]
    for path, shown, hidden in (
        (tmp_path / "archive/donnees_IS.xlsx", [NAMES[:2]], [[NAMES[0], NAMES[2]]]),
        (issue / "1911.xlsx", legends, [legends[0], [1, 3, "La reine"]]),
    ):
        write_workbook(path, shown)
        book = openpyxl.load_workbook(path)
        former = book.create_sheet("former", 0)
        former.sheet_state = "hidden"
        for row in hidden:
            former.append(row)
        book.save(path)
    made = prepare(tmp_path / "archive", tmp_path / "out", PrepareSettings())
    assert [Path(photo.path).stem for photo in made.test_set.photos] == NAMES[:2]
    assert [photo.legend for photo in made.training_set.photos] == ["Le roi"]
    left_out = [(line["file"], line["sheet"]) for line in report(tmp_path / "out") if line["kind"] == "left out"]
    assert left_out == [("donnees_IS.xlsx", "former"), ("surlevif/1911/1911.xlsx", "former")]


def test_a_merged_cell_of_a_legend_sheet_holds_for_each_of_its_rows(tmp_path: Path) -> None:
    """A page of several photos, a legend of two of them, and names of columns that are merged over two rows."""
    issue = archive_of_issue(tmp_path / "archive", 4)
    write_workbook(tmp_path / "archive/donnees_IS.xlsx", [[NAMES[3]]])
    rows = [["Page", "Numéros", "Légende"], [None, "Num photo"], [1, 1, "Le roi"], [None, 2], [None, 3, "La reine"]]
    write_workbook(issue / "1911.xlsx", rows, "A1:A2", "C1:C2", "A3:A5", "C3:C4")
    made = prepare(tmp_path / "archive", tmp_path / "out", PrepareSettings())
    assert [photo.legend for photo in made.training_set.photos] == ["Le roi", "Le roi", "La reine"]
    assert made.counts["rows of the legend sheets: listed"] == 3

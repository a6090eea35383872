"""The settings files that deployments read: that of the output folder, and `[prepare]` of the archive's.

Nothing here imports Prefect: `neardup up` uses it, and importing Prefect makes a folder in the user's home.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from neardup.archive.scan import settings_of_folder
from neardup.archive.walk import find_images
from neardup.settings.file import FILE, check_archives_own, load_settings, read_toml
from neardup.settings.schema import TABLES

Flat = dict[str, Any]
"""Settings by dotted name: `encoder`, `train.lr`."""


def settings_files(out: Path, archive: Path | None) -> list[Path]:
    """List the settings files that a deployment reads, the one with the highest precedence first."""
    return [folder / FILE for folder in (out, archive) if folder and (folder / FILE).is_file()]


def read_files(files: list[Path], archive: Path | None) -> Flat:
    """Read the settings in files, by dotted name.

    Raises:
        ConfigError: a file is no TOML, a field of it is unknown or out of its bounds, or an archive's own file holds
            more than `[prepare]`.
    """
    values: Flat = {}
    for path in reversed(files):
        if archive is not None and path.parent == archive:
            check_archives_own(path)
        load_settings(path)  # refuses what is wrong, and names the file
        values |= flatten({"settings": read_toml(path)}, {"settings": ""})
    return values


def describe(path: Path, archive: Path | None) -> str:
    """Name a settings file in a sentence: `[prepare] of …` for the archive's, else its path."""
    return f"[prepare] of {path}" if archive is not None and path.parent == archive else str(path)


def flatten(parameters: Mapping[str, Any], places: Mapping[str, str]) -> Flat:
    """The parameters of a flow as settings by dotted name; a parameter that is no setting is left out."""
    flat: Flat = {}
    for parameter, place in places.items():
        if parameter in parameters:
            flat |= _entries(place, parameters[parameter])
    return flat


def _entries(place: str, value: Any) -> Flat:
    """A value, or the entries of a table of settings, by dotted name."""
    if place not in TABLES or not isinstance(value, Mapping):
        return {place: value}
    return {
        dotted: entry
        for name, inner in value.items()
        for dotted, entry in _entries(f"{place}.{name}" if place else name, inner).items()
    }


def warn_of_no_photo(archive: Path, out: Path, report: Callable[[str], object]) -> None:
    """Say so, in a sentence, if the deployments would find no photo in the archive.

    Raises:
        ConfigError: a settings file is wrong.
    """
    files = settings_files(out, archive)
    prepare = load_settings(None, read_files(files, archive)).prepare
    if archive.is_dir() and not find_images(archive, prepare.photos, prepare.pages):
        source = " and ".join(describe(path, archive) for path in files) or "no settings file was found"
        plain = find_images(archive, settings_of_folder(archive, prepare).photos, prepare.pages)
        which = "all deployments but watch and duplicates" if plain else "the deployments"
        report(
            f"{which} will find no photo in {archive}: none of its files matches photos = "
            f"{list(prepare.photos)} ({source}); say where they lie under [prepare] in {out / FILE} or {archive / FILE}"
        )

"""Fit the background that normalises the shipped encoder's similarities: `python -m neardup.builtin.background FOLDER`.

It rests on photographs that the encoder was trained on: none that it is judged by, and none of anybody's archive.
"""

from collections.abc import Sequence
from pathlib import Path

import click

from neardup.builtin.pool import training_photographs
from neardup.encode.background import Background
from neardup.encode.encoder import BUILTIN, CHECKPOINT
from neardup.encode.onnx import of_checkpoint

PHOTOGRAPHS = 2000
"""Photographs in the background, drawn by chance: with 1,000 of them exposures of one plate are found less well among
1,629 photographs (µAP 90.0 instead of 91.2 %), with 5,000 hardly better (91.3 %), and each costs half a kilobyte."""


def fit(folders: Sequence[Path]) -> Background:
    """The background of the photographs of some folders (each with its photos.csv).

    Raises:
        ArchiveError: there are no such photographs.
    """
    return Background.fitted(of_checkpoint(BUILTIN, CHECKPOINT), training_photographs(folders), PHOTOGRAPHS, 0)


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(folders: tuple[Path, ...]) -> None:
    """Fit the shipped background anew on the photographs of some folders (each with its photos.csv)."""
    background = fit(folders)
    background.save(CHECKPOINT)
    click.echo(f"{len(background.vectors):,} photographs.")


if __name__ == "__main__":
    main()

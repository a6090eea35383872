"""Where a deployment's run takes its settings from, and what is said of an archive in which it would find no photo."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow_sync

from neardup.builtin.demo import MadeArchive
from neardup.errors import ConfigError
from neardup.settings.schema import Settings
from neardup.stages import write_json
from tasks.deployed import settings_of_run
from tasks.settings_files import warn_of_no_photo

PHOTOS = '[prepare]\nphotos = ["scans/**"]\n'
"""A settings file of an archive of another layout."""


@flow
def read_settings(archive: Path | None, out: Path, settings: Settings = Settings()) -> Settings:  # noqa: B008 - frozen
    """The settings that a flow of the project works with."""
    return settings_of_run(settings, out, archive, settings="")


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, str]:
    """An archive and an output folder, each with a settings file."""
    for name in ("archive", "out"):
        (tmp_path / name).mkdir()
    of_archive = f'{PHOTOS}ground_truth = "a.xlsx"\n'
    (tmp_path / "archive" / "neardup.toml").write_text(of_archive)
    of_out = '[prepare]\nground_truth = "b.xlsx"\n[train]\nepochs = 3\nseed = 7\n'
    (tmp_path / "out" / "neardup.toml").write_text(of_out)
    return {name: str(tmp_path / name) for name in ("archive", "out")}


def deployed(folders: Mapping[str, str | None], standing: dict[str, Any], typed: dict[str, Any] | None) -> Settings:
    """The settings of a run of a deployment that has some, for which some were typed into the form."""
    with get_client(sync_client=True) as client:
        known = client.create_flow(read_settings)
        deployment = client.create_deployment(known, "test", parameters={**folders, "settings": standing})
        parameters = {} if typed is None else {"settings": typed}
        run = client.create_flow_run_from_deployment(deployment, parameters=parameters)
    result = run_flow_sync(read_settings, flow_run=run, parameters=run.parameters)
    assert isinstance(result, Settings)
    return result


def test_an_archives_own_file_may_set_no_more_than_how_it_is_read(tmp_path: Path) -> None:
    """A server that gets a key, or a scheduler that gets code, is nothing for an archive to name."""
    (tmp_path / "neardup.toml").write_text('[translate]\nserver_url = "http://elsewhere"\n')
    with pytest.raises(ConfigError, match=r"only \[prepare\] is taken, and sets \[translate\]"):
        warn_of_no_photo(tmp_path, tmp_path / "out", print)


@pytest.mark.slow
@pytest.mark.usefixtures("prefect")
def test_a_deployment_reads_the_settings_files(folders: dict[str, str]) -> None:
    """All of the output folder's, [prepare] of the archive's, the former first; then what prefect.yaml has."""
    found = deployed(folders, {"encoder": "builtin:tiny", "train": {"epochs": 9, "patience": 4}}, None)
    assert (found.encoder, found.prepare.photos, found.prepare.ground_truth) == (
        "builtin:tiny",
        ("scans/**",),
        "b.xlsx",
    )
    assert (found.train.epochs, found.train.seed, found.train.patience) == (3, 7, 4)


@pytest.mark.slow
@pytest.mark.usefixtures("prefect")
def test_a_flow_that_names_no_archive_reads_that_of_its_output_folder(folders: dict[str, str]) -> None:
    """As the commands do; else `tune` would train anew what `experiment` trained by the archive's settings."""
    write_json(Path(folders["out"]) / ".neardup" / "archive.json", {"root": folders["archive"]})
    assert deployed(folders | {"archive": None}, {}, None).prepare.photos == ("scans/**",)


@pytest.mark.slow
@pytest.mark.usefixtures("prefect")
def test_what_was_typed_for_a_run_goes_before_the_files(folders: dict[str, str]) -> None:
    """The files keep what was not typed; the log of the run says where each part comes from."""
    lines: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    listener = Listener()
    logging.getLogger("prefect.flow_runs").addHandler(listener)
    try:
        found = deployed(folders, {"encoder": "builtin:tiny"}, {"encoder": "builtin:tiny", "train": {"epochs": 5}})
    finally:
        logging.getLogger("prefect.flow_runs").removeHandler(listener)
    assert (found.train.epochs, found.train.seed) == (5, 7)
    out, archive = folders["out"], folders["archive"]
    assert (
        "settings, the first that names one: typed for this run: train.epochs; "
        f"{out}/neardup.toml; [prepare] of {archive}/neardup.toml; of the deployment: encoder; the defaults"
    ) in lines


@pytest.mark.slow
@pytest.mark.usefixtures("prefect")
def test_a_run_of_no_deployment_takes_what_it_is_given(folders: dict[str, str]) -> None:
    """The command has read its file already."""
    assert read_settings(Path(folders["archive"]), Path(folders["out"]), Settings(encoder="given")) == Settings(
        encoder="given"
    )


def warnings_of(archive: Path, out: Path) -> list[str]:
    """What is said when deployments of an archive are applied."""
    lines: list[str] = []
    warn_of_no_photo(archive, out, lines.append)
    return lines


def test_an_archive_without_a_photo_is_named(tmp_path: Path) -> None:
    """In one sentence, with the patterns that none of its files matches and where to say others.

    Watch and duplicates take every image of a plain folder.
    """
    archive, out = tmp_path / "archive", tmp_path / "out"
    archive.mkdir()
    assert warnings_of(archive, out)[0].startswith(f"the deployments will find no photo in {archive}: none")
    (archive / "scans").mkdir(parents=True)
    (archive / "scans" / "a.jpg").touch()
    (sentence,) = warnings_of(archive, out)
    assert sentence == (
        f"all deployments but watch and duplicates will find no photo in {archive}: none of its files matches photos = "
        "['**/photos/**'] "
        f"(no settings file was found); say where they lie under [prepare] in {out}/neardup.toml or "
        f"{archive}/neardup.toml"
    )


def test_an_archive_whose_own_file_says_where_its_photos_lie_is_fine(tmp_path: Path, made: MadeArchive) -> None:
    """Nothing is said of it, nor of one of the default layout."""
    archive = tmp_path / "archive"
    (archive / "scans").mkdir(parents=True)
    (archive / "scans" / "a.jpg").touch()
    (archive / "neardup.toml").write_text(PHOTOS)
    assert warnings_of(archive, tmp_path / "out") + warnings_of(made.root, tmp_path / "out") == []


def test_a_settings_file_that_is_wrong_is_named(tmp_path: Path) -> None:
    """With the field."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "neardup.toml").write_text("[prepare]\nphoto = 1\n")
    with pytest.raises(ConfigError, match=r"out/neardup\.toml: unknown setting prepare\.photo: did you mean photos"):
        warnings_of(tmp_path, tmp_path / "out")

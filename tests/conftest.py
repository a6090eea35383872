"""What several tests share: a made archive, prepared once, and the real one where it is there."""

import gc
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Four test processes share the cores; torch.compile would start a process for each core, and load torch there.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")

from experiments import Experiment
from servers import begin_prefect, end
from small_clip import small_clip

from neardup.archive.prepare import prepare
from neardup.builtin.demo import MadeArchive, make_archive
from neardup.settings.schema import PrepareSettings

settings.register_profile("neardup", deadline=None)  # a busy machine is no fault
settings.load_profile("neardup")

ROOT = Path(__file__).parents[1]
REAL = ROOT.parent / "shared" / "archive"
LONGEST = (
    *("test_nightly.py", "test_services.py", "test_flows_disturbed.py", "test_registry.py", "test_any_encoder.py"),
    *("test_flows.py", "test_flows_tune.py", "test_pretrain.py", "test_explained_pairs.py", "test_duplicates.py"),
    *("test_launch.py", "test_hostile_folder.py", "test_interrupt.py", "test_tracking.py", "test_retries.py"),
    *("test_deployed.py", "test_encoder.py", "test_copies.py", "test_train.py", "test_cli.py", "test_adapted.py"),
    *("test_metrics.py", "test_pair_bound.py", "test_seeds.py", "test_review_page.py"),
)
"""Files of tests that wait for servers or train, the longest first: one that began last would run alone at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def pytest_collection_finish() -> None:
    """Keep what importing and collecting made out of the collector's sight, who would walk through it all again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Threads that wait for each other make small models slow on a busy machine; one gives equal losses each time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


Once = Callable[[str, Callable[[Path], object]], Path]
"""Takes a name and what fills a folder; gives the folder."""


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of all test processes."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def once(shared_folder: Path) -> Iterator[Once]:
    """What makes a folder that tests only read: one of the test processes fills it, the others wait and take it.

    A file that a test writes there is found at the end: other processes copy the folder meanwhile.
    """
    taken: dict[Path, str] = {}

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        folder, finished = shared_folder / name, shared_folder / f"{name}.finished"
        with FileLock(shared_folder / f"{name}.lock"):
            if not finished.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a process whose filling failed
                folder.mkdir()
                fill(folder)
                finished.write_text(_files(folder))
        taken[folder] = finished.read_text()
        return folder

    yield make
    assert {folder.name: _files(folder) for folder in taken} == {folder.name: files for folder, files in taken.items()}


def _files(folder: Path) -> str:
    """When each file of a folder was last changed, those of `whole`'s results apart, which a test may write to."""
    paths = sorted(path for path in folder.rglob("*") if path.relative_to(folder).parts[0] != "results")
    return "\n".join(f"{path.relative_to(folder)} {path.stat().st_mtime_ns}" for path in paths)


@pytest.fixture(scope="session")
def made(once: Once) -> MadeArchive:
    """A small archive with every fault that a real one has."""

    def draw(folder: Path) -> MadeArchive:
        return make_archive(folder / "archive", groups=6, training=24)

    return draw(once("made", draw))


@pytest.fixture(scope="session")
def prepared(made: MadeArchive, once: Once) -> Path:
    """The folder that `prepare` made of it."""
    return once("prepared", lambda out: prepare(made.root, out, PrepareSettings()))


@pytest.fixture(scope="session")
def small_encoder(once: Once) -> str:
    """The folder of a CLIP that is trained in moments, for tests that need an encoder and not the shipped one."""
    return str(once("encoder", lambda folder: small_clip(layers=2).save(folder / "small")) / "small")


@pytest.fixture(scope="session")
def experiment(made: MadeArchive, small_encoder: str) -> Experiment:
    """The experiment on the made archive with the small encoder."""
    return Experiment(made.root, small_encoder)


@pytest.fixture(scope="session")
def whole(experiment: Experiment, once: Once) -> Path:
    """The output of an experiment that nobody disturbed, with a Prefect server of its own; test_flows.py may write."""
    return once("whole", experiment.run_undisturbed) / "results"


@pytest.fixture(scope="session")
def untouched(whole: Path) -> Path:
    """A copy of that output which nobody writes to."""
    return whole.with_name("untouched")


@pytest.fixture(scope="session")
def prefect_url(shared_folder: Path) -> Iterator[str]:
    """A Prefect server, as one that a team shares: the first test process starts it, the last one to leave ends it."""
    folder, users = shared_folder / "prefect", shared_folder / "prefect" / "users"
    users.mkdir(parents=True, exist_ok=True)
    lock, noted, user = FileLock(shared_folder / "prefect.lock"), folder / "server.json", users / str(os.getpid())
    with lock:
        if not noted.exists():
            noted.write_text(json.dumps(begin_prefect(folder)))
        url, server = json.loads(noted.read_text())
        user.touch()
    yield url
    with lock:
        user.unlink()
        if not list(users.iterdir()):
            end(server)
            noted.unlink()


@pytest.fixture(scope="session")
def team(prefect_url: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of one of the team, whose commands start no server of their own."""
    return {"PREFECT_API_URL": prefect_url, "PREFECT_HOME": str(tmp_path_factory.mktemp("home"))}


@pytest.fixture(scope="module")
def prefect(team: dict[str, str]) -> Iterator[None]:
    """The flows and tasks that tests run in this process use the team's server."""
    from prefect.context import refresh_global_settings_context  # noqa: PLC0415 - a second that few files need wait

    with pytest.MonkeyPatch.context() as patch:
        for name, value in team.items():
            patch.setenv(name, value)
        refresh_global_settings_context()
        yield
    refresh_global_settings_context()


@pytest.fixture(scope="session")
def real_archive() -> Path:
    """The archive of real photographs, which is not part of the project."""
    if not REAL.is_dir():
        pytest.skip("the archive of real photographs is not on this machine")
    return REAL

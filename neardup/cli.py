"""The command line: parse, call, print. Every heavy import waits inside the command that needs it."""

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from neardup import __version__
from neardup.errors import ConfigError, NeardupError

if TYPE_CHECKING:
    from neardup.recipes import Precision, Settings

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)
Command = Callable[..., Any]


class Sentence(click.Group):
    """A group that turns an error of the user's into one line, unless `--debug` asks for the traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a fault that the user can mend becomes one sentence and exit status 1."""
        try:
            return super().invoke(ctx)
        except NeardupError as error:
            if ctx.params.get("debug"):
                raise
            click.echo(f"neardup: {error}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo("\nneardup: interrupted; run the same command again and it goes on where it was", err=True)
            ctx.exit(130)


@click.group(cls=Sentence, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="neardup")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Find the near-duplicates of an archive of press photographs, and prove how well.

    \b
    Example:
      neardup demo
      neardup experiment ARCHIVE --out results --encoder builtin:tiny
    """


def _options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


_archive = click.argument("archive", type=FOLDER)
_out = click.option("--out", type=FOLDER, default=Path("results"), show_default=True, help="Folder for the results.")
_config = click.option("--config", type=FILE, help="Settings; else neardup.toml here or in the archive.")
_encoder = click.option("--encoder", help="builtin:tiny, a hub id, a local folder or an MLflow model URI.")
_device = click.option("--device", help="auto, cpu or cuda.")
_precision = click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16", "fp16", "int8"]),
    default="fp32",
    show_default=True,
    help="Numbers that the encoder computes with; lower ones only where `evaluate` measured what they cost.",
)
_measured = click.option(
    "--measured",
    type=FOLDER,
    default=Path("results"),
    show_default=True,
    help="With --precision: the results of the experiment that measured its effect.",
)
_champion = _options(
    click.option(
        "--encoder",
        default="models:/near-duplicates@champion",
        show_default=True,
        help="An MLflow model, or a checkpoint of an experiment; with --threshold any encoder.",
    ),
    click.option(
        "--threshold", type=click.FloatRange(-1, 1), help="Similarity of a near-duplicate; else the encoder's own."
    ),
)
_translator = click.option("--translator", type=click.Choice(["deepl", "marian", "none"]), help="Who translates.")
_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
_train = _options(
    click.option("--epochs", type=int, help="At most so many epochs."),
    click.option("--lr", type=float, help="Learning rate."),
    click.option("--weight-decay", type=float, help="Weight decay."),
    click.option("--batch-size", type=int, help="Photos a step."),
    click.option("--seed", type=int, help="Seed of split, order and augmentation."),
    click.option(
        "--prior-project", is_flag=True, help="Repeat the prior project: equal legends repel, long ones drop out."
    ),
)


def _settings(config: Path | None, archive: Path | None = None, **said: Any) -> "Settings":
    from neardup.config import find_config, load_settings

    return load_settings(
        config or find_config(archive), {name.replace("__", "."): value for name, value in said.items()}
    )


def _training(said: dict[str, Any]) -> dict[str, Any]:
    from neardup.recipes import prior_project

    prior = prior_project()
    repeated = {"shared_legends": prior.shared_legends, "long_legends": prior.long_legends}
    values = {name: said.pop(name, None) for name in ("epochs", "lr", "weight_decay", "batch_size", "seed")}
    values |= repeated if said.pop("prior_project") else {}
    return {f"train__{name}": value for name, value in values.items()}


def _print(value: Any, lines: str, *, as_json: bool) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=2, default=str) if as_json else lines)


@main.command()
@_archive
@_options(_out, _config, _json)
def prepare(archive: Path, out: Path, config: Path | None, as_json: bool) -> None:
    """Read sheets and photos; write the test set, the training set and the discrepancy report.

    \b
    Example: neardup prepare ARCHIVE --out results
    """
    from neardup.prepare import prepare as prepare_archive

    settings = _settings(config, archive)
    prepared = prepare_archive(archive, out, settings.prepare)
    lines = [f"{name:<40} {count:>8}" for name, count in prepared.counts.items()]
    lines.append("unchanged since the last run, nothing was done" if prepared.reused else "")
    _print(prepared.counts, "\n".join([*lines, f"See {out / 'discrepancies.html'}"]), as_json=as_json)


@main.command()
@_options(_out, _config, _translator)
def translate(out: Path, config: Path | None, translator: str | None) -> None:
    """Translate the legends of a prepared training set to English captions.

    The key for DeepL is read from DEEPL_AUTH_KEY, or from the Prefect Secret block `deepl-auth-key`.

    \b
    Example: DEEPL_AUTH_KEY=... neardup translate --out results
    """
    from neardup.translate import translate_training_set
    from tasks.translate import make_translator

    settings = _settings(config, translate__translator=translator).translate
    translation = translate_training_set(out, settings, make_translator(settings), click.echo)
    if translation.stopped:
        raise NeardupError(translation.stopped)
    click.echo(f"Captions are in {out / 'df_training.xlsx'}")


@main.command()
@_options(_out, _config)
@click.option("--recipe", type=click.Choice(["classic", "press"]), help="The prior project's, or what newspapers do.")
@click.option("--copies", type=int, help="Copies a photo.")
@click.option("--queries", type=FOLDER, help="Instead: write the variants of the photos of this folder as queries.")
def augment(out: Path, config: Path | None, recipe: str | None, copies: int | None, queries: Path | None) -> None:
    """Write augmented copies of the training photos, or variants of new photos to search for.

    \b
    Example: neardup augment --out results --recipe press
             neardup augment --queries new_photos --out results
    """
    from neardup.augment import make_queries, write_augmented
    from neardup.trainingset import TrainingSet
    from neardup.translate import load_captions

    if queries:
        made = make_queries(queries, out / "queries")
        for path, reason in made.unreadable:
            click.echo(f"left out {path}: {reason}", err=True)
        click.echo(f"{len(made.written)} queries are in {out / 'queries'}")
        return
    settings = _settings(config, augmentation=recipe, train__copies=copies)
    train = settings.train
    write_augmented(out, TrainingSet.load(out), load_captions(out), settings.augmentation, train.copies, train.seed)
    click.echo(f"Copies are in {out / 'train_dataset_aug'}, listed in {out / 'df_training_aug.xlsx'}")


@main.command()
@click.argument("folder", type=FOLDER)
@click.option("--out", type=FILE, required=True, help="Parquet file to write.")
@_options(_config, _encoder, _device, _precision, _measured)
def embed(
    folder: Path,
    out: Path,
    config: Path | None,
    encoder: str | None,
    device: str | None,
    precision: "Precision",
    measured: Path,
) -> None:
    """Encode every image of a folder into a Parquet file of vectors.

    \b
    Example: neardup embed photos --out vectors.parquet --encoder builtin:tiny
    """
    from neardup.archive import scan
    from neardup.vectors import embed as embed_photos

    settings = _settings(config, folder, encoder=encoder, device=device)
    model = _loaded(settings, out.parent, precision, measured)
    state = out.parent / ".neardup"
    limit = settings.prepare.max_pixels
    photos = scan(folder, table=state / f"{out.stem}.scan.parquet", patterns=("**",), exclude=(), max_pixels=limit)
    items = [(photo.path, photo.sha256) for photo in photos.photos]
    embed_photos(items, folder, model, store=state / "vectors").save(out)
    for fault in photos.unreadable:
        click.echo(f"left out {fault.path}: {fault.reason}", err=True)
    click.echo(f"{len(items)} photos are in {out}, {len(photos.unreadable)} left out")


@main.command()
@click.argument("photo", type=click.Path(path_type=Path))
@click.option("--in", "vectors", type=FILE, required=True, help="Parquet file of `neardup embed`.")
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="Hits to print.")
@click.option("--page", type=FILE, help="Also show the hits as pictures, in this HTML file.")
@click.option("--photos", type=FOLDER, help="With --page: the folder that was embedded.")
@click.option(
    "--approximate", is_flag=True, help="Search an index beside the vectors, for over a million; says what it misses."
)
@_options(_config, _encoder, _device, _precision, _measured, _json)
def search(
    photo: Path,
    vectors: Path,
    top: int,
    page: Path | None,
    photos: Path | None,
    approximate: bool,
    config: Path | None,
    encoder: str | None,
    device: str | None,
    precision: "Precision",
    measured: Path,
    as_json: bool,
) -> None:
    """Print the photos that are most like a photo, or like each photo of a folder, best first.

    \b
    Example: neardup search new.jpg --in vectors.parquet --top 10 --encoder builtin:tiny
             neardup search results/queries --in vectors.parquet --photos ARCHIVE --page hits.html
    """
    from dataclasses import asdict

    from neardup.search import read_queries
    from neardup.search import search as search_vectors
    from neardup.vectors import Embeddings

    if page and not photos:
        raise ConfigError("--page shows pictures: say with --photos which folder was embedded")
    gallery = Embeddings.load(vectors)
    settings = _settings(config, encoder=encoder, device=device)
    model = _loaded(settings, vectors.parent, precision, measured)
    queries = read_queries(photo, model, lambda line: click.echo(line, err=True))
    if approximate:
        from neardup.index import opened_index

        gallery.require(model.fingerprint)
        index = opened_index(vectors, gallery, top, lambda line: click.echo(line, err=True))
        hits = index.hits(queries.vectors, gallery, top)
    else:
        hits = search_vectors(queries.vectors, gallery, top, fingerprint=model.fingerprint)
    found = list(zip(queries.paths, hits, strict=True))
    lines = []
    for query, answers in found:
        lines += [query] if photo.is_dir() else []
        lines += [f"{rank:>3}  {hit.similarity:.4f}  {hit.path}" for rank, hit in enumerate(answers, 1)]
    facts = [{"query": query, "hits": [asdict(hit) for hit in answers]} for query, answers in found]
    _print(facts, "\n".join(lines), as_json=as_json)
    if page and photos:
        from neardup.report import write_hits

        write_hits(page, photo if photo.is_dir() else photo.parent, photos, found)
        click.echo(f"Look at {page}", err=True)


def _resolved(encoder: str, folder: Path) -> str:
    if not encoder.startswith(("models:/", "runs:/", "mlflow-artifacts:/")):
        return encoder
    from tasks.publish import tracking_of

    return tracking_of(folder).encoder(encoder)


def _loaded(settings: "Settings", folder: Path, precision: "Precision", results: Path) -> Any:
    """The encoder at a precision; what a lower one was measured to cost is said, or it is refused."""
    from neardup.encoder import load_encoder
    from neardup.precision import effect, measured

    model = load_encoder(_resolved(settings.encoder, folder), settings.device, precision)
    if precision != "fp32":
        click.echo(effect(measured(results, precision, model.fingerprint)), err=True)
    return model


def _approaches(out: Path, settings: "Settings") -> list[Any]:
    from dataclasses import replace

    from neardup.encoder import load_encoder
    from neardup.experiment import approaches_of

    encoder = _resolved(settings.encoder, out)
    return approaches_of(out, replace(settings, encoder=encoder), load_encoder(encoder).fingerprint)


@main.command()
@_options(_out, _config, _encoder, _device, _train)
@click.option(
    "--augmentation",
    type=click.Choice(["none", "classic", "press"]),
    default="none",
    show_default=True,
    help="Vary the photos on the fly; any recipe makes the third approach.",
)
def train(
    out: Path, config: Path | None, encoder: str | None, device: str | None, augmentation: str, **said: Any
) -> None:
    """Fine-tune the encoder on a prepared training set.

    \b
    Example: neardup train --out results --encoder builtin:tiny --epochs 10 --augmentation classic
    """
    from neardup.experiment import make_checkpoint

    name = "fine-tuned" if augmentation == "none" else "fine-tuned-augmented"
    recipe = None if augmentation == "none" else augmentation
    settings = _settings(config, encoder=encoder, device=device, augmentation=recipe, **_training(said))
    approach = next(approach for approach in _approaches(out, settings) if approach.name == name)
    if approach.checkpoint.done():
        click.echo("unchanged since the last run, nothing was done")
    else:
        make_checkpoint(approach, click.echo)
    click.echo(f"The checkpoint is {approach.folder / 'checkpoint'}")


@main.command()
@_options(_out, _config, _encoder, _device, _train, _json)
@click.option("--augmentation", type=click.Choice(["classic", "press"]), help="Recipe of the third approach.")
@click.option(
    "--precision",
    type=click.Choice(["bf16", "fp16", "int8"]),
    help="Also measure what these numbers cost: then `embed`, `search` and `duplicates` may compute with them.",
)
def evaluate(out: Path, config: Path | None, as_json: bool, precision: "Precision | None", **said: Any) -> None:
    """Measure every approach that has been trained in the folder, and compare them.

    Say the options that `neardup train` was told: what was trained otherwise is left out.

    \b
    Example: neardup evaluate --out results --encoder builtin:tiny
             neardup evaluate --out results --encoder builtin:tiny --precision int8
    """
    from neardup.experiment import (
        compare_approaches,
        comparison_stage,
        encode_test_set,
        evaluate_approach,
        made_approaches,
        make_checkpoint,
        provenance,
    )

    training = _training(said)
    settings = _settings(config, **training, **said)
    made = made_approaches(_approaches(out, settings), lambda line: click.echo(f"neardup: {line}", err=True))
    for approach in made:
        steps = (
            (approach.checkpoint, make_checkpoint),
            (approach.vectors, encode_test_set),
            (approach.evaluation, evaluate_approach),
        )
        for stage, make in steps:
            stage.read() or make(approach)
    comparison_stage(made).read() or compare_approaches(made, provenance(settings))
    if precision is None:
        _print_comparison(out, as_json=as_json)
        return
    from neardup.precision import measure

    for approach in made:
        folder = measure(approach, precision)
        _print_comparison(folder, as_json=as_json)


def _print_comparison(out: Path, *, as_json: bool) -> None:
    suffix = "json" if as_json else "md"
    click.echo((out / f"comparison.{suffix}").read_text(encoding="utf-8").rstrip())


@main.command()
@_archive
@_options(_out, _config, _encoder, _device, _translator, _train, _json)
@click.option("--augmentation", type=click.Choice(["classic", "press"]), help="Recipe of the third approach.")
@click.option("--write-augmented", is_flag=True, default=None, help="Also write train_dataset_aug/.")
def experiment(archive: Path, out: Path, config: Path | None, as_json: bool, **said: Any) -> None:
    """Run the whole experiment on an archive: prepare, translate, train, evaluate, compare.

    Run it again and only what changed is done again; killed, it goes on where it was.

    \b
    Example: neardup experiment ARCHIVE --out results --encoder builtin:tiny
    """
    training = _training(said)
    said["translate__translator"] = said.pop("translator")
    settings = _settings(config, archive, **training, **said)
    _run_experiment(archive, out, settings, as_json=as_json)


def _run_experiment(archive: Path, out: Path, settings: "Settings", *, as_json: bool = False) -> None:
    from neardup.encoder import load_clip, pick_device
    from neardup.prepare import check_archive

    check_archive(archive, out, settings.prepare)
    # What the user must mend is said before any server is started.
    pick_device(settings.device)
    load_clip(_resolved(settings.encoder, out))
    result = _flow("experiment", out, archive.resolve(), out.resolve(), settings)
    _print_comparison(out, as_json=as_json)
    if as_json:
        return
    names = {"Report": "report.html", "Test set": "new_IS.xlsx", "Training set": "df_training.xlsx"}
    for title, name in {**names, "Discrepancies": "discrepancies.xlsx", "Table": "comparison.xlsx"}.items():
        click.echo(f"{title:<14} {out / name}")
    _echo_mlflow(result["mlflow"])


def _echo_mlflow(page: str | None) -> None:
    where = page or "not logged: the server is away; run the same command again"
    click.echo(f"{'MLflow':<14} {where.replace(f'{Path.cwd()}/', '')}")


def _flow(name: str, out: Path, *arguments: Any) -> Any:
    """Run a flow on the configured Prefect server, or on a temporary one."""
    out.mkdir(parents=True, exist_ok=True)
    _isolate(out)
    import tasks.running

    with tasks.running.server(meanwhile=partial(import_module, f"flows.{name}")):
        return getattr(import_module(f"flows.{name}"), name)(*arguments)


def _isolate(out: Path) -> None:
    """Without a Prefect server of the user's, keep Prefect's state beside the results instead of in the home folder."""
    if "PREFECT_API_URL" in os.environ or (Path.home() / ".prefect" / "profiles.toml").is_file():
        return
    home = (out / ".neardup" / "prefect").resolve()
    home.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("PREFECT_HOME", str(home))


_state = click.option(
    "--state",
    type=FOLDER,
    default=Path("services"),
    show_default=True,
    help="Folder for databases, artifacts and logs.",
)


@main.command()
@_options(_out, _config, _encoder, _device, _train, _json)
@click.option("--trials", type=int, help="Trials in all; a study that has fewer goes on.")
@click.option("--trial-epochs", type=int, help="At most so many epochs in a trial.")
@click.option("--parallel", type=int, help="Trials at once.")
def tune(
    out: Path,
    config: Path | None,
    as_json: bool,
    encoder: str | None,
    device: str | None,
    trials: int | None,
    trial_epochs: int | None,
    parallel: int | None,
    **said: Any,
) -> None:
    """Search the learning rate, the weight decay and more; the best recipe becomes the approach `tuned`.

    What is searched, and how far, stands in the table [tune] of neardup.toml. Killed, a study goes on where it was.

    \b
    Example: neardup tune --out results --encoder builtin:tiny --trials 20
    """
    said = _training(said) | {"tune__trials": trials, "tune__epochs": trial_epochs, "tune__parallel": parallel}
    settings = _settings(config, encoder=encoder, device=device, **said)
    result = _flow("tune", out, out.resolve(), settings)
    if as_json:
        click.echo((out / "tuning" / "tuning.json").read_text(encoding="utf-8").rstrip())
        return
    _print_comparison(out, as_json=False)
    best = ", ".join(f"{name} = {value}" for name, value in result["best"].items())
    click.echo(f"\n{'Best recipe':<14} {best}")
    click.echo(f"{'Trials':<14} {out / 'tuning' / 'trials.xlsx'}")
    click.echo(f"{'Tuned, default':<14} {out / 'tuning' / 'comparison.md'}")
    _echo_mlflow(result["mlflow"])


@main.command()
@_options(_out, _device, _json)
@click.option("--metric", default="ndcg", show_default=True, help="What must gain.")
@click.option("--margin", type=click.FloatRange(0, 1), default=0.005, show_default=True, help="Least gain.")
@click.option("--version", "challenger", help="Version to promote; else the alias challenger.")
def promote(out: Path, device: str | None, metric: str, margin: float, challenger: str | None, as_json: bool) -> None:
    """Make the challenger champion, if it is better than champion and zero-shot on the same test set.

    The metric must gain the margin, and the paired 95 % interval over groups must hold no loss.

    \b
    Example: neardup promote --out results --metric ndcg --margin 0.01
    """
    from typing import get_args

    from neardup.recipes import Metric

    if metric not in get_args(Metric):
        raise ConfigError(f"no promotion goes by {metric}: name one of {', '.join(get_args(Metric))}")
    result = _flow("promote", out, out.resolve(), metric, margin, challenger, device or "auto")
    _print(result, result["why"], as_json=as_json)


@main.command()
@_archive
@_options(_out, _config, _device, _json, _champion)
def watch(
    archive: Path,
    out: Path,
    config: Path | None,
    device: str | None,
    encoder: str,
    threshold: float | None,
    as_json: bool,
) -> None:
    """Find the photos that are new since the last time, and what they are near-duplicates of.

    A photo that only moved is not new, one that was replaced is. The first run takes every photo as new.

    \b
    Example: neardup watch ARCHIVE --out results
    """
    from neardup.archive import check_folders

    check_folders(archive, out)
    settings = _settings(config, archive, device=device)
    where = archive.resolve(), out.resolve()
    result = _flow("watch", out, *where, settings.prepare, encoder, threshold, settings.device)
    folder = Path(result["folder"]) if result["folder"] else None
    seen = f"\nLook at {folder / 'gallery.html'}, {folder / 'pairs.xlsx'}" if folder else ""
    _print(result, f"{result['summary']}{seen}", as_json=as_json)


@main.command()
@_archive
@_options(_out, _config, _device, _precision, _json, _champion)
@click.option("--runner", type=click.Choice(["threads", "dask"]), help="Threads of this process, or Dask's workers.")
@click.option("--workers", type=int, help="Tasks at once; with dask so many processes are started here.")
@click.option("--scheduler", help="With dask: address of a scheduler that runs already.")
@click.option("--store", help="Folder or URL of the vectors, the same for every worker; else beside the results.")
def duplicates(
    archive: Path,
    out: Path,
    config: Path | None,
    device: str | None,
    precision: str,
    encoder: str,
    threshold: float | None,
    as_json: bool,
    **said: Any,
) -> None:
    """Find all near-duplicates among the photos of a folder, ten thousand or ten million.

    Killed, it goes on where it was; run again, it encodes and compares only what is new.

    \b
    Example: neardup duplicates photos --out results --encoder builtin:tiny --threshold 0.9
             neardup duplicates photos --out results --runner dask --workers 8
    """
    from neardup.archive import check_folders

    check_folders(archive, out)
    settings = _settings(config, archive, device=device, **{f"cluster__{name}": value for name, value in said.items()})
    where = archive.resolve(), out.resolve()
    how = settings.device, precision, settings.prepare.max_pixels, settings.cluster
    result = _flow("duplicates", out, *where, encoder, threshold, *how)
    folder = Path(result["folder"])
    seen = f"Look at {folder / 'gallery.html'}, {folder / 'pairs.xlsx'}, {folder / 'groups.xlsx'}"
    _print(result, f"{result['summary']}\n{seen}", as_json=as_json)


@main.command()
@_options(_out)
@click.option("--to", help="A version; else the champion before this one.")
def rollback(out: Path, to: str | None) -> None:
    """Put the former champion back in place.

    \b
    Example: neardup rollback --out results
    """
    from tasks.publish import tracking_of
    from tasks.registry import rollback as put_back

    click.echo(put_back(tracking_of(out), to))


@main.command()
@_state
@click.option("--archive", type=FOLDER, help="The deployments' archive; else as before, or that of `neardup demo`.")
@click.option("--out", type=FOLDER, help="Their results; else as before, or results.")
@click.option("--host", help="Interface to listen on; this machine only, if left out.")
@click.option("--mlflow-port", type=click.IntRange(1, 65535), help="MLflow's port; 5000 if left out.")
@click.option("--prefect-port", type=click.IntRange(1, 65535), help="Prefect's port; 4200 if left out.")
@click.option("--allow-host", "names", multiple=True, help="With --host: a name by which others ask for the servers.")
def up(state: Path, archive: Path | None, out: Path | None, **asked: Any) -> None:
    """Start MLflow, Prefect and a worker for the flows of this folder, in the background; what runs is left alone.

    Databases: MLFLOW_BACKEND_STORE_URI, MLFLOW_ARTIFACTS_DESTINATION and PREFECT_SERVER_DATABASE_CONNECTION_URL, or
    sqlite and files in the state folder.

    \b
    Example: neardup up --archive ARCHIVE --out results
             neardup up --mlflow-port 5050 --prefect-port 4250
    """
    from tasks.services import up as start

    os.environ.update({f"NEARDUP_{name}": str(said) for name, said in (("ARCHIVE", archive), ("OUT", out)) if said})
    at = start(Path.cwd(), state.resolve(), asked, lambda line: click.echo(line, err=True))
    password = ' PREFECT_API_AUTH_STRING="$PREFECT_SERVER_API_AUTH_STRING"' * at.guarded
    end = "make down" if state == Path("services") else f"neardup down --state {state}"
    click.echo(f"MLflow   {at.mlflow}\nPrefect  {at.prefect}\nLogs     {state / 'logs'}\n")
    click.echo(f"export PREFECT_API_URL={at.prefect}/api MLFLOW_TRACKING_URI={at.mlflow}{password}\n{end}")


@main.command()
@_state
def down(state: Path) -> None:
    """End what `neardup up` started, runs of flows included, and nothing else.

    \b
    Example: neardup down
    """
    from tasks.services import down as end

    end(state.resolve(), click.echo)


@main.command()
@click.option("--out", type=FOLDER, default=Path("demo"), show_default=True, help="Folder for archive and results.")
@click.option("--groups", type=click.IntRange(4), default=24, show_default=True, help="Groups of similar photos.")
@click.option("--training", type=click.IntRange(16), default=96, show_default=True, help="Training photos.")
@click.option("--epochs", type=click.IntRange(1), default=6, show_default=True, help="Epochs of fine-tuning.")
def demo(out: Path, groups: int, training: int, epochs: int) -> None:
    """Draw a small archive, mess and all, and run the experiment on it with the encoder that neardup ships.

    \b
    Example: neardup demo --out demo --groups 40
    """
    from neardup.config import load_settings
    from neardup.demo import make_archive

    archive = out / "archive"
    click.echo(f"Drawing {groups} groups of similar photos and {training} training photos in {archive}", err=True)
    make_archive(archive, groups=groups, training=training)
    said = {"encoder": "builtin:tiny", "train.epochs": epochs, "train.lr": 1e-4, "train.batch_size": 32}
    _run_experiment(archive, out / "results", load_settings(None, said))


if __name__ == "__main__":
    sys.exit(main())

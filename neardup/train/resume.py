"""The state from which a killed training resumes: trained weights, the optimizers' moments and the history."""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from neardup.stages import digest_contents, read_json, replacing, sync, sync_names, write_json

if TYPE_CHECKING:
    from neardup.encode.trainable import Trainable


@dataclass(frozen=True)
class TrainingState:
    """A folder with the state after the last whole epoch.

    Each epoch's tensors lie in a separate folder, which `state.json`, written when they are on disk, names: a run that
    is killed while writing leaves the previous epoch's state.

    Attributes:
        folder: folder of the state.
        key: digest of everything that the weights depend on; the state of another key is discarded.
    """

    folder: Path
    key: str

    @property
    def _pointer(self) -> Path:
        """The file that names the folder of the last whole epoch."""
        return self.folder / "state.json"

    def read(self) -> dict[str, Any] | None:
        """The facts of the last whole epoch, or None; what belongs to another key or was damaged is deleted."""
        pointer = read_json(self._pointer)
        if not pointer:
            return None
        folder = self.folder / str(pointer.get("folder"))
        if pointer.get("key") == self.key and folder.is_dir() and digest_contents(folder) == pointer.get("contents"):
            return dict(pointer["facts"])
        self.discard()
        return None

    def write(
        self,
        epoch: int,
        model: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        facts: dict[str, Any],
        memory: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Write the state after an epoch, and any other tensors in `memory`, replacing the previous state."""
        folder = self.folder / f"epoch-{epoch:06}"
        _save(folder / "model.safetensors", dict(_learning(model)))
        for number, optimizer in enumerate(optimizers):
            _save(folder / f"optimizer-{number}.safetensors", _flat(optimizer))
        if memory:
            _save(folder / "memory.safetensors", memory)
        sync(folder, root=self.folder.parent)
        pointer = {"key": self.key, "folder": folder.name, "contents": digest_contents(folder), "facts": facts}
        write_json(self._pointer, pointer)
        for other in self.folder.glob("epoch-*"):
            if other != folder:
                shutil.rmtree(other)

    def note(self, facts: dict[str, Any]) -> None:
        """Replace the facts of the last whole epoch."""
        pointer = json.loads(self._pointer.read_text(encoding="utf-8"))
        write_json(self._pointer, pointer | {"facts": facts})

    def restore(self, model: nn.Module, *optimizers: torch.optim.Optimizer) -> dict[str, Tensor]:
        """Restore weights and moments, to the last bit; return the other tensors that were written."""
        folder = self.folder / json.loads(self._pointer.read_text(encoding="utf-8"))["folder"]
        weights = load_file(folder / "model.safetensors")
        with torch.no_grad():
            for name, parameter in _learning(model):
                parameter.copy_(weights[name])
        for number, optimizer in enumerate(optimizers):
            _unflatten(optimizer, load_file(folder / f"optimizer-{number}.safetensors"))
        memory = folder / "memory.safetensors"
        return load_file(memory) if memory.exists() else {}

    def discard(self) -> None:
        """Delete the state: a finished training needs none."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _learning(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """The weights that learn, by name: frozen ones need not be written."""
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def _save(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as a safetensors file, atomically."""
    with replacing(path) as partial:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, partial)


def _flat(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimizer's moments, `3.exp_avg` for that of its fourth weight, as safetensors takes them."""
    state = optimizer.state_dict()["state"]
    return {f"{number}.{name}": tensor for number, moments in state.items() for name, tensor in moments.items()}


def _unflatten(optimizer: torch.optim.Optimizer, flat: dict[str, Tensor]) -> None:
    """Give an optimizer the moments that `_flat` made.

    They are laid out in memory like their weights, because a fused optimizer reads both in memory order.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in flat.items():
        number, _, moment = name.partition(".")
        state.setdefault(int(number), {})[moment] = _laid_as(weights[int(number)], tensor)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _laid_as(weight: Tensor, moment: Tensor) -> Tensor:
    """A moment in its weight's order of memory; a count of steps, which has no dimension, as it is."""
    if moment.shape != weight.shape:
        return moment
    return torch.empty_like(weight, dtype=moment.dtype, device=moment.device).copy_(moment)


def save_checkpoint(clip: "Trainable", checkpoint: Path, beside: Path) -> None:
    """Replace a checkpoint by a new one; `recover_checkpoint` repairs what a kill in between leaves.

    The new checkpoint is on disk before the old one is deleted, and before this returns.

    Args:
        clip: the model to save.
        checkpoint: the checkpoint's folder.
        beside: a folder on the same file system that holds the new and the old checkpoint during the exchange.
    """
    new, old = beside / "new-checkpoint", beside / "old-checkpoint"
    _remove(new, old)
    beside.mkdir(parents=True, exist_ok=True)
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    clip.save(new)
    if checkpoint.exists():
        checkpoint.rename(old)
    new.rename(checkpoint)
    sync_names(beside)
    sync_names(checkpoint.parent)
    _remove(old)


def recover_checkpoint(checkpoint: Path, beside: Path) -> None:
    """Restore the best checkpoint if a kill came between the two renames of `save_checkpoint`."""
    old = beside / "old-checkpoint"
    if not checkpoint.exists() and old.exists():
        old.rename(checkpoint)


def _remove(*folders: Path) -> None:
    """Delete folders, if they exist."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def weights_digest(tensors: Sequence[tuple[str, Tensor]]) -> str:
    """SHA-256 of named weights: training from other weights has another key."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(name.encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()

"""What a killed training goes on from: the weights that learn, the optimizers' moments and the history."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from neardup.stages import replacing, write_json

if TYPE_CHECKING:
    from neardup.encode.encoder import Clip


@dataclass(frozen=True)
class TrainingState:
    """A folder with the state after the last whole epoch.

    Each epoch's tensors lie in a folder of their own and `state.json`, written last, names it: a run killed while it
    writes leaves the epoch before. `key` stands for everything that the weights depend on; the state of another key
    is discarded.
    """

    folder: Path
    key: str

    @property
    def _pointer(self) -> Path:
        return self.folder / "state.json"

    def read(self) -> dict[str, Any] | None:
        """The facts of the last whole epoch, or None; what belongs to another key is deleted."""
        try:
            found = json.loads(self._pointer.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        if found["key"] == self.key:
            return dict(found["facts"])
        self.discard()
        return None

    def write(
        self, epoch: int, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], facts: dict[str, Any]
    ) -> None:
        """Keep the state after an epoch, in place of the one before."""
        folder = self.folder / f"epoch-{epoch:06}"
        _save(folder / "model.safetensors", dict(_learning(model)))
        for number, optimizer in enumerate(optimizers):
            _save(folder / f"optimizer-{number}.safetensors", _flat(optimizer))
        write_json(self._pointer, {"key": self.key, "folder": folder.name, "facts": facts})
        for other in self.folder.glob("epoch-*"):
            if other != folder:
                shutil.rmtree(other)

    def restore(self, model: nn.Module, *optimizers: torch.optim.Optimizer) -> None:
        """Bring weights and moments back, to the last bit."""
        folder = self.folder / json.loads(self._pointer.read_text(encoding="utf-8"))["folder"]
        weights = load_file(folder / "model.safetensors")
        with torch.no_grad():
            for name, parameter in _learning(model):
                parameter.copy_(weights[name])
        for number, optimizer in enumerate(optimizers):
            _unflatten(optimizer, load_file(folder / f"optimizer-{number}.safetensors"))

    def discard(self) -> None:
        """Delete it."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _learning(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def _save(path: Path, tensors: dict[str, Tensor]) -> None:
    with replacing(path) as partial:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, partial)


def _flat(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"{number}.{name}": tensor for number, moments in state.items() for name, tensor in moments.items()}


def _unflatten(optimizer: torch.optim.Optimizer, flat: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in flat.items():
        number, _, moment = name.partition(".")
        state.setdefault(int(number), {})[moment] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def save_checkpoint(clip: "Clip", checkpoint: Path, beside: Path) -> None:
    """Put a new checkpoint in the old one's place; `recover_checkpoint` mends what a kill in between leaves."""
    new, old = beside / "new-checkpoint", beside / "old-checkpoint"
    _remove(new, old)
    beside.mkdir(parents=True, exist_ok=True)
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    clip.save(new)
    if checkpoint.exists():
        checkpoint.rename(old)
    new.rename(checkpoint)
    _remove(old)


def recover_checkpoint(checkpoint: Path, beside: Path) -> None:
    """Bring the best checkpoint back if a kill came between the two renames of `save_checkpoint`."""
    old = beside / "old-checkpoint"
    if not checkpoint.exists() and old.exists():
        old.rename(checkpoint)


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def weights_digest(tensors: Sequence[tuple[str, Tensor]]) -> str:
    """SHA-256 of named weights: training from other weights has another key."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(name.encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()

"""ONNX files of image encoders from any source: how photos are prepared for one, and where that is said.

`[onnx]` in `neardup.toml` comes first, then the `preprocessor_config.json` beside the file or, without one, the file's
own metadata, and last the shape of its input.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from neardup.encode.background import Background
from neardup.encode.onnx import (
    CHANNELS,
    LAYOUT,
    MODEL,
    PREPARATION,
    RANK,
    OnnxEncoder,
    OpenGraph,
    Preparation,
    open_graph,
)
from neardup.errors import EncoderError, install_hint
from neardup.words import reason_of

if TYPE_CHECKING:  # a borrowed GPU has no pydantic, which settings need
    from neardup.settings.schema import OnnxSettings

TABLE = "[onnx] of neardup.toml"
"""Name, in error messages, of the settings that say how photos are prepared."""
NCHW, NHWC = "nchw", "nhwc"
"""The two layouts of images: (n, 3, height, width) and (n, height, width, 3)."""
WHITE = 255
"""Greatest level of a decoded photo."""
ELSEWHERE = b"\n\x08location"
"""Key, as protobuf writes it, by which a graph names the other file that holds a weight."""


def is_onnx(name: str) -> bool:
    """Whether an encoder's name is an ONNX file, or a folder that holds one."""
    return name.endswith(".onnx") or (Path(name) / MODEL).is_file()


def prepared(name: str, settings: "OnnxSettings", cache: Path, say: Callable[[str], object]) -> str:
    """Return an encoder's name, or for an ONNX file with settings, that of a folder with the file and the settings.

    The folder can be loaded without settings, on this machine or another.

    Args:
        name: name or path of an encoder, as `load_encoder` takes it, or a model of MLflow.
        settings: how photos are prepared for an ONNX file; fields that are None are left to the file.
        cache: folder that keeps such folders.
        say: called with a sentence, when the folder is made, if the settings contradict the file.

    Raises:
        EncoderError: see `of_file`.
    """
    given = {key: value for key, value in asdict(settings).items() if value is not None}
    if not given or not is_onnx(name):
        return name
    encoder = of_file(name, _file(name), given)
    if Background.load(Path(name)) and load_onnx(name).fingerprint == encoder.fingerprint:
        return name  # nothing is changed, and its background lies in its folder
    folder = cache.resolve() / f"onnx-{encoder.fingerprint[:16]}"
    if not (folder / MODEL).is_file():
        if contradicted := contradictions(name, given):
            say(f"{TABLE} is taken, which contradicts {name}: {contradicted}")
        encoder.save(folder)
    return str(folder)


def load_onnx(name: str, given: Mapping[str, Any] | None = None) -> OnnxEncoder:
    """Load the encoder in an ONNX file, or in a folder that holds one; arguments and errors as in `of_file`."""
    return of_file(name, _file(name), given)


def _file(name: str) -> Path:
    """Path of the ONNX file that a name refers to."""
    return Path(name) if name.endswith(".onnx") else Path(name) / MODEL


def of_file(name: str, path: Path, given: Mapping[str, Any] | None = None) -> OnnxEncoder:
    """Load the encoder in an ONNX file.

    How photos are prepared is taken, in this order, from `given`, from the `preprocessor_config.json` beside the file
    or, without one, from the file's metadata (`image_layout` as plain text, and `image_size`, `image_mean`, `image_std`
    as JSON), and from the input's shape. An input in uint8 takes no mean.

    Args:
        name: what the user calls it.
        path: the file.
        given: `layout` (`nchw` or `nhwc`), `size` (height, width), `mean`, `std`; missing or empty values are taken
            from the other sources.

    Raises:
        EncoderError: there is no such file, it is not an image encoder, nothing says how photos are prepared for it, or
            `given` contradicts its input.
    """
    if not path.is_file():
        raise EncoderError(f"there is no file {path}: name an ONNX file of an image encoder")
    graph = _open_file(name, path)
    model = _Input.of(graph.session)
    settings = _checked(TABLE, {key: value for key, value in (given or {}).items() if value})
    preparation, last = _preparation(name, path, graph.session, model, settings)
    digest = hashlib.sha256(graph.model + preparation.key.encode())
    if last and model.layout != NHWC:
        digest.update(NHWC.encode())  # the graph does not show it
    return OnnxEncoder(name, graph, preparation, digest.hexdigest(), channels_last=last)


def _open_file(name: str, path: Path) -> OpenGraph:
    """Open the graph in a file with all its weights; errors as in `open_graph`.

    An exporter may put the weights into another file, as torch does by default. ONNX Runtime would look for it in the
    working directory, and the digest would not cover it.

    Raises:
        EncoderError: also if the weights lie in another file, which is missing or cannot be read without the package
            `onnx`.
    """
    model = path.read_bytes()
    if ELSEWHERE not in model:
        return open_graph(name, model, {})
    try:
        import onnx  # noqa: PLC0415 - an optional dependency

        model = onnx.load(path).SerializeToString(deterministic=True)
    except ImportError as error:
        raise EncoderError(
            f"{name} keeps its weights in another file, which the package onnx reads: {install_hint('int8')}, or "
            "export it as one file (external_data=False of torch.onnx.export)"
        ) from error
    except Exception as error:  # a missing file raises a class of ONNX's own
        raise EncoderError(
            f"{name} keeps its weights in another file, which cannot be read ({reason_of(error)}): put that beside it"
        ) from error
    return open_graph(name, model, {})


def contradictions(name: str, given: Mapping[str, Any]) -> str:
    """Say in words where an ONNX file's own statements differ from settings; empty where nothing differs."""
    path = _file(name)
    beside = _beside(path)
    own = _entries_of(beside) if beside else _metadata(name, _open_file(name, path).session)
    differs = [key for key in given if key in own and _plain(own[key]) != _plain(given[key])]
    return "; ".join(f"{key} is {_shown(given[key])} there, {_shown(own[key])} by the file" for key in differs)


def _plain(value: Any) -> Any:
    """Convert a value so that it compares equal to the same value from another kind of file."""
    return [float(one) for one in value] if isinstance(value, list | tuple) else value


def _shown(value: Any) -> str:
    """Write a value as `neardup.toml` would."""
    return json.dumps(value)


@dataclass(frozen=True)
class _Input:
    """What is known from the shape of a model's input.

    Attributes:
        shape: shape in the graph; a dimension of any length is a name or None.
        levels: whether the input takes the levels 0 to 255 unchanged, in uint8.
    """

    shape: tuple[Any, ...]
    levels: bool

    @classmethod
    def of(cls, session: Any) -> "_Input":
        """Read the input's shape from an open session."""
        first = session.get_inputs()[0]
        return cls(tuple(first.shape), first.type == "tensor(uint8)")

    @property
    def layout(self) -> str:
        """The layout that the shape shows; empty where it shows none."""
        if len(self.shape) != RANK:
            return ""
        return NHWC if self.shape[-1] == CHANNELS else NCHW if self.shape[1] == CHANNELS else ""

    def fixed(self, layout: str) -> tuple[int, int]:
        """Height and width in a layout, each 0 where it may be any, both 0 for an input that is not an image."""
        if len(self.shape) != RANK:
            return 0, 0
        height, width = self.shape[1:3] if layout == NHWC else self.shape[2:4]
        return (height if isinstance(height, int) else 0), (width if isinstance(width, int) else 0)

    def sides(self, layout: str) -> tuple[int, int] | None:
        """Height and width in a layout, if both are fixed."""
        height, width = self.fixed(layout)
        return (height, width) if height and width else None


def _preparation(
    name: str, path: Path, session: Any, model: _Input, settings: Mapping[str, Any]
) -> tuple[Preparation, bool]:
    """Find how a photo is prepared for the model in a file, and whether its channels come last; see `of_file`."""
    beside = _beside(path)
    own = _entries_of(beside) if beside else _metadata(name, session)
    layout = _layout(name, model, settings.get("layout"), own.get("layout"))
    if model.levels and settings.keys() & {"mean", "std"}:
        raise EncoderError(f"{name} takes levels 0 to 255 as they are (uint8): leave mean and std out of {TABLE}")
    config = dict(beside) or {"resample": int(Image.Resampling.BILINEAR), "do_normalize": not model.levels}
    given = {**({} if beside else own), **settings}
    config |= {f"image_{key}": [float(one) for one in given[key]] for key in ("mean", "std") if key in given}
    if settings.keys() & {"mean", "std"}:
        config["do_normalize"] = True
    if size := given.get("size") or ("size" not in config and model.sides(layout)):
        config |= {"size": dict(zip(("height", "width"), size, strict=True)), "do_center_crop": False}
    if "size" not in config:
        raise EncoderError(
            f"{name} takes images of any size: say size in {TABLE}, as [224, 224], or in a {PREPARATION} beside it, as "
            '{"size": {"height": 224, "width": 224}, "image_mean": [...], "image_std": [...]}'
        )
    if config.get("do_normalize", True) and not {"image_mean", "image_std"} <= config.keys():
        raise EncoderError(
            f"{name} does not say how levels are normalised: say mean and std in {TABLE}, or image_mean and image_std "
            f"in a {PREPARATION} beside it; ImageNet's models have [0.485, 0.456, 0.406] and [0.229, 0.224, 0.225]"
        )
    preparation = _of_config(path, config)
    if max(preparation.mean) > preparation.scale * WHITE:
        raise EncoderError(
            f"{name} would subtract a mean of {list(preparation.mean)} from levels of 0 to "
            f"{preparation.scale * WHITE:g}: mean and std are of levels 0 to 1, divide both by {WHITE}"
        )
    sides = preparation.height, preparation.width
    if any(fixed not in {0, side} for fixed, side in zip(model.fixed(layout), sides, strict=True)):
        raise EncoderError(f"{name} takes images {model.shape}, not of {sides[0]} × {sides[1]} pixels: mend the size")
    return preparation, layout == NHWC


def _layout(name: str, model: _Input, wanted: str | None, own: str | None) -> str:
    """Choose the layout of the images: from the settings, else from the shape, else from the file.

    Raises:
        EncoderError: the shape contradicts the settings.
    """
    if wanted and model.layout not in {"", wanted}:
        raise EncoderError(f"{name} takes images {model.shape}, which is {model.layout}: mend layout in {TABLE}")
    return wanted or model.layout or own or NCHW


def _metadata(name: str, session: Any) -> dict[str, Any]:
    """Read a file's metadata, by the names of the settings.

    Raises:
        EncoderError: a value is of the wrong kind.
    """
    stored = session.get_modelmeta().custom_metadata_map
    texts = {key: stored[f"image_{key}"] for key in ("layout", "size", "mean", "std") if f"image_{key}" in stored}
    where = f"the metadata of {name}"
    return _checked(where, {key: text if key == "layout" else _json(where, key, text) for key, text in texts.items()})


def _json(where: str, key: str, text: str) -> Any:
    """Parse a text of the metadata.

    Raises:
        EncoderError: the text is not JSON.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise EncoderError(
            f"{where}: image_{key} = {text!r} is no JSON: export the model anew, or say it in {TABLE}"
        ) from None


def _beside(path: Path) -> dict[str, Any]:
    """Read the `preprocessor_config.json` beside a file; empty where there is none.

    Raises:
        EncoderError: it is no JSON.
    """
    file = path.with_name(PREPARATION)
    try:
        config = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise EncoderError(f"{file} is no JSON ({error}): mend it, or delete it and say all in {TABLE}") from None
    if not isinstance(config, dict):
        raise EncoderError(f"{file} holds no object: mend it, or delete it and say all in {TABLE}")
    return config


def _of_config(path: Path, config: Mapping[str, Any]) -> Preparation:
    """Make the preparation that a `preprocessor_config.json` describes.

    Raises:
        EncoderError: the file lacks a needed value.
    """
    try:
        return Preparation.of(config)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EncoderError(
            f"{path.with_name(PREPARATION)} does not say how photos are prepared ({error}): it needs "
            f"size, image_mean and image_std; mend it, or delete it and say all in {TABLE}"
        ) from None


def _entries_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a `preprocessor_config.json` to the names of the settings."""
    given: dict[str, Any] = {}
    crop = config.get("crop_size") if config.get("do_center_crop") else None
    size = crop or config.get("size")
    if isinstance(size, Mapping) and {"height", "width"} <= size.keys():
        given["size"] = (size["height"], size["width"])
    given |= {key: config[f"image_{key}"] for key in ("mean", "std") if f"image_{key}" in config}
    formats = {"channels_last": NHWC, "channels_first": NCHW}
    return given | ({"layout": formats[config[LAYOUT]]} if config.get(LAYOUT) in formats else {})


def _checked(where: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values if each has a known name and is of the right kind.

    Raises:
        EncoderError: a value is of the wrong kind, or its name is unknown.
    """
    needs: dict[str, tuple[str, Callable[[Any], bool]]] = {
        "layout": ("nchw or nhwc", lambda value: value in {NCHW, NHWC}),
        "size": (
            "height and width in pixels, as [224, 224]",
            lambda value: _numbers(value, 2, whole=True, positive=True),
        ),
        "mean": ("three numbers, for red, green and blue", lambda value: _numbers(value, 3)),
        "std": ("three numbers above 0, for red, green and blue", lambda value: _numbers(value, 3, positive=True)),
    }
    for key, value in values.items():
        if key not in needs:
            raise EncoderError(f"{where} knows no {key}: it may say {', '.join(needs)}")
        need, holds = needs[key]
        if not holds(value):
            raise EncoderError(f"{where}: {key} = {value!r} is not {need}")
    return dict(values)


def _numbers(value: Any, count: int, *, whole: bool = False, positive: bool = False) -> bool:
    """Whether a value is a list of `count` finite numbers."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != count:
        return False
    kinds = int if whole else (int, float)
    fine = (isinstance(one, kinds) and not isinstance(one, bool) and math.isfinite(one) for one in value)
    return all(fine) and (not positive or min(value) > 0)

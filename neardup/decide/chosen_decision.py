"""Which decision decides the pairs of a collection: of its verdicts, its ground truth, a model, or the shipped one."""

from collections.abc import Callable, Iterable
from pathlib import Path

from neardup.decide.decision import DECISION_STEP, Decision, first_decision
from neardup.settings.schema import APPROACHES
from neardup.stages import read_json

DECISION = "decision.json"
"""Name of a decision's file: an approach's beside its `metrics.json`, that of the verdicts in the output folder."""
SHIPPED = Path(__file__).parents[1] / "builtin" / DECISION
"""The decision that the project ships, fitted by `python -m neardup.builtin.fit_decision`."""


def shipped_decision(encoder: str) -> Decision | None:
    """The decision that the project ships, if it belongs to an encoder and to this verifier; else None.

    Args:
        encoder: fingerprint of the encoder.
    """
    return first_decision([SHIPPED], encoder)


def own_decision(out: Path, encoder: str) -> Decision | None:
    """The decision of an output folder's own ground truth that belongs to an encoder and this verifier, if any.

    Args:
        out: output folder of an experiment.
        encoder: fingerprint of the encoder.
    """
    return first_decision([out / name / DECISION for name in (*APPROACHES, "tuned")], encoder)


def starting_decision(out: Path, encoder: str) -> Decision | None:
    """The decision that verdicts start from: that of the ground truth, else the shipped one, as `decision_for` chooses.

    Args:
        out: output folder.
        encoder: fingerprint of the encoder.
    """
    return _first_that_counts([own_decision(out, encoder), shipped_decision(encoder)])


def decision_for(
    out: Path | None, encoder: str, checkpoint: str = "", say: Callable[[str], object] = lambda _: None
) -> Decision | None:
    """The decision that belongs to an encoder, and to this verifier.

    That of the verdicts comes first, then that of the output folder's ground truth, that which was registered with a
    model, and the shipped one. One whose ground truth is too small to link any pair stands back behind those that can:
    a few known groups must not take away what is linked without any. One whose links were drawn and found wrong does
    not: what it takes away no other may link.

    Args:
        out: output folder; None where there is none.
        encoder: fingerprint of the encoder.
        checkpoint: what was loaded; beside the folder of a registered model lies its decision.
        say: gets a sentence where the registered decision is passed over, because it is one of another step version,
            and where that of the verdicts belongs to another encoder or verifier, as after a promotion.

    Raises:
        ConfigError: a file is no decision, or one of the output folder is of another step version.
    """
    of_folder = [first_decision([out / DECISION], encoder), own_decision(out, encoder)] if out else []
    if out and of_folder[0] is None and (out / DECISION).is_file():
        say(
            f"What verdicts taught ({out / DECISION}) belongs to another encoder or verifier and is left aside: run "
            "`neardup duplicates`, then `neardup verdicts recalibrate`, so that verdicts count for this model"
        )
    # A name like builtin:tiny is no path, and what lies in the working folder is nobody's.
    registered = [Path(checkpoint).parent / DECISION] if checkpoint and Path(checkpoint).exists() else []
    if registered and (step := read_json(registered[0]).get("step", DECISION_STEP)) != DECISION_STEP:
        say(
            f"The decision of the registered model is of version {step}, and this neardup reads {DECISION_STEP}: it is "
            "passed over until `neardup experiment` registers one anew"
        )
        registered = []
    return _first_that_counts([*of_folder, first_decision(registered, encoder), shipped_decision(encoder)])


def _first_that_counts(decisions: Iterable[Decision | None]) -> Decision | None:
    """The first decision that links any pair, or none because an audit said so; else the first one."""
    present = [decision for decision in decisions if decision]
    promises = [(decision, decision.bands.precision) for decision in present]
    counting = [decision for decision, promise in promises if promise.threshold is not None or promise.drawn]
    return next(iter([*counting, *present]), None)

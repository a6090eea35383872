"""Which decision a collection's pairs go by: that of verdicts, of a ground truth, of a model, or the shipped one."""

from collections.abc import Callable, Iterable
from pathlib import Path

from neardup.decide.decision import DECISION_STEP, Decision, first_decision
from neardup.settings.schema import EVALUATED
from neardup.stages import read_json

DECISION = "decision.json"
"""Name of a decision's file: beside `metrics.json` for an approach's, in the output folder for that of verdicts."""
SHIPPED = Path(__file__).parents[1] / "builtin" / DECISION
"""The decision that the project ships, fitted by `python -m neardup.builtin.fit_decision`."""


def shipped_decision(encoder: str) -> Decision | None:
    """Load the decision that the project ships; None if it does not belong to an encoder and to this verifier.

    Args:
        encoder: fingerprint of the encoder.
    """
    return first_decision([SHIPPED], encoder)


def own_decision(out: Path, encoder: str) -> Decision | None:
    """Load the decision from an output folder's own ground truth, if one belongs to an encoder and this verifier.

    Args:
        out: output folder of an experiment.
        encoder: fingerprint of the encoder.

    Raises:
        ConfigError: a file is not a decision, or it is one of another step version.
    """
    return first_decision([out / name / DECISION for name in EVALUATED], encoder)


def starting_decision(out: Path, encoder: str) -> Decision | None:
    """Choose the decision that verdicts start from: that of the ground truth, or the shipped one, as in `decision_for`.

    Args:
        out: output folder.
        encoder: fingerprint of the encoder.

    Raises:
        ConfigError: a file is not a decision, or it is one of another step version.
    """
    return _first_that_counts([own_decision(out, encoder), shipped_decision(encoder)])


def decision_for(
    out: Path | None, encoder: str, checkpoint: str = "", say: Callable[[str], object] = lambda _: None
) -> Decision | None:
    """Choose the decision that belongs to an encoder and to this verifier; None where there is none.

    The decision of the verdicts comes first, then that of the output folder's ground truth, that registered with a
    model, and the shipped one. A decision whose ground truth is too small to link any pair gives way to the next that
    can link: a few known groups must not take away links that there are without them. A decision that links nothing
    because an audit found wrong links does not give way, as no other decision may link those pairs either.

    Args:
        out: output folder; None where there is none.
        encoder: fingerprint of the encoder.
        checkpoint: name or path of the encoder; a registered model's decision lies beside its folder.
        say: called with a sentence where a registered model's decision is ignored because its step version differs, and
            where that of the verdicts belongs to another encoder or verifier, as after a promotion.

    Raises:
        ConfigError: a file is not a decision, or the output folder's decision has another step version.
    """
    of_folder = [first_decision([out / DECISION], encoder), own_decision(out, encoder)] if out else []
    if out and of_folder[0] is None and (out / DECISION).is_file():
        say(
            f"What verdicts taught ({out / DECISION}) belongs to another encoder or verifier and is left aside: run "
            "`neardup duplicates`, then `neardup verdicts recalibrate`, so that verdicts count for this model"
        )
    # A name like builtin:tiny is not a path: its parent would be the working folder, whose decision belongs to no
    # model.
    registered = [Path(checkpoint).parent / DECISION] if checkpoint and Path(checkpoint).exists() else []
    if registered and (step := read_json(registered[0]).get("step", DECISION_STEP)) != DECISION_STEP:
        say(
            f"The decision of the registered model is of version {step}, and this neardup reads {DECISION_STEP}: it is "
            "passed over until `neardup experiment` registers one anew"
        )
        registered = []
    return _first_that_counts([*of_folder, first_decision(registered, encoder), shipped_decision(encoder)])


def _first_that_counts(decisions: Iterable[Decision | None]) -> Decision | None:
    """Choose the first decision that links any pair, or links none because of an audit; else the first one."""
    present = [decision for decision in decisions if decision]
    promises = [(decision, decision.bands.precision) for decision in present]
    counting = [decision for decision, promise in promises if promise.threshold is not None or promise.drawn]
    return next(iter([*counting, *present]), None)

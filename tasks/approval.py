"""A promotion that waits for a person: the run is suspended, with a form that shows the reasons, until the answer."""

from collections.abc import Mapping
from dataclasses import replace

from prefect import suspend_flow_run
from prefect.context import FlowRunContext
from prefect.input import RunInput
from pydantic import Field

from neardup.errors import PromotionError
from neardup.measure.comparison import compare
from neardup.measure.evaluate import Evaluation
from neardup.measure.promotion import Promotion
from tasks.registry import Candidates

PATIENCE_S = 14 * 24 * 3600
"""Seconds that a run waits for an answer: two weeks, as people have holidays; then it fails and the champion stays."""


class Approval(RunInput):
    """What a person answers in the form of the suspended run."""

    approve: bool = Field(default=False, description="Make the challenger champion; else the champion stays.")
    who: str = Field(min_length=1, description="Your name, which is kept with the version.")
    why: str = Field(default="", description="Your reason, if you want to give one.")


def approved(candidates: Candidates, evaluations: Mapping[str, Evaluation], promotion: Promotion) -> Promotion:
    """Ask a person to confirm a promotion, unless the figures already refuse it.

    The run is suspended here and scheduled again with the answer, when it reaches this point once more and continues.
    An answer holds for these two versions: if another became champion or challenger meanwhile, the person is asked
    again.

    Args:
        candidates: the versions.
        evaluations: version number → its evaluation.
        promotion: what the figures say.

    Raises:
        PromotionError: the run belongs to no deployment, so that nothing could start it again.
    """
    if not promotion.promoted:
        return promotion
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or context.flow_run.deployment_id is None:
        raise PromotionError(
            "a promotion waits for a person only as a run of the deployment `promote`, which the server can start "
            "again: start it there, or run `neardup promote`, which asks nobody"
        )
    versions = candidates.challenger.version, candidates.champion.version
    form = Approval.with_initial_data(description=reasons(candidates, evaluations, promotion))
    answer = suspend_flow_run(wait_for_input=form, timeout=PATIENCE_S, key="approval-{}-{}".format(*versions))
    verb = "Confirmed" if answer.approve else "Refused"
    sentence = f"{verb} by {answer.who}{f': {answer.why}' if answer.why else ''}."
    return replace(promotion, promoted=answer.approve, paragraph=f"{promotion.paragraph} {sentence}")


def reasons(candidates: Candidates, evaluations: Mapping[str, Evaluation], promotion: Promotion) -> str:
    """What the form shows: the paragraph of the reasons, and all figures of challenger, champion and zero-shot."""
    titles = dict[str, str]()
    for title in ("champion", "challenger", "zero_shot"):
        titles.setdefault(getattr(candidates, title).version, title.replace("_", "-"))
    named = [replace(evaluations[number], approach=title) for number, title in titles.items()]
    return f"{promotion.paragraph}\n\n{compare(named).markdown()}"

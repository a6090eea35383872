"""The recipes of the trainings of `builtin:tiny`, each of which continues the one before."""

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Pretraining:
    """Everything that the weights depend on, but for the photographs and ImageNet's weights.

    Attributes:
        steps: how many steps the training on copies has.
        subjects: photographs of a step; two copies are made of each.
        anchors: subjects of a step that come in turn; the others are drawn.
        clustered: anchors that bring four photographs that look like them.
        plates: whether only photographs with several exposures fill up a batch.
        own_likeness: whether the model at its start, instead of the untouched network, judges what looks alike.
        own_kept: whether what the model at its start finds alike is kept, instead of what the untouched network does.
        sizes: pixels of a side of the copies, one of them a step.
        window: chance that a subject is only a part of its picture, so that a photograph is many subjects.
        mild: greatest strength of the damages of one copy, m u² for an even u.
        hard_tones: whether copies may be much harder and paler than their picture (`hard_tones` of
            `neardup.train.press_torch`); else their tones change moderately.
        low: least strength of those of the other, even from there to 1.
        temperature: temperature that divides similarities in the copy loss.
        memory: number of vectors of the latest copies that serve as further negatives (Wang et al. 2020).
        koleo: weight of the spreading loss.
        likeness: weight of the loss that keeps likenesses.
        likeness_temperature: temperature that divides similarities in that loss.
        lr: learning rate of AdamW for the trunk, which falls along half a cosine to 0.
        projection_rate: factor of the projection's learning rate.
        weight_decay: of AdamW, for matrices.
        warmup: steps until the full learning rate.
        share: of the way from earlier weights to the trained ones that is kept (WiSE-FT, Wortsman et al. 2022).
        whitened: share of the greatest variance that is added to all before the projection is whitened by what
            near-duplicates differ in, see `Pretrainer.whiten` of `neardup.builtin.training_step`; 0 leaves it as it is.
        scenes: drawn scenes whose captions the text tower learns.
        text_steps: steps of that training, in which the vision tower stays as it is.
        text_batch: captions of such a step.
        text_lr: learning rate of AdamW for the text tower.
        seed: seed of the first weights, the order and the copies.
    """

    steps: int = 1000
    subjects: int = 40
    anchors: int = 12
    clustered: int = 7
    plates: bool = False
    own_likeness: bool = False
    own_kept: bool = False
    sizes: tuple[int, ...] = (128, 160, 160, 192)
    window: float = 0.5
    mild: float = 0.4
    hard_tones: bool = False
    low: float = 0.2
    temperature: float = 0.05
    memory: int = 0
    koleo: float = 2.0
    likeness: float = 0.5
    likeness_temperature: float = 0.1
    lr: float = 3e-4
    projection_rate: float = 5.0
    weight_decay: float = 0.01
    warmup: int = 20
    share: float = 1.0
    whitened: float = 0.0
    scenes: int = 4000
    text_steps: int = 1000
    text_batch: int = 128
    text_lr: float = 1e-3
    seed: int = 0

    def rate(self, step: int) -> float:
        """Share of the learning rates at a step, counted from 0."""
        return min(1.0, (step + 1) / self.warmup) * (1 + math.cos(math.pi * step / self.steps)) / 2


FINER = Pretraining(steps=400, sizes=(160, 192, 192, 224), lr=1.5e-4, seed=1)
"""Recipe of the second training, which continues the first one at the sizes at which photos are searched."""
APART = Pretraining(steps=1100, sizes=(160, 160, 192, 224), lr=2e-4, seed=2, memory=8000, own_likeness=True, share=0.5)
"""Recipe of the third training: negatives are the copies of a hundred steps, and what the second model finds alike."""
PLATES = replace(APART, steps=200, sizes=(160, 192, 192, 224), clustered=4, plates=True, lr=1e-4, seed=3)
"""Recipe of the fourth training: three in ten subjects have several exposures, which should stay near each other.

Half of the third training's change is kept, so that they are not lost, and half of the way from the second of both
together.
"""
TONES = replace(PLATES, steps=240, hard_tones=True, own_kept=True, likeness=1.0, whitened=0.1, seed=4)
"""Recipe of the fifth training, which sees darker, paler and harder prints than those before; then it is whitened."""
TRAININGS = (Pretraining(), FINER, APART, PLATES, TONES)
"""Recipes of the trainings of the shipped encoder, each of which continues the one before."""

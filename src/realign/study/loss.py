"""The loss of a contrastive training; options that sentence-transformers has too are named as there."""

from typing import Literal

from pydantic import model_validator

from realign.study.base import Section, setting

Direction = Literal["query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc"]


class GuideMask(Section):
    """Which negatives a guide model takes for positives (GISTEmbed)."""

    margin: float = setting(
        0.0, "Leave out candidates whose cosine, by the guide, exceeds the positive's less this."
    )
    margin_strategy: Literal["absolute", "relative"] = setting(
        "absolute", "Whether the margin is a cosine, or a share of the positive's cosine."
    )


class Distillation(Section):
    """A loss that pulls the scores of a query's own passages towards a teacher's."""

    loss: Literal["kl_div", "margin_mse"] = setting(
        "kl_div", "Divergence of the two softmaxes, or squared error of the margins to the positive."
    )
    teacher: Literal["scores", "guide"] = setting(
        "scores", "The rows' own scores (`pos_scores`, `neg_scores`), or the cosines of the guide model."
    )
    weight: float = setting(
        1.0, "Share of this loss; the rest is the contrastive loss. 1 distils alone.", gt=0, le=1
    )
    student_temperature: float = setting(1.0, "The student's cosines are divided by this.", gt=0)
    teacher_temperature: float = setting(1.0, "The teacher's scores are divided by this.", gt=0)


class Loss(Section):
    """InfoNCE over in-batch and hard negatives, and its variants."""

    temperature: float = setting(0.02, "Cosines are divided by this; it is 1/`scale` elsewhere.", gt=0)
    directions: tuple[Direction, ...] = setting(
        ("query_to_doc",),
        "Which texts are compared: a query, or its positive, with all documents or with all queries.",
    )
    partition_mode: Literal["joint", "per_direction"] = setting(
        "joint", "One softmax over all directions, or one for each, whose losses are averaged."
    )
    in_batch_negatives: bool = setting(
        True, "Compare a query with the passages of other queries too; off leaves its own hard negatives."
    )
    hardness_mode: Literal["in_batch_negatives", "hard_negatives", "all_negatives"] | None = setting(
        None, "Which negatives weigh more the closer they are to the query; nothing means none."
    )
    hardness_strength: float = setting(
        0.0, "How much more: this times the cosine is added to a negative's score.", ge=0
    )
    mask_same_text: bool = setting(
        False, "Leave out passages whose text is that of the query's own positive."
    )
    mask_margin: float | None = setting(
        None, "Leave out candidates whose cosine exceeds the positive's by more than this."
    )
    guide: GuideMask | None = setting(
        None, "Leave out what the guide model (`guide_model`) takes for a positive."
    )
    mask_scope: Literal["all", "in_batch"] = setting(
        "all", "Whether `mask_margin` and `guide` also leave out hard negatives of the query itself."
    )
    matryoshka: tuple[int, ...] = setting(
        (), "Also train the first so many dimensions as vectors of their own; the loss is the mean.",
        unit="dimensions",
    )  # fmt: skip
    debias: float = setting(
        0.0,
        "Share of the negatives that is assumed to be positive (debiased loss); 0 is plain InfoNCE.",
        ge=0,
        lt=1,
    )
    distillation: Distillation | None = setting(None, "Also, or only, learn a teacher's scores.")

    @model_validator(mode="after")
    def _sound(self) -> "Loss":
        chosen = set(self.directions)
        if "query_to_doc" not in chosen or len(chosen) < len(self.directions):
            raise ValueError(
                "directions are distinct, and query_to_doc, which holds the positive, is among them"
            )
        same_kind = chosen & {"query_to_query", "doc_to_doc"}
        if self.partition_mode == "per_direction" and same_kind:
            raise ValueError(
                "partition_mode per_direction needs a positive in each direction, and "
                f"{', '.join(sorted(same_kind))} holds none; use joint"
            )
        if not self.in_batch_negatives and len(chosen) > 1:
            raise ValueError("without in-batch negatives query_to_doc is the only direction")
        if (self.hardness_mode is None) != (self.hardness_strength == 0):
            raise ValueError("hardness_mode and a hardness_strength above 0 go together")
        joint = self.partition_mode == "joint" and len(chosen) > 1
        if self.debias and (joint or self.hardness_mode):
            raise ValueError(
                "debias goes with neither a joint softmax over several directions nor hardness_mode"
            )
        return self

    @property
    def needs_guide(self) -> bool:
        """Whether a guide model has to be there."""
        distilled = self.distillation is not None and self.distillation.teacher == "guide"
        return self.guide is not None or distilled

    @property
    def needs_negatives(self) -> bool:
        """Whether it says nothing about a query without hard negatives."""
        return self.distillation is not None or not self.in_batch_negatives

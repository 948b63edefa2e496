"""A candidate policy that learns from another policy's log, and says what it would have chosen at each decision."""

from collections import Counter
from collections.abc import Iterator
from typing import assert_never

import numpy as np

from conduit_learner.core.events import AboutDecision, FeedbackEvent, OutcomeEvent, SelectionEvent
from conduit_learner.core.join import OpenDecision
from conduit_learner.core.policy_learner import PolicyLearner
from conduit_learner.core.targets import reported
from conduit_learner.evaluation.measures import JoinedDecision
from conduit_policy import Beliefs, Constraints, Context, Objective, choose, pack_context, unpack_context
from conduit_policy.vectors import context_bytes
from conduit_schemas import LearningSettings
from conduit_schemas.reasons import NotEvaluated

__all__ = ["CandidateLearner", "known_until"]


class CandidateLearner(PolicyLearner):
    """A policy that learns from another policy's choices and records what it would have chosen each time.

    Parameters
    ----------
    name, settings
        See :class:`PolicyLearner`; given settings apply regardless of the settings in the log.
    objective
        The candidate's objective; None for the objective of each decision.
    features
        Components of the context that the candidate uses; None for all.
    """

    def __init__(
        self,
        name: str,
        settings: LearningSettings | None,
        objective: Objective | None,
        features: frozenset[int] | None,
    ) -> None:
        super().__init__(name, settings)
        self.objective = objective
        self.pinned = settings is not None
        self.features = features
        self.beliefs: dict[int, Beliefs] = {}
        """The candidate's beliefs by offset, kept until no later decision needs them."""
        self.rows: dict[int, JoinedDecision] = {}
        """The usable decisions, by the selection's offset."""
        self.left_out = Counter[NotEvaluated]()
        self.other_features: set[str] = set()
        """The kinds of features that the candidate cannot use, in words."""

    def change(self, settings: LearningSettings) -> None:
        """Use other settings from here on, unless the candidate has its own."""
        if not self.pinned:
            super().change(settings)

    def select(self, selection: SelectionEvent, decision: OpenDecision) -> bool:
        """Open a decision, and record what the candidate would have chosen, or why it cannot say."""
        if not super().select(selection, decision):
            return False
        beliefs = self.beliefs[known_until(selection, decision.offset)]
        wanted = beliefs.snapshot.settings
        objective = Objective.of_log(selection.objective) if self.objective is None else self.objective
        if selection.probabilities is None:
            self.left_out[NotEvaluated.BY_LITELLM] += 1
        elif (selection.featurizer, len(selection.context)) != (wanted.featurizer, context_bytes(wanted.dimension)):
            self.left_out[NotEvaluated.OTHER_FEATURES] += 1
            self.other_features.add(_features(len(unpack_context(selection.context)), selection.featurizer))
        elif objective is None:
            self.left_out[NotEvaluated.INVALID_OBJECTIVE] += 1
        else:
            context = unpack_context(selection.context)
            choice = choose(
                beliefs,
                self._seen(context),
                selection.arms,
                objective=objective,
                decision_id=selection.decision_id,
                constraints=Constraints.of_log(selection.constraints),
            )
            self.rows[decision.offset] = JoinedDecision(
                selection.arms, selection.chosen, selection.probabilities, choice.probabilities, context, objective
            )
        return True

    def resolve(self, event: AboutDecision, decision: OpenDecision, now_ms: int) -> None:
        """Learn from an outcome or feedback, and keep it for the decision's score."""
        duplicates = self.duplicates
        super().resolve(event, decision, now_ms)
        row = self.rows.get(decision.offset)
        if row is not None and self.duplicates == duplicates:
            match event:
                case OutcomeEvent():
                    row.status, row.amounts = event.status, reported(event)
                case FeedbackEvent():
                    if event.signal == "quality":
                        row.qualities.append(event.quality)
                case _:
                    assert_never(event)

    def _context(self, decision: OpenDecision) -> bytes | None:
        context = super()._context(decision)
        return context if context is None else pack_context(self._seen(unpack_context(context)))

    def _seen(self, context: Context) -> Context:
        """Return a context with zeros in the components that the candidate does not use."""
        if self.features is None:
            return context
        kept: Context = np.where(np.isin(np.arange(len(context)), list(self.features)), context, 0).astype(np.int16)
        return kept

    def comparable_rows(self) -> list[JoinedDecision]:
        """Return the decisions whose contexts have the final dimension, because one reward model must fit them all."""
        rows = [row for row in self.rows.values() if len(row.context) == self.settings.dimension]
        if others := len(self.rows) - len(rows):
            self.left_out[NotEvaluated.EARLIER_FEATURES] += others
        return rows

    def left_out_in_words(self) -> Iterator[str]:
        """Yield a sentence or two for each reason for which decisions were left out."""
        for reason, count in self.left_out.items():
            said = f"{count:,} decisions were left out. {reason.about}"
            if reason is NotEvaluated.OTHER_FEATURES:
                own = _features(self.settings.dimension, self.settings.featurizer)
                said += f" They hold {' or '.join(sorted(self.other_features))}, not {own}."
            yield said


def _features(count: int, featurizer: str) -> str:
    return f"{count} features of {featurizer!r}"


def known_until(selection: SelectionEvent, offset: int) -> int:
    """Return the offset up to which the logging policy knew the log; at most the decision's own offset."""
    return offset if selection.snapshot_version is None else min(selection.snapshot_version, offset)

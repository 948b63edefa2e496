"""Explain one decision: the predictions, the objective, the random draw, and the outcome."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from conduit_learner.audit.history import TrimmedError
from conduit_learner.audit.recompute import Recomputation, about_without_snapshot, recompute, without_snapshot
from conduit_learner.audit.replay import Position, snapshots_at
from conduit_learner.core.checkpoint import CheckpointError
from conduit_learner.models.elementary import NORMAL_95
from conduit_log import StoredMessage
from conduit_policy import ROWS, SIGNALS, Beliefs, Context, unpack_context
from conduit_policy.vectors import UNIT, unpack_vector
from conduit_schemas import (
    ConfigurationError,
    ExplorationRule,
    Feedback,
    Outcome,
    RecordError,
    Selection,
    SignalPosterior,
    decode_event,
)
from conduit_schemas.reasons import Code

__all__ = ["ArmExplanation", "Explanation", "Predicted", "ProofStatus", "explain"]


class ProofStatus(Code):
    """Whether a decision follows from the events before it."""

    PROVEN = (
        "proven",
        "The rebuilt snapshot has the logged hash and gives the logged probabilities, and the decision's id draws the "
        "logged deployment.",
    )
    DIFFERS = "differs", "The logged decision does not follow from the events before it."
    NOT_PROVABLE = "not provable", "The events that the decision rests on are no longer available."
    NOTHING_TO_PROVE = "nothing to prove", "Conduit did not choose, or there was nothing to choose."


@dataclass(frozen=True, slots=True)
class Predicted:
    """A predicted mean with its 95 % interval under the regression's assumptions.

    Without observations of this arm, it is what is assumed of it: its prior, which is the mean of all arms unless the
    settings say otherwise. It then has no interval.
    """

    mean: float
    low: float | None
    """None without observations, and without the snapshot that the decision was made with."""
    high: float | None
    observations: float | None
    """Number of observations of this signal of this arm, where faded ones count in part. None without the snapshot:
    it is then not known whether the mean was observed or assumed."""

    @property
    def is_assumed(self) -> bool:
        """Whether this signal was never observed of this arm."""
        return self.observations == 0.0


@dataclass(frozen=True, slots=True)
class ArmExplanation:
    """One of the arms that could have served the request."""

    arm: str
    model: str
    predicted: Mapping[str, Predicted]
    """By signal, in display units; signals that nobody has observed are left out."""
    utility: float | None
    """Mean utility under the decision's objective; None if it could not be computed."""
    deviation: float | None
    """Standard deviation of the utility."""
    probability: float | None
    """The recomputed probability."""
    logged_probability: float | None


@dataclass(frozen=True)
class Explanation:
    """One decision, explained."""

    selection: Selection
    offset: int
    partition: int
    arms: tuple[ArmExplanation, ...]
    greedy: int | None
    """Index of the arm with the largest mean utility, which would have been chosen without exploration."""
    rule: ExplorationRule | None
    coverage: float | None
    """0..1, how well quality was known; the weights of the amounts (cost, times) are multiplied by it."""
    recomputation: Recomputation | None
    proof: ProofStatus
    reasons: tuple[str, ...]
    """Sentences that say why the decision is not ``proven``."""
    outcomes: tuple[Outcome, ...] = field(default=())
    """Outcomes in log order; only the first was learned from."""
    feedbacks: tuple[Feedback, ...] = field(default=())
    """Ratings in log order; only the first of each source and key was learned from."""


def explain(
    messages: Iterable[StoredMessage],
    policy: str,
    decision_id: str,
    *,
    checkpoints: Callable[[], Mapping[bytes, bytes]] | None = None,
) -> Explanation:
    """Explain a decision, and check it as :func:`conduit_learner.audit.verification.verify` does.

    Parameters
    ----------
    messages
        The policy's partition, oldest message first. It is read twice, so a plain iterator is copied into memory.
    policy
        Name of the policy.
    decision_id
        The decision's id.
    checkpoints
        See :func:`~conduit_learner.audit.replay.replay_partition`.

    Raises
    ------
    ConfigurationError
        When there is no such decision.
    """
    if isinstance(messages, Iterator):
        messages = list(messages)
    found = list(_records(messages, policy, decision_id))
    made = next(((message, event) for message, event in found if isinstance(event, Selection)), None)
    if made is None:
        raise ConfigurationError(f"the events hold no decision {decision_id!r} of policy {policy!r}")
    message, selection = made
    beliefs: Beliefs | None = None
    again: Recomputation | None = None
    proof = ProofStatus.NOTHING_TO_PROVE
    reasons: tuple[str, ...] = (about_without_snapshot(without_snapshot(selection)),)
    if selection.snapshot_version is not None:
        try:
            beliefs = _beliefs(messages, message, selection, checkpoints)
        except (TrimmedError, CheckpointError) as error:
            proof, reasons = ProofStatus.NOT_PROVABLE, (str(error),)
        except ConfigurationError as error:
            proof, reasons = ProofStatus.DIFFERS, (str(error),)
    if beliefs is not None:
        reasons = _hash_differs(selection, beliefs)
        result = recompute(selection, beliefs)
        if isinstance(result, Recomputation):
            again, reasons = result, (*reasons, *result.disagreements)
        else:
            reasons = (*reasons, result)
        proof = ProofStatus.DIFFERS if reasons else ProofStatus.PROVEN
    return Explanation(
        selection=selection,
        offset=message.offset,
        partition=message.partition,
        arms=_explained_arms(selection, beliefs, again),
        greedy=None if again is None else int(again.utilities.mean.argmax()),
        rule=None if beliefs is None else beliefs.snapshot.rule,
        coverage=None if beliefs is None else beliefs.stacked(selection.arms).coverage,
        recomputation=again,
        proof=proof,
        reasons=reasons,
        outcomes=tuple(event for _, event in found if isinstance(event, Outcome)),
        feedbacks=tuple(event for _, event in found if isinstance(event, Feedback)),
    )


def _records(
    messages: Iterable[StoredMessage], policy: str, decision_id: str
) -> Iterator[tuple[StoredMessage, Selection | Outcome | Feedback]]:
    key, needle = policy.encode(), decision_id.encode()
    for message in messages:
        # Decoding is the slow part. Only a record with JSON escapes can hold the id without holding its literal text.
        if message.key != key or not (needle in message.value or b"\\" in message.value):
            continue
        try:
            event = decode_event(message.value)
        except RecordError:
            continue  # the learner did not use it either
        if isinstance(event, Selection | Outcome | Feedback) and (event.policy, event.decision_id) == (
            policy,
            decision_id,
        ):
            yield message, event


def _beliefs(
    messages: Iterable[StoredMessage],
    message: StoredMessage,
    selection: Selection,
    checkpoints: Callable[[], Mapping[bytes, bytes]] | None,
) -> Beliefs:
    version = selection.snapshot_version
    if version is not None and version > message.offset:
        raise ConfigurationError(f"it names the snapshot at offset {version}, which did not exist yet")
    (snapshot,) = snapshots_at(messages, selection.policy, [Position(offset=version)], checkpoints=checkpoints)
    return Beliefs(snapshot)


def _hash_differs(selection: Selection, beliefs: Beliefs) -> tuple[str, ...]:
    built = beliefs.snapshot
    if selection.snapshot_hash == built.hash:
        return ()
    return (f"the snapshot at offset {built.offset} has hash {built.hash}, not {selection.snapshot_hash} as logged",)


def _explained_arms(
    selection: Selection, beliefs: Beliefs | None, again: Recomputation | None
) -> tuple[ArmExplanation, ...]:
    logged = selection.probabilities or selection.shadow_probabilities
    return tuple(
        ArmExplanation(
            arm=arm,
            model=selection.models[index] if selection.models else "",
            predicted=_predictions(selection, beliefs, again, index),
            utility=None if again is None else float(again.utilities.mean[index]),
            deviation=None if again is None else float(again.utilities.deviation[index]),
            probability=None if again is None else float(again.probabilities[index]),
            logged_probability=None if logged is None else logged[index],
        )
        for index, arm in enumerate(selection.arms)
    )


def _predictions(
    selection: Selection, beliefs: Beliefs | None, again: Recomputation | None, index: int
) -> dict[str, Predicted]:
    predicted = {}
    arm, context = selection.arms[index], unpack_context(selection.context)
    for signal, row in ROWS.items():
        posterior = None
        if again is not None and beliefs is not None:
            if not beliefs.is_observed(signal):
                continue  # nothing but assumptions, of all arms
            mean, observations = float(again.predictions[row, index]), 0.0
            if beliefs.is_observed(signal, arm):
                posterior = beliefs.snapshot.arms[arm].signals[signal]
                observations = posterior.weight
        elif signal in selection.predictions:
            mean, observations = selection.predictions[signal][index], None
        else:
            continue
        reach = None if posterior is None else NORMAL_95 * _deviation(posterior, context)
        unit = SIGNALS[signal].shown
        predicted[signal] = Predicted(
            mean=unit(mean),
            low=None if reach is None else unit(mean - reach),
            high=None if reach is None else unit(mean + reach),
            observations=observations,
        )
    return predicted


def _deviation(posterior: SignalPosterior, context: Context) -> float:
    """Return the standard deviation of a predicted mean; see :class:`conduit_schemas.SignalPosterior`."""
    x = context * UNIT
    return posterior.sigma * math.sqrt(float((x * x / unpack_vector(posterior.precision)).sum()))

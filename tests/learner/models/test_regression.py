import pickle

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import datasets, linear_model, preprocessing
from river.checks import common

from conduit_learner.models.regression import BLOCK, AdditiveRegression


def rows(count: int, dimension: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Fixed-point contexts and targets as in the log, including the ends of their range."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-32768, 32768, (count, dimension)) / 1024.0
    x[:, 0] = 1.0
    return x, rng.integers(-(32 << 16), 32 << 16, count) / 65536.0


def taught(x: np.ndarray, y: np.ndarray) -> AdditiveRegression:
    model = AdditiveRegression.of_dimension(x.shape[1])
    for row, target in zip(x, y, strict=True):
        model.learn_array(row, float(target))
    return model


def test_predicts_what_river_predicts() -> None:
    ours, theirs = AdditiveRegression(alpha=0.3, beta=2.0), linear_model.BayesianLinearRegression(alpha=0.3, beta=2.0)
    scaler = preprocessing.StandardScaler()  # river's rank-one updates lose digits on unscaled dates
    for raw, y in datasets.TrumpApproval().take(300):
        scaler.learn_one(raw)
        x = scaler.transform_one(raw)
        mine, other = ours.predict_one(x, with_dist=True), theirs.predict_one(x, with_dist=True)
        assert mine.mu == pytest.approx(other.mu, rel=1e-9, abs=1e-9)
        assert mine.sigma == pytest.approx(other.sigma, rel=1e-9)
        assert ours.predict_one(x) == mine.mu
        ours.learn_one(x, y)
        theirs.learn_one(x, y)


def test_passes_rivers_own_checks() -> None:
    # river hands these out together with scikit-learn data sets, which the checks themselves do not need.
    for name in GENERAL_CHECKS:
        getattr(common, name)(AdditiveRegression())
    for name in DATASET_CHECKS:
        getattr(common, name)(AdditiveRegression(), dataset=datasets.TrumpApproval().take(200))
    common.check_bounded_memory_growth(AdditiveRegression(), dataset=datasets.TrumpApproval())


def test_arrays_and_dictionaries_are_two_ways_to_say_the_same() -> None:
    x, y = rows(150, 5, seed=1)
    by_array, by_dict = taught(x, y), AdditiveRegression()
    for row, target in zip(x, y, strict=True):
        by_dict.learn_one(dict(enumerate(row)), target)
    sums = by_dict.statistics()
    for ours, theirs in zip(by_array.statistics(), (sums.gram[:5, :5], sums.moment[:5], sums.energy), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert by_array.predict_one(dict(enumerate(x[0]))) == pytest.approx(by_dict.predict_one(dict(enumerate(x[0]))))


def test_a_feature_may_appear_late_or_be_missing() -> None:
    model, theirs = AdditiveRegression(), linear_model.BayesianLinearRegression()
    for x, y in [({"a": 1.0}, 1.0), ({"a": 2.0, "b": 1.0}, 5.0), ({"b": -1.0, "c": 2.0, "d": 1.0}, 0.5)]:
        model.learn_one(x, y)
        theirs.learn_one(x, y)
    for x in ({"a": 1.0}, {"b": 1.0, "c": 1.0}, {"d": 1.0, "new": 3.0}, {}):
        assert model.predict_one(x) == pytest.approx(theirs.predict_one(x))
        assert model.predict_one(x, with_dist=True).sigma == pytest.approx(theirs.predict_one(x, with_dist=True).sigma)


@given(st.integers(1, BLOCK), st.integers(1, 70), st.integers(0, 2**32), st.data())
@settings(max_examples=50, deadline=None)
def test_sums_are_exact_in_any_order_and_any_split(count: int, dimension: int, seed: int, data: st.DataObject) -> None:
    x, y = rows(count, dimension, seed)
    whole = taught(x, y).statistics()
    order = np.random.default_rng(seed).permutation(count)
    cut = data.draw(st.integers(0, count))
    merged = taught(x[order[:cut]], y[order[:cut]])
    merged.merge(taught(x[order[cut:]], y[order[cut:]]))
    parts = merged.statistics()
    assert parts.gram.tobytes() == whole.gram.tobytes()
    assert parts.moment.tobytes() == whole.moment.tobytes()
    assert parts.energy == whole.energy
    # Compared with integers, which do not round.
    units_x, units_y = (x * 1024).astype(object), (y * 65536).astype(object)
    exact = [[int(value) for value in row] for row in units_x]
    assert whole.energy == sum(int(value) ** 2 for value in units_y) / 2**32
    corner = sum(row[0] * row[-1] for row in exact)
    assert whole.gram[0, -1] == corner / 2**20
    assert whole.moment[-1] == sum(row[-1] * int(value) for row, value in zip(exact, units_y, strict=True)) / 2**26


def test_fading_multiplies_everything_learned_and_no_prior() -> None:
    x, y = rows(10, 3, seed=2)
    model = taught(x, y)
    model.fade(0.5)
    model.learn_array(x[0], float(y[0]))
    sums = model.statistics()
    np.testing.assert_allclose(sums.gram, 0.5 * x.T @ x + np.outer(x[0], x[0]))
    np.testing.assert_allclose(sums.moment, 0.5 * x.T @ y + x[0] * y[0])
    assert sums.energy == pytest.approx(0.5 * float(y @ y) + float(y[0] ** 2))
    for _ in range(2_000):
        model.fade(0.5)
    assert model.predict_one({0: 1.0}, with_dist=True).sigma == pytest.approx(np.sqrt(2.0))


def test_asking_changes_nothing() -> None:
    x, y = rows(100, 4, seed=3)
    asked, left_alone = AdditiveRegression.of_dimension(4), AdditiveRegression.of_dimension(4)
    for row, target in zip(x, y, strict=True):
        for model in (asked, left_alone):
            model.learn_array(row, float(target))
        asked.statistics()
        asked.predict_one({0: 1.0})
        if len(asked.to_array()) % 3 == 0:
            asked.fade(0.9)
            left_alone.fade(0.9)
    assert asked.to_array().tobytes() == left_alone.to_array().tobytes()


@given(st.integers(0, 200), st.integers(1, 9), st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_state_comes_back_to_the_bit(count: int, dimension: int, seed: int) -> None:
    x, y = rows(count, dimension, seed)
    model = taught(x, y)
    back = AdditiveRegression.from_array(dimension, model.to_array())
    for again in (model, back):
        for row, target in zip(x, y, strict=True):
            again.learn_array(row, float(target))
        again.fade(0.7)
    assert back.to_array().tobytes() == model.to_array().tobytes()
    assert pickle.loads(pickle.dumps(model)).to_array().tobytes() == model.to_array().tobytes()


@pytest.mark.parametrize("length", [0, 5, 7, 8])
def test_a_state_of_the_wrong_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"{length} numbers"):
        AdditiveRegression.from_array(2, np.zeros(length))


def test_learns_frames() -> None:
    x, y = rows(20, 3, seed=4)
    table = pa.table({f"f{column}": x[:, column] for column in range(3)})
    many, one = AdditiveRegression(), AdditiveRegression()
    many.learn_many(table, pa.chunked_array([y]))
    for row, target in zip(x, y, strict=True):
        one.learn_one({f"f{column}": row[column] for column in range(3)}, target)
    np.testing.assert_array_equal(many.statistics().gram, one.statistics().gram)
    predicted = many.predict_many(table)
    expected = [one.predict_one({f"f{column}": row[column] for column in range(3)}) for row in x]
    np.testing.assert_allclose(np.asarray(predicted), expected)


GENERAL_CHECKS = {
    "check_repr",
    "check_str",
    "check_tags",
    "check_clone_same_class",
    "check_clone_is_idempotent",
    "check_init_has_default_params_for_tests",
    "check_init_default_params_are_not_mutable",
    "check_doc",
    "check_clone_changes_memory_addresses",
    "check_mutate_can_be_idempotent",
    "check_pickling_supports_roundtrip",
    "check_repr_roundtrips_clone",
    "check_clone_with_new_params_applies",
    "check_get_params_matches_signature",
}
DATASET_CHECKS = {
    "check_learn_one",
    "check_pickling",
    "check_shuffle_features_no_impact",
    "check_emerging_features",
    "check_disappearing_features",
    "check_radically_disappearing_features",
    "check_predict_one_pure",
    "check_predict_one_before_any_learn",
    "check_no_state_aliasing_with_input",
    "check_clone_is_independent",
}

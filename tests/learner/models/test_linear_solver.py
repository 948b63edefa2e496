import numpy as np
import pytest

from conduit_learner.models.linear_solver import solve_ridge


def problems(count: int, dimension: int, rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, rows, dimension))
    return np.swapaxes(x, 1, 2) @ x, rng.normal(size=(count, dimension)) * rows, rng.uniform(0.5, 50.0, (1, dimension))


@pytest.mark.parametrize(("dimension", "rows"), [(1, 5), (2, 1), (7, 100), (64, 20), (64, 1000), (130, 400)])
def test_agrees_with_lapack(dimension: int, rows: int) -> None:
    grams, rhs, prior = problems(3, dimension, rows)
    expected = np.linalg.solve(grams + np.diag(prior[0]), rhs[..., None])[..., 0]
    np.testing.assert_allclose(solve_ridge(grams, rhs, prior).weights[0], expected, rtol=1e-10, atol=1e-12)


def test_shrinkage_is_the_ratio_of_the_determinants() -> None:
    grams, rhs, prior = problems(3, 20, 500)
    grams[1] = 0.0
    rhs[1] = 0.0
    priors = np.concatenate([prior, 1e-6 * prior])
    expected = np.log(priors).sum(axis=1)[:, None] - [np.linalg.slogdet(grams + np.diag(one))[1] for one in priors]
    solved = solve_ridge(grams, rhs, priors)
    np.testing.assert_allclose(solved.shrinkage, expected, rtol=1e-12, atol=1e-9)
    assert not solved.shrinkage[:, 1].any()
    one = solve_ridge(grams[2:], rhs[2:], priors[1:])
    assert one.weights.tobytes() == solved.weights[1, 2:].tobytes()
    assert one.shrinkage == solved.shrinkage[1, 2:]


def test_the_stack_changes_no_bit_and_no_input() -> None:
    grams, rhs, prior = problems(6, 33, 50)
    before = grams.copy(), rhs.copy()
    together = solve_ridge(grams, rhs, prior).weights[0]
    for index in range(6):
        alone = solve_ridge(grams[index : index + 1], rhs[index : index + 1], prior).weights[0]
        assert alone.tobytes() == together[index : index + 1].tobytes()
    backwards = solve_ridge(np.asfortranarray(grams[::-1]), rhs[::-1], prior).weights[0]
    assert backwards[::-1].tobytes() == together.tobytes()
    assert (grams == before[0]).all()
    assert (rhs == before[1]).all()


def test_matrices_that_stand_several_times_are_solved_like_any_other() -> None:
    grams, rhs, prior = problems(4, 20, 50)
    grams[3] = 0.0
    places = [0, 1, 0, 3, 2, 1, 0] * 30  # more than are worked on together
    priors = np.concatenate([prior, 2.0 * prior, 3.0 * prior])
    rhs = np.random.default_rng(1).normal(size=(len(places), 20))
    solved = solve_ridge(grams[places], rhs, priors)
    for row in range(len(priors)):
        for place, of in enumerate(places):
            alone = solve_ridge(grams[of][None], rhs[place][None], priors[row][None])
            assert alone.weights.tobytes() == solved.weights[row, place].tobytes()
            assert alone.shrinkage[0, 0] == solved.shrinkage[row, place]


def test_known_bits() -> None:
    # IEEE 754 defines every operation, so a different result means that machines would disagree.
    hilbert = np.array([[[1.0 / (i + j + 1) for j in range(5)] for i in range(5)]])
    weights = solve_ridge(hilbert, np.ones((1, 5)), np.full((1, 5), 0.125)).weights
    assert [float(weight).hex() for weight in weights[0, 0]] == HILBERT


def test_nothing_seen_gives_nothing() -> None:
    assert not solve_ridge(np.zeros((2, 3, 3)), np.zeros((2, 3)), np.ones((1, 3))).weights.any()


@pytest.mark.parametrize("prior", [1e-300, 1e-12, 1e-3])
def test_collinear_columns_stay_finite(prior: float) -> None:
    column = np.arange(1.0, 9.0)
    x = np.stack([column, column, 3.0 * column, np.ones(8)], axis=1) * 30.0
    gram, rhs = (x.T @ x)[None], (x.T @ column)[None]
    weights = solve_ridge(gram, rhs, np.full((1, 4), prior)).weights[0]
    assert np.isfinite(weights).all()
    np.testing.assert_allclose(x @ weights[0], column, atol=1e-3)


HILBERT = [
    "-0x1.ea48adb118161p-2",
    "0x1.68b27fa8dee8fp-3",
    "0x1.3183d756bc195p+0",
    "0x1.0503aa2e64e3bp+1",
    "0x1.5b8218abdc940p+1",
]

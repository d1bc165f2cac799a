import numpy as np
import pytest

from sklearn_mlm.likelihood._linalg import (
    cholesky,
    independent_columns,
    inverse_of_lower,
    separate_between_columns,
    solve_positive,
    unit_cholesky,
    zero_columns,
)


def columns(*, scale=(1.0, 1.0, 1.0, 1.0)):
    """Four columns, the third the sum of the first two."""
    X = np.random.default_rng(0).integers(-9, 10, (30, 4)).astype(float)
    X[:, 2] = X[:, 0] + X[:, 1]
    return X * scale


@pytest.mark.parametrize("scale", [(1, 1, 1, 1), (1e8, 1e-8, 1.0, 1e5)])
def test_the_later_of_dependent_columns_is_left_out(scale):
    X = columns()
    gram = (X.T @ X) * np.outer(scale, scale)
    np.testing.assert_array_equal(independent_columns(gram), [0, 1, 3])
    np.testing.assert_array_equal(independent_columns(gram[::-1, ::-1]), [0, 1, 2])


def test_the_largest_first_leaves_combinations_small():
    X = np.random.default_rng(0).standard_normal((30, 2)) @ [[1.0, 1e-6], [0.0, 0.0]]
    np.testing.assert_array_equal(independent_columns(X.T @ X), [0])
    np.testing.assert_array_equal(independent_columns((X.T @ X)[::-1, ::-1]), [0])
    np.testing.assert_array_equal(independent_columns((X.T @ X)[::-1, ::-1], largest_first=True), [1])


def test_no_columns_and_columns_of_nothing():
    assert len(independent_columns(np.zeros((0, 0)))) == 0
    assert len(independent_columns(np.zeros((2, 2)))) == 0


def test_what_is_rotated_out_has_no_scatter_within():
    X = columns()
    X[:, 3] = 0.0
    within = X.T @ X
    rotation, is_within = separate_between_columns(within)
    assert is_within.sum() == 2
    np.testing.assert_allclose(np.linalg.det(rotation), 1.0)
    rotated = rotation.T @ within @ rotation
    np.testing.assert_allclose(rotated[~is_within], 0, atol=1e-9)


@pytest.mark.parametrize("width", [3, 100])
def test_triangles_of_any_width(width):
    A = np.random.default_rng(0).standard_normal((2 * width, width))
    matrix = A.T @ A
    lower = cholesky(matrix)
    inverse = inverse_of_lower(lower)
    np.testing.assert_array_equal([np.triu(lower, 1), np.triu(inverse, 1)], 0.0)
    np.testing.assert_allclose(lower @ lower.T, matrix, atol=1e-12 * width)
    np.testing.assert_allclose(inverse @ lower, np.eye(width), atol=1e-12)
    with pytest.raises(np.linalg.LinAlgError):
        cholesky(matrix - np.trace(matrix) * np.eye(width))


def test_solving_does_not_depend_on_units():
    A = np.random.default_rng(0).standard_normal((20, 3))
    matrix, right = A.T @ A, np.arange(6.0).reshape(3, 2)
    units = np.array([1e-9, 1.0, 1e12])
    plain = np.linalg.solve(matrix, right)
    np.testing.assert_allclose(solve_positive(matrix, right), plain, rtol=1e-12)
    scaled = solve_positive(matrix * np.outer(units, units), right * units[:, None])
    np.testing.assert_allclose(scaled * units[:, None], plain, rtol=1e-12)


def test_a_pivot_that_rounding_takes_below_zero_is_no_failure():
    matrix = np.array([[1.0, 1.0 + 1e-15], [1.0 + 1e-15, 1.0]])
    for matrix, unit in ((matrix, matrix), (4 * np.eye(2), np.eye(2))):
        factor, length = unit_cholesky(matrix)
        np.testing.assert_allclose(factor @ factor.T, unit, atol=1e-12)
        np.testing.assert_array_equal(length, np.sqrt(matrix.diagonal()))


def test_zeroing():
    matrix = np.ones((3, 3))
    zero_columns(matrix, np.array([False, True, False]))
    np.testing.assert_array_equal(matrix, [[1, 0, 1], [0, 0, 0], [1, 0, 1]])

"""Rows in blocks of equal groups."""

import numpy as np
import pytest

from sklearn_mlm.moments._rows import blocks_of_equal_groups


@pytest.mark.parametrize("max_rows", [1, 7, 1000])
def test_every_row_comes_once_with_its_own_group(max_rows):
    rng = np.random.default_rng(0)
    codes = rng.permutation(np.concatenate([np.arange(30), rng.integers(0, 30, 100)]))
    seen = np.zeros(len(codes), dtype=int)
    groups_seen = []
    for groups, positions in blocks_of_equal_groups(codes, 30, max_rows):
        assert positions.shape[0] == len(groups)
        assert positions.size <= max(max_rows, positions.shape[1])
        np.testing.assert_array_equal(codes[positions], np.repeat(groups[:, None], positions.shape[1], axis=1))
        seen[positions.ravel()] += 1
        groups_seen.extend(groups)
    assert (seen == 1).all()
    assert sorted(groups_seen) == list(range(30))

import numpy as np
import pandas as pd
import pytest

from sklearn_mlm import RandomInterceptRegressor
from sklearn_mlm.datasets import load_dyestuff, load_sleepstudy, make_schools


@pytest.mark.parametrize(
    ("loader", "shape"), [(load_dyestuff, (30, 0)), (load_sleepstudy, (180, 1)), (make_schools, (6871, 1))]
)
def test_data_sets_come_as_scikit_learns_do(loader, shape):
    bunch, framed = loader(), loader(as_frame=True)
    assert len(bunch.target) == len(bunch.groups) == shape[0]
    assert bunch.frame is None
    assert (0 if bunch.data is None else bunch.data.shape[1]) == shape[1] == len(bunch.feature_names)
    assert isinstance(framed.target, pd.Series)
    assert {*framed.feature_names, framed.target_name, framed.group_name} == set(framed.frame.columns)
    assert bunch.DESCR
    data, target, groups = loader(return_X_y_groups=True)
    assert target.dtype == np.float64
    assert len(groups) == shape[0]
    assert data is None or isinstance(data, np.ndarray)


def test_published_figures():
    dyestuff = load_dyestuff()
    assert dyestuff.target.mean() == 1527.5
    X, y, groups = load_sleepstudy(return_X_y_groups=True)
    model = RandomInterceptRegressor().fit(X, y, groups=groups)
    # As lme4's documentation prints them.
    np.testing.assert_allclose([model.intercept_, *model.coef_], [251.4051, 10.4673], atol=5e-5)
    np.testing.assert_allclose(model.variance_components_, [1378.2, 960.5], atol=0.05)


def test_schools_have_the_variances_asked_for():
    schools = make_schools(3000, 60_000, intercept=10.0, group_variance=4.0, residual_variance=12.0, random_state=0)
    null = RandomInterceptRegressor().fit(None, schools.target, groups=schools.groups)
    # Within four standard errors.
    assert abs(null.intercept_ - 10.0) < 4 * np.sqrt(null.cov_fixed_[0, 0])
    np.testing.assert_allclose(null.variance_components_, [4.0, 12.0], rtol=4 * np.sqrt(2 / 3000))
    sizes = np.bincount(schools.groups)[1:]
    assert sizes.min() >= 1
    assert sizes.sum() == 60_000
    assert null.n_groups_ == 3000
    assert abs(schools.data.std() - 0.78) < 0.02


def test_schools_by_default_are_the_chapters_in_number():
    schools = make_schools(random_state=0)
    assert len(schools.target) == 6871
    assert len(np.unique(schools.groups)) == 419
    again = make_schools(random_state=0)
    np.testing.assert_array_equal(schools.target, again.target)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_groups": 10, "n_samples": 9}, "n_groups between 1 and n_samples; found n_groups=10 and n_samples=9"),
        ({"n_groups": 0}, "n_groups and n_samples must be whole numbers"),
        ({"n_groups": 2.5}, "found n_groups=2.5"),
        ({"group_variance": "large"}, "found 'large'"),
        ({"group_variance": -1.0}, "group_variance must be a number of at least 0; found -1.0"),
        ({"residual_variance": float("nan")}, "residual_variance must be a number of at least 0"),
    ],
)
def test_impossible_schools(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_schools(**arguments)

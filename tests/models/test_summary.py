"""The summary of a model: its tables, its print and its HTML."""

import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from sklearn_mlm import GroupsNotPassedWarning, RandomInterceptRegressor, inference
from sklearn_mlm.datasets import load_dyestuff, load_sleepstudy, make_schools


def test_the_tables_are_attributes(design):
    X, y, groups = design
    model = RandomInterceptRegressor(method="ml").fit(X, y, groups=groups)
    summary = model.summary(ddf="normal")
    pd.testing.assert_frame_equal(summary.fixed_effects, inference.fixed_effects(model, ddf="normal"))
    np.testing.assert_allclose(summary.variance_components["sd"] ** 2, model.variance_components_)
    np.testing.assert_array_equal(summary.scaled_residuals, model.summary(X, y, groups).scaled_residuals)
    assert (summary.n_samples, summary.n_groups, summary.group_name) == (len(y), 12, "group")
    text = str(summary)
    assert text.startswith("Random intercept model fitted by maximum likelihood\nDeviance ")
    assert "Scaled residuals\n" in text
    assert "(normal distribution)" in text


@pytest.mark.parametrize("weight_type", [None, "frequency", "precision"])
def test_the_residuals_are_kept_of_small_data(design, weight_type):
    X, y, groups = design
    weights = None if weight_type is None else np.arange(len(y)) % 3
    model = RandomInterceptRegressor(weight_type=weight_type or "frequency").fit(X, y, groups, weights)
    kept = model.summary().scaled_residuals
    used = slice(None) if weights is None else weights > 0
    passed = model.summary(X[used], y[used], groups[used], sample_weight=None if weights is None else weights[used])
    np.testing.assert_allclose(kept, passed.scaled_residuals, rtol=1e-9, atol=1e-12)
    scaled = inference.residuals(model, X[used], y[used], groups[used], scaled=True)
    if weights is None:
        np.testing.assert_allclose(kept, np.quantile(scaled, [0, 0.25, 0.5, 0.75, 1]), rtol=1e-9)
    assert model.fit_moments(model.moments_).summary().scaled_residuals is None
    assert "are in the summary if the rows are passed: summary(X, y, groups)" in str(model.summary())


def test_the_residuals_are_not_kept_of_large_data_or_many_copies():
    schools = make_schools(50, 10_001, random_state=0)
    model = RandomInterceptRegressor().fit(schools.data, schools.target, groups=schools.groups)
    assert model.summary().scaled_residuals is None
    copies = np.full(1_000, 1e9)
    model.fit(schools.data[:1_000], schools.target[:1_000], schools.groups[:1_000], copies)
    assert model.summary().scaled_residuals is None
    assert (
        model.fit(schools.data[:1_000], schools.target[:1_000], schools.groups[:1_000]).summary().scaled_residuals
        is not None
    )


def test_html_is_well_formed():
    X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    model = RandomInterceptRegressor().fit(X, y, groups=subject)
    root = ET.fromstring(model.summary(X, y, subject)._repr_html_())
    cells = [cell.text for cell in root.iter("td")]
    for figure in ("251.405", "9.747", "22.8", "25.79", "37.12", "-3.2257"):
        assert figure in cells


def test_boundaries_are_reported():
    dyestuff = load_dyestuff()
    flat = RandomInterceptRegressor().fit(None, np.tile([1.0, 2.0, 4.0, 7.0, 11.0], 6), groups=dyestuff.groups)
    assert "exactly 0: the model is least squares (what lme4 calls a singular" in str(flat.summary())
    levels = pd.factorize(dyestuff.groups)[0] ** 2.0
    determined = RandomInterceptRegressor().fit(None, levels, groups=dyestuff.groups)
    text = str(determined.summary(None, levels, dyestuff.groups))
    assert "The residual variance is exactly 0" in text
    assert "Scaled residuals" not in text


def test_rows_without_groups_are_warned_of(design):
    X, y, groups = design
    model = RandomInterceptRegressor().fit(X, y, groups=groups)
    with pytest.warns(GroupsNotPassedWarning):
        model.summary(X, y)


def test_a_summary_does_no_work_by_group(monkeypatch):
    schools = make_schools(200, 2000, random_state=0)
    model = RandomInterceptRegressor().fit(schools.data, schools.target, groups=schools.groups)

    def refuse(*_, **__):
        raise AssertionError

    monkeypatch.setattr("sklearn_mlm.likelihood._criterion.Criterion.__init__", refuse)
    for ddf in ("satterthwaite", "kenward_roger"):
        assert "Number of observations 2000, groups (group) 200" in str(model.summary(ddf=ddf))

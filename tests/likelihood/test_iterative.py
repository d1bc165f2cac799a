"""solver="iterative": near the direct solver by no more than its stated errors, for crossed and nested factors."""

import numpy as np
import pandas as pd
import pytest
from many_cases import check_each
from threadpoolctl import threadpool_limits

from sklearn_mlm import MixedEffectsRegressor, inference
from sklearn_mlm.likelihood import _factor_criterion


@pytest.fixture(autouse=True)
def one_thread():
    """More threads cost more than they save with few rows."""
    with threadpool_limits(1):
        yield


def ratings(n=6_000, n_subjects=400, n_items=90):
    """Ratings of popular and less popular items, with a slope between subjects, and classes in schools of subjects."""
    rng = np.random.default_rng(11)
    subject = rng.integers(0, n_subjects, n)
    item = (n_items * rng.random(n) ** 2).astype(int)
    x = rng.standard_normal(n)
    y = 1.0 + 0.5 * x + rng.standard_normal(n_subjects)[subject] + 0.6 * rng.standard_normal(n_items)[item]
    y += 0.4 * rng.standard_normal(n_subjects)[subject] * x + 0.8 * rng.standard_normal(40)[subject % 40]
    y += rng.standard_normal(n)
    return pd.DataFrame({"y": y, "x": x, "subject": subject, "item": item, "town": subject % 40})


@pytest.fixture(scope="module")
def frame():
    return ratings()


def fit(frame, text, solver, **parameters):
    model = MixedEffectsRegressor(random_effects=text, solver=solver, **parameters)
    return model.fit(frame[["x"]], frame["y"], groups=frame[["subject", "item", "town"]])


TEXTS = ["(1 | subject) + (1 | item)", "(1 + x | subject) + (1 | item)", "(1 | town/subject) + (1 | item)"]


def test_estimates_differ_from_exact_ones_by_their_stated_errors(frame):
    def check(text, method):
        exact, near = (fit(frame, text, solver, method=method) for solver in ("direct", "iterative"))
        errors = near.fit_.approximation_errors
        assert exact.fit_.approximation_errors is None
        assert (errors > 0).all()
        names = [name for name in errors.index if name != "criterion"]
        apart = near.variance_components_.to_numpy() - exact.variance_components_.to_numpy()
        # The errors of the computation are far below those of estimation.
        assert (errors[names].to_numpy() < 0.01 * exact.variance_components_.to_numpy()).all()
        assert (np.abs(apart) < 5.0 * errors[names].to_numpy()).all(), (apart, errors)
        assert abs(near.criterion_ - exact.criterion_) < 5.0 * errors["criterion"]
        np.testing.assert_allclose(near.coef_, exact.coef_, rtol=1e-3)
        np.testing.assert_allclose(near.cov_fixed_, exact.cov_fixed_, rtol=1e-2)
        groups, X = frame[["subject", "item", "town"]][:200], frame[["x"]][:200]
        (mean, sd), (exact_mean, exact_sd) = (each.predict(X, groups=groups, return_std=True) for each in (near, exact))
        np.testing.assert_allclose(mean, exact_mean, atol=5e-3)
        np.testing.assert_allclose(sd, exact_sd, rtol=1e-3)
        for factor in exact.fit_.factor_names:
            # Other levels' effects are taken for known.
            of_near, of_exact = (inference.random_effects_table(each, factor=factor)["sd"] for each in (near, exact))
            assert ((of_near / of_exact) < 1.001).all()
            assert (of_near / of_exact).median() > 0.94

    check_each(
        [(f"{text}, {method}", (text, method)) for text, method in zip(TEXTS, ("ml", "reml", "reml"), strict=True)], check
    )


def test_at_the_same_variances_effects_and_fixed_effects_are_those_of_the_direct_solver(frame):
    text = TEXTS[2]
    exact, near = (fit(frame, text, solver).fit_ for solver in ("direct", "iterative"))
    factor = exact.optimum.factor
    one, two = (each.criterion.evaluate(factor[None]) for each in (exact, near))
    np.testing.assert_allclose(two.r2, one.r2, rtol=1e-10)
    np.testing.assert_allclose(two.root, one.root, rtol=1e-8, atol=1e-10)
    k = exact.rank
    contrast = np.append(-exact._beta, 1.0)[:, None]
    found = [each.criterion.equations(factor, one.root[0, :k, :k]).effects(contrast) for each in (exact, near)]
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-8 * np.abs(a).max())


def test_what_the_iterative_solver_cannot_do_is_refused(frame):
    with pytest.raises(ValueError, match="takes one random coefficient of each factor but the largest; item has several"):
        fit(frame, "(1 | subject) + (1 + x | item)", "iterative")
    with pytest.raises(ValueError, match=r"solver must be|'solver' parameter"):
        fit(frame, TEXTS[0], "sparse")


def test_inference_from_the_iterative_solver_is_near_the_exact_one(frame):
    text = TEXTS[0]
    exact, near = (inference.fixed_effects(fit(frame, text, solver)) for solver in ("direct", "iterative"))
    np.testing.assert_allclose(near["std_error"], exact["std_error"], rtol=1e-3)
    np.testing.assert_allclose(near["df"], exact["df"], rtol=0.1)


def test_what_is_too_large_for_the_direct_solver_is_refused_before_memory_is_spent(frame, monkeypatch):
    monkeypatch.setattr(_factor_criterion, "_FEW_COEFFICIENTS", 0)
    monkeypatch.setattr(_factor_criterion, "_LARGEST_CORE", 80)
    with pytest.raises(ValueError, match=r"too large to be solved directly.*subject 400, item 90.*solver='iterative'"):
        fit(frame, TEXTS[0], "direct")
    fit(frame, "(1 | town/subject)", "direct")
    monkeypatch.setattr(_factor_criterion, "_LARGEST_CORE", 10**6)
    monkeypatch.setattr(_factor_criterion, "physical_memory", lambda: 7 * 8 * 90**2)
    with pytest.raises(ValueError, match="too large to be solved directly"):
        fit(frame, TEXTS[0], "direct")


def test_the_summary_names_the_approximation(frame):
    near, exact = (str(fit(frame, TEXTS[0], solver).summary()) for solver in ("iterative", "direct"))
    assert "Approximate: variances have random errors of up to 0." in near
    assert "Approximate" not in exact

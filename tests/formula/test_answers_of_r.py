"""Model matrices, tests of terms and marginal means of many formulas against what lme4, lmerTest and emmeans answer."""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sklearn_mlm.formula import lmer
from sklearn_mlm.inference import anova, estimated_marginal_means

HERE = Path(__file__).parent
ANSWERS = json.loads((HERE / "lmer.json").read_text(encoding="utf-8"))
# lmerTest takes a factor that is coded by an indicator of each level for one that its term does not have, and so tests a
# term at the first level of a factor that it is not averaged over; it also takes columns of poly and scale for factors.
OTHER_CONTAINMENT = {
    "y ~ a/b + (1 | g)", "y ~ b:a + a + (1 | g)", "y ~ a * b - a + (1 | g)", "y ~ x + x:a + (1 | g)",
    "y ~ late * x + late:a + (1 | g)", "y ~ 0 + x:a + b + (1 | g)", "y ~ (a + b) / x + (1 | g)",
    "y ~ poly(x, 2) * a + (1 | g)",
}  # fmt: skip
# Satterthwaite's df of several contrasts depend on their basis, which lmerTest takes from the coding.
OTHER_CODING = {
    "y ~ C(a, contr.sum) * b + (1 | g)",
    "y ~ C(a, contr.helmert) + C(b, contr.SAS) + (1 | g)",
    "y ~ ordered(dose) + (1 | g)",
}


@pytest.fixture(scope="module")
def rows():
    return pd.read_csv(HERE / "rows.csv")


@pytest.fixture(scope="module")
def fitted(rows):
    """The fitted models by formula, each fitted once."""
    known = {}

    def fit(formula):
        if formula not in known:
            known[formula] = lmer(formula, rows)
        return known[formula]

    return fit


@pytest.mark.parametrize("answer", ANSWERS["models"], ids=lambda answer: answer["formula"])
def test_columns_have_the_names_order_and_values_of_r(answer, rows, fitted):
    model = fitted(answer["formula"])
    matrix = model.model_matrix(rows)
    assert matrix.columns.tolist() == answer["names"] == model.fit_.names
    weights = np.arange(1, len(rows) + 1) / len(rows)
    np.testing.assert_allclose(weights @ matrix.to_numpy(), answer["sums"], rtol=1e-12, atol=1e-12)
    # lmer stops near the optimum.
    assert model.criterion_ <= answer["criterion"] + 1e-9
    assert model.criterion_ == pytest.approx(answer["criterion"], abs=1e-6)


@pytest.mark.parametrize("answer", ANSWERS["models"], ids=lambda answer: answer["formula"])
def test_terms_are_tested_as_lmertest_does(answer, fitted):
    model = fitted(answer["formula"])
    for kind, table in answer["anova"].items():
        found = anova(model, type=kind)
        assert found.index.tolist() == [term.replace("b %in% a", "b:a") for term in table["terms"]]
        if answer["formula"] in OTHER_CONTAINMENT and kind != "I":
            continue
        assert found["df1"].tolist() == table["df1"]
        # With slopes, lmer's optimum is known to a few digits.
        slopes = answer["formula"].startswith(("y ~ x + (1 + x", "y ~ a + (0 + a", "y ~ x + (x ||"))
        np.testing.assert_allclose(found["F"], table["F"], rtol=1e-3 if slopes else 2e-6)
        if answer["formula"] not in OTHER_CODING:
            np.testing.assert_allclose(found["df2"], table["df2"], rtol=0.05 if slopes else 3e-6)


@pytest.mark.parametrize(
    "answer", ANSWERS["means"], ids=lambda answer: f"{answer['formula']} {answer['specs']} {answer['weights']}"
)
def test_marginal_means_are_those_of_emmeans(answer, fitted):
    factors, _, by = answer["specs"].removeprefix("~ ").partition(" | ")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        means = estimated_marginal_means(
            fitted(answer["formula"]), factors.split(" * "), by=by or None, weights=answer["weights"]
        )
    np.testing.assert_allclose(means["estimate"], answer["mean"], rtol=1e-7)
    np.testing.assert_allclose(means["std_error"], answer["se"], rtol=1e-6)
    np.testing.assert_allclose(means["df"], answer["df"], rtol=1e-5)
    pairs = means.pairs()
    assert pairs["contrast"].tolist() == answer["contrast"]
    np.testing.assert_allclose(pairs["p_value"], answer["p"], rtol=2e-5, atol=1e-9)

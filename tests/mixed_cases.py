"""The cases of real data with one grouping factor and random slopes, of which lme4 and its companions answer."""

import numpy as np
import pandas as pd

from sklearn_mlm.likelihood._random_terms import INTERCEPT, RandomTerm

REAL_CASES = [
    "sleepstudy_slope", "sleepstudy_uncorr", "sleepstudy_noint", "sleepstudy_plus_1000", "sleepstudy_x_1e6",
    "sleepstudy_x_1em6", "sleepstudy_y_1em6", "orthodont_age_sex", "exam_slope", "exam_slope_schavg", "exam_two_slopes",
    "exam_weighted", "exam_few_rows", "heck2011_singular", "heck2011_two_uncorr", "dietox_slope", "igf_singular",
    "igf_uncorr", "pbg_singular", "soybean_singular", "dialyzer_singular", "dialyzer_near_singular", "early_singular",
]  # fmt: skip


def real_columns(frame, case):
    """X, y, the labels of the groups as text, and the weights (None without) of a case."""
    names = [name for name in case["coef_names"] if name != INTERCEPT]
    X = pd.DataFrame({name: np.prod([frame[part] for part in name.split(":")], axis=0) for name in names})
    y, labels = frame[case["formula"].split("~")[0].strip()], frame[case["group_columns"][0]].astype(str)
    return X.astype(float), y, labels, None if case["weight"] is None else frame[case["weight"]]


def real_terms(case):
    """The random terms of a case, of the factor g."""
    columns = [term["columns"] for term in case["terms"]]
    return tuple(RandomTerm("g", INTERCEPT in names, tuple(n for n in names if n != INTERCEPT)) for names in columns)

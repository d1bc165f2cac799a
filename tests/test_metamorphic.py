"""What happens to every figure if the data change in a way whose effect is known: units, origins, order, names, parts.

`FIGURES` says what is computed and of what kind each part is; `KINDS` says what becomes of a kind when units and origins
change; `RELATIONS` are the changes; `REASONS` are the cells in which a part is not what its kind says, and why.
"""

import fnmatch
import re
import warnings
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from many_cases import check_each

from sklearn_mlm import (
    ClusterRobustOLS,
    GroupedMoments,
    RandomInterceptRegressor,
    WithinOLS,
    compare_with_ols,
    cross_validate_groups,
    display,
    inference,
)

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

NAMES = ["a", "b", "level2"]
INTERCEPT = "(Intercept)"
# Values are multiples of 2^-16, so that shifts by whole numbers up to 2^30 are exact and only the arithmetic is tested.
GRID = 2.0**-16


# ---- the data, and what is fitted to them


@dataclass(frozen=True)
class Rows:
    """Rows to fit, rows to predict, a point of x, and the original names of the labels."""

    X: pd.DataFrame
    y: np.ndarray
    groups: np.ndarray
    weights: np.ndarray | None
    new_x: pd.DataFrame
    new_groups: np.ndarray
    new_weights: np.ndarray | None
    point: np.ndarray
    original: dict = field(default_factory=dict)

    def take(self, at):
        """Rows at some positions."""
        weights = None if self.weights is None else self.weights[at]
        return replace(self, X=self.X.iloc[at], y=self.y[at], groups=self.groups[at], weights=weights)


@dataclass(frozen=True)
class Design:
    """Rows and how they are fitted."""

    rows: Rows
    method: str = "reml"
    weight_type: str = "frequency"

    @property
    def n_observations(self):
        """N of the likelihood."""
        copies = self.rows.weights is not None and self.weight_type == "frequency"
        return self.rows.weights.sum() if copies else len(self.rows.y)


def on_grid(values):
    """Values as multiples of the grid."""
    return np.round(np.asarray(values) / GRID) * GRID


def rows_of(tau, sigma, weights=None, seed=0):
    """Unbalanced rows with a column that differs between groups only, in no order."""
    rng = np.random.default_rng(seed)
    n_groups = 9
    groups = rng.permutation(np.append(np.repeat(np.arange(n_groups), rng.integers(1, 8, n_groups)), [0, 0, 1]))
    X = rng.standard_normal((len(groups), 3)) + rng.standard_normal((n_groups, 3))[groups]
    X[:, 2] = rng.standard_normal(n_groups)[groups]
    X = on_grid(X)
    noise = rng.standard_normal(len(groups))
    if tau == 0:
        noise -= np.array([noise[groups == j].mean() for j in range(n_groups)])[groups]
    y = 2.0 + X @ [1.0, -0.5, 0.25] + tau * on_grid(rng.standard_normal(n_groups))[groups] + on_grid(sigma * noise)
    frame = pd.DataFrame(X, columns=NAMES)
    new = frame.iloc[:6] + on_grid(rng.standard_normal((6, 3)))
    kinds = {"precision": np.exp(rng.standard_normal(len(y))), "frequency": rng.integers(1, 4, len(y)).astype(float)}
    return Rows(
        X=frame,
        y=y,
        groups=groups,
        weights=kinds.get(weights),
        new_x=new,
        new_groups=np.array([0, 3, 5, 8, 90, 91]),
        new_weights=None if weights != "precision" else np.exp(rng.standard_normal(6)),
        point=frame.to_numpy()[3],
    )


PLAIN, EQUAL, EXACT = rows_of(1.0, 1.0), rows_of(0.0, 1.0), rows_of(1.0, 0.0)
PRECISE, REPEATED = rows_of(1.0, 1.0, "precision"), rows_of(1.0, 1.0, "frequency")
DESIGNS = {
    "unbalanced": Design(PLAIN),
    "unbalanced ML": Design(PLAIN, "ml"),
    "no group variance": Design(EQUAL),
    "no group variance ML": Design(EQUAL, "ml"),
    "no residual": Design(EXACT),
    "precisions": Design(PRECISE, "reml", "precision"),
    "precisions ML": Design(PRECISE, "ml", "precision"),
    "frequencies": Design(REPEATED),
    "frequencies ML": Design(REPEATED, "ml"),
}


def moments_of(rows):
    """The moments of rows."""
    return GroupedMoments.from_arrays(rows.X, rows.y, rows.groups, rows.weights)


def in_parts(rows):
    """Three parts, which split groups."""
    return [rows.take(np.arange(start, len(rows.y), 3)) for start in range(3)]


def saved(rows):
    """The moments, through a file."""
    file = BytesIO()
    moments_of(rows).save(file)
    file.seek(0)
    return GroupedMoments.load(file)


def batches(rows):
    """The rows in batches as from_batches takes them."""
    for part in in_parts(rows):
        yield (part.X, part.y, part.groups) if part.weights is None else (part.X, part.y, part.groups, part.weights)


def fitted_in_parts(model, rows):
    """The model, each part added in turn."""
    for part in in_parts(rows):
        model.partial_fit(part.X, part.y, part.groups, part.weights)
    return model


# How rows become a model: in one piece, unless a relation says otherwise.
READERS = {
    "rows": lambda model, rows: model.fit(rows.X, rows.y, rows.groups, rows.weights),
    "merged": lambda model, rows: model.fit_moments(GroupedMoments.merge([moments_of(part) for part in in_parts(rows)])),
    "batches": lambda model, rows: model.fit_moments(GroupedMoments.from_batches(batches(rows))),
    "partial_fit": fitted_in_parts,
    "file": lambda model, rows: model.fit_moments(saved(rows)),
    "frame": lambda model, rows: model.fit_moments(
        GroupedMoments.from_frame(moments_of(rows).to_frame(), moments_of(rows).within)
    ),
}


class Case:
    """Everything that is fitted to a design, once."""

    def __init__(self, design, reader="rows"):
        self.design, self.rows, self.reader = design, design.rows, reader

    def _mixed(self, rows):
        model = RandomInterceptRegressor(method=self.design.method, weight_type=self.design.weight_type)
        return READERS[self.reader](model, rows)

    @cached_property
    def model(self):
        """The random intercept model."""
        return self._mixed(self.rows)

    @cached_property
    def small(self):
        """The model without its last column."""
        return self._mixed(replace(self.rows, X=self.rows.X[NAMES[:2]]))

    @cache
    def robust(self, cov_type):
        """Least squares with a covariance."""
        rows = self.rows
        return ClusterRobustOLS(cov_type=cov_type).fit(rows.X, rows.y, rows.groups, rows.weights)

    @cached_property
    def within(self):
        """The within estimator."""
        return WithinOLS().fit(self.rows.X, self.rows.y, self.rows.groups, self.rows.weights)

    @cached_property
    def comparison(self):
        """Everything side by side, which takes no weights."""
        return compare_with_ols(self.rows.X, self.rows.y, self.rows.groups, cv=3, random_state=0)

    @cached_property
    def cross_validated(self):
        """Scores of the model and of least squares."""
        model, rows = RandomInterceptRegressor(weight_type=self.design.weight_type), self.rows
        return cross_validate_groups(model, rows.X, rows.y, rows.groups, sample_weight=rows.weights, cv=2, random_state=0)

    def at_point(self, intercept, slopes):
        """The value at a point that moves with x, in the place of the intercept, which is the value where x is 0."""
        return float(intercept + self.rows.point @ slopes)

    def covariance_at_point(self, covariance):
        """The covariance of (value at the point, slopes)."""
        to_point = np.eye(4)
        to_point[0, 1:] = self.rows.point
        return to_point @ covariance @ to_point.T


@cache
def case_of(design_name, relation_name=None):
    """A design as it stands, or changed by a relation."""
    design = DESIGNS[design_name]
    relation = RELATIONS[relation_name] if relation_name else Relation()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return Case(relation.apply(design), relation.reader)


# ---- the changes


@dataclass(frozen=True)
class Relation:
    """A change of the data: units and origins of the columns, or rows in another form."""

    tag: str = "none"
    y_unit: float = 1.0
    x_unit: tuple = (1.0, 1.0, 1.0)
    weight_unit: float = 1.0
    y_shift: float = 0.0
    x_shift: tuple = (0.0, 0.0, 0.0)
    rows: object = None
    reader: str = "rows"

    def apply(self, design):
        """The design, changed."""
        old = design.rows
        unit, shift = np.array(self.x_unit), np.array(self.x_shift)
        rows = replace(
            old,
            X=old.X * unit + shift,
            y=old.y * self.y_unit + self.y_shift,
            weights=None if old.weights is None else old.weights * self.weight_unit,
            new_x=old.new_x * unit + shift,
            new_weights=None if old.new_weights is None else old.new_weights * self.weight_unit,
            point=old.point * unit + shift,
        )
        return replace(design, rows=rows if self.rows is None else self.rows(rows))

    def coefficient_unit(self, index):
        """The unit of each coefficient of a table, by name."""
        unit = dict(zip(NAMES, self.x_unit, strict=True))
        return np.array([self.y_unit / unit.get(name, 1.0) for name in coefficient_names(index)])

    @staticmethod
    def is_intercept(index):
        """Which rows of a table are the intercept's."""
        return np.array([name == INTERCEPT for name in coefficient_names(index)])


def coefficient_names(index):
    """The names of coefficients in the index of a table."""
    return index.get_level_values("coefficient") if isinstance(index, pd.MultiIndex) else index


def reordered(rows):
    """The rows in another order."""
    return rows.take(np.random.default_rng(1).permutation(len(rows.y)))


def renamed(rows):
    """Labels that are strings and sort in another order."""
    new = {label: f"school {chr(ord('z') - 7 * label % 9)}" for label in range(9)} | {90: "unheard of", 91: "nor of this"}
    rename = np.vectorize(new.get, otypes=[object])
    original = {name: label for label, name in new.items()}
    return replace(rows, groups=rename(rows.groups), new_groups=rename(rows.new_groups), original=original)


def copied(rows):
    """Each row as often as its weight says."""
    return replace(rows.take(np.repeat(np.arange(len(rows.y)), rows.weights.astype(int))), weights=None)


SHIFT = 2.0**20
RELATIONS = {
    "y in units of 2^-30": Relation("y unit", y_unit=2.0**30),
    "y in units of 1e6": Relation("y unit", y_unit=1e-6),
    "y in units of 1e-9": Relation("y unit", y_unit=1e9),
    "x in units of powers of two": Relation("x unit", x_unit=(2.0**20, 2.0**-30, 2.0**7)),
    "x in units of powers of ten": Relation("x unit", x_unit=(1e9, 1e-6, 1e3)),
    "weights in units of 2^-40": Relation("weight unit", weight_unit=2.0**40),
    "weights in units of 1e6": Relation("weight unit", weight_unit=1e-6),
    "weights in units of 1e-9": Relation("weight unit", weight_unit=1e9),
    "y shifted": Relation("y shift", y_shift=SHIFT),
    "x shifted": Relation("x shift", x_shift=(SHIFT, -SHIFT, 2 * SHIFT)),
    "rows in another order": Relation("order", rows=reordered),
    "labels with other names": Relation("labels", rows=renamed),
    "rows copied": Relation("copies", rows=copied),
    "parts merged": Relation("parts", reader="merged"),
    "batches": Relation("parts", reader="batches"),
    "partial_fit": Relation("parts", reader="partial_fit"),
    "saved and loaded": Relation("parts", reader="file"),
    "to a frame and back": Relation("parts", reader="frame"),
}


def applies(design, relation):
    """Whether a relation is one of a design."""
    if relation.tag == "copies":
        return design.rows.weights is not None and design.weight_type == "frequency"
    # Frequencies have no unit: they are numbers of copies.
    return relation.tag != "weight unit" or design.weight_type == "precision"


# ---- what becomes of a figure of a kind: its expected value, and the unit of its error


def of_icc(value, r, design):
    """The odds of an ICC are tau2 / sigma2, and sigma2 is the residual variance of a row of weight 1."""
    return value / (value + r.weight_unit * (1.0 - value)), 1.0


def of_shares(value, r, design):
    """Shares of variance, the residual's in the unit of the weights."""
    within, between, group, residual = (value[n] for n in ("fixed_within", "fixed_between", "group", "residual"))
    residual = residual * r.weight_unit
    total = within + between + group + residual
    shares = {"marginal": within + between, "conditional": within + between + group}
    shares |= {"fixed_within": within, "fixed_between": between, "group": group, "residual": residual}
    of_within = within / (within + residual) if within + residual else np.nan
    changed = {name: share / total for name, share in shares.items()} | {"within": of_within}
    return pd.Series({name: changed.get(name, value[name]) for name in value.index}), 1.0


def of_coefficients(shifts=0.0, unit=True, moved=("x",)):
    """A column with a row for each coefficient: whether it shifts with y, has the unit of the coefficient, and which
    origins the intercept depends on. The intercept is the value where x is 0, another one if that origin has moved;
    the figures "at the point" stand for it.
    """

    def expected(value, r, design):
        units = r.coefficient_unit(value.index) if unit else np.ones(len(value))
        is_intercept = r.is_intercept(value.index)
        changed = value * units + np.where(is_intercept, shifts * r.y_shift, 0.0)
        gone = is_intercept & (("x" in moved and any(r.x_shift)) or ("y" in moved and r.y_shift != 0))
        return changed[~gone], units[~gone]

    return expected


def of_covariance(value, r, design):
    """A covariance of (value at the point, slopes)."""
    unit = (r.y_unit / np.array([1.0, *r.x_unit]))[-len(value) :]
    return value * np.outer(unit, unit), np.outer(unit, unit)


def of_means(value, r, design):
    """Means of the columns of (x, y)."""
    unit = np.array([*r.x_unit, r.y_unit])
    return value * unit + [*r.x_shift, r.y_shift], unit


def of_scatter(value, r, design):
    """Scatter of the columns of (x, y)."""
    unit = np.outer([*r.x_unit, r.y_unit], [*r.x_unit, r.y_unit]) * r.weight_unit
    return value * unit, unit


def of_criterion(factor=1.0, reml=None):
    """The criterion, of a density of y in D dimensions; that of REML is also one of the scatter of x."""

    def expected(value, r, design):
        restricted = design.method == "reml" if reml is None else reml
        change = 2.0 * (design.n_observations - 4.0 * restricted) * np.log(r.y_unit)
        change += 2.0 * restricted * np.log(r.x_unit).sum()
        return value + factor * change, 1.0

    return expected


KINDS = {
    "same": lambda v, r, d: (v, 1.0),
    "y": lambda v, r, d: (v * r.y_unit, r.y_unit),
    "y^2": lambda v, r, d: (v * r.y_unit**2, r.y_unit**2),
    "place of y": lambda v, r, d: (v * r.y_unit + r.y_shift, r.y_unit),
    "y per x": lambda v, r, d: (v * r.y_unit / r.x_unit[0], r.y_unit / r.x_unit[0]),
    "sigma": lambda v, r, d: (v * r.y_unit * np.sqrt(r.weight_unit), r.y_unit * np.sqrt(r.weight_unit)),
    "sigma2": lambda v, r, d: (v * r.y_unit**2 * r.weight_unit, r.y_unit**2 * r.weight_unit),
    "weight": lambda v, r, d: (v * r.weight_unit, r.weight_unit),
    "sum of log weights": lambda v, r, d: (v + len(d.rows.y) * np.log(r.weight_unit), 1.0),
    "icc": of_icc,
    "shares": of_shares,
    "estimate": of_coefficients(shifts=1.0),
    "difference": of_coefficients(),
    "error": of_coefficients(),
    "df": of_coefficients(unit=False),
    "test": of_coefficients(unit=False, moved=("x", "y")),
    "covariance": of_covariance,
    "means": of_means,
    "scatter": of_scatter,
    "criterion": of_criterion(),
    "log likelihood": of_criterion(-0.5),
    "full criterion": of_criterion(reml=False),
    "full log likelihood": of_criterion(-0.5, reml=False),
}


# ---- the figures, and of what kind their parts are

COEFFICIENTS = {"estimate": "estimate", "std_error": "error", "df": "df", "p_value": "test"}
FIXED_EFFECTS = COEFFICIENTS | {"t": "test", "ci_lower": "estimate", "ci_upper": "estimate"}
CONTRAST = dict.fromkeys(("estimate", "std_error", "ci_lower", "ci_upper"), "y")
CONTRAST |= dict.fromkeys(("df", "t", "p_value"), "same")
F_TEST = dict.fromkeys(("F", "df1", "df2", "p_value"), "same")
LIMITS = {"sd(group)": "y", "sd(residual)": "sigma", "icc": "icc", "lower": "estimate", "upper": "estimate"}
PREDICTION = dict.fromkeys(("prediction", "lower", "upper"), "place of y")
EFFECTS = dict.fromkeys(("effect", "sd", "ci_lower", "ci_upper"), "y") | {"reliability": "same", "n": "weight"}
EFFECTS |= {"intercept": "place of y"}
NESTED = {"n_parameters": "same", "aic": "full criterion", "bic": "full criterion", "log_likelihood": "full log likelihood"}
NESTED |= {"deviance": "full criterion", "chi2": "same", "df": "same", "p_value": "same"}
LEAST_SQUARES = {"at the point": "place of y", "coef_": "difference", "cov_fixed_": "covariance", "df_": "df"}
LEAST_SQUARES |= {"prediction": "place of y", "score": "same"}
DDF = ("satterthwaite", "kenward_roger", "residual", "normal")
FIGURES = {}
# What least squares make of rows does not depend on `method`, and the comparison takes no weights.
OF_ROWS = ("unbalanced", "no group variance", "no residual", "precisions", "frequencies")
WITHOUT_WEIGHTS = OF_ROWS[:3]
# Made of the moments alone, or of both likelihoods, or of REML's.
WHATEVER_METHOD = tuple(name for name in DESIGNS if not name.endswith("ML"))
# One fit a fold and model: expensive.
FEW = ("unbalanced", "precisions")


def figure(name, kinds, *options, designs=tuple(DESIGNS)):
    """Enter a function of a case and perhaps an option, the kinds of its parts (or of all of them), and its designs."""

    def enter(function):
        for option in options or (None,):
            of_case = function if option is None else lambda case, option=option: function(case, option)
            FIGURES[name if option is None else f"{name} {option}"] = of_case, kinds, designs
        return function

    return enter


def slopes_of(values):
    """Slopes by name."""
    return pd.Series(values, index=NAMES)


def limits_by_row(case, table):
    """Limits of the variance parameters, a row each, and those of the coefficients, a column each."""
    rows = {name: table.loc[name].to_numpy() for name in ("sd(group)", "sd(residual)", "icc")}
    return rows | {end: table[end].iloc[3:] for end in ("lower", "upper")}


@figure(
    "fit",
    {"at the point": "place of y", "coef_": "difference", "cov_fixed_": "covariance", "tau2": "y^2", "sigma2": "sigma2"}
    | {"icc_": "icc", "random_effects_": "y", "criterion_": "criterion", "aic_": "criterion", "bic_": "criterion"}
    | {"log_likelihood_": "log likelihood", "n_groups_": "same", "boundary_": "same"},
)
def fitted_attributes(case):
    m = case.model
    names = ("icc_", "random_effects_", "criterion_", "aic_", "bic_", "log_likelihood_", "n_groups_", "boundary_")
    return {name: getattr(m, name) for name in names} | {
        "at the point": case.at_point(m.intercept_, m.coef_),
        "coef_": slopes_of(m.coef_),
        "cov_fixed_": case.covariance_at_point(m.cov_fixed_),
        "tau2": m.variance_components_["group"],
        "sigma2": m.variance_components_["residual"],
    }


@figure("predict", {"mean": "place of y", "std": "y", "population": "place of y", "score": "same"})
def predicted(case):
    rows = case.rows
    mean, std = case.model.predict(rows.new_x, rows.new_groups, return_std=True)
    score = case.model.score(rows.X, rows.y, rows.groups, rows.weights)
    return {"mean": mean, "std": std, "population": case.model.predict(rows.new_x, "population"), "score": score}


@figure(
    "summary",
    {"text": "same", "criterion": "criterion", "log_likelihood": "log likelihood", "aic": "criterion", "bic": "criterion"}
    | {"n_parameters": "same", "variance of group": "y^2", "variance of residual": "sigma2", "sd of group": "y"}
    | {"sd of residual": "sigma", "scaled_residuals": "same", "icc": "icc", "n_samples": "same", "n_groups": "same"}
    | FIXED_EFFECTS,
    *DDF[:2],
)
def summarised(case, ddf):
    rows = case.rows
    s = case.model.summary(rows.X, rows.y, rows.groups, sample_weight=rows.weights, ddf=ddf)
    components = {
        f"{column} of {name}": s.variance_components.loc[name, column]
        for name in ("group", "residual")
        for column in ("variance", "sd")
    }
    counts = {"icc": s.icc, "n_samples": s.n_samples, "n_groups": s.n_groups, "scaled_residuals": s.scaled_residuals}
    return {"text": str(s)} | components | counts | dict(s.criteria) | dict(s.fixed_effects)


@figure("fixed_effects", FIXED_EFFECTS, *DDF)
def table_of_fixed_effects(case, ddf):
    return inference.fixed_effects(case.model, ddf=ddf)


@figure("contrast_test at the point", CONTRAST | dict.fromkeys(("estimate", "ci_lower", "ci_upper"), "place of y"), *DDF)
def contrast_at_point(case, ddf):
    return inference.contrast_test(case.model, [1.0, *case.rows.point], ddf=ddf)


@figure("contrast_test of two rows", CONTRAST, *DDF)
def contrast_of_rows(case, ddf):
    return inference.contrast_test(case.model, [0.0, *(case.rows.new_x.to_numpy()[0] - case.rows.point)], ddf=ddf)


# Where there is no residual, some slopes are known without error, and there is no test of all of them.
@figure("contrast_test of the slopes", F_TEST, *DDF, designs=tuple(name for name in DESIGNS if name != "no residual"))
def contrast_of_all(case, ddf):
    rows = case.rows.new_x.to_numpy()[:3] - case.rows.point
    return inference.contrast_test(case.model, np.column_stack([np.zeros(3), rows]), ddf=ddf)


@figure("contrast_test of the coefficients", F_TEST, *DDF, designs=tuple(name for name in DESIGNS if name != "no residual"))
def contrast_of_coefficients(case, ddf):
    return inference.contrast_test(case.model, np.eye(4)[1:], ddf=ddf)


@figure("confidence_intervals", LIMITS, "exact", designs=WHATEVER_METHOD)
@figure("confidence_intervals", LIMITS, "pivot", "profile", "wald")
def intervals(case, method):
    return limits_by_row(case, inference.confidence_intervals(case.model, method=method))


@figure("plausible_values_range", "place of y")
def plausible_range(case):
    # About the point rather than where x is 0.
    return inference.plausible_values_range(case.model) + case.rows.point @ case.model.coef_


@figure("predict_interval", PREDICTION, "observation", "group_mean", "population_mean")
def prediction_intervals(case, kind):
    rows = case.rows
    return inference.predict_interval(case.model, rows.new_x, rows.new_groups, kind=kind, sample_weight=rows.new_weights)


@figure(
    "random_intercept_test", {"statistic": "same", "p_value": "same"}, "exact", "mixture", "naive", designs=WHATEVER_METHOD
)
def by_likelihood(case, method):
    return inference.random_intercept_test(case.model, method=method, n_simulations=100, random_state=0)


@figure("random_intercept_test f", F_TEST, designs=WHATEVER_METHOD)
def by_f(case):
    return inference.random_intercept_test(case.model, method="f")


@figure("likelihood_ratio_test", NESTED, designs=WHATEVER_METHOD)
def nested_models(case):
    return inference.likelihood_ratio_test(case.small, case.model)


@figure("icc", {"adjusted": "icc", "unadjusted": "same", "unadjusted of rows": "same"})
def intraclass_correlations(case):
    by_rows = inference.icc(case.model, kind="unadjusted", X=case.rows.X, groups=case.rows.groups)
    unadjusted = inference.icc(case.model, kind="unadjusted")
    return {"adjusted": inference.icc(case.model), "unadjusted": unadjusted, "unadjusted of rows": by_rows}


@figure("r2", {"moments": "shares", "rows": "shares"})
def shares_of_variance(case):
    return {"moments": inference.r2(case.model), "rows": inference.r2(case.model, case.rows.X, case.rows.groups)}


def effects_at_point(case, table):
    """The table of random effects, its intercepts those of groups at the point."""
    return table.assign(intercept=table["intercept"] + case.rows.point @ case.model.coef_)


@figure("random_effects_table", EFFECTS)
def table_of_random_effects(case):
    return effects_at_point(case, inference.random_effects_table(case.model))


@figure("clustering_report", "same", designs=WHATEVER_METHOD)
def report_on_clustering(case):
    return inference.clustering_report(case.model)


@figure("ClusterRobustOLS", LEAST_SQUARES, "nonrobust", "CR0", "CR1", "CR2", "CR3", designs=OF_ROWS)
def cluster_robust(case, cov_type):
    m = case.robust(cov_type)
    return {
        "at the point": case.at_point(m.intercept_, m.coef_),
        "coef_": slopes_of(m.coef_),
        "cov_fixed_": case.covariance_at_point(m.cov_fixed_),
        "df_": pd.Series(m.df_, index=[INTERCEPT, *NAMES]),
        "prediction": m.predict(case.rows.new_x),
        "score": m.score(case.rows.X, case.rows.y, sample_weight=case.rows.weights),
    }


@figure("fixed_effects of ClusterRobustOLS", FIXED_EFFECTS, "nonrobust", "CR0", "CR1", "CR2", "CR3", designs=OF_ROWS)
def table_of_cluster_robust(case, cov_type):
    return inference.fixed_effects(case.robust(cov_type))


@figure("WithinOLS", LEAST_SQUARES | {"group_effects_": "y", "residual_variance_": "sigma2"}, designs=OF_ROWS)
def within_estimator(case):
    m, rows = case.within, case.rows
    return {
        "at the point": case.at_point(m.intercept_, m.coef_),
        "coef_": slopes_of(m.coef_),
        "cov_fixed_": m.cov_fixed_,
        "df_": slopes_of(m.df_),
        "prediction": m.predict(rows.new_x, rows.new_groups),
        "score": m.score(rows.X, rows.y, rows.groups, rows.weights),
        "group_effects_": m.group_effects_,
        "residual_variance_": m.residual_variance_,
    }


@figure("fixed_effects of WithinOLS", FIXED_EFFECTS, designs=OF_ROWS)
def table_of_within(case):
    return inference.fixed_effects(case.within)


@figure("compare_with_ols coefficients", COEFFICIENTS, designs=WITHOUT_WEIGHTS)
def compared_coefficients(case):
    return case.comparison.coefficients


@figure("compare_with_ols predictions", {"rmse": "y", "r2": "same"}, "known", "new", designs=WITHOUT_WEIGHTS)
def compared_predictions(case, groups):
    return case.comparison.predictions.loc[groups]


@figure("compare_with_ols folds", {"rmse": "y", "r2": "same"}, "known", "new", designs=WITHOUT_WEIGHTS)
def compared_folds(case, groups):
    return case.comparison.fold_predictions.loc[groups]


@figure(
    "compare_with_ols within and between",
    {"within": "difference", "between": "difference", "difference": "difference", "std_error": "error"}
    | {"df": "df", "p_value": "test"},
    designs=WITHOUT_WEIGHTS,
)
def compared_within_and_between(case):
    return case.comparison.within_between


@figure("compare_with_ols", "same", designs=WITHOUT_WEIGHTS)
def compared(case):
    c = case.comparison
    names = ("icc", "residual_icc", "design_effect", "effective_sample_size", "n_samples", "n_groups", "n_folds")
    tests = {"group_test": c.group_test, "within_between_test": c.within_between_test, "conclusions": c.conclusions}
    return {name: getattr(c, name) for name in names} | tests


@figure("cross_validate_groups", {"rmse": "y", "r2": "same"}, "known", "new", designs=FEW)
def cross_validated(case, groups):
    table = case.cross_validated.loc[groups]
    return {"rmse": table["root_mean_squared_error"].to_numpy(), "r2": table["r2"].to_numpy()}


@figure(
    "GroupedMoments",
    {"counts": "weight", "n_rows": "same", "means": "means", "within": "scatter", "sum_log_weight": "sum of log weights"}
    | {"frame": "means", "frame weight": "weight", "frame n_rows": "same"},
    designs=WHATEVER_METHOD,
)
def moments(case):
    m = case.model.moments_
    frame = m.to_frame()
    columns = {"counts": m.counts, "n_rows": m.n_rows, "frame n_rows": frame["n_rows"], "frame weight": frame["weight"]}
    by_group = {name: pd.Series(np.asarray(values), index=m.labels) for name, values in columns.items()}
    means = {"means": pd.DataFrame(m.means, index=m.labels), "frame": frame.iloc[:, 2:]}
    return by_group | means | {"within": m.within, "sum_log_weight": m.sum_log_weight}


@figure("RandomEffectsDisplay", {"group_sd": "y", "intercept": "place of y"} | EFFECTS)
def drawn_effects(case):
    d = display.RandomEffectsDisplay.from_estimator(case.model)
    at = {"group_sd": d.group_sd, "intercept": d.intercept + case.rows.point @ case.model.coef_}
    return dict(effects_at_point(case, d.table)) | at


@figure(
    "ShrinkageDisplay",
    {"means": "y", "estimates": "y", "reliabilities": "same", "sizes": "same", "intercept": "y"},
    "deviation",
)
def drawn_shrinkage(case, scale):
    d = display.ShrinkageDisplay.from_estimator(case.model, scale=scale)
    names = ("means", "estimates", "reliabilities", "sizes")
    return {name: pd.Series(getattr(d, name), index=case.model.groups_) for name in names} | {"intercept": d.intercept}


@figure("ShrinkageDisplay absolute", "place of y")
def drawn_shrinkage_of_intercepts(case):
    d = display.ShrinkageDisplay.from_estimator(case.model, scale="absolute")
    at_point = case.rows.point @ case.model.coef_
    by_group = {name: pd.Series(getattr(d, name) + at_point, index=case.model.groups_) for name in ("means", "estimates")}
    return by_group | {"intercept": d.intercept + at_point}


@figure(
    "VarianceDisplay",
    {"shares": "same", "intercept": "place of y", "group_sd": "y", "residual_sd": "sigma", "plausible_range": "place of y"}
    | {"icc": "icc", "icc_limits": "icc", "profile": "same", "threshold": "same"},
)
def drawn_variance(case):
    d = display.VarianceDisplay.from_estimator(case.model)
    at_point = case.rows.point @ case.model.coef_
    same = {name: getattr(d, name) for name in ("group_sd", "residual_sd", "icc", "threshold")}
    places = {"intercept": d.intercept + at_point, "plausible_range": np.array(d.plausible_range) + at_point}
    arrays = {"icc_limits": np.array(d.icc_limits), "profile": np.array(d.profile), "shares": pd.Series(d.shares)}
    return same | places | arrays


@figure(
    "ClusteringDisplay",
    {"at the point": "place of y", "overall": "place of y", "slopes": "y per x", "overall slope": "y per x"},
    "pooled",
    "group",
    "model",
    designs=WITHOUT_WEIGHTS,
)
def drawn_clustering(case, lines):
    rows = case.rows
    d = display.ClusteringDisplay.from_data(rows.X["a"], rows.y, rows.groups, lines=lines)
    return {
        "at the point": pd.Series(d.intercepts + d.slopes * rows.point[0], index=d.labels),
        "slopes": pd.Series(d.slopes, index=d.labels),
        "overall": d.overall[0] + d.overall[1] * rows.point[0],
        "overall slope": d.overall[1],
    }


@figure("CoefficientComparisonDisplay", dict.fromkeys(("estimate", "lower", "upper"), "estimate"), designs=WITHOUT_WEIGHTS)
def drawn_comparison(case):
    return display.CoefficientComparisonDisplay.from_comparison(case.comparison, intercept=True).coefficients


# ---- the cells where a part is not what its kind says

UNITS = ("y unit", "x unit", "weight unit", "y shift", "x shift")
# Figure, part and relation, the first two as patterns, and why.
REASONS = [
    ("contrast_test at the point *", "[tp]*", ("y shift",), "that the value there is 0 is another hypothesis"),
    ("contrast_test of the coefficients sat*", "df2", ("x unit",), "df are those of principal axes, as in lmerTest"),
    ("contrast_test of the coefficients sat*", "p_value", ("x unit",), "df are those of principal axes, as in lmerTest"),
    ("summary *", "text", UNITS, "the text shows figures in units of the data"),
    ("ClusterRobustOLS *", "cov_fixed_", ("copies",), "row weights of least squares are no numbers of copies"),
    ("fixed_effects of *", "*", ("copies",), "row weights of least squares are no numbers of copies"),
    ("ClusterRobustOLS *", "df_", ("copies",), "row weights of least squares are no numbers of copies"),
    ("WithinOLS", "cov_fixed_", ("copies",), "row weights of least squares are no numbers of copies"),
    ("WithinOLS", "df_", ("copies",), "row weights of least squares are no numbers of copies"),
    ("WithinOLS", "residual_variance_", ("copies",), "row weights of least squares are no numbers of copies"),
    ("GroupedMoments", "*n_rows", ("copies",), "it counts rows"),
    ("GroupedMoments", "sum_log_weight", ("copies",), "it is of the weights of rows, and no part of this likelihood"),
    ("ShrinkageDisplay *", "sizes", ("copies",), "they count rows"),
    ("icc", "unadjusted*", ("weight unit",), "sigma2 is the residual variance of a row of weight 1, as in lme4"),
    ("VarianceDisplay", "shares", ("weight unit",), "sigma2 is the residual variance of a row of weight 1, as in lme4"),
    (
        "VarianceDisplay",
        "profile",
        ("weight unit",),
        "the curve is of the ICC, whose unit of sigma2 is that of a weight of 1",
    ),
    ("compare_with_ols", "conclusions", UNITS, "the text shows figures in units of the data"),
    ("compare_with_ols* known", "*", ("order",), "the folds of rows are drawn by position"),
    ("compare_with_ols", "conclusions", ("order", "labels"), "the folds of rows and groups are drawn by position"),
    ("compare_with_ols* new", "*", ("labels",), "the folds of groups are drawn by the order of labels"),
    ("cross_validate_groups *", "*", ("order",), "the folds are drawn by position"),
    ("cross_validate_groups new", "*", ("labels",), "the folds of groups are drawn by the order of labels"),
]

EPS = np.finfo(float).eps
# Errors are relative to the largest value of a part, in its unit. Variances near 0 lose
# most digits to rounding.
TOLERANCE = 1e-10
# Limits of profiles are interpolated; intervals of predictions take their df from a central difference.
OF_FIGURES = {"confidence_intervals profile": 1e-9}
OF_FIGURES |= {f"predict_interval {kind}": 1e-9 for kind in ("observation", "group_mean", "population_mean")}
# A shift takes its digits from values, and twice as many from the variance of the value at a distant point, which is a
# difference of variances at 0.
SHIFTED = 64 * SHIFT * EPS
COVARIANCE_SHIFTED = 16 * SHIFT**2 * EPS


def tolerance_of(figure_name, part, relation):
    """What rounding may make of a part."""
    if part == "cov_fixed_" and relation.tag == "x shift":
        return COVARIANCE_SHIFTED
    return max(OF_FIGURES.get(figure_name, TOLERANCE), SHIFTED if "shift" in relation.tag else 0.0)


def reason_for(figure_name, part, relation):
    """Why a part is not what its kind says, or None."""
    for of_figure, of_part, tags, reason in REASONS:
        if relation.tag in tags and fnmatch.fnmatch(figure_name, of_figure) and fnmatch.fnmatch(part, of_part):
            return reason
    return None


@cache
def parts_of(figure_name, design_name, relation_name=None):
    """The parts of a figure, by name, or the ValueError that stands for all of them."""
    case = case_of(design_name, relation_name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            value = FIGURES[figure_name][0](case)
        except ValueError as error:
            return {"error": re.sub("[0-9.]+", "#", str(error))}
    if isinstance(value, pd.DataFrame | dict):
        return dict(value)
    return dict(value) if isinstance(FIGURES[figure_name][1], dict) else {"values": value}


def with_original_labels(value, rows):
    """A part whose labels of groups are those of before."""
    if not isinstance(value, pd.Series | pd.DataFrame) or not rows.original:
        return value
    if not set(value.index) <= set(rows.original):
        return value
    return value.set_axis(value.index.map(rows.original)).sort_index()


@pytest.fixture(autouse=True, scope="module")
def without_pictures():
    """Take the data of displays, and draw nothing."""
    with pytest.MonkeyPatch.context() as patch:
        for name in display.__all__:
            patch.setattr(getattr(display, name), "plot", lambda self, *args, **kwargs: self)
        yield


def check(figure_name, part, kind, base, changed, relation, design):
    """Assert that a part is what its kind says."""
    expected, unit = KINDS[kind](base, relation, design)
    if expected is None or isinstance(expected, str | tuple):
        assert changed == expected, part
        return
    if isinstance(expected, pd.Series):
        assert list(changed.index[-len(expected) :] if len(expected) < len(changed) else changed.index) == list(
            expected.index
        )
        changed = changed.loc[expected.index]
    expected, changed, unit = (np.asarray(v, dtype=float) for v in (expected, changed, unit))
    sizes = np.abs(np.asarray(base, dtype=float))
    size = max(sizes[np.isfinite(sizes)].max(initial=0.0), 1e-3)
    np.testing.assert_array_equal(np.isnan(changed), np.isnan(expected), err_msg=part)
    # Infinite ones are the same.
    error = np.subtract(changed, expected, out=np.zeros(changed.shape), where=changed != expected) / unit
    worst = np.max(np.abs(error), where=~np.isnan(error), initial=0.0) / size
    assert worst <= tolerance_of(figure_name, part, relation), (
        f"{part}: off by {worst:.1e} of its size; found {changed}, expected {expected}"
    )


def figures_of(design_name, relation_name):
    """The figures of a design that a relation says something of."""
    design, relation = DESIGNS[design_name], RELATIONS[relation_name]
    for name, (_, _, designs) in FIGURES.items():
        # What takes rows does not take moments.
        of_rows = designs in (OF_ROWS, WITHOUT_WEIGHTS, FEW)
        # Kenward and Roger's df of a model fitted by ML are refused.
        refused = name.endswith("kenward_roger") and design.method == "ml"
        if design_name in designs and not refused and not (of_rows and relation.tag == "parts"):
            yield name


def check_figure(figure_name, design, relation):
    """Assert that every part of a figure is what its kind says."""
    base, changed = parts_of(figure_name, design), parts_of(figure_name, design, relation)
    kinds = FIGURES[figure_name][1]
    assert base.keys() == changed.keys()
    for part, value in base.items():
        if reason_for(figure_name, part, RELATIONS[relation]):
            continue
        kind = "same" if part == "error" else kinds if isinstance(kinds, str) else kinds[part]
        there = with_original_labels(changed[part], case_of(design, relation).rows)
        check(figure_name, part, kind, value, there, RELATIONS[relation], DESIGNS[design])


PAIRS = [(design, relation) for design in DESIGNS for relation in RELATIONS if applies(DESIGNS[design], RELATIONS[relation])]


# All figures of a changed design are read off the same fits.
@pytest.mark.parametrize(("design", "relation"), [pytest.param(*pair, id="-".join(pair)) for pair in PAIRS])
def test_figures_change_as_their_kind_says(design, relation):
    check_each([(name, (name, design, relation)) for name in figures_of(design, relation)], check_figure)


SLOPES = pd.Series({INTERCEPT: 0.0, "a": 1.0, "b": -1.0, "level2": 2.0})


@pytest.mark.parametrize("size", [2.0**10, 2.0**20])
@pytest.mark.parametrize("design", WITHOUT_WEIGHTS[:2])
@pytest.mark.parametrize(
    "figure_name",
    [name for name in FIGURES if re.fullmatch("fixed_effects.*|confidence_intervals.*|compare_with_ols coef.*|fit", name)],
)
def test_a_combination_of_the_columns_that_is_added_to_y_is_added_to_the_coefficients(figure_name, design, size):
    base, kinds = parts_of(figure_name, design), FIGURES[figure_name][1]
    old = DESIGNS[design]
    slopes = size * SLOPES
    # Multiples of the grid, so that the sum is exact.
    rows = replace(old.rows, y=old.rows.y + old.rows.X.to_numpy() @ slopes[NAMES].to_numpy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        changed = dict(FIGURES[figure_name][0](Case(replace(old, rows=rows))))
    for part, value in base.items():
        expected = value
        if kinds[part] in ("estimate", "difference") and (isinstance(value, pd.Series)):
            expected = value + slopes[coefficient_names(value.index)].to_numpy()
        elif kinds[part] == "place of y":
            expected = value + old.rows.point @ slopes[NAMES].to_numpy()
        # Tests against 0 are other tests, and a bound that is 0 stays one.
        if not (kinds[part] == "test" or part in ("t", "p_value")):
            check(figure_name, part, "same", expected, changed[part], Relation(), old)

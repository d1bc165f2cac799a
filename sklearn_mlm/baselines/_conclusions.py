"""What the figures of a comparison mean: rules, each of which is a condition and its sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .._tables import decimals, number_text, p_statement, p_text
from ..likelihood._random_terms import RandomTerm
from ._figures import Figures
from ._folds import MIXED, OLS, ROBUST, WITHIN

# Differences matter beyond these: of standard errors and of prediction errors relative to each other, and of estimates in
# standard errors.
_SE_MATTERS, _SE_DOUBT = 0.1, 1.25
_ESTIMATES_EQUAL, _ESTIMATE_MATTERS = 0.01, 0.5
_ERROR_MATTERS, _ERROR_MATTERS_MUCH = 0.01, 0.05
# The least degrees of freedom of a reliable cluster-robust standard error, and the level of tests.
_ENOUGH_DF, _LEVEL = 10.0, 0.05
# A sentence names at most this many coefficients one by one.
_NAMED = 4
# A prediction error below this share of the largest is rounding.
_ROUNDING = 1e-10


def conclusions_of(figures: Figures) -> list[str]:
    """Return what the figures of a comparison mean, a string for each paragraph."""
    paragraphs = [
        _paragraph(_Clustering.of(figures), CLUSTERING),
        _paragraph(_NaiveErrors.of(figures), NAIVE_ERRORS),
        _paragraph(_WithinBetween.of(figures), WITHIN_AND_BETWEEN),
        _paragraph(_RobustErrors.of(figures), ROBUST_VERDICT, ROBUST_SPREAD, ROBUST_WIDER, ROBUST_SINGLE),
        _paragraph(_Predictions.of(figures), KNOWN_GROUPS, NEW_GROUPS),
    ]
    return [paragraph for paragraph in paragraphs if paragraph]


# A rule is a condition on a record and a sentence with fields of that record.
Rules = Sequence[tuple[Callable[..., bool], str]]


def _paragraph(record: object, *tables: Rules) -> str:
    """Return a paragraph that joins, for each table of rules, the sentence of the first rule that holds for the record."""
    sentences = (next((text for holds, text in rules if holds(record)), "") for rules in tables)
    return " ".join(sentence.format_map(vars(record)) for sentence in sentences if sentence)


# ---- are the rows clustered?


@dataclass(frozen=True)
class _Clustering:
    share: str
    rest: str
    given: str
    test: str
    p_value: float
    residual_icc: float
    icc: float
    n_samples: float
    effective: float

    @classmethod
    def of(cls, f: Figures) -> _Clustering:
        """Return the record of the clustering of rows."""
        predictors, left = f.has_predictors, f.residual_icc
        return cls(
            share=f"{_percent(f.icc)} of the variance of y lies between groups",
            rest=f", {_percent(left)} given the predictors" if predictors and not np.isnan(left) else "",
            given=", given the predictors" if predictors else "",
            test=f"F test, {p_statement(f.group_test['p_value'])}",
            p_value=f.group_test["p_value"],
            residual_icc=left,
            icc=f.icc,
            n_samples=round(f.n_samples, 1),
            effective=f.effective_sample_size,
        )

    @property
    def chance(self) -> bool:
        """Whether the groups differ no more than by chance."""
        return self.p_value > _LEVEL


CLUSTERING: Rules = (
    (lambda c: np.isnan(c.residual_icc), "{share}. The predictors explain all of it: nothing is left to divide."),
    (
        lambda c: np.isnan(c.p_value),
        "{share}{rest}. There are too few groups or rows to test whether this is chance.",
    ),
    (
        lambda c: c.residual_icc == 0 and c.chance and c.given and c.icc > 0,
        "{share}, but the predictors account for all of it: the group variance is 0{given} ({test}), and the random "
        "intercept model equals least squares.",
    ),
    (
        lambda c: c.residual_icc == 0 and c.chance,
        "The groups differ no more than by chance: their variance is 0{given} ({test}), and the random intercept model "
        "equals least squares.",
    ),
    (
        lambda c: c.residual_icc == 0,
        "The group variance is 0{given}, and the random intercept model equals least squares; yet the exact test finds that "
        "groups differ ({test}), as can happen if their sizes are very unequal.",
    ),
    (lambda c: c.chance, "{share}{rest}, which may be chance ({test})."),
    (
        lambda c: True,
        "{share}{rest}, more than chance ({test}). For its mean, the {n_samples:.10g} rows count as about {effective:.0f}.",
    ),
)


# ---- what does ignoring the groups do to standard errors?


@dataclass(frozen=True)
class _NaiveErrors:
    known: bool
    apart: float
    ratios: str
    doubt: str
    turned: str

    @classmethod
    def of(cls, f: Figures) -> _NaiveErrors:
        """Return the record of the textbook standard errors beside the cluster-robust ones."""
        ratio = _ratio(_column(f, ROBUST, "std_error"), _column(f, OLS, "std_error"))
        if ratio.empty:
            return cls(False, 0.0, "", "", "")
        off = ratio[(ratio - 1).abs() > _SE_MATTERS].sort_values(ascending=False)
        low, high = str(ratio.idxmin()), str(ratio.idxmax())
        each = ", ".join(
            f"{_times(value)}{'' if at else ' as large'} for {name}" for at, (name, value) in enumerate(off.items())
        )
        span = f"{_times(ratio[low])} ({low}) to {_times(ratio[high])} ({high}) as large"
        before, after = _column(f, OLS, "p_value"), _column(f, ROBUST, "p_value")
        turned = [str(name) for name in ratio.index if (before[name] <= _LEVEL) != (after[name] <= _LEVEL)]
        return cls(
            known=True,
            apart=float((ratio - 1).abs().max()),
            ratios=each if len(off) <= _NAMED else span,
            doubt=", perhaps by chance with so few groups" if _column(f, ROBUST, "df").min() < _ENOUGH_DF else "",
            turned="".join(
                f" The p-value of {name} changes from {p_text(before[name])} to {p_text(after[name])}." for name in turned
            ),
        )


NAIVE_ERRORS: Rules = (
    (lambda e: not e.known, "There are no standard errors of least squares to compare with cluster-robust ones."),
    (
        lambda e: e.apart <= _SE_MATTERS,
        "Textbook standard errors, which ignore the groups, are within {apart:.0%} of the cluster-robust ones.",
    ),
    (
        lambda e: True,
        "Textbook standard errors ignore the groups: cluster-robust ones are {ratios}{doubt}.{turned}",
    ),
)


# ---- are the coefficients within groups and between them the same?


@dataclass(frozen=True)
class _WithinBetween:
    p_value: float
    test: str
    each: str

    @classmethod
    def of(cls, f: Figures) -> _WithinBetween:
        """Return the record of the coefficients within and between groups."""
        p_value = f.within_between_test["p_value"]
        tested = f.within_between[f.within_between["p_value"].notna()]
        clear = tested[tested["p_value"] <= _LEVEL]
        most = (clear if len(clear) else tested).sort_values("p_value").head(3)
        each = [f"{name}: {row['within']:.3g} within, {row['between']:.3g} between" for name, row in most.iterrows()]
        return cls(p_value if each else np.nan, p_statement(p_value), "; ".join(each))


WITHIN_AND_BETWEEN: Rules = (
    (lambda w: np.isnan(w.p_value), ""),
    (
        lambda w: w.p_value > _LEVEL,
        "Coefficients within and between groups do not differ significantly ({each}; {test}). If they are equal, the random "
        "intercept model's is the most precise.",
    ),
    (
        lambda w: True,
        "Coefficients within and between groups differ ({each}; {test}), and least squares and the random intercept model "
        "mix them: use WithinOLS, or add group means as columns, whose coefficients are the differences.",
    ),
)


# ---- are cluster-robust standard errors enough?


@dataclass(frozen=True)
class _RobustErrors:
    known: bool
    single: str
    shift: float
    moved: str
    contextual: bool
    least_df: float
    n_groups: int
    low: float
    high: float
    widest: str
    tested: bool
    varies: bool
    steepest: str
    slope_sd: str
    slope_test: str
    formula: str

    @classmethod
    def of(cls, f: Figures) -> _RobustErrors:
        """Return the record of cluster-robust least squares beside the random intercept model."""
        errors, robust = _column(f, MIXED, "std_error"), _column(f, ROBUST, "std_error")
        shift = _ratio((_column(f, OLS, "estimate") - _column(f, MIXED, "estimate")).abs(), errors)
        relative = _ratio(robust, errors)
        missing = robust.isna() & _column(f, OLS, "std_error").notna()
        known = not (shift.empty or relative.empty)
        low, high = (float(relative.min()), float(relative.max())) if known else (np.nan, np.nan)
        widest = str(relative.idxmax()) if known else ""
        sds = {str(name): float(sd) for name, sd in f.slopes["sd"].items()}
        p_values = {str(name): float(p_value) for name, p_value in f.slopes["p_value"].dropna().items()}
        # Several slopes are tried, and the least p-value is multiplied by their number.
        steepest = min(p_values, key=lambda name: p_values[name], default="")
        varies = bool(p_values) and p_values[steepest] * len(p_values) <= _LEVEL
        steepest = steepest if varies else widest
        tested = steepest in p_values
        return cls(
            known=known,
            single=", ".join(map(str, missing.index[missing])),
            shift=float(shift.max()) if known else np.nan,
            moved=str(shift.idxmax()) if known else "",
            contextual=bool(f.within_between_test["p_value"] <= _LEVEL),
            least_df=float(_column(f, ROBUST, "df").min()),
            n_groups=f.n_groups,
            low=low,
            high=high,
            widest=widest,
            tested=tested,
            varies=varies,
            steepest=steepest,
            slope_sd=f"{sds[steepest]:.3g}" if tested else "",
            slope_test=p_statement(p_values[steepest]) if tested else "",
            formula=str(RandomTerm("group", True, (steepest,))),
        )

    @property
    def moves(self) -> bool:
        """Whether an estimate differs between the models by an amount that matters."""
        return self.shift > _ESTIMATE_MATTERS

    @property
    def same(self) -> bool:
        """Whether all estimates agree."""
        return self.shift <= _ESTIMATES_EQUAL


_ALONE = "For the coefficients alone, cluster-robust standard errors "
_SAME = "the estimates agree with the random intercept model's"
_CLOSE = "no estimate is more than {shift:.2g} standard errors from the random intercept model's"
_FEW = (
    "may be enough ({close}), but with {{n_groups}} groups they are uncertain (as few as {{least_df:.1f}} degrees of "
    "freedom)."
)
_IMPRECISE = "are valid but imprecise: {close}, with at least {{least_df:.0f}} degrees of freedom."
_ENOUGH = "are enough: {close}, with at least {{least_df:.0f}} degrees of freedom."

ROBUST_VERDICT: Rules = (
    (
        lambda e: not e.known,
        "There are no cluster-robust standard errors to compare with the random intercept model's.",
    ),
    (lambda e: e.single, "Cluster-robust standard errors are not enough here."),
    (
        lambda e: e.moves and e.contextual,
        "Cluster-robust standard errors are not enough, because they do not correct the estimates: that of {moved}, another "
        "mixture, is {shift:.2g} standard errors from the random intercept model's.",
    ),
    (
        lambda e: e.moves,
        "Whether cluster-robust standard errors are enough is unclear: the estimate of {moved} is {shift:.2g} standard "
        "errors from the random intercept model's, by chance, or because coefficients within and between groups differ more "
        "than these data can show.",
    ),
    (lambda e: e.least_df < _ENOUGH_DF and e.same, _ALONE + _FEW.format(close=_SAME)),
    (lambda e: e.least_df < _ENOUGH_DF, _ALONE + _FEW.format(close=_CLOSE)),
    (lambda e: e.high > _SE_DOUBT and e.same, _ALONE + _IMPRECISE.format(close=_SAME)),
    (lambda e: e.high > _SE_DOUBT, _ALONE + _IMPRECISE.format(close=_CLOSE)),
    (lambda e: e.same, _ALONE + _ENOUGH.format(close=_SAME)),
    (lambda e: True, _ALONE + _ENOUGH.format(close=_CLOSE)),
)

ROBUST_SPREAD: Rules = (
    (lambda e: not e.known, ""),
    (
        lambda e: f"{e.low:.2f}" == f"{e.high:.2f}",
        "They are {low:.2f} times its own.",
    ),
    (
        lambda e: True,
        "They are {low:.2f} to {high:.2f} times its own.",
    ),
)

_WASTES = "east squares wastes information about {widest}"
_ONE_SLOPE = (
    "The effect of {steepest} varies between groups (sd {slope_sd}, {slope_test}): a model with that random slope describes "
    "it, MixedEffectsRegressor(random_effects={formula!r})"
)

ROBUST_WIDER: Rules = (
    (
        lambda e: e.varies and e.steepest == e.widest and e.high > _SE_DOUBT,
        _ONE_SLOPE + ". The random intercept model's standard error is too small.",
    ),
    (lambda e: e.varies, _ONE_SLOPE + "."),
    (lambda e: not e.high > _SE_DOUBT, ""),
    (
        lambda e: not e.tested,
        "Either l" + _WASTES + ", or its effect varies between groups, which these rows cannot show.",
    ),
    (
        lambda e: e.contextual,
        "L" + _WASTES + ", or group means of the predictors are missing; its effect does not vary significantly between "
        "groups ({slope_test}).",
    ),
    (lambda e: True, "L" + _WASTES + ", whose effect does not vary significantly between groups ({slope_test})."),
)

ROBUST_SINGLE: Rules = (
    (
        lambda e: e.single,
        "There are none for {single}, which rests on a single group: one group does not show how groups differ.",
    ),
)


# ---- does the multilevel model predict better?


@dataclass(frozen=True)
class _Predictions:
    gain: float
    gained: str
    beside: str
    better: str
    against: str
    new_gain: float
    new_gained: str
    new_better: str
    new_against: str
    contextual: bool

    @classmethod
    def of(cls, f: Figures) -> _Predictions:
        """Return the record of predictions in known and in new groups."""
        known, tried = _errors(f, "known"), "new" in f.predictions.index.get_level_values("groups")
        new = _errors(f, "new") if tried else known
        digits = decimals(known[OLS])

        def against(errors: dict[str, float]) -> str:
            return f"{number_text(errors[MIXED], digits)} against {number_text(errors[OLS], digits)}"

        beside, new_gain = _gain(known, WITHIN), _gain(new, OLS) if tried else np.nan
        dummies = f", and {beside:.0%} lower than with unshrunken intercepts"
        return cls(
            gain=_gain(known, OLS),
            gained=f"{_gain(known, OLS):.0%}",
            beside=dummies if beside > _ERROR_MATTERS else "",
            better=_better(f, "known"),
            against=against(known),
            new_gain=new_gain,
            new_gained=f"{abs(new_gain):.0%} {'lower' if new_gain > 0 else 'higher'}",
            new_better=_better(f, "new") if tried else "",
            new_against=against(new),
            contextual=bool(f.within_between_test["p_value"] <= _LEVEL),
        )


_PAYS = (
    " for other rows of these groups: its error is {gained} lower than that of least squares ({against}; {better}){beside}."
)

KNOWN_GROUPS: Rules = (
    (lambda p: p.gain > _ERROR_MATTERS_MUCH, "The multilevel model pays off" + _PAYS),
    (lambda p: p.gain > _ERROR_MATTERS, "The multilevel model pays off a little" + _PAYS),
    (
        lambda p: p.gain < -_ERROR_MATTERS,
        "The multilevel model does not pay off, even for other rows of these groups: its error is {against} for least "
        "squares ({better}).",
    ),
    (lambda p: True, "For other rows of these groups the multilevel model is hardly better than least squares ({against})."),
)

_NEW = "For new groups its error is {new_gained} ({new_against}; {new_better})."

NEW_GROUPS: Rules = (
    (lambda p: np.isnan(p.new_gain), "There are too few groups to test it on new ones."),
    (
        lambda p: abs(p.new_gain) <= _ERROR_MATTERS,
        "For new groups the two predict equally well.",
    ),
    (
        lambda p: p.new_gain < 0 and p.contextual,
        _NEW + " Its coefficients are closer to those within groups: add group means of the predictors.",
    ),
    (lambda p: True, _NEW),
)


# ---- figures as text


def _column(figures: Figures, model: str, column: str) -> pd.Series:
    """Return a column of the table of coefficients for one model."""
    return figures.coefficients.xs(model, level="model")[column]


def _percent(share: float) -> str:
    """Return a share as a percentage; "less than 1%" if it would round to 0."""
    return "less than 1%" if 0 < share < 0.005 else f"{share:.0%}"


def _times(ratio: float) -> str:
    """Return a ratio as a multiple."""
    return f"{ratio:.1f} times" if ratio >= 1 else f"{ratio:.2f} times"


def _ratio(a: pd.Series, b: pd.Series) -> pd.Series:
    """Return a / b, without entries that are missing or divide by 0."""
    known = a.notna() & (b > 0)
    return a[known] / b[known]


def _errors(f: Figures, kind: str) -> dict[str, float]:
    """Return the typical error of each model in known or in new groups."""
    return {str(model): float(error) for model, error in f.predictions.xs(kind)["rmse"].items()}


def _gain(errors: dict[str, float], than: str) -> float:
    """Return by what share the random intercept model's error is lower than another's; 0 if the difference is rounding."""
    return 1.0 - errors[MIXED] / errors[than] if errors[than] > _ROUNDING * max(errors.values()) else 0.0


def _better(f: Figures, kind: str) -> str:
    """Return in how many folds the random intercept model predicts better than least squares, as text."""
    errors = f.fold_predictions.xs(kind, level="groups")["rmse"]
    mixed = errors.xs(MIXED, level="model")
    return f"better in {int((mixed < errors.xs(OLS, level='model')).sum())} of {len(mixed)} folds"

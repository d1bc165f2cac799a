"""What the figures of a comparison mean: rules, each a condition and the sentence that it calls for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .._tables import decimals, number_text, p_statement, p_text
from ._figures import Figures
from ._folds import MIXED, OLS, ROBUST, WITHIN

# From where on differences matter: of standard errors, relative to each other; of estimates, in standard errors; of errors
# of prediction, relative to each other.
_SE_MATTERS, _SE_DOUBT = 0.1, 1.25
_ESTIMATES_EQUAL, _ESTIMATE_MATTERS = 0.01, 0.5
_ERROR_MATTERS, _ERROR_MATTERS_MUCH = 0.01, 0.05
# Degrees of freedom that a cluster-robust standard error should rest on, and the level of tests.
_ENOUGH_DF, _LEVEL = 10.0, 0.05
# A sentence names up to so many coefficients one by one.
_NAMED = 4
# An error below this share of the largest is rounding.
_ROUNDING = 1e-10


def conclusions_of(figures: Figures) -> list[str]:
    """Return what the figures of a comparison mean, a paragraph each."""
    paragraphs = [
        _paragraph(_Clustering.of(figures), CLUSTERING),
        _paragraph(_NaiveErrors.of(figures), NAIVE_ERRORS),
        _paragraph(_WithinBetween.of(figures), WITHIN_AND_BETWEEN),
        _paragraph(_RobustErrors.of(figures), ROBUST_VERDICT, ROBUST_SPREAD, ROBUST_WIDER, ROBUST_SINGLE),
        _paragraph(_Predictions.of(figures), KNOWN_GROUPS, NEW_GROUPS),
    ]
    return [paragraph for paragraph in paragraphs if paragraph]


# A rule is a condition on a record and a sentence, whose fields are those of the record.
Rules = Sequence[tuple[Callable[..., bool], str]]


def _paragraph(record: object, *tables: Rules) -> str:
    """Return, for each table of rules, the sentence of the first rule whose condition holds; together, as a paragraph."""
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
    n_samples: int
    effective: float

    @classmethod
    def of(cls, f: Figures) -> _Clustering:
        predictors, left = f.has_predictors, f.residual_icc
        return cls(
            share=f"{_percent(f.icc)} of the variance of y lies between groups",
            rest=f", and {_percent(left)} of what the predictors leave" if predictors and not np.isnan(left) else "",
            given=", given the predictors" if predictors else "",
            test=f"F test, {p_statement(f.group_test['p_value'])}",
            p_value=f.group_test["p_value"],
            residual_icc=left,
            icc=f.icc,
            n_samples=f.n_samples,
            effective=f.effective_sample_size,
        )

    @property
    def chance(self) -> bool:
        return self.p_value > _LEVEL


CLUSTERING: Rules = (
    (
        lambda c: np.isnan(c.residual_icc),
        "{share}. The predictors leave nothing of it: there is no variance to divide.",
    ),
    (
        lambda c: np.isnan(c.p_value),
        "{share}{rest}. There are too few groups, or too few rows in them, to test whether that is more than chance.",
    ),
    (
        lambda c: c.residual_icc == 0 and c.chance and c.given and c.icc > 0,
        "{share}, but the predictors account for all of that: given them, the group variance is estimated as 0 ({test}). "
        "The random intercept model is then least squares and gains nothing.",
    ),
    (
        lambda c: c.residual_icc == 0 and c.chance,
        "The groups differ no more than chance makes them: the group variance is estimated as 0{given} ({test}). The random "
        "intercept model is then least squares and gains nothing.",
    ),
    (
        lambda c: c.residual_icc == 0,
        "The group variance is estimated as 0{given}, so that the random intercept model is least squares here. The exact "
        "test finds that some groups differ all the same ({test}), as it may if groups are of very different sizes.",
    ),
    (
        lambda c: c.chance,
        "{share}{rest}. Groups without any effect of their own may well differ this much by chance ({test}).",
    ),
    (
        lambda c: True,
        "{share}{rest}, more than chance ({test}). Rows of the same group are alike: for the mean of y, the {n_samples} "
        "rows are worth about {effective:.0f} independent ones.",
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
        ratio = _ratio(f.of(ROBUST, "std_error"), f.of(OLS, "std_error"))
        if ratio.empty:
            return cls(False, 0.0, "", "", "")
        off = ratio[(ratio - 1).abs() > _SE_MATTERS].sort_values(ascending=False)
        low, high = str(ratio.idxmin()), str(ratio.idxmax())
        each = ", ".join(f"{_times(value)} as large for {name}" for name, value in off.items())
        span = f"{_times(ratio[low])} ({low}) to {_times(ratio[high])} ({high}) as large"
        before, after = f.of(OLS, "p_value"), f.of(ROBUST, "p_value")
        turned = [str(name) for name in ratio.index if (before[name] <= _LEVEL) != (after[name] <= _LEVEL)]
        return cls(
            known=True,
            apart=float((ratio - 1).abs().max()),
            ratios=each if len(off) <= _NAMED else span,
            doubt=", though with so few groups that may be chance" if f.of(ROBUST, "df").min() < _ENOUGH_DF else "",
            turned="".join(
                f" The p-value of {name} goes from {p_text(before[name])} to {p_text(after[name])}." for name in turned
            ),
        )


NAIVE_ERRORS: Rules = (
    (
        lambda e: not e.known,
        "Least squares leaves nothing to chance here: there are no standard errors to compare.",
    ),
    (
        lambda e: e.apart <= _SE_MATTERS,
        "The textbook standard errors of least squares ignore the groups. They are within {apart:.0%} of the cluster-robust "
        "ones: for the coefficients, the groups hardly matter.",
    ),
    (
        lambda e: True,
        "The textbook standard errors of least squares ignore the groups. The cluster-robust ones, which allow for them, "
        "are {ratios}{doubt}.{turned}",
    ),
)


# ---- do rows within groups and groups tell the same coefficient?


@dataclass(frozen=True)
class _WithinBetween:
    p_value: float
    test: str
    each: str

    @classmethod
    def of(cls, f: Figures) -> _WithinBetween:
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
        "The coefficients within groups and between them do not differ significantly ({test}; {each}). If they are the "
        "same, the single coefficient of the random intercept model is better than either because it uses both.",
    ),
    (
        lambda w: True,
        "The coefficients within groups and between them differ ({test}; {each}). Least squares and the random intercept "
        "model mix the two. If you want the within coefficient, use WithinOLS, or add the group means of these columns as "
        "columns of the random intercept model, whose coefficients are then the differences.",
    ),
)


# ---- would cluster-robust standard errors do?


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
    wider: str

    @classmethod
    def of(cls, f: Figures) -> _RobustErrors:
        errors, robust = f.of(MIXED, "std_error"), f.of(ROBUST, "std_error")
        shift = _ratio((f.of(OLS, "estimate") - f.of(MIXED, "estimate")).abs(), errors)
        relative = _ratio(robust, errors)
        missing = robust.isna() & f.of(OLS, "std_error").notna()
        known = not (shift.empty or relative.empty)
        low, high = (float(relative.min()), float(relative.max())) if known else (np.nan, np.nan)
        return cls(
            known=known,
            single=", ".join(map(str, missing.index[missing])),
            shift=float(shift.max()) if known else np.nan,
            moved=str(shift.idxmax()) if known else "",
            contextual=bool(f.within_between_test["p_value"] <= _LEVEL),
            least_df=float(f.of(ROBUST, "df").min()),
            n_groups=f.n_groups,
            low=low,
            high=high,
            widest=str(relative.idxmax()) if known else "",
            wider=_times(high),
        )

    @property
    def moves(self) -> bool:
        return self.shift > _ESTIMATE_MATTERS

    @property
    def same(self) -> bool:
        return self.shift <= _ESTIMATES_EQUAL


_ALONE = "If only the coefficients matter, least squares with cluster-robust standard errors "
_SAME = "the estimates are those of the random intercept model"
_CLOSE = "no estimate is more than {shift:.2g} standard errors from that of the random intercept model"
_FEW = (
    "could do, because {close}. From {{n_groups}} groups, however, those standard errors are uncertain ({{least_df:.1f}} "
    "degrees of freedom at the least)."
)
_DEAR = "is valid but imprecise: {close}, and the standard errors rest on {{least_df:.0f}} degrees of freedom or more."
_FINE = "would do: {close}, and the standard errors rest on {{least_df:.0f}} degrees of freedom or more."

ROBUST_VERDICT: Rules = (
    (
        lambda e: not e.known,
        "There are no cluster-robust standard errors to compare with those of the random intercept model.",
    ),
    (lambda e: e.single, "Cluster-robust standard errors would not do here."),
    (
        lambda e: e.moves and e.contextual,
        "Cluster-robust standard errors alone would not do, because they correct the standard errors and not the estimates. "
        "Least squares and the random intercept model mix what is within groups and what is between them in different "
        "proportions, and their estimates of {moved} are {shift:.2g} standard errors of the latter apart.",
    ),
    (
        lambda e: e.moves,
        "Whether cluster-robust standard errors would do is open. The estimates of {moved} by least squares and by the "
        "random intercept model are {shift:.2g} standard errors of the latter apart. That may be chance, or a difference of "
        "within and between that these data are too few to show.",
    ),
    (lambda e: e.least_df < _ENOUGH_DF and e.same, _ALONE + _FEW.format(close=_SAME)),
    (lambda e: e.least_df < _ENOUGH_DF, _ALONE + _FEW.format(close=_CLOSE)),
    (lambda e: e.high > _SE_DOUBT and e.same, _ALONE + _DEAR.format(close=_SAME)),
    (lambda e: e.high > _SE_DOUBT, _ALONE + _DEAR.format(close=_CLOSE)),
    (lambda e: e.same, _ALONE + _FINE.format(close=_SAME)),
    (lambda e: True, _ALONE + _FINE.format(close=_CLOSE)),
)

ROBUST_SPREAD: Rules = (
    (lambda e: not e.known, ""),
    (
        lambda e: f"{e.low:.2f}" == f"{e.high:.2f}",
        "The cluster-robust standard errors are {low:.2f} times those of the random intercept model.",
    ),
    (
        lambda e: True,
        "The cluster-robust standard errors are {low:.2f} to {high:.2f} times those of the random intercept model.",
    ),
)

_WIDER = "For {widest} that makes intervals {wider} as wide: least squares wastes information, or "
_VARIES = (
    "the effect differs from group to group, which a random intercept does not allow for (the standard error of the random "
    "intercept model is then too small)."
)

ROBUST_WIDER: Rules = (
    (lambda e: not e.high > _SE_DOUBT, ""),
    (lambda e: e.contextual, _WIDER + "the group means of the predictors are missing, or " + _VARIES),
    (lambda e: True, _WIDER + _VARIES),
)

ROBUST_SINGLE: Rules = (
    (
        lambda e: e.single,
        "They cannot be had for {single}: such a coefficient rests on a single group, and one group does not tell how "
        "groups differ.",
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
        known, tried = _errors(f, "known"), "new" in f.predictions.index.get_level_values("groups")
        new = _errors(f, "new") if tried else known
        digits = decimals(known[OLS])

        def against(errors: dict[str, float]) -> str:
            return f"{number_text(errors[MIXED], digits)} against {number_text(errors[OLS], digits)}"

        beside, new_gain = _gain(known, WITHIN), _gain(new, OLS) if tried else np.nan
        dummies = f", and {beside:.0%} less than with an unshrunken intercept for each group"
        return cls(
            gain=_gain(known, OLS),
            gained=f"{_gain(known, OLS):.0%}",
            beside=dummies if beside > _ERROR_MATTERS else "",
            better=_better(f, "known"),
            against=against(known),
            new_gain=new_gain,
            new_gained=f"{abs(new_gain):.0%} {'less' if new_gain > 0 else 'more'}",
            new_better=_better(f, "new") if tried else "",
            new_against=against(new),
            contextual=bool(f.within_between_test["p_value"] <= _LEVEL),
        )


_PAYS = (
    " when it predicts other rows of these groups, because it knows their levels: its typical error is {against} by least "
    "squares, {gained} less ({better}){beside}."
)

KNOWN_GROUPS: Rules = (
    (lambda p: p.gain > _ERROR_MATTERS_MUCH, "The multilevel model pays" + _PAYS),
    (lambda p: p.gain > _ERROR_MATTERS, "The multilevel model pays a little" + _PAYS),
    (
        lambda p: p.gain < -_ERROR_MATTERS,
        "The multilevel model does not pay in prediction, even for rows of these groups: its typical error is {against} by "
        "least squares ({better}).",
    ),
    (
        lambda p: True,
        "For rows of these groups the multilevel model predicts hardly better than least squares: {against}.",
    ),
)

_NEW = "For new groups, whose levels nobody knows, its error is {new_gained} ({new_against}; {new_better})."

NEW_GROUPS: Rules = (
    (lambda p: np.isnan(p.new_gain), "There are too few groups to try it on new ones."),
    (
        lambda p: abs(p.new_gain) <= _ERROR_MATTERS,
        "For new groups, whose levels nobody knows, it predicts as least squares does ({new_against}).",
    ),
    (
        lambda p: p.new_gain < 0 and p.contextual,
        _NEW + " Its coefficients are nearer to those within groups: add the group means of the predictors.",
    ),
    (lambda p: True, _NEW),
)


# ---- figures as text


def _percent(share: float) -> str:
    """Return a share as a percentage, "less than 1%" if rounding would leave none of it."""
    return "less than 1%" if 0 < share < 0.005 else f"{share:.0%}"


def _times(ratio: float) -> str:
    """Return a ratio as a multiple."""
    return f"{ratio:.1f} times" if ratio >= 1 else f"{ratio:.2f} times"


def _ratio(a: pd.Series, b: pd.Series) -> pd.Series:
    """Return a / b where both are numbers and b is not 0."""
    known = a.notna() & (b > 0)
    return a[known] / b[known]


def _errors(f: Figures, kind: str) -> dict[str, float]:
    """Return the typical error of each model in known or in new groups."""
    return {str(model): float(error) for model, error in f.predictions.xs(kind)["rmse"].items()}


def _gain(errors: dict[str, float], than: str) -> float:
    """Return by what share the error of the random intercept model is less than another's; 0 if that is only rounding."""
    return 1.0 - errors[MIXED] / errors[than] if errors[than] > _ROUNDING * max(errors.values()) else 0.0


def _better(f: Figures, kind: str) -> str:
    """Return in how many folds the random intercept model predicts better than least squares, as text."""
    errors = f.fold_predictions.xs(kind, level="groups")["rmse"]
    mixed = errors.xs(MIXED, level="model")
    return f"better in {int((mixed < errors.xs(OLS, level='model')).sum())} of {len(mixed)} folds"

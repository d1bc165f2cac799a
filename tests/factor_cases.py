"""Small designs with several grouping factors, as the likelihood takes them and as textbook algebra does."""

from __future__ import annotations

import functools
from itertools import pairwise

import numpy as np
import pandas as pd
from dense_factors import DenseFactors

from sklearn_mlm import CellScatter
from sklearn_mlm.likelihood._options import MixedOptions
from sklearn_mlm.likelihood._random_terms import INTERCEPT, parse_random_effects


def normal(seed, *shape):
    """Standard normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape)


def frame_of(kind, seed=0, n=80, tau=(1.0, 1.0, 1.0, 0.7), sigma=1.0):
    """Rows of y, x0, x1, x2 and the labels a, b, c, d.

    "crossed" has factors that cross each other, with gaps; in "nested" the levels of a lie in those of b, and these in those
    of c; "mixed" has a in b in d, and c that crosses all. tau are the standard deviations of the intercepts of a, b, c and
    of the slope of x0 between the levels of a.
    """
    r = np.random.default_rng(seed)
    a = r.permutation(np.arange(n) % 11 if kind == "crossed" else np.minimum(r.integers(0, 24, n), r.integers(0, 24, n)))
    b, c, d = {
        "crossed": (r.integers(0, 7, n), r.integers(0, 5, n), r.integers(0, 3, n)),
        "nested": (a // 4, a // 12, a // 12),
        "mixed": (a // 3, r.integers(0, 6, n), a // 9),
    }[kind]
    x = r.standard_normal((n, 3)) + np.array([1.0, 0.0, -2.0])
    part = [t * r.standard_normal(codes.max() + 1)[codes] for t, codes in zip(tau, (a, b, c), strict=False)]
    slope = tau[3] * r.standard_normal(a.max() + 1)[a] * x[:, 0]
    y = 1.0 + x @ [1.0, -0.5, 0.2] + sum(part) + slope + sigma * r.standard_normal(n)
    labels = {name: np.array([f"{name}{v}" for v in codes]) for name, codes in zip("abcd", (a, b, c, d), strict=True)}
    return pd.DataFrame({"y": y, "x0": x[:, 0], "x1": x[:, 1], "x2": x[:, 2]} | labels)


class Case:
    """Rows, random terms and options: the criterion, and the same model by n x n algebra.

    The random coefficients of the oracle are in the order of the factors, those of the criterion in the order of the terms:
    `order` has the positions of the former among the latter.
    """

    def __init__(self, frame, text, method="reml", *, fixed=("x0", "x1"), weights=None, weight_type="frequency", **options):
        self.frame, self.text, self.fixed, self.weights = frame, text, list(fixed), weights
        terms = parse_random_effects(text)
        self.outside = list(dict.fromkeys(n for term in terms for n in term.columns if n not in self.fixed))
        blocks = tuple(block for term in terms for block in term.blocks())
        self.options = MixedOptions(blocks, method, weight_type=weight_type, n_random_only=len(self.outside), **options)

    @functools.cached_property
    def scatter(self):
        labels = list(dict.fromkeys(name for columns in self.options.groupings.values() for name in columns))
        slopes = list(dict.fromkeys(name for term in self.options.terms for name in term.columns))
        columns = self.fixed + self.outside
        X = self.frame[columns] if columns else None
        return CellScatter.from_arrays(X, self.frame["y"], self.frame[labels], self.weights, slopes=slopes)

    def criterion(self, reml=None):
        return self.options.criterion(self.scatter, reml)

    @functools.cached_property
    def order(self):
        return [at for factor in self.options.factors(self.scatter.cells) for at in factor.coefficients]

    @functools.cached_property
    def blocks(self):
        """Blocks of correlated coefficients, as the oracle counts them."""
        sizes = np.cumsum([0, *(len(term.coefficients) for term in self.options.terms)])
        blocks = [range(start, stop) for start, stop in pairwise(sizes)]
        return [[self.order.index(at) for at in block] for block in blocks]

    def fixed_design(self, frame):
        columns = [np.ones(len(frame))] if self.options.fit_intercept else []
        return np.column_stack([*columns, *(frame[name] for name in self.fixed)]) if columns or self.fixed else None

    def random_design(self, frame):
        """The columns of all random coefficients, in the order of the oracle."""
        names = np.array(self.options.coefficients, dtype=object)[self.order]
        return np.column_stack([np.ones(len(frame)) if name == INTERCEPT else frame[name] for name in names])

    def labels(self, frame):
        """The labels of each factor: tuples of labels, or labels."""
        parts = [[frame[name] for name in columns] for columns in self.options.groupings.values()]
        return [list(zip(*part, strict=True)) if len(part) > 1 else list(part[0]) for part in parts]

    def dense(self, reml=None):
        """The oracle. Rows whose weight is a count are there as often."""
        frame, precision = self.frame, self.weights
        if precision is not None and self.options.weight_type == "frequency":
            frame, precision = frame.loc[frame.index.repeat(np.asarray(precision, dtype=int))], None
        Z, start, factors = self.random_design(frame), 0, []
        for factor, labels in zip(self.options.factors(self.scatter.cells), self.labels(frame), strict=True):
            stop = start + len(factor.coefficients)
            factors.append((Z[:, start:stop], labels))
            start = stop
        reml = self.options.method == "reml" if reml is None else reml
        return DenseFactors(self.fixed_design(frame), frame["y"], factors, reml=reml, precision=precision)


COUNTS = 1 + np.arange(80) % 3
CASES = {
    "crossed": Case(frame_of("crossed"), "(1 | a) + (1 | b) + (1 | c)"),
    "two factors": Case(frame_of("crossed", 1), "(1 | b) + (1 | a)"),
    "slopes in two factors": Case(frame_of("crossed", 2), "(1 + x0 | a) + (1 + x1 | b)"),
    "independent slopes": Case(frame_of("crossed", 3), "(1 + x0 || a) + (x1 + x0 || b)"),
    "two terms of a factor": Case(frame_of("crossed", 4), "(1 | a) + (1 | b) + (0 + x0 + x1 | a)"),
    "interaction": Case(frame_of("crossed", 5), "(1 | b) + (1 | c) + (1 | b:c)"),
    "nested": Case(frame_of("nested", 6), "(1 | c/b/a)"),
    "nested slopes": Case(frame_of("nested", 7), "(1 + x0 | b) + (1 | c) + (1 + x0 | a)"),
    "nested, all slopes": Case(frame_of("nested", 8), "(1 + x0 + x1 | b/a)"),
    "nested beside crossed": Case(frame_of("mixed", 9), "(1 + x0 | c) + (1 | b) + (1 | a)"),
    "three nested beside crossed": Case(frame_of("mixed", 10), "(1 | a) + (1 | c) + (1 + x1 | b) + (1 | d)"),
    "nested, slope of the crossed": Case(frame_of("mixed", 11), "(0 + x0 | c) + (1 + x0 | b/a)"),
    "slope without fixed effect": Case(frame_of("crossed", 12), "(1 + x2 | a) + (1 | b)"),
    "no fixed intercept": Case(frame_of("mixed", 13), "(1 | a) + (1 | c)", fit_intercept=False),
    "no predictors": Case(frame_of("mixed", 14), "(1 | b/a) + (1 | c)", fixed=()),
    "counts": Case(frame_of("mixed", 15), "(1 + x0 | a) + (1 | c)", weights=COUNTS),
    "precision": Case(frame_of("mixed", 16), "(1 | b/a) + (1 + x0 | c)", weights=COUNTS / 2.0, weight_type="precision"),
}

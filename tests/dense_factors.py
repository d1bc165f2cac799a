"""A mixed model with several grouping factors by textbook n x n algebra: slow, obvious, without any code of the package.

y = X beta + sum_f Z_f b_f + e, where the coefficients of each level of factor f are N(0, sigma2 G_f), and
e ~ N(0, sigma2 / precision). G is the block-diagonal matrix of all G_f. The criterion, its derivatives, optimiser
and degrees of freedom are those of `DenseMixed`, which know of the factors by the covariance of the rows alone.
"""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import mpmath as mp
import numpy as np
from dense_mixed import DIGITS, DenseMixed


class DenseFactors(DenseMixed):
    """The likelihood of given rows at any relative covariances, its derivatives, and what follows from it.

    `factors` are pairs of a whole design matrix Z_f, with its column of ones, and the labels of the rows. A label may be
    anything that has a hash, such as a tuple.
    """

    def __init__(self, X, y, factors, *, reml=True, precision=None):
        widths = [np.shape(Z)[1] for Z, _ in factors]
        super().__init__(X, y, np.column_stack([Z for Z, _ in factors]), np.zeros(len(y)), reml=reml, precision=precision)
        ends = np.cumsum([0, *widths])
        self.columns = [list(range(a, b)) for a, b in pairwise(ends)]
        self.levels_of, self.codes_of, self.same_of = [], [], []
        for _, labels in factors:
            labels = list(labels)
            levels = list(dict.fromkeys(labels))
            position = {label: at for at, label in enumerate(levels)}
            codes = np.array([position[label] for label in labels])
            self.levels_of.append(levels)
            self.codes_of.append(codes)
            self.same_of.append(codes[:, None] == codes[None, :])

    def covariance(self, E):
        """Covariance of the random part over all rows, if those of the coefficients are the blocks of E."""
        parts = [(self.Z[:, at] @ E[np.ix_(at, at)] @ self.Z[:, at].T, same) for at, same in self._factors()]
        return sum(np.where(same, part, 0.0) for part, same in parts)

    def _factors(self):
        return zip(self.columns, self.same_of, strict=True)

    def _between(self, middle):
        Gamma = np.zeros((self.Z.shape[1],) * 2)
        for at, same in self._factors():
            Gamma[np.ix_(at, at)] = self.Z[:, at].T @ np.where(same, middle, 0.0) @ self.Z[:, at]
        return Gamma

    def _basis(self, block):
        """As in `DenseMixed`, with the mean over the levels of the factor of the block."""
        levels = next(levels for at, levels in zip(self.columns, self.levels_of, strict=True) if block[0] in at)
        return super()._basis(block) * np.sqrt(len(levels))

    # Estimates

    def estimates(self, G):
        """beta, sigma2, vcov; for each factor, by level: random effects, and their covariances given beta and variances."""
        at, G = self.at(G), np.asarray(G, dtype=np.float64)
        sigma2 = at.r2 / self.D
        effects, conditional = [], []
        for columns, codes, levels in zip(self.columns, self.codes_of, self.levels_of, strict=True):
            g, Z = G[np.ix_(columns, columns)], self.Z[:, columns]
            rows = [np.flatnonzero(codes == j) for j in range(len(levels))]
            effects.append(np.array([g @ Z[r].T @ at.Py[r] for r in rows]))
            inner = [g - g @ Z[r].T @ at.V_inverse[np.ix_(r, r)] @ Z[r] @ g for r in rows]
            conditional.append(sigma2 * np.array(inner))
        return SimpleNamespace(
            value=self._value(at),
            beta=at.beta,
            sigma2=sigma2,
            Sigma=sigma2 * G,
            vcov=sigma2 * at.C,
            random_effects=effects,
            conditional=conditional,
        )

    def predict(self, G, X, Z, labels):
        """Means of new rows, and their variances given the variance components.

        `labels` has, for each factor, a label of each row. A label that no row of the fit has stands for a new level, and
        None for a part that is left out: neither its effect nor its variance counts.
        """
        at, G = self.at(G), np.asarray(G, dtype=np.float64)
        means, variances = [], []
        for i, (x, z) in enumerate(zip(np.asarray(X, dtype=np.float64), np.asarray(Z, dtype=np.float64), strict=True)):
            c, own = np.zeros(len(self.y)), 0.0
            for columns, codes, levels, given in zip(self.columns, self.codes_of, self.levels_of, labels, strict=True):
                if given[i] is not None:
                    g = G[np.ix_(columns, columns)]
                    own += z[columns] @ g @ z[columns]
                    if given[i] in levels:
                        known = codes == levels.index(given[i])
                        c[known] += self.Z[np.ix_(known, columns)] @ g @ z[columns]
            d = x - self.X.T @ at.V_inverse @ c
            means.append(x @ at.beta + c @ at.Py)
            variances.append(at.r2 / self.D * (own - c @ at.V_inverse @ c + d @ at.C @ d))
        return np.array(means), np.array(variances)


def exact_factors(X, y, factors, G, *, reml=True, precision=None):
    """Value, r2, beta and sigma2 in 50 digits by n x n algebra; every double is taken as exact."""
    n, k = np.shape(X)
    weights = np.ones(n) if precision is None else precision
    with mp.workdps(DIGITS):
        V = mp.diag([1 / mp.mpf(float(w)) for w in weights])
        start = 0
        for Z, labels in factors:
            q, labels = np.shape(Z)[1], list(labels)
            g = mp.matrix(np.asarray(G)[start : start + q, start : start + q].tolist())
            rows = [mp.matrix([[mp.mpf(float(v)) for v in row]]) for row in np.asarray(Z)]
            start += q
            for i in range(n):
                turned = rows[i] * g
                for j in range(n):
                    if labels[i] == labels[j]:
                        V[i, j] += mp.fsum(turned[a] * rows[j][a] for a in range(q))
        half = mp.cholesky(V)
        columns = mp.matrix([[mp.mpf(float(v)) for v in (*x, value)] for x, value in zip(np.asarray(X), y, strict=True)])
        white = mp.zeros(n, k + 1)
        for i in range(n):  # L white = columns
            for c in range(k + 1):
                white[i, c] = (columns[i, c] - mp.fsum(half[i, j] * white[j, c] for j in range(i))) / half[i, i]
        B = white.T * white
        xx, xy = B[:k, :k], B[:k, k]
        beta = mp.lu_solve(xx, xy)
        r2 = B[k, k] - (beta.T * xy)[0]
        D = n - k if reml else n
        value = D * (1 + mp.log(2 * mp.pi * r2 / D)) + 2 * mp.fsum(mp.log(half[i, i]) for i in range(n))
        if reml:
            value += mp.log(mp.det(xx))
        return SimpleNamespace(value=value, r2=r2, beta=np.array([float(v) for v in beta]), sigma2=float(r2 / D))

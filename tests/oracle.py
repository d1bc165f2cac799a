"""The model by direct n x n algebra in 50 digits: slow, obvious, and sharing no code with the package."""

from __future__ import annotations

from functools import lru_cache

import mpmath as mp

DIGITS = 50


class Dense:
    """The likelihood of y = X beta + Z u + e for given rows, at any variance ratio; every double is taken as exact."""

    def __init__(self, X, y, groups, *, reml=True, fit_intercept=True, precision=None):
        with mp.workdps(DIGITS):
            y = [mp.mpf(float(value)) for value in y]
            order = sorted(range(len(y)), key=lambda i: str(groups[i]))
            columns = [[mp.mpf(1)] * len(y)] if fit_intercept else []
            if X is not None:
                columns += [[mp.mpf(float(row[c])) for row in X] for c in range(len(X[0]))]
            weights = [mp.mpf(1)] * len(y) if precision is None else [mp.mpf(float(w)) for w in precision]
            self.y = [y[i] for i in order]
            self.columns = [[column[i] for i in order] for column in columns]
            self.weights = [weights[i] for i in order]
            labels = [str(groups[i]) for i in order]
            self.levels = sorted(set(labels))
            self.Z = [[mp.mpf(label == level) for label in labels] for level in self.levels]
            self.reml = reml
            self.kept = self._independent()
            self.X = [self.columns[c] for c in self.kept]
            self.D = len(y) - (len(self.X) if reml else 0)
        self.parts = lru_cache(maxsize=None)(self._parts)

    def _independent(self):
        """Positions of the columns that do not depend on those before them, by Gram-Schmidt."""
        kept, basis = [], []
        for c, column in enumerate(self.columns):
            left = column
            for direction in basis:
                share = dot(direction, left)
                left = [a - share * b for a, b in zip(left, direction, strict=True)]
            if dot(left, left) > mp.mpf(10) ** -26 * dot(column, column):
                norm = mp.sqrt(dot(left, left))
                basis.append([a / norm for a in left])
                kept.append(c)
        return kept

    def _cholesky(self, ratio):
        """Rows of the Cholesky factor of V / sigma2 = diag(1 / w) + ratio Z Z', as {column: value}."""
        n = len(self.y)
        group = [next(j for j, z in enumerate(self.Z) if z[i]) for i in range(n)]
        factor = []
        for i in range(n):
            row = {}
            for k in range(i + 1):
                if group[k] != group[i]:
                    continue  # V has a zero there, and so has its factor, rows being sorted by group
                value = ratio + (1 / self.weights[i] if i == k else 0)
                other = row if i == k else factor[k]
                value -= sum(row[c] * other[c] for c in row if c in other and c < k)
                row[k] = mp.sqrt(value) if i == k else value / factor[k][k]
            factor.append(row)
        return factor

    def _parts(self, ratio):
        """log det V, and the scalar products in V^-1 of [X, y, Z]."""
        factor = self._cholesky(ratio)
        log_det = 2 * sum(mp.log(row[i]) for i, row in enumerate(factor))

        def whiten(column):
            out = []
            for i, row in enumerate(factor):
                out.append((column[i] - sum(v * out[k] for k, v in row.items() if k < i)) / row[i])
            return out

        white = [whiten(column) for column in [*self.X, self.y, *self.Z]]
        gram = mp.matrix(len(white), len(white))
        for a in range(len(white)):
            for b in range(a + 1):
                gram[a, b] = gram[b, a] = dot(white[a], white[b])
        return log_det, gram

    def at(self, ratio):
        """(log det V, log det X'V^-1X, beta, its unscaled covariance, y'Py, Z'Py, Z'PZ, Z'V^-1Z) at a variance ratio."""
        with mp.workdps(DIGITS):
            return self._at(mp.mpf(ratio))

    def _at(self, ratio):
        log_det, gram = self.parts(ratio)
        k, n_groups = len(self.X), len(self.levels)
        if k:
            xx, cross = gram[:k, :k], gram[:k, k:]
            inverse = mp.inverse(xx)
            rest = gram[k:, k:] - cross.T * inverse * cross
            beta, log_det_x = inverse * cross[:, 0], mp.log(mp.det(xx))
        else:
            rest, beta, inverse, log_det_x = gram, mp.matrix(0, 1), mp.matrix(0, 0), mp.mpf(0)
        z = rest[1 : n_groups + 1, 1 : n_groups + 1]
        return log_det, log_det_x, beta, inverse, rest[0, 0], rest[1 : n_groups + 1, 0], z, gram[k + 1 :, k + 1 :]

    def value(self, ratio):
        """-2 log-likelihood, profiled over beta and sigma2."""
        with mp.workdps(DIGITS):
            log_det, log_det_x, _, _, r2, *_ = self.at(ratio)
            value = self.D * (1 + mp.log(2 * mp.pi * r2 / self.D)) + log_det
            return value + (log_det_x if self.reml else 0)

    def gradient(self, ratio):
        """Its derivative: tr(P K) - D y'P K P y / y'P y with K = Z Z' (V^-1 for P in the trace for ML)."""
        with mp.workdps(DIGITS):
            *_, r2, zy, zpz, zvz = self.at(ratio)
            return trace(zpz if self.reml else zvz) - self.D * dot(zy, zy) / r2

    def hessian(self, ratio):
        """Its second derivative: D (2 y'PKPKPy / y'Py - (y'PKPy / y'Py)^2) - tr(PKPK)."""
        with mp.workdps(DIGITS):
            *_, r2, zy, zpz, zvz = self.at(ratio)
            first = dot(zy, zy) / r2
            second = (zy.T * zpz * zy)[0] / r2
            inner = zpz if self.reml else zvz
            return self.D * (2 * second - first**2) - trace(inner * inner)

    def fit(self, start):
        """Estimates at the root of the gradient near a crude start, by the secant method in log ratio."""
        with mp.workdps(DIGITS):
            a, b = mp.log(mp.mpf(start)), mp.log(mp.mpf(start)) + mp.mpf("0.1")
            log_ratio = mp.findroot(lambda t: self.gradient(mp.exp(t)) * mp.exp(t), (a, b), solver="secant", tol=1e-40)
            ratio = mp.exp(log_ratio)
            _, _, beta, inverse, r2, zy, *_ = self.at(ratio)
            sigma2 = r2 / self.D
            return {
                "ratio": ratio,
                "group": ratio * sigma2,
                "residual": sigma2,
                "beta": list(beta),
                "se": [mp.sqrt(sigma2 * inverse[i, i]) for i in range(len(beta))],
                "effects": [ratio * value for value in zy],
                "criterion": self.value(ratio),
            }


def dot(a, b):
    """Scalar product."""
    return mp.fsum(p * q for p, q in zip(a, b, strict=True))


def trace(matrix):
    """Sum of the diagonal."""
    return mp.fsum(matrix[i, i] for i in range(matrix.rows))


def relative_error(ours, truth):
    """|ours / truth - 1| in full precision (|ours| where the truth is 0)."""
    with mp.workdps(DIGITS):
        return float(abs(mp.mpf(float(ours)) - truth) / (abs(truth) or 1))

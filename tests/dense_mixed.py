"""A mixed model with one grouping factor by textbook n x n algebra: slow, obvious, and sharing no code with the package.

y_j = X_j beta + Z_j b_j + e_j, b_j ~ N(0, sigma2 G), e ~ N(0, sigma2 / precision). X and Z are whole design matrices, with
their columns of ones. The criterion is -2 log (restricted) likelihood with all constants, as in lme4, profiled over beta and
sigma2.
"""

from __future__ import annotations

from types import SimpleNamespace

import mpmath as mp
import numpy as np
from scipy.linalg import solve_triangular
from scipy.optimize import minimize

DIGITS = 50


class DenseMixed:
    """The likelihood of given rows at any relative covariance G, its derivatives, and what follows from it."""

    def __init__(self, X, y, Z, groups, *, reml=True, precision=None):
        self.X, self.y, self.Z = (np.array(a, dtype=np.float64) for a in (X, y, Z))
        self.levels, self.codes = np.unique(np.asarray(groups), return_inverse=True)
        self.same = self.codes[:, None] == self.codes[None, :]
        n, k = self.X.shape
        if n > 600:
            raise ValueError("too many rows for n x n algebra")
        self.R = np.diag(np.ones(n) if precision is None else 1.0 / np.asarray(precision, dtype=np.float64))
        self.reml = reml
        self.D = n - k if reml else n
        if self.D <= 0:
            raise ValueError("no residual degrees of freedom")

    def covariance(self, E):
        """Covariance of Z_j b_j over all rows, if that of b_j is E."""
        return np.where(self.same, self.Z @ E @ self.Z.T, 0.0)

    def at(self, G):
        """What generalised least squares gives at V = cov(Zb) + R: ordinary least squares on the rows of L^-1, V = L L'."""
        half = np.linalg.cholesky(self.covariance(np.asarray(G, dtype=np.float64)) + self.R)
        inverse_half = solve_triangular(half, np.eye(len(half)), lower=True)
        X, y = inverse_half @ self.X, inverse_half @ self.y
        Q, R = np.linalg.qr(X)
        residual = y - Q @ (Q.T @ y)
        residual -= Q @ (Q.T @ residual)
        inverse_R = np.linalg.inv(R)
        V_inverse = inverse_half.T @ inverse_half
        P = inverse_half.T @ inverse_half - (inverse_half.T @ Q) @ (inverse_half.T @ Q).T
        return SimpleNamespace(
            V_inverse=V_inverse,
            P=P,
            Py=inverse_half.T @ residual,
            r2=residual @ residual,
            beta=inverse_R @ (Q.T @ y),
            C=inverse_R @ inverse_R.T,  # (X'V^-1 X)^-1
            log_det=2.0 * np.log(np.diag(half)).sum(),
            log_det_X=2.0 * np.log(np.abs(np.diag(R))).sum(),
            inner=P if self.reml else V_inverse,
        )

    def value(self, G):
        """-2 log (restricted) likelihood, profiled over beta and sigma2."""
        return self._value(self.at(G))

    def _value(self, at):
        with np.errstate(divide="ignore"):
            value = self.D * (1.0 + np.log(2.0 * np.pi * at.r2 / self.D)) + at.log_det
        return value + (at.log_det_X if self.reml else 0.0)

    def gradient(self, G):
        """The symmetric matrix Gamma with dF = tr(Gamma dG)."""
        return self._gradient(self.at(G))

    def _gradient(self, at):
        middle = at.inner - self.D / at.r2 * np.outer(at.Py, at.Py)
        return self._between(middle)

    def _between(self, middle):
        """Gamma with tr(Gamma E) = tr(middle cov), where cov is the covariance over all rows if that of b_j is E."""
        return self.Z.T @ np.where(self.same, middle, 0.0) @ self.Z

    def second(self, G, E, E2):
        """Second derivative in two symmetric directions."""
        return self.hessian(G, [E, E2])[0, 1]

    def hessian(self, G, directions):
        """Second derivatives in all pairs of directions."""
        at = self.at(G)
        V = [self.covariance(E) for E in directions]
        inner, Vy = [at.inner @ v for v in V], [v @ at.Py for v in V]
        slope = np.array([at.Py @ v for v in Vy])
        out = np.empty((len(V), len(V)))
        for a in range(len(V)):
            for b in range(len(V)):
                trace = np.sum(inner[a] * inner[b].T)
                out[a, b] = 2.0 * self.D / at.r2 * (Vy[a] @ at.P @ Vy[b]) - trace
        return out - self.D / at.r2**2 * np.outer(slope, slope)

    # Estimates

    def estimates(self, G):
        """beta, sigma2, vcov; by level, sorted: random effects and their covariances given beta and the variances."""
        at, G = self.at(G), np.asarray(G, dtype=np.float64)
        sigma2 = at.r2 / self.D
        effects = np.array([G @ self.Z[rows].T @ at.Py[rows] for rows in self._rows()])
        conditional = [G - G @ self.Z[r].T @ at.V_inverse[np.ix_(r, r)] @ self.Z[r] @ G for r in self._rows()]
        return SimpleNamespace(
            value=self._value(at),
            beta=at.beta,
            sigma2=sigma2,
            Sigma=sigma2 * G,
            vcov=sigma2 * at.C,
            random_effects=effects,
            conditional=sigma2 * np.array(conditional),
        )

    def _rows(self):
        return [np.flatnonzero(self.codes == j) for j in range(len(self.levels))]

    def predict(self, G, X, Z, groups=None):
        """Means x'beta + z'b of new rows, and their variances given Sigma and sigma2; levels without rows are new groups."""
        at, G = self.at(G), np.asarray(G, dtype=np.float64)
        means, variances = [], []
        for i, (x, z) in enumerate(zip(np.asarray(X, dtype=np.float64), np.asarray(Z, dtype=np.float64), strict=True)):
            known = [] if groups is None else np.flatnonzero(self.levels[self.codes] == groups[i])
            c = np.zeros(len(self.y))  # covariance of z'b with y, over sigma2
            c[known] = self.Z[known] @ G @ z
            d = x - self.X.T @ at.V_inverse @ c
            means.append(x @ at.beta + c @ at.Py)
            variances.append(at.r2 / self.D * (z @ G @ z - c @ at.V_inverse @ c + d @ at.C @ d))
        return np.array(means), np.array(variances)

    # Degrees of freedom. The parameters are the free entries of Sigma = sigma2 G, in a basis in which they are of like size,
    # and sigma2. Neither df depends on the basis.

    def _directions(self, blocks):
        """Derivatives of cov(y) by the free entries of Sigma."""
        for B in map(self._basis, blocks):
            for a in range(B.shape[1]):
                for b in range(a + 1):
                    E = np.outer(B[:, a], B[:, b])
                    yield self.covariance(E + E.T)

    def satterthwaite(self, G, contrast, blocks, *, stratum=False):
        """df of contrast'beta from exact derivatives.

        With `stratum` the parameters are those of the covariances of the same rank as G (entries of its factors, without
        their rotations): what is left to vary at a singular fit.
        """
        full = self._full(G)
        contrast, a = np.asarray(contrast, dtype=np.float64), self.X.T @ full.V_inverse
        if stratum:
            factor, M = self._factor(full.Sigma, blocks)
            Gamma = self._between(full.inner - np.outer(full.Py, full.Py))
            directions, curvature = [self.covariance(E) for E in factor.directions(M)], factor.curvature(Gamma)
        else:
            directions = list(self._directions(blocks))
            curvature = np.zeros((len(directions), len(directions)))
        V = [*directions, self.R]
        PV, Vy = [full.inner @ v for v in V], [v @ full.Py for v in V]
        H = np.array([[2.0 * va @ full.P @ vb - np.sum(pa * pb.T) for pb, vb in zip(PV, Vy, strict=True)]
                      for pa, va in zip(PV, Vy, strict=True)])  # fmt: skip
        H[:-1, :-1] += curvature
        g = np.array([contrast @ full.C @ a @ v @ a.T @ full.C @ contrast for v in V])
        unit = 1.0 / np.sqrt(np.abs(np.diag(H)))
        variance = contrast @ full.C @ contrast
        inverse = np.linalg.pinv(H * np.outer(unit, unit), rcond=1e-10, hermitian=True)
        return variance**2 / ((g * unit) @ inverse @ (g * unit))

    def kenward_roger(self, G, contrast, blocks):
        """Adjusted covariance of beta and the df of contrast'beta (Kenward & Roger 1997; V is linear in its parameters)."""
        full, contrast = self._full(G), np.asarray(contrast, dtype=np.float64)
        V = [*self._directions(blocks), self.R]
        V = [v / np.linalg.norm(v) for v in V]
        a, C = self.X.T @ full.V_inverse, full.C
        P = [-a @ v @ a.T for v in V]
        Q = [[a @ v @ full.V_inverse @ w @ a.T for w in V] for v in V]
        VV = [full.V_inverse @ v for v in V]
        m = range(len(V))
        information = [
            [np.sum(VV[i] * VV[j].T) - 2.0 * np.trace(C @ Q[i][j]) + np.trace(C @ P[i] @ C @ P[j]) for j in m] for i in m
        ]
        W = 2.0 * np.linalg.inv(np.array(information))
        adjusted = C + 2.0 * C @ sum(W[i, j] * (Q[i][j] - P[i] @ C @ P[j]) for i in m for j in m) @ C
        theta = np.outer(contrast, contrast) / (contrast @ C @ contrast)
        A1 = sum(W[i, j] * np.trace(theta @ C @ P[i] @ C) * np.trace(theta @ C @ P[j] @ C) for i in m for j in m)
        A2 = sum(W[i, j] * np.trace(theta @ C @ P[i] @ C @ theta @ C @ P[j] @ C) for i in m for j in m)
        B, g = (A1 + 6.0 * A2) / 2.0, (2.0 * A1 - 5.0 * A2) / (3.0 * A2)
        c1, c2, c3 = (c / (3.0 + 2.0 * (1.0 - g)) for c in (g, 1.0 - g, 3.0 - g))
        mean, variance = 1.0 / (1.0 - A2), 2.0 * (1.0 + c1 * B) / ((1.0 - c2 * B) ** 2 * (1.0 - c3 * B))
        return adjusted, 4.0 + 3.0 / (variance / (2.0 * mean**2) - 1.0)

    def _full(self, G):
        """The pieces at V = cov(y), in units of y squared."""
        at = self.at(G)
        sigma2 = at.r2 / self.D
        return SimpleNamespace(
            Sigma=sigma2 * np.asarray(G, dtype=np.float64),
            V_inverse=at.V_inverse / sigma2,
            P=at.P / sigma2,
            inner=at.inner / sigma2,
            Py=at.Py / sigma2,
            C=at.C * sigma2,
        )

    def _factor(self, Sigma, blocks):
        """The entries of a factor of Sigma as parameters, as many columns as its rank, and the factor."""
        left, column, columns = [], [], []
        for block in blocks:
            F = root(Sigma[np.ix_(block, block)])
            for f in F.T[np.any(F != 0.0, axis=0)]:
                left += list(self._basis(block).T)
                column += [len(columns)] * (len(left) - len(column))
                columns.append(np.zeros(len(Sigma)))
                columns[-1][block] = f
        return Factor(np.array(left).reshape(len(left), len(Sigma)), column), np.array(columns).reshape(-1, len(Sigma)).T

    # Optimum

    def best(self, blocks, n_starts=20, seed=0):
        """The lowest value that so many starts of BFGS reach over G >= 0 with free entries in the blocks, and its G."""
        return min(self.optima(blocks, n_starts, seed), key=lambda found: found[0])

    def optima(self, blocks, n_starts=20, seed=0):
        """(value, G) of each start, in no order: G = L L', L a square factor of each block in units of mean Z'Z = I."""
        rng = np.random.default_rng(seed)
        bases = [self._basis(block) for block in blocks]
        left, column = [], []
        for B in bases:
            for _ in range(B.shape[1]):
                left += list(B.T)
                column += [max(column, default=-1) + 1] * B.shape[1]
        factor = Factor(np.array(left).reshape(len(left), self.Z.shape[1]), column)

        def criterion(v):
            M = factor.matrix(v)
            try:
                at = self.at(M @ M.T)
            except np.linalg.LinAlgError:
                return np.inf, np.zeros_like(v)
            return self._value(at), factor.gradient(self._gradient(at), M)

        found = []
        for i in range(n_starts if len(left) else 1):
            v = np.concatenate([np.zeros(0), *(np.eye(B.shape[1]).ravel() for B in bases)])
            if i:
                lengths = np.exp(rng.uniform(-2.0, 2.0, max(column) + 1))[column]
                v = np.exp(rng.uniform(-5.0, 4.0)) * lengths * rng.standard_normal(len(v))
            with np.errstate(all="ignore"):
                for method in ("BFGS", "L-BFGS-B") if len(left) else ():
                    v = minimize(criterion, v, jac=True, method=method, options={"gtol": 1e-9, "maxiter": 500}).x
            found.append((criterion(v)[0], v))
        lowest = min(value for value, _ in found)
        found = [self._polish(criterion, factor, v) if value < lowest + 1e-2 else (value, v) for value, v in found]
        return [(value, factor.matrix(v) @ factor.matrix(v).T) for value, v in found]

    def _basis(self, block):
        """B with B'(mean Z'Z)B = I over the columns of a block; fewer columns than the block if they are dependent."""
        norms = np.linalg.norm(self.Z[:, block], axis=0)
        kept = norms > 0
        _, s, Vt = np.linalg.svd(self.Z[:, block][:, kept] / norms[kept], full_matrices=False)
        r = int((s > 1e-10 * s[0]).sum()) if len(s) else 0
        B = np.zeros((self.Z.shape[1], r))
        B[np.array(block)[kept]] = (Vt[:r].T / s[:r]) / norms[kept][:, None] * np.sqrt(len(self.levels))
        return B

    def _polish(self, criterion, factor, v):
        """Newton's method with the exact Hessian in the entries of the factors; the last steps are below rounding of F."""
        value, gradient = criterion(v)
        for _ in range(30 if len(v) else 0):
            M = factor.matrix(v)
            G = M @ M.T
            if not np.isfinite(value):
                break
            lam, U = np.linalg.eigh(self.hessian(G, factor.directions(M)) + factor.curvature(self.gradient(G)))
            lam = np.abs(lam)
            use = lam > 1e-9 * lam.max()  # the rest are rotations
            along = U[:, use].T @ gradient
            decrement, step = np.sum(along**2 / lam[use]), -U[:, use] @ (along / lam[use])
            if decrement > 1e-9 * max(1.0, abs(value)):
                trials = [(*criterion(v + t * step), v + t * step) for t in (1.0, 0.3, 0.03)]
                lower, slope, moved = min(trials, key=lambda trial: trial[0])
                if not lower < value:
                    break
            else:
                moved = v + step
                lower, slope = criterion(moved)
                if not (np.linalg.norm(slope) < np.linalg.norm(gradient) and lower < value + 1e-9 * max(1.0, abs(value))):
                    break
            value, gradient, v = lower, slope, moved
        return value, v


class Factor:
    """G = M M', M linear in parameters v: parameter i moves column column[i] of M along left[i]."""

    def __init__(self, left, column):
        self.left, self.column = left, np.array(column, dtype=int)

    def matrix(self, v):
        M = np.zeros((self.left.shape[1], self.column.max(initial=0) + 1))
        for value, direction, c in zip(v, self.left, self.column, strict=True):
            M[:, c] += value * direction
        return M

    def directions(self, M):
        """dG for each parameter."""
        moves = [np.outer(direction, M[:, c]) for direction, c in zip(self.left, self.column, strict=True)]
        return [E + E.T for E in moves]

    def gradient(self, Gamma, M):
        """Derivatives of a function with dF = tr(Gamma dG)."""
        return 2.0 * np.sum(self.left * (Gamma @ M).T[self.column], axis=1)

    def curvature(self, Gamma):
        """What the second derivatives of G add to the Hessian."""
        return 2.0 * self.left @ Gamma @ self.left.T * (self.column[:, None] == self.column)


def root(S, rtol=1e-10):
    """F with F F' = S, whose columns are zero beyond the rank of S; the rank does not depend on units."""
    unit = np.sqrt(np.maximum(np.diag(S), 0.0))
    unit[unit == 0] = 1.0
    lam, U = np.linalg.eigh(S / np.outer(unit, unit))
    lam = np.where(lam > rtol * max(lam.max(), 0.0), lam, 0.0)
    return unit[:, None] * U * np.sqrt(lam)


class ExactMixed:
    """The criterion and its gradient in 50 digits, group by group; every double is taken as exact."""

    def __init__(self, X, y, Z, groups, *, reml=True, precision=None):
        X, Z = np.asarray(X, dtype=np.float64), np.asarray(Z, dtype=np.float64)
        y = np.asarray(y, dtype=np.float64)
        w = np.ones(len(y)) if precision is None else np.asarray(precision, dtype=np.float64)
        self.reml, self.k, self.q = reml, X.shape[1], Z.shape[1]
        self.D = len(y) - (self.k if reml else 0)
        self.levels, codes = np.unique(np.asarray(groups), return_inverse=True)
        with mp.workdps(DIGITS):
            self.groups = []
            for j in range(len(self.levels)):
                rows = np.flatnonzero(codes == j)
                R = mp.diag([1 / mp.mpf(w[i]) for i in rows])
                X_j, Z_j = (mp.matrix([[mp.mpf(v) for v in A[i]] or [0] for i in rows]) for A in (X, Z))
                self.groups.append((X_j if self.k else None, mp.matrix([mp.mpf(y[i]) for i in rows]), Z_j, R))

    def at(self, G):
        """Value, gradient matrix, beta, sigma2 and random effects."""
        k, log_det = self.k, mp.mpf(0)
        xx, xy, inverses = mp.zeros(k, k) if k else None, mp.zeros(k, 1) if k else None, []
        for X, y, Z, R in self.groups:
            V = Z * G * Z.T + R
            half, inverse = mp.cholesky(V), mp.inverse(V)
            log_det += 2 * mp.fsum(mp.log(half[i, i]) for i in range(V.rows))
            inverses.append(inverse)
            if k:
                xx, xy = xx + X.T * inverse * X, xy + X.T * inverse * y
        C = mp.inverse(xx) if k else None
        beta = C * xy if k else None
        r2, Gamma, scores = mp.mpf(0), mp.zeros(self.q, self.q), []
        for (X, y, Z, _), inverse in zip(self.groups, inverses, strict=True):
            residual = y - X * beta if k else y
            scores.append(Z.T * inverse * residual)
            r2 += (residual.T * inverse * residual)[0]
            Gamma += Z.T * inverse * Z
            if k and self.reml:
                cross = Z.T * inverse * X
                Gamma -= cross * C * cross.T
        for score in scores:
            Gamma -= self.D / r2 * (score * score.T)
        value = self.D * (1 + mp.log(2 * mp.pi * r2 / self.D)) + log_det
        if k and self.reml:
            value += mp.log(mp.det(xx))
        return SimpleNamespace(
            value=value, gradient=Gamma, beta=beta, sigma2=r2 / self.D, random_effects=[G * score for score in scores]
        )

    def value(self, G):
        """-2 log (restricted) likelihood, profiled."""
        with mp.workdps(DIGITS):
            return self.at(mp.matrix(G)).value

    def gradient(self, G):
        """The symmetric matrix Gamma with dF = tr(Gamma dG)."""
        with mp.workdps(DIGITS):
            return self.at(mp.matrix(G)).gradient


def exact_optimum(X, y, Z, groups, start, *, rank=None, blocks=None, reml=True, precision=None):
    """The optimum near a crude start among block-diagonal G whose blocks have given ranks (default: full), in 50 digits.

    Newton's method over the entries of a lower-trapezoidal factor of each block. Returns value, G, Sigma, sigma2, beta,
    random_effects and gradient; at a rank-deficient optimum of the cone the gradient is positive on the null space of G.
    """
    model = ExactMixed(X, y, Z, groups, reml=reml, precision=precision)
    start = np.asarray(start, dtype=np.float64)
    blocks = [list(range(len(start)))] if blocks is None else blocks
    ranks = [len(block) for block in blocks] if rank is None else np.broadcast_to(rank, len(blocks))
    entries, values, columns = [], [], 0
    for block, r in zip(blocks, ranks, strict=True):
        rows, factor = _trapezoid(start[np.ix_(block, block)], int(r))
        for c in range(int(r)):
            for a in range(c, len(block)):
                entries.append((block[rows[a]], columns + c))
                values.append(factor[a, c])
        columns += int(r)
    with mp.workdps(DIGITS + 15):
        v = mp.matrix([mp.mpf(float(value)) for value in values]) if values else None

        def at(v):
            L = mp.zeros(len(start), max(columns, 1))
            for i, entry in enumerate(entries):
                L[entry] = v[i]
            result = model.at(L * L.T)
            result.G, slope = L * L.T, result.gradient * L
            return result, [2 * slope[entry] for entry in entries]

        unit = [_unit(model, entry[0]) for entry in entries]
        for _ in range(30 if entries else 0):
            _, slope = at(v)
            H = mp.zeros(len(entries), len(entries))
            for j in range(len(entries)):
                h, moved = mp.mpf(10) ** -25 * unit[j], v.copy()
                moved[j] += h
                for i, (there, here) in enumerate(zip(at(moved)[1], slope, strict=True)):
                    H[i, j] = (there - here) / h * unit[i] * unit[j]
            step = mp.lu_solve(H, mp.matrix([-s * u for s, u in zip(slope, unit, strict=True)]))
            for i in range(len(entries)):
                v[i] += step[i] * unit[i]
            if mp.norm(step) < mp.mpf(10) ** -(DIGITS - 5):
                break
        else:
            if entries:
                raise ArithmeticError("Newton's method has not converged: the start is not near an optimum of that rank")
        result, slope = at(v)
        result.Sigma = result.sigma2 * result.G
        return result


def _unit(model, a):
    """1 / root mean square of a column of Z: the size of a standard deviation that matters."""
    squares = [Z[i, a] ** 2 for _, _, Z, _ in model.groups for i in range(Z.rows)]
    return 1 / mp.sqrt(mp.fsum(squares) / len(squares))


def _trapezoid(G, r):
    """Rows in pivoted order, and the first r columns of the pivoted Cholesky factor of G in that order."""
    rest, rows, columns = G.copy(), [], []
    scale = np.where(np.diag(G) > 0, np.diag(G), 1.0)
    for _ in range(r):
        left = [a for a in range(len(G)) if a not in rows]
        pivot = max(left, key=lambda a: rest[a, a] / scale[a])
        if rest[pivot, pivot] <= 0:
            raise ValueError("the start has a lower rank than the optimum asked for")
        rows.append(pivot)
        columns.append(rest[:, pivot] / np.sqrt(rest[pivot, pivot]))
        rest = rest - np.outer(columns[-1], columns[-1])
    rows += [a for a in range(len(G)) if a not in rows]
    return rows, np.array(columns).T[rows] if columns else np.zeros((len(G), 0))

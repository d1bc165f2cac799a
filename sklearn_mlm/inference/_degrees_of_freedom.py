"""Denominator degrees of freedom of fixed effects: Satterthwaite's, and Kenward and Roger's with their covariance.

Contrasts are whitened throughout: a contrast l is given as the row a = l R, with R R' the covariance of the fixed effects,
so that the estimate of l' beta has the variance a'a.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .._typing import MixedFit

# Information is a difference of terms; below this share of them it is rounding.
_NO_INFORMATION = 1e-10


@dataclass(frozen=True, eq=False)
class Satterthwaite:
    """Satterthwaite's degrees of freedom of combinations of the fixed effects.

    Let V be the covariance of the fixed effects, l a contrast, g the gradient of l'Vl by the variance parameters, and A
    twice the inverse of the Hessian of the (restricted) deviance. Then

        df = 2 (l'Vl)^2 / (g'Ag).

    Attributes
    ----------
    derivatives : ndarray of shape (m, k, k)
        Derivatives of V by the m variance parameters, whitened.
    hessian : ndarray of shape (m, m)
        Hessian of the deviance by the same parameters.

    References
    ----------
    F. E. Satterthwaite (1946), "An approximate distribution of estimates of variance components", Biometrics Bulletin 2(6),
    110-114.

    A. Kuznetsova, P. B. Brockhoff and R. H. B. Christensen (2017), "lmerTest package: tests in linear mixed effects
    models", Journal of Statistical Software 82(13), equations 8 and 9.
    """

    derivatives: np.ndarray
    hessian: np.ndarray

    @classmethod
    def of(cls, fit: MixedFit) -> Satterthwaite:
        """Return the record of a fit."""
        return cls(fit.covariance_derivatives, fit.hessian)

    def degrees_of_freedom(self, contrasts: np.ndarray) -> np.ndarray:
        """Return the df of each whitened contrast, of shape (n_contrasts, k); NaN if its variance is 0."""
        gradient = ((contrasts @ self.derivatives) * contrasts).sum(axis=2).T
        return self.of_variances((contrasts * contrasts).sum(axis=1), gradient)

    def of_variances(self, variance: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Return the df of estimated variances from their gradients by the variance parameters, of shape (n, m)."""
        with np.errstate(invalid="ignore", divide="ignore"):
            # The relative gradient has no unit, and so its square neither overflows nor underflows.
            relative = gradient / variance[:, None]
            df = 1.0 / (relative * np.linalg.solve(self.hessian, relative.T).T).sum(axis=1)
        return np.where(variance > 0, df, np.nan)

    def joint_degrees_of_freedom(self, contrasts: np.ndarray) -> float:
        """Return the denominator df of the F test that several independent contrasts are all 0.

        The contrasts are rotated so that their q estimates are uncorrelated, and nu_i are their degrees of freedom. E is the
        mean of the sum of their squared t statistics, and df gives q F the same mean (Fai & Cornelius 1996):

            df = 2 E / (E - q),   E = sum over nu_i > 2 of nu_i / (nu_i - 2).

        References
        ----------
        A. H.-T. Fai and P. L. Cornelius (1996), "Approximate F-tests of multiple degree of freedom hypotheses in
        generalized least squares analyses of unbalanced split-plot experiments", Journal of Statistical Computation and
        Simulation 54(4), 363-378.
        """
        each = self.degrees_of_freedom(np.linalg.svd(contrasts, full_matrices=False)[2])
        # As in lmerTest: equal df need no averaging. They are infinite if no variance is estimated.
        if np.isinf(each).all() or np.ptp(each) < 1e-8:
            return float(each.mean())
        with_mean = each[each > 2.0]
        # E - q, whose terms nu_i / (nu_i - 2) - 1 would cancel if they were summed as such.
        excess = float((2.0 / (with_mean - 2.0)).sum()) - (len(each) - len(with_mean))
        return 2.0 + 2.0 * len(each) / excess if excess > 0 else 2.0


@dataclass(frozen=True, eq=False)
class KenwardRoger:
    """Kenward and Roger's adjusted covariance of the fixed effects, and what their degrees of freedom are computed from.

    The adjustment allows for the estimation of the variances v, in which V = sum_r v_r V_r is linear. With Phi the
    covariance of the fixed effects,

        P_r = -X'V^-1 V_r V^-1 X,   Q_rs = X'V^-1 V_r V^-1 V_s V^-1 X,   T_rs = tr(V^-1 V_r V^-1 V_s),
        I_rs = (T_rs - 2 tr(Phi Q_rs) + tr(Phi P_r Phi P_s)) / 2,   W = I^-1,
        Phi_A = Phi + 2 Phi [sum_rs W_rs (Q_rs - P_r Phi P_s)] Phi.

    All matrices are whitened here, so that Phi is the identity.

    Attributes
    ----------
    adjusted : ndarray of shape (k, k)
        Phi_A.
    p : ndarray of shape (n_variances, k, k)
        P_r.
    information_inverse : ndarray of shape (n_variances, n_variances)
        W.

    Raises
    ------
    ValueError
        If the fixed effects leave too little information to identify every variance.

    References
    ----------
    M. G. Kenward and J. H. Roger (1997), "Small sample inference for fixed effects from restricted maximum likelihood",
    Biometrics 53(3), 983-997.

    U. Halekoh and S. Hojsgaard (2014), "A Kenward-Roger approximation and parametric bootstrap methods for tests in linear
    mixed models: the R package pbkrtest", Journal of Statistical Software 59(9), section 3.
    """

    adjusted: np.ndarray
    p: np.ndarray
    information_inverse: np.ndarray

    @classmethod
    def of(cls, p: np.ndarray, q: np.ndarray, t: np.ndarray) -> KenwardRoger:
        """Return the record of a fit by REML from its terms P, Q and T."""
        information = (t - 2.0 * np.trace(q, axis1=2, axis2=3) + _traces_of_products(p)) / 2.0
        _check_informative(information, t.diagonal() / 2.0)
        inverse = np.linalg.inv(information)
        change = np.tensordot(inverse, q, 2) - (p @ np.tensordot(inverse, p, 1)).sum(axis=0)
        return cls(np.eye(p.shape[1]) + change + change.T, p, inverse)

    def degrees_of_freedom(self, contrasts: np.ndarray) -> tuple[float, float]:
        """Return the denominator df of the F test that all contrasts are 0, and the factor that scales its statistic.

        Parameters
        ----------
        contrasts : ndarray of shape (q, k)
            Whitened, independent contrasts.

        Returns
        -------
        df : float
            Denominator degrees of freedom.
        factor : float
            The statistic is factor times (L beta)' (L Phi_A L')^-1 (L beta) / q; for one contrast the factor is 1.
        """
        q = len(contrasts)
        axes = np.linalg.svd(contrasts, full_matrices=False)[2]
        turned = axes @ self.p @ axes.T
        w, trace = self.information_inverse, np.trace(turned, axis1=1, axis2=2)
        a1 = trace @ w @ trace
        a2 = (w * _traces_of_products(turned)).sum()
        b = (a1 + 6.0 * a2) / (2.0 * q)
        g = ((q + 1.0) * a1 - (q + 4.0) * a2) / ((q + 2.0) * a2)
        d = 3.0 * q + 2.0 * (1.0 - g)
        c1, c2, c3 = g / d, (q - g) / d, (q + 2.0 - g) / d
        shrunk, below = 1.0 - a2 / q, 1.0 - c3 * b
        # shrunk and 1 - c2 b are equal if a1 = q a2, as with one contrast, and both are 0 if df is 2 then.
        ratio = shrunk / (1.0 - c2 * b) if q > 1 and abs(shrunk) > 1e-9 else 1.0
        # With rho q = above / below, df is 4 + (q + 2) / (rho q - 1); below is 0 if df is 4.
        above = ratio**2 * (1.0 + c1 * b)
        df = 4.0 + (q + 2.0) * below / (above - below)
        return float(df), float(df * shrunk / (df - 2.0)) if q > 1 and abs(df - 2.0) > 1e-2 else 1.0


def _traces_of_products(matrices: np.ndarray) -> np.ndarray:
    """Return tr(M_r M_s) of symmetric matrices, of shape (n, n)."""
    flat = matrices.reshape(len(matrices), -1)
    return np.asarray(flat @ flat.T)


def _check_informative(information: np.ndarray, total: np.ndarray) -> None:
    """Raise if the data do not identify every variance once the fixed effects are estimated.

    Parameters
    ----------
    information : ndarray of shape (n_variances, n_variances)
        Information on the variances, less what the fixed effects take.
    total : ndarray of shape (n_variances,)
        The diagonal that the information would have without fixed effects.
    """
    diagonal = information.diagonal()
    if (diagonal > _NO_INFORMATION * total).all():
        length = np.sqrt(diagonal)
        if np.linalg.eigvalsh(information / np.outer(length, length)).min() > _NO_INFORMATION / 2.0:
            return
    raise ValueError(
        'ddf="kenward_roger" adjusts for the estimation of the variances, but the fixed effects leave too little '
        'information to tell the variances apart. Fit fewer columns or more groups, or use ddf="satterthwaite".'
    )


def quadratic(contrasts: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return l' M l of each contrast l."""
    return np.asarray(((contrasts @ matrix) * contrasts).sum(axis=1))

"""Denominator degrees of freedom of fixed effects: Satterthwaite's, and Kenward and Roger's with their covariance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ._solution import State

# Relative to the terms it is the difference of, information this small is rounding.
_NO_INFORMATION = 1e-10


@dataclass(frozen=True, eq=False)
class Satterthwaite:
    """What Satterthwaite's degrees of freedom take: the covariance, its derivatives, and the covariance of those.

    With V the covariance of the fixed effects, l a contrast, g the gradient of l'Vl in (gamma, sigma2) and A twice the
    inverse of the Hessian of minus twice the (restricted) log-likelihood,

        df = 2 (l'Vl)^2 / (g'Ag).

    Attributes
    ----------
    covariance : ndarray of shape (n_coefficients, n_coefficients)
        V.
    derivatives : tuple of two ndarray of shape (n_coefficients, n_coefficients)
        Of V by gamma and by sigma2.
    hessian : ndarray of shape (2, 2)
        Of minus twice the log-likelihood in (gamma, sigma2), in the criterion's units of y.

    References
    ----------
    F. E. Satterthwaite (1946), "An approximate distribution of estimates of variance components", Biometrics Bulletin 2(6),
    110-114.

    A. Kuznetsova, P. B. Brockhoff and R. H. B. Christensen (2017), "lmerTest package: tests in linear mixed effects
    models", Journal of Statistical Software 82(13), equations 8 and 9.
    """

    covariance: np.ndarray
    derivatives: tuple[np.ndarray, np.ndarray]
    hessian: np.ndarray

    @classmethod
    def of(cls, state: State) -> Satterthwaite:
        """Return them at the optimum, between the boundaries.

        Of D log sigma2 + r2(gamma) / sigma2 + log dets, at sigma2 = r2 / D,

            f_gg = r2'' / sigma2 + (log dets)'',   f_gs = -r2' / sigma2^2,   f_ss = D / sigma2^2,

        and of V = sigma2 B_XX^-1, whose derivative by gamma is sigma2 B_XX^-1 (sum h_j^2 x_j x_j') B_XX^-1.
        """
        state = state.whitened()
        inverse, sigma2, v = state.inverse, state.residual_variance, state.x_residual
        by_ratio = inverse @ state.x_squared @ inverse
        curve = 2.0 * (state.residual_cubed - v @ inverse @ v) / sigma2 - state.h_squared
        if state.reml:
            curve += 2.0 * np.vdot(inverse, state.x_cubed) - np.vdot(by_ratio, state.x_squared)
        mixed = -state.slope / sigma2**2
        hessian = np.array([[curve, mixed], [mixed, state.degrees_of_freedom / sigma2**2]])
        to_columns = state.to_columns
        unscaled = to_columns @ inverse @ to_columns.T
        return cls(sigma2 * unscaled, (sigma2 * to_columns @ by_ratio @ to_columns.T, unscaled), hessian)

    def degrees_of_freedom(self, contrasts: np.ndarray) -> np.ndarray:
        """Return the df of each contrast, of shape (n_contrasts, n_coefficients); NaN where its variance is 0."""
        gradient = np.stack([quadratic(contrasts, derivative) for derivative in self.derivatives], axis=-1)
        spread = 2.0 * (gradient * np.linalg.solve(self.hessian, gradient.T).T).sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return 2.0 * quadratic(contrasts, self.covariance) ** 2 / spread

    def joint_degrees_of_freedom(self, contrasts: np.ndarray) -> float:
        """Return the denominator df of the F test that several independent contrasts are all 0.

        The contrasts are turned so that their estimates are uncorrelated; the df nu_i of each then give those of the F
        distribution whose mean the sum of their squares has (Fai & Cornelius 1996),

            df = 2 E / (E - q),   E = sum over nu_i > 2 of nu_i / (nu_i - 2).

        References
        ----------
        A. H.-T. Fai and P. L. Cornelius (1996), "Approximate F-tests of multiple degree of freedom hypotheses in
        generalized least squares analyses of unbalanced split-plot experiments", Journal of Statistical Computation and
        Simulation 54(4), 363-378.
        """
        _, axes = np.linalg.eigh(contrasts @ self.covariance @ contrasts.T)
        return self.uncorrelated_degrees_of_freedom(axes.T @ contrasts)

    def uncorrelated_degrees_of_freedom(self, contrasts: np.ndarray) -> float:
        """Return the denominator df of the F test that several contrasts are all 0 whose estimates are uncorrelated."""
        each = self.degrees_of_freedom(contrasts)
        # As in lmerTest: equal ones need no averaging.
        if np.ptp(each) < 1e-8:
            return float(each.mean())
        counted = each[each > 2.0]
        expectation = float((counted / (counted - 2.0)).sum())
        return 2.0 * expectation / (expectation - len(each)) if expectation > len(each) else 2.0


@dataclass(frozen=True, eq=False)
class KenwardRoger:
    """The covariance of the fixed effects adjusted for the estimation of the variances, and what its df take.

    With V_tau = 11' (in each group) and V_sigma the derivatives of V by tau2 and sigma2, and Phi the covariance of the fixed
    effects,

        P_r = -X'V^-1 V_r V^-1 X,   Q_rs = X'V^-1 V_r V^-1 V_s V^-1 X,   T_rs = tr(V^-1 V_r V^-1 V_s),
        I_rs = (T_rs - 2 tr(Phi Q_rs) + tr(Phi P_r Phi P_s)) / 2,   W = I^-1,
        Phi_A = Phi + 2 Phi [sum_rs W_rs (Q_rs - P_r Phi P_s)] Phi,

    all of them sums over groups.

    Attributes
    ----------
    covariance, adjusted : ndarray of shape (n_coefficients, n_coefficients)
        Phi and Phi_A.
    spreads : tuple of two ndarray of shape (n_coefficients, n_coefficients)
        Phi P_r Phi for tau2 and sigma2.
    information_inverse : ndarray of shape (2, 2)
        W.

    Raises
    ------
    ValueError
        If the fixed effects leave no information on one of the variances, or none to tell them apart.

    References
    ----------
    M. G. Kenward and J. H. Roger (1997), "Small sample inference for fixed effects from restricted maximum likelihood",
    Biometrics 53(3), 983-997.

    U. Halekoh and S. Hojsgaard (2014), "A Kenward-Roger approximation and parametric bootstrap methods for tests in linear
    mixed models: the R package pbkrtest", Journal of Statistical Software 59(9), section 3.
    """

    covariance: np.ndarray
    adjusted: np.ndarray
    spreads: tuple[np.ndarray, np.ndarray]
    information_inverse: np.ndarray

    @classmethod
    def of(cls, state: State) -> KenwardRoger:
        """Return them at a variance ratio, whose sigma2 must be the REML one."""
        state = state.whitened()
        sigma2 = state.residual_variance
        tau2 = state.ratio * sigma2
        phi = sigma2 * state.inverse
        p_tau = -state.x_squared / sigma2**2
        p_sigma = -(state.b_xx / sigma2 + tau2 * p_tau) / sigma2
        q_tt = state.x_cubed / sigma2**3
        q_ts = (-p_tau - tau2 * q_tt) / sigma2
        q_ss = (-p_sigma - tau2 * q_ts) / sigma2
        h_sum, t_tt = state.h_sum / sigma2, state.h_squared / sigma2**2
        t_ts = (h_sum - tau2 * t_tt) / sigma2
        t_ss = ((state.n_observations - tau2 * h_sum) / sigma2 - tau2 * t_ts) / sigma2
        p, q, t = (p_tau, p_sigma), ((q_tt, q_ts), (q_ts, q_ss)), ((t_tt, t_ts), (t_ts, t_ss))
        pairs = [(r, s) for r in range(2) for s in range(2)]
        information = np.empty((2, 2))
        for r, s in pairs:
            information[r, s] = (t[r][s] - 2.0 * np.vdot(phi, q[r][s]) + np.vdot(phi @ p[r], (phi @ p[s]).T)) / 2.0
        _check_informative(information, np.array([t_tt, t_ss]) / 2.0)
        inverse = np.linalg.inv(information)
        change = sum(inverse[r, s] * (q[r][s] - p[r] @ phi @ p[s]) for r, s in pairs)
        to_columns = state.to_columns

        def in_columns(matrix: np.ndarray) -> np.ndarray:
            matrix = to_columns @ matrix @ to_columns.T
            return (matrix + matrix.T) / 2.0

        return cls(
            covariance=in_columns(phi),
            adjusted=in_columns(phi + 2.0 * phi @ change @ phi),
            spreads=(in_columns(phi @ p_tau @ phi), in_columns(phi @ p_sigma @ phi)),
            information_inverse=inverse,
        )

    def degrees_of_freedom(self, contrasts: np.ndarray) -> tuple[float, float]:
        """Return the denominator df of the F test that contrasts are all 0, and the factor its statistic takes.

        The statistic is factor times (L beta)' (L Phi_A L')^-1 (L beta) / q; for one contrast the factor is 1.

        Parameters
        ----------
        contrasts : ndarray of shape (q, n_coefficients)
            Independent.
        """
        q = len(contrasts)
        theta = contrasts.T @ np.linalg.solve(contrasts @ self.covariance @ contrasts.T, contrasts)
        turned = [theta @ spread for spread in self.spreads]
        w = self.information_inverse
        pairs = [(r, s) for r in range(2) for s in range(2)]
        a1 = sum(w[r, s] * np.trace(turned[r]) * np.trace(turned[s]) for r, s in pairs)
        a2 = sum(w[r, s] * np.vdot(turned[r], turned[s].T) for r, s in pairs)
        b = (a1 + 6.0 * a2) / (2.0 * q)
        g = ((q + 1.0) * a1 - (q + 4.0) * a2) / ((q + 2.0) * a2)
        d = 3.0 * q + 2.0 * (1.0 - g)
        c1, c2, c3 = g / d, (q - g) / d, (q + 2.0 - g) / d
        shrunk = 1.0 - a2 / q
        rho = (shrunk / (1.0 - c2 * b)) ** 2 * (1.0 + c1 * b) / (1.0 - c3 * b) / q
        df = 4.0 + (q + 2.0) / (q * rho - 1.0)
        return float(df), float(df * shrunk / (df - 2.0)) if abs(df - 2.0) > 1e-2 else 1.0


def _check_informative(information: np.ndarray, of_all: np.ndarray) -> None:
    """Raise if the data do not tell the two variances apart once the fixed effects are estimated.

    Parameters
    ----------
    information : ndarray of shape (2, 2)
        Of (tau2, sigma2), what the fixed effects take off deducted.
    of_all : ndarray of shape (2,)
        Its diagonal if there were no fixed effects.
    """
    diagonal = information.diagonal()
    if (diagonal > _NO_INFORMATION * of_all).all():
        correlation = information[0, 1] ** 2 / diagonal.prod()
        if correlation < 1.0 - _NO_INFORMATION:
            return
    raise ValueError(
        'ddf="kenward_roger" adjusts for the estimation of both variances, but the fixed effects leave nothing of the data '
        "to tell the group variance from the residual variance by. Fit fewer columns or more groups, or use "
        'ddf="satterthwaite".'
    )


def quadratic(contrasts: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return l' M l of each contrast l."""
    return ((contrasts @ matrix) * contrasts).sum(axis=1)

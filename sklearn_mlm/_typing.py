"""Types that several rooms share: choices of parameters, and the protocols of fitted models and fit records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Positions = NDArray[np.intp]
RandomState = int | np.random.RandomState | None

Boundary = Literal["group", "residual"] | None
CovarianceStructure = Literal["full", "diagonal"]
CovarianceType = Literal["nonrobust", "CR0", "CR1", "CR2", "CR3"]
DegreesOfFreedom = Literal["satterthwaite", "kenward_roger", "residual", "normal"]
Method = Literal["reml", "ml"]
NewGroups = Literal["population", "error", "nan"]
WeightType = Literal["frequency", "precision"]


class FittedModel(Protocol):
    """A fitted model of this package, as the functions of inference and the displays take it."""

    @property
    def fit_(self) -> Any:
        """The fit record: a `MixedFit`, or the record of a fit by least squares."""


class MixedFit(Protocol):
    """Members of a fit record that tables, contrasts and tests of fixed effects use, for any linear mixed model.

    The model is y ~ N(X beta, V(theta)), where theta are m variance parameters, and Phi = (X' V^-1 X)^-1 is the covariance
    of the p estimated fixed effects, of which k are independent. `sklearn_mlm.inference` gives degrees of freedom, tables
    and tests for every fit record that has these members.
    """

    @property
    def names(self) -> Sequence[str]:
        """Names of the p fixed effects."""

    @property
    def coefficients(self) -> np.ndarray:
        """Beta = Phi X' V^-1 y, generalised least squares at the estimated theta, of shape (p,)."""

    @property
    def covariance(self) -> np.ndarray:
        """Phi, of shape (p, p); 0 in the rows and columns of dropped coefficients."""

    @property
    def dropped(self) -> np.ndarray:
        """Positions of the p - k coefficients that are 0 because their columns depend on other columns."""

    @property
    def n_observations(self) -> float:
        """N, the number of observations."""

    @property
    def rank(self) -> int:
        """Rank k of X."""

    @property
    def n_parameters(self) -> int:
        """The number of estimated parameters: k, and the variance parameters."""

    @property
    def reml(self) -> bool:
        """Whether theta maximises the restricted likelihood, rather than the full one."""

    @property
    def variance_parameters(self) -> np.ndarray:
        """Theta, of shape (m,), without the parameters that are at a boundary of their range."""

    @property
    def hessian(self) -> np.ndarray:
        """Hessian d^2 f / d theta_r d theta_s of the (restricted) deviance f at its minimum, of shape (m, m)."""

    @property
    def covariance_derivatives(self) -> np.ndarray:
        """D_r with d Phi / d theta_r = R D_r R', of shape (m, k, k); R is the root of Phi that `whiten` uses."""

    def whiten(self, contrasts: np.ndarray) -> np.ndarray:
        """Return L R, of shape (n, k), for contrasts L and a root R of Phi: L Phi L' = (L R)(L R)'."""

    def variance_terms(self) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Return P, Q and T of Kenward and Roger for variances v with V = sum_r v_r V_r, or None.

        P_r = -R' X' V^-1 V_r V^-1 X R of shape (., k, k), Q_rs = R' X' V^-1 V_r V^-1 V_s V^-1 X R of shape (., ., k, k) and
        T_rs = tr(V^-1 V_r V^-1 V_s) of shape (., .). None if a single variance is not 0: it needs no adjustment.
        """

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
Solver = Literal["direct", "iterative"]
WeightType = Literal["frequency", "precision"]


class FittedModel(Protocol):
    """A fitted model of this package, as the functions of inference and the displays take it."""

    @property
    def fit_(self) -> Any:
        """The fit record: a `MixedFit`, or the record of a fit by least squares."""


class FitOptions(Protocol):
    """Parameters of a model, as they were in `fit`."""

    @property
    def method(self) -> Method:
        """Restricted or full maximum likelihood."""

    @property
    def fit_intercept(self) -> bool:
        """Whether the model has a fixed intercept."""

    @property
    def weight_type(self) -> WeightType:
        """Whether a weight counts copies of its row or divides its residual variance."""


class FixedDesign(Protocol):
    """What a formula says of the fixed part of a model: its terms, its factors, and its columns for any rows."""

    @property
    def formula(self) -> str:
        """The formula."""

    @property
    def data_name(self) -> str | None:
        """Name of the data, if it is known."""

    @property
    def n_dropped(self) -> int:
        """Number of rows that were left out because a value was missing."""

    @property
    def terms(self) -> Sequence[tuple[str, np.ndarray, tuple[str, ...], tuple[str, ...]]]:
        """Label, positions of the coefficients, names of the factors and of the numbers of each term but the intercept."""

    @property
    def indicator_effects(self) -> Any:
        """The coefficients as combinations of the effects of each level of each factor; an `IndicatorEffects`."""

    @property
    def factors(self) -> dict[str, tuple[tuple[str, ...], str]]:
        """Levels and name of the contrasts of each factor."""

    @property
    def grid(self) -> dict[str, Any]:
        """Levels, mean, standard deviation and kind of each column of the data that the fixed part uses."""

    @property
    def cells(self) -> Any:
        """A frame of the combinations of levels of these columns that the rows have, and their number of rows."""

    @property
    def columns_of_variables(self) -> dict[str, tuple[str, ...]]:
        """The columns of the data that each variable of the fixed part uses."""

    def rows(self, data: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return rows of the model matrix of the fixed part, a column for each coefficient, and the offset of these rows."""

    def value_of(self, variable: str, data: Any) -> np.ndarray:
        """Return the values of a variable of numbers in rows."""


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


class GroupedFit(MixedFit, Protocol):
    """Members of the fit record of a model with one grouping factor, beyond those of `MixedFit`.

    Functions of inference that predict, or that divide the variance of y, ask for these.
    """

    @property
    def options(self) -> FitOptions:
        """The parameters of the model in `fit`."""

    @property
    def moments(self) -> Any:
        """Moments of the rows of the fit, a `GroupedMoments`."""

    @property
    def predictors(self) -> Any:
        """Moments of the columns that have fixed effects, and of y."""

    @property
    def grouped(self) -> bool:
        """Whether the rows have groups."""

    @property
    def value(self) -> float:
        """The criterion at the optimum."""

    @property
    def aic(self) -> float:
        """Akaike's information criterion."""

    @property
    def bic(self) -> float:
        """Bayes' information criterion."""

    @property
    def icc(self) -> float | None:
        """Intraclass correlation; None if it depends on x."""

    @property
    def boundary(self) -> Any:
        """What has no variance; None if everything has, and "residual" if sigma2 is 0."""

    @property
    def residual_variance(self) -> float:
        """Residual variance sigma2."""

    @property
    def slopes(self) -> np.ndarray:
        """Fixed effects of the predictors."""

    @property
    def intercept(self) -> float:
        """Fixed intercept; 0 in a model without one."""

    @property
    def design(self) -> FixedDesign | None:
        """What a formula says of the columns; None without a formula."""

    @property
    def labels(self) -> Any:
        """Labels of the groups with random effects, a `pandas.Index`."""

    @property
    def group_name(self) -> str:
        """Name of the groups."""

    @property
    def outcome_name(self) -> str:
        """Name of y."""

    @property
    def random_terms(self) -> Sequence[Any]:
        """The random terms, independent of each other: `RandomTerm` records."""

    @property
    def random_covariance(self) -> np.ndarray:
        """Covariance of the random coefficients, in the order of the terms, in units of y squared."""

    @property
    def random_variances(self) -> tuple[float, float]:
        """The mean over the rows of the variance that the random effects give, within groups and between them."""

    def group_sizes(self, moments: Any = None) -> np.ndarray:
        """Return the number of rows of each group, or the total weight if weights are frequencies."""

    def deviance(self) -> float:
        """Return the least -2 log-likelihood, by maximum likelihood whatever the method of the model."""

    def random_variance(self, X: Any, n_rows: int) -> np.ndarray:
        """Return the variance that the random effects give each of some rows."""

    def predict(self, X: Any, codes: np.ndarray) -> np.ndarray:
        """Return predicted means of rows; the random effects of an unknown group are 0."""

    def residuals(self, X: Any, codes: np.ndarray, y: np.ndarray, *, conditional: bool = True) -> np.ndarray:
        """Return y less its prediction."""

    def prediction_variance(self, X: Any, codes: np.ndarray, *, gradient: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Return the variance of predicted means of rows, and its derivatives by the variance parameters."""

    def fixed_part_variance(self, X: Any, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the variance of the fixed part of rows, and its derivatives by the variance parameters."""

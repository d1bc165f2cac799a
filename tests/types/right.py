"""What a user may write: `mypy --strict` finds nothing to say about it."""

import numpy as np
import pandas as pd

from sklearn_mlm import (
    ClusterRobustOLS,
    GroupedMoments,
    RandomInterceptRegressor,
    WithinOLS,
    compare_with_ols,
    cross_validate_groups,
    inference,
)

X, y, groups = np.zeros((4, 1)), [1.0, 2.0, 3.0, 5.0], ["a", "a", "b", "b"]
model = RandomInterceptRegressor(method="reml", new_groups="nan", weight_type="precision").fit(X, y, groups=groups)
mean: np.ndarray = model.predict(X, groups)
mean, std = model.predict(X, groups, return_std=True)
variances: pd.Series = model.variance_components_
value: float = model.criterion(0.5)
values: np.ndarray = model.criterion([0.5, 1.0])
table: pd.DataFrame = inference.fixed_effects(model, ddf="kenward_roger", level=0.9)
inference.fixed_effects(ClusterRobustOLS(cov_type="CR2").fit(X, y, groups))
inference.fixed_effects(WithinOLS(new_groups="error").fit(X, y, groups))
interval: pd.DataFrame = inference.predict_interval(model, X, groups, kind="observation")
text: tuple[str, ...] = compare_with_ols(X, y, groups, cv=2, random_state=0).conclusions
scores: pd.DataFrame = cross_validate_groups(model, X, y, groups, cv=2)
moments: GroupedMoments = GroupedMoments.from_arrays(X, y, groups) + GroupedMoments.from_arrays(X, y, groups)
model.fit_moments(moments)

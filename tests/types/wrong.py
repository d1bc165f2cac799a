"""What no user means: `mypy --strict` finds a mistake in each of these lines."""

from sklearn_mlm import ClusterRobustOLS, RandomInterceptRegressor, inference

model = RandomInterceptRegressor()
RandomInterceptRegressor(method="remll")
RandomInterceptRegressor(new_groups="zero")
RandomInterceptRegressor(weight_type="weights")
ClusterRobustOLS(cov_type="HC1")
inference.fixed_effects("not a model")
inference.fixed_effects(model, ddf="kenward-roger")
inference.confidence_intervals(model, method="bootstrap")
inference.predict_interval(model, None, kind="row")
inference.random_intercept_test(model, method="wald")
inference.icc(model, kind="raw")
pair: tuple[object, object] = model.predict([[0.0]])

"""Draw the pictures of the README: ``python docs/pictures.py``, with the extra "plot"."""

from pathlib import Path

import matplotlib.pyplot as plt

from sklearn_mlm import MixedEffectsRegressor, RandomInterceptRegressor
from sklearn_mlm.datasets import load_sleepstudy, make_schools
from sklearn_mlm.display import (
    ClusteringDisplay,
    DiagnosticsDisplay,
    FittedLineDisplay,
    GroupLinesDisplay,
    RandomEffectsDisplay,
)

here = Path(__file__).parent
pupils = make_schools(as_frame=True, random_state=0).frame
null_model = RandomInterceptRegressor().fit(None, pupils["math"], groups=pupils["school"])
ten = pupils[pupils["school"] <= 10]

figure, (left, right) = plt.subplots(1, 2, figsize=(11.0, 4.0), layout="constrained", sharey=True)
ClusteringDisplay.from_data(ten["ses"], ten["math"], ten["school"], ax=left)
ClusteringDisplay.from_data(ten["ses"], ten["math"], ten["school"], lines="group", ax=right)
figure.savefig(here / "clustering.png", dpi=80)
plt.close(figure)

figure, (left, right) = plt.subplots(1, 2, figsize=(11.0, 4.0), layout="constrained")
RandomEffectsDisplay.from_estimator(null_model, ax=left)
RandomEffectsDisplay.from_estimator(null_model, kind="caterpillar", extremes=8, ax=right)
figure.savefig(here / "effects.png", dpi=80)
plt.close(figure)

X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
model = RandomInterceptRegressor().fit(X, y, groups=subject)
figure = FittedLineDisplay.from_estimator(model, X, "days", y=y, groups=subject, show_groups=[309, 337]).figure_
figure.savefig(here / "line.png", dpi=80)
plt.close(figure)

figure = DiagnosticsDisplay.from_estimator(model, X, y, subject).figure_
figure.savefig(here / "diagnostics.png", dpi=80)
plt.close(figure)

slopes = MixedEffectsRegressor(random_effects="(1 + days | subject)").fit(X, y, groups=subject)
shown = [335, 309, 330, 349, 372, 370, 337, 308]
figure = GroupLinesDisplay.from_estimator(slopes, X, y, subject, feature="days", show_groups=shown).figure_
figure.savefig(here / "slopes.png", dpi=120)
plt.close(figure)

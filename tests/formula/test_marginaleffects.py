"""The recipe for the package marginaleffects in docs/guide/marginaleffects.md, where it is installed and can run."""

import re

import polars as pl
import pytest
from formula_cases import two_factors

from sklearn_mlm.formula import lmer
from sklearn_mlm.inference import estimated_marginal_means, fixed_effects

pytest.importorskip("marginaleffects")


def test_the_recipe_gives_our_slopes_and_comparisons(project):
    if int(pl.__version__.partition(".")[0]) >= 2:
        pytest.skip("marginaleffects 0.6 does not run with polars 2")
    from marginaleffects import avg_comparisons, avg_slopes, datagrid

    text = (project / "docs" / "guide" / "marginaleffects.md").read_text(encoding="utf-8")
    names = {}
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], names)
    rows = two_factors().astype({"a": "category", "b": "category"})
    model = lmer("y ~ a * b + x + (1 | g)", rows)
    adapted = names["FormulaModel"](model, rows)
    slope = avg_slopes(adapted, variables="x")
    ours = fixed_effects(model, ddf="normal").loc["x"]
    assert slope["estimate"][0] == pytest.approx(ours["estimate"], rel=1e-5)
    assert slope["std_error"][0] == pytest.approx(ours["std_error"], rel=1e-3)
    grid = datagrid(model=adapted, grid_type="balanced")
    difference = avg_comparisons(adapted, variables={"a": ["high", "low"]}, newdata=grid)
    pairs = estimated_marginal_means(model, "a", ddf="normal").pairs()
    assert difference["estimate"][0] == pytest.approx(-pairs["estimate"][0], rel=1e-6)
    assert difference["std_error"][0] == pytest.approx(pairs["std_error"][0], rel=1e-3)

"""What holds of the package as a whole: the rooms and what they import, public names, and what an import loads."""

import ast
import importlib
import subprocess
import sys
from collections import defaultdict
from types import ModuleType

import pytest

import sklearn_mlm

# Each room imports only from rooms before it; those on one line do not import from each other.
ROOMS = """
    _inputs _progress _tables _typing datasets
    moments
    likelihood
    inference
    models
    baselines model_selection dask formula
    display
    __init__
"""
FLOOR = {name: floor for floor, line in enumerate(ROOMS.strip().splitlines()) for name in line.split()}
# The ground floor has an order of its own.
GROUND = ["_typing", "_inputs", "_progress", "_tables", "datasets"]

PUBLIC = {
    "sklearn_mlm": sklearn_mlm.__all__,
    "sklearn_mlm.baselines": ["ClusterRobustOLS", "WithinOLS", "compare_with_ols"],
    "sklearn_mlm.dask": ["DaskRandomInterceptRegressor", "read_scatter"],
    "sklearn_mlm.datasets": ["load_dyestuff", "load_sleepstudy", "make_schools"],
    "sklearn_mlm.display": [
        "ClusteringDisplay",
        "CoefficientComparisonDisplay",
        "DiagnosticsDisplay",
        "FittedLineDisplay",
        "GroupLinesDisplay",
        "RandomCoefficientsDisplay",
        "RandomEffectsDisplay",
        "ShrinkageDisplay",
        "VarianceDisplay",
        "VarianceFunctionDisplay",
    ],
    "sklearn_mlm.formula": ["FormulaRegressor", "lmer"],
    "sklearn_mlm.inference": [
        "anova",
        "clustering_report",
        "confidence_intervals",
        "contrast_test",
        "drop1",
        "estimated_marginal_means",
        "estimated_trends",
        "fixed_effects",
        "icc",
        "influence",
        "likelihood_ratio_test",
        "plausible_values_range",
        "predict_interval",
        "r2",
        "random_effects_table",
        "random_effects_test",
        "random_intercept_test",
        "residual_variance_test",
        "variance_inflation",
    ],
    "sklearn_mlm.model_selection": [
        "GroupScorer",
        "coefficient_importances",
        "cross_validate_groups",
        "make_group_scorer",
        "request_groups",
    ],
}


def imports(project):
    """Pairs of files, as tuples of names, of which the first imports the second when it is loaded."""
    package = project / "sklearn_mlm"
    for path in sorted(package.rglob("*.py")):
        here = path.relative_to(package).with_suffix("").parts
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.level:
                base = here[: len(here) - node.level]
                for name in [node.module] if node.module else [alias.name for alias in node.names]:
                    yield here, (*base, *name.split("."))


def test_rooms_import_only_from_rooms_before_them(project):
    for here, there in imports(project):
        room, other = here[0], there[0]
        if FLOOR[room] == FLOOR[other] == 0:
            assert GROUND.index(other) < GROUND.index(room), f"{here} imports {there}"
        elif room != other:
            assert FLOOR[other] < FLOOR[room], f"{here} imports {there}"


def test_no_circle_within_a_room(project):
    within = defaultdict(set)
    for here, there in imports(project):
        if here[0] == there[0] and here != there:
            within[here].add(there)
    done = set()

    def visit(file, path):
        assert file not in path, f"a circle: {[*path, file]}"
        if file not in done:
            for other in within[file]:
                visit(other, [*path, file])
            done.add(file)

    for file in list(within):
        visit(file, [])


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_where_they_were(module):
    for name in PUBLIC[module]:
        assert hasattr(importlib.import_module(module), name), name


def test_the_import_loads_nothing_that_is_an_extra():
    code = (
        "import sys, sklearn_mlm, sklearn_mlm.datasets, sklearn_mlm.formula\n"
        "extras = ('matplotlib', 'dask', 'distributed', 'polars', 'pyarrow.parquet', 'formulaic')\n"
        "print([name for name in extras if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_public_names_are_there_and_documented():
    for name in sklearn_mlm.__all__:
        public = getattr(sklearn_mlm, name)
        assert len(public.__doc__) > (60 if isinstance(public, ModuleType) else 500)

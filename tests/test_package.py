"""What holds of the package as a whole."""

import ast
import subprocess
import sys
from types import ModuleType

import sklearn_mlm

# Each may import only from those before it.
ORDER = """
    _typing _inputs _linalg _groups _rows _remainder _scatter _label_table _accumulator _batches _parquet_files _parquet
    _storage _moments _solution _group_sizes _coordinates _criterion _spectrum _optimum _fit _fits _degrees_of_freedom
    _profile _variance_tests _fixed _shares inference _summary _model_summary _checks _base _regressor model_selection
    _cluster_robust _within _folds _conclusions _comparison baselines _plotting _clustering_display _effects_display
    _shrinkage_display _variance_display _comparison_display display datasets _dask_partitions dask __init__
""".split()  # noqa: SIM905


def test_files_import_only_from_files_above_them(project):
    for path in sorted((project / "sklearn_mlm").glob("*.py")):
        allowed = ORDER[: ORDER.index(path.stem)]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                for module in [node.module] if node.module else [name.name for name in node.names]:
                    assert module in allowed, f"{path.name} imports {module}"


def test_the_import_loads_nothing_that_is_an_extra():
    code = (
        "import sys, sklearn_mlm, sklearn_mlm.datasets\n"
        "print([name for name in ('matplotlib', 'dask', 'distributed', 'polars', 'pyarrow.parquet') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_public_names_are_there_and_documented():
    for name in sklearn_mlm.__all__:
        public = getattr(sklearn_mlm, name)
        assert len(public.__doc__) > (60 if isinstance(public, ModuleType) else 500)

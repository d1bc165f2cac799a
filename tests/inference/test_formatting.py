"""Tables as text, and what exports them."""

import sys

import numpy as np
import pandas as pd
import pytest

from sklearn_mlm import RandomInterceptRegressor, inference
from sklearn_mlm.inference import format_table, to_great_table


@pytest.fixture
def model(design):
    X, y, groups = design
    return RandomInterceptRegressor().fit(pd.DataFrame(X, columns=["a", "b & c", "d_e"]), y, groups=groups)


def test_every_table_can_be_text(model, design):
    X, y, groups = design
    frame = pd.DataFrame(X, columns=["a", "b & c", "d_e"])
    null = RandomInterceptRegressor().fit(None, y, groups=groups)
    tables = {
        "fixed_effects": inference.fixed_effects(model),
        "confidence_intervals": inference.confidence_intervals(model),
        "random_effects_table": inference.random_effects_table(model),
        "contrast_test": inference.contrast_test(model, "a = 0.5"),
        "contrast_test, each": inference.contrast_test(model, ["a", "b & c = 1"], joint=False),
        "term_tests": inference.term_tests(model),
        "likelihood_ratio_test": inference.likelihood_ratio_test(null=null, full=model),
        "compare_models": inference.compare_models(null=null, full=model),
        "glance": inference.glance(model),
        "r2": inference.r2(model),
        "predict_interval": inference.predict_interval(model, frame, groups),
    }
    for name, table in tables.items():
        text = format_table(table)
        assert all(isinstance(cell, str) for cell in text.to_numpy().ravel()), name
        assert "nan" not in " ".join(text.to_numpy().ravel()), name
        if isinstance(table, pd.DataFrame):
            assert list(text.index) == list(table.index)
            assert list(text.columns) == list(table.columns)
            numbers = table.select_dtypes("number").drop(columns=[c for c in table if str(c).startswith("p_value")])
            shown = text[numbers.columns].replace("-", "nan").replace("inf", "inf").astype(float)
            np.testing.assert_allclose(shown, numbers, rtol=0.06, atol=0.006, err_msg=name)
        assert text.to_latex(escape=True).count("\\\\") > len(text)


def test_digits_follow_the_error():
    table = pd.DataFrame(
        {"estimate": [1234.5678, 0.0123456], "std_error": [1.2345, 1e-3], "df": [12.0, 3.14], "p_value": [1e-9, 0.5]}
    )
    assert format_table(table).to_numpy().tolist() == [
        ["1234.568", "1.234", "12", "<0.001"],
        ["0.012346", "0.001000", "3.1", "0.500"],
    ]
    with pytest.raises(TypeError, match="table must be a pandas DataFrame or Series; found list"):
        format_table([1.0])


def test_great_tables(model):
    pytest.importorskip("great_tables")
    html = to_great_table(inference.fixed_effects(model), title="Fixed effects").as_raw_html()
    for cell in ("Fixed effects", "(Intercept)", "b &amp; c", "std_error"):
        assert cell in html
    assert "(Intercept) - a" in to_great_table(inference.contrast_test(model, "(Intercept) - a")).as_raw_html()


def test_without_great_tables_the_error_says_what_to_install(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "great_tables", None)
    with pytest.raises(ImportError, match="pip install great_tables"):
        to_great_table(inference.fixed_effects(model))

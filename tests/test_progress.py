"""Progress: a bar by tqdm, lines without it, and nothing unless it is asked for."""

import sys

import numpy as np
import pytest

from sklearn_mlm import RandomInterceptRegressor, cross_validate_groups
from sklearn_mlm._progress import progress
from sklearn_mlm.inference import random_intercept_test


def cross_validation(design, verbose):
    X, y, groups = design
    cross_validate_groups(RandomInterceptRegressor(), X, y, groups, cv=2, random_state=0, verbose=verbose)


def exact_test(design, verbose):
    model = RandomInterceptRegressor().fit(*design[:2], groups=design[2])
    return random_intercept_test(model, random_state=0, verbose=verbose)["p_value"]


@pytest.mark.parametrize(("run", "shown"), [(cross_validation, "4/4"), (exact_test, "10000/10000")])
def test_what_takes_long_shows_progress_on_request(design, capsys, run, shown):
    quiet = run(design, 0)
    assert capsys.readouterr().err == ""
    assert run(design, 1) == quiet
    assert shown in capsys.readouterr().err


def test_without_tqdm_there_are_lines(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with progress(1, "folds", 3) as report:
        for _ in range(3):
            report(1)
    assert capsys.readouterr().err == "3 of 3 folds, 0 s\n"
    monkeypatch.setattr("sklearn_mlm._progress._SECONDS_BETWEEN_LINES", 0.0)
    with progress(1, "rows") as report:
        report(1_000_000)
        report(500)
    assert capsys.readouterr().err.splitlines() == ["1,000,000 rows, 0 s", "1,000,500 rows, 0 s"]


def test_an_interrupted_fit_leaves_the_model_as_it_was(design, monkeypatch):
    X, y, groups = design
    model = RandomInterceptRegressor().fit(X, y, groups=groups)
    before = model.predict(X, groups)

    def interrupt(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("sklearn_mlm.models._random_intercept.fit_of_criterion", interrupt)
    for method in (model.fit, model.partial_fit):
        with pytest.raises(KeyboardInterrupt):
            method(X[:, :2] if method == model.fit else X, y, groups)
        np.testing.assert_array_equal(model.predict(X, groups), before)

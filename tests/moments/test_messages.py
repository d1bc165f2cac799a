"""Messages about rows that cannot be read: each names the argument, the column, the rows, and what to do."""

import datetime
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from scipy import sparse

from sklearn_mlm import ClusterRobustOLS, GroupedMoments, RandomInterceptRegressor, WithinOLS, compare_with_ols
from sklearn_mlm.models import DroppedColumnsWarning
from sklearn_mlm.models._group_column import check_group_feature
from sklearn_mlm.moments import _complaints

N = 60
RNG = np.random.default_rng(0)
GROUPS = np.repeat(np.arange(6), 10)
FRAME = pd.DataFrame(RNG.standard_normal((N, 3)), columns=["a", "b", "c"])
Y = pd.Series(FRAME["a"] + RNG.standard_normal(N) + np.sin(GROUPS), name="math")
DAY = pd.Timestamp("2024-02-03")
IMPUTE = "Drop these rows, or impute the values: put sklearn.impute.SimpleImputer before the model in a pipeline."
ENCODE = ('OneHotEncoder(drop="first", sparse_output=False)', "pandas.get_dummies(X, drop_first=True)", "pandas.to_numeric")
TWO = "has 2 missing value(s) (NaN) in 60 rows, the first in row 10 ("
MISSING = ("Column 'b' of X " + TWO, "1 other column of X has missing values too", IMPUTE)
MISSING_AT_1 = (
    "Column 1 of X " + TWO,
    "columns and rows are counted from 0",
    "1 other column of X has missing values",
    IMPUTE,
)
TEXT = ("Column 'origin' of X must hold numbers; found strings, such as 'JFK' in row 0", *ENCODE)
DATES = ("Column 'day' of X must hold numbers; found dates, such as 2024-02-03", "days since the first")
SPANS = ("Column 'day' of X must hold numbers; found time differences, such as 1 day", "Turn time differences into numbers")
ORDER = "Check the order of the arguments: fit(X, y, groups)."


def with_values(values, value, *rows):
    """Return a series of objects with a value in some rows."""
    objects = values.to_numpy(dtype=object, copy=True)
    for row in rows:
        objects[row] = value
    return pd.Series(objects, name=values.name, dtype=object)


def with_missing(value=np.nan):
    """Return the frame with two missing values in b and one in c."""
    return FRAME.assign(b=with_values(FRAME["b"], value, 10, 20), c=with_values(FRAME["c"], value, 5))


NAN = with_missing().astype(float)
TEXTS = FRAME.assign(origin=["JFK"] * N)
LATER = FRAME.assign(day=DAY)
SPAN = FRAME.assign(day=pd.Timedelta("1D"))
NAN_Y, NAN_WEIGHTS = Y.mask(Y.index == 7), pd.Series(np.where(np.arange(N) == 7, np.nan, 1.0), name="w")

# X by name, and what the message must say.
BAD_X = {
    "NaN": (NAN, MISSING),
    "None": (with_missing(None), MISSING),
    "pd.NA among objects": (with_missing(pd.NA), MISSING),
    "pd.NA in a nullable type": (NAN.astype("Float64"), MISSING),
    "NaN in polars": (pl.from_pandas(NAN), MISSING),
    "null in polars": (pl.from_pandas(NAN, nan_to_null=True), MISSING),
    "null in pyarrow": (pa.Table.from_pandas(NAN), MISSING),
    "NaN in an array": (NAN.to_numpy(), MISSING_AT_1),
    "NaN in an array of objects": (with_missing().to_numpy(), MISSING_AT_1),
    "None in an array of objects": (with_missing(None).to_numpy(), MISSING_AT_1),
    "NaN in a list": (NAN.to_numpy().tolist(), MISSING_AT_1),
    "NaN in csr": (sparse.csr_array(NAN.to_numpy()), MISSING_AT_1),
    "NaN in csc": (sparse.csc_matrix(NAN.to_numpy()), MISSING_AT_1),
    "infinity": (NAN.replace({np.nan: -np.inf}), ("Column 'b' of X holds infinity in 2 of 60 rows, the first in row 10",)),
    "strings": (TEXTS.assign(dest="x"), (*TEXT, "1 other column of X does not hold numbers either")),
    "strings in polars": (pl.from_pandas(TEXTS), TEXT),
    "strings in pyarrow": (pa.Table.from_pandas(TEXTS), TEXT),
    "strings and NaN": (NAN.assign(origin=["JFK"] * N), TEXT),
    "categories of strings": (FRAME.assign(origin=pd.Categorical(["JFK"] * N)), TEXT),
    "categories in polars": (pl.from_pandas(FRAME.assign(origin=pd.Categorical(["JFK"] * N))), TEXT),
    "strings among objects": (TEXTS.to_numpy(), ("Column 3 of X must hold numbers; found strings, such as 'JFK'", *ENCODE)),
    "strings beside numbers": (TEXTS.to_numpy().astype(str), ("Column 3 of X must hold numbers; found strings",)),
    "strings in a list": (TEXTS.to_numpy().tolist(), ("Column 3 of X must hold numbers; found strings, such as 'JFK'",)),
    "numbers as text": (np.full((N, 2), "1.5"), ("Column 0 of X must hold numbers; found strings, such as '1.5'", *ENCODE)),
    "dates": (LATER, DATES),
    "only dates": (LATER[["day"]], DATES),
    "dates with a zone": (FRAME.assign(day=DAY.tz_localize("UTC")), DATES),
    "dates as objects": (FRAME.assign(day=datetime.date(2024, 2, 3)), DATES),
    "dates in an array": (LATER[["day"]].to_numpy(), ("Column 0 of X must hold numbers; found dates, such as 2024-02-03",)),
    "time differences": (SPAN, SPANS),
    "only time differences": (SPAN[["day"]], SPANS),
    "lists": (FRAME.assign(a=[[1, 2]] * N), ("Column 'a' of X must hold numbers; found objects of type list",)),
    "a series": (
        FRAME["a"],
        ("found a series ('a')", "pass X.to_frame()", "check the order of the arguments: fit(X, y, groups)."),
    ),
    "a polars series": (pl.from_pandas(FRAME["a"]), ("found a series ('a')", "pass X.to_frame()")),
    "a lazy frame": (pl.from_pandas(FRAME).lazy(), ("X is a lazy frame", "Collect the lazy frame first: X.collect().")),
    "a formula": ("y ~ x + (1|g)", ("Formulas are not taken", 'fit(data[["x"]], data["y"], groups=data["g"])')),
}
BAD_Y = {
    "NaN": (NAN_Y, ("y ('math') has 1 missing value(s) (NaN) in 60 rows, the first in row 7", "Drop these rows")),
    "pd.NA": (with_values(Y, pd.NA, 7), ("y ('math') has 1 missing value(s)", "the first in row 7")),
    "None in a list": ([None, *Y[1:]], ("y has 1 missing value(s)", "the first in row 0")),
    "null in polars": (pl.from_pandas(NAN_Y, nan_to_null=True), ("y ('math') has 1 missing value(s)",)),
    "NaN in a frame": (NAN_Y.to_frame(), ("y ('math') has 1 missing value(s)",)),
    "infinity": (Y.mask(Y.index == 7, np.inf), ("y ('math') holds infinity in 1 of 60 rows, the first in row 7",)),
    "labels": (
        pd.Series(["N306JB"] * N, name="tail"),
        ("y ('tail') must hold numbers; found strings, such as 'N306JB'", ORDER),
    ),
    "labels in an array": (np.full(N, "N306JB"), ("y must hold numbers; found strings, such as 'N306JB' in row 0", ORDER)),
    "dates": (LATER["day"], ("y ('day') must hold numbers; found dates, such as 2024-02-03", "days since the first")),
    "a name": ("math", ("y must hold one number per row; found the string 'math'", "data['math']")),
}
BAD_WEIGHTS = {
    "NaN": (
        NAN_WEIGHTS,
        ("sample_weight ('w') has 1 missing value(s) (NaN) in 60 rows, the first in row 7", "Drop these rows"),
    ),
    "infinity": (
        np.where(np.arange(N) == 7, np.inf, 1.0),
        ("sample_weight holds infinity in 1 of 60 rows, the first in row 7",),
    ),
    "strings": (["heavy"] * N, ("sample_weight must hold numbers; found strings, such as 'heavy' in row 0",)),
    "dates": (LATER["day"], ("sample_weight ('day') must hold numbers; found dates, such as 2024-02-03",)),
}
DATA = FRAME.assign(g=GROUPS)
BAD_GROUPS = {
    "grouped rows": (DATA.groupby("g"), ("found a DataFrameGroupBy", "frame['g']")),
    "a grouped column": (DATA.groupby("g")["a"], ("found a SeriesGroupBy", "frame['g']")),
    "grouped rows of polars": (pl.from_pandas(DATA).group_by("g"), ("found a GroupBy", "Pass the column of labels itself")),
    "a lazy frame": (pl.from_pandas(DATA).lazy(), ("Collect the lazy frame first: groups.collect().",)),
}


def words_of(call, errors=ValueError):
    """Return the message of the error that a call raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(errors) as caught:
            call()
    return str(caught.value)


def check(call, words):
    message = words_of(call)
    for word in words:
        assert word in message


@pytest.mark.parametrize("case", BAD_X)
def test_fit_and_from_arrays_say_what_is_wrong_with_x(case):
    X, words = BAD_X[case]
    check(lambda: RandomInterceptRegressor().fit(X, Y, GROUPS), words)
    check(lambda: GroupedMoments.from_arrays(X, Y, GROUPS), words)
    check(lambda: GroupedMoments.from_batches([(X, Y, GROUPS)]), words)


def fitted_to_columns_of(X):
    """Return a model that was fitted to numbers in the columns that X has."""
    names = list(X.column_names if isinstance(X, pa.Table) else getattr(X, "columns", []))
    n_columns = len(names) if names else np.shape(X)[1] if len(np.shape(X)) == 2 else 1
    numbers = RNG.standard_normal((N, n_columns))
    return RandomInterceptRegressor().fit(pd.DataFrame(numbers, columns=names) if names else numbers, Y, GROUPS)


@pytest.mark.parametrize("case", [case for case in BAD_X if "lazy" not in case])
def test_predict_says_what_is_wrong_with_x(case):
    X, words = BAD_X[case]
    model = fitted_to_columns_of(X)
    check(lambda: model.predict(X, GROUPS), words)


@pytest.mark.parametrize("case", BAD_Y)
def test_what_is_wrong_with_y(case):
    y, words = BAD_Y[case]
    check(lambda: RandomInterceptRegressor().fit(FRAME, y, GROUPS), words)
    check(lambda: RandomInterceptRegressor().fit(None, y, GROUPS), words)
    check(lambda: RandomInterceptRegressor(group_feature="g").fit(DATA, y), words)
    check(lambda: GroupedMoments.from_arrays(FRAME, y, GROUPS), words)


@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_what_is_wrong_with_weights(case):
    weights, words = BAD_WEIGHTS[case]
    check(lambda: RandomInterceptRegressor().fit(FRAME, Y, GROUPS, weights), words)
    check(lambda: GroupedMoments.from_batches([(FRAME, Y, GROUPS, weights)]), words)


@pytest.mark.parametrize("case", BAD_GROUPS)
def test_what_is_wrong_with_groups(case):
    groups, words = BAD_GROUPS[case]
    check(lambda: RandomInterceptRegressor().fit(FRAME, Y, groups), words)


HALF = (np.arange(N) % 2).astype(float)
MODEL = RandomInterceptRegressor().fit(FRAME, Y, GROUPS)
ARRAY = np.column_stack([GROUPS, NAN])
EVERYWHERE = {
    "ClusterRobustOLS": (lambda: ClusterRobustOLS().fit(NAN, Y, GROUPS), MISSING),
    "ClusterRobustOLS, predict": (lambda: ClusterRobustOLS().fit(FRAME, Y, GROUPS).predict(NAN), MISSING),
    "WithinOLS": (lambda: WithinOLS().fit(NAN, Y, GROUPS), MISSING),
    "compare_with_ols": (lambda: compare_with_ols(NAN, Y, GROUPS), MISSING),
    "compare_with_ols, strings": (lambda: compare_with_ols(TEXTS, Y, GROUPS), TEXT),
    "partial_fit": (lambda: MODEL.partial_fit(NAN, Y, GROUPS), MISSING),
    "partial_fit, strings": (lambda: RandomInterceptRegressor().partial_fit(TEXTS, Y, GROUPS), TEXT),
    "rows of weight 0": (lambda: MODEL.fit(NAN, Y, GROUPS, HALF), MISSING),
    "beside a group column": (lambda: RandomInterceptRegressor(group_feature="g").fit(NAN.assign(g=GROUPS), Y), MISSING),
    "positions count the group column": (
        lambda: RandomInterceptRegressor(group_feature=0).fit(ARRAY, Y),
        ("Column 2 of X " + TWO,),
    ),
    "positions count the group column in predict": (
        lambda: RandomInterceptRegressor(group_feature=0).fit(np.nan_to_num(ARRAY), Y).predict(ARRAY),
        ("Column 2 of X " + TWO,),
    ),
    "positions count the group column after fit_moments": (
        lambda: RandomInterceptRegressor(group_feature=0).fit_moments(MODEL.moments_).predict(ARRAY),
        ("Column 2 of X " + TWO,),
    ),
    "y is bad too": (
        lambda: MODEL.fit(NAN, NAN_Y, GROUPS),
        (*MISSING[:1], "1 other column of X and y ('math') have missing"),
    ),
    "the second batch": (
        lambda: GroupedMoments.from_batches([(FRAME, Y, GROUPS), (NAN, Y, GROUPS)]),
        ("In rows 60 to 119, counted from 0: Column 'b' of X has 2 missing value(s) (NaN) in 60 rows, the first in row 70",),
    ),
    "the second batch, with weights": (
        lambda: GroupedMoments.from_batches([(FRAME, Y, GROUPS, HALF), (NAN, Y, GROUPS, HALF)]),
        ("In rows 60 to 119, counted from 0: Column 'b' of X has 2 missing value(s) (NaN) in 60 rows, the first in row 70",),
    ),
    "strings in the second batch": (
        lambda: GroupedMoments.from_batches([(FRAME, Y, GROUPS), (TEXTS, Y, GROUPS)]),
        ("In batch 1, counted from 0: " + TEXT[0],),
    ),
    "X and y swapped": (lambda: MODEL.fit(Y, FRAME, GROUPS), ("found a series ('math')", "order of the arguments")),
    "arrays swapped": (
        lambda: MODEL.fit(Y.to_numpy(), FRAME.to_numpy(), GROUPS),
        ("X has one dimension and y has two", ORDER),
    ),
    "a formula and data": (
        lambda: MODEL.fit("y ~ x + (1|g)", DATA),
        ("found the string 'y ~ x + (1|g)'", "Formulas are not"),
    ),
    "two grouping columns": (
        lambda: check_group_feature(["school", "class"]),
        ("Models of several factors are not covered yet: choose one column", "frame['school'] + \"/\" + frame['class']"),
    ),
    "values whose squares overflow": (
        lambda: MODEL.fit(FRAME * [1.0, 1e200, 1.0], Y, GROUPS),
        ("Column 'b' of X holds values so large that their squares overflow", "in row 0", "Rescale the column"),
    ),
}


@pytest.mark.parametrize("case", EVERYWHERE)
def test_the_same_is_said_wherever_rows_are_read(case):
    check(*EVERYWHERE[case])


def test_objects_of_other_types_are_a_type_error_in_the_words_of_python():
    X = with_values(FRAME["b"], {"foo": 1}, 10).to_frame()
    for call in (lambda: MODEL.fit(X, Y, GROUPS), lambda: GroupedMoments.from_batches([(X, Y, GROUPS)])):
        message = words_of(call, TypeError)
        assert "Column 'b' of X must hold numbers; found objects of type dict, such as {'foo': 1} in row 10" in message
        assert "float() argument must be a string or a real number, not 'dict'" in message


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: MODEL.predict(TEXTS, GROUPS), "Feature names unseen at fit time"),
        (lambda: MODEL.fit(FRAME.to_numpy() * 1j, Y, GROUPS), "Complex data not supported"),
        (lambda: MODEL.fit(FRAME[1:].reset_index(), Y, GROUPS), "inconsistent numbers of samples"),
        (lambda: MODEL.fit(FRAME["a"].to_numpy(), Y, GROUPS), "Reshape your data"),
        (lambda: MODEL.fit(FRAME, FRAME, GROUPS), "y should be a 1d array"),
    ],
)
def test_what_is_not_about_values_stays_scikit_learns_error(call, words):
    assert words in words_of(call)


def test_good_rows_are_not_searched(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("Good rows were searched for bad values.")

    for name in ("_explanation", "complaint", "_fault_of"):
        monkeypatch.setattr(_complaints, name, refuse)
    for X in (FRAME, FRAME.to_numpy(), pl.from_pandas(FRAME), sparse.csr_array(FRAME.to_numpy()), FRAME.astype(object)):
        model = RandomInterceptRegressor().fit(X, Y, GROUPS, HALF)
        model.predict(X, GROUPS)
        GroupedMoments.from_batches([(X, Y, GROUPS), (X, Y, GROUPS, HALF)])


def test_the_warning_of_dropped_columns_names_eight_and_says_how_dummies_are_made():
    copies = FRAME.assign(**{f"copy{i}": FRAME["a"] for i in range(20)})
    with pytest.warns(DroppedColumnsWarning) as caught:
        RandomInterceptRegressor().fit(copies, Y, GROUPS)
    message = str(caught[0].message)
    assert message.startswith("20 redundant column(s) of X get the coefficient 0. ")
    assert "copy0, copy1, copy2, copy3, copy4, copy5, copy6, copy7 and 12 more." in message
    assert 'OneHotEncoder(drop="first") or pd.get_dummies(drop_first=True) leaves out the redundant one' in message

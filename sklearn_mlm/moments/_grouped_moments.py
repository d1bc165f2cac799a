"""`GroupedMoments`: the small mergeable state that rows are read into, and the code that reads rows into it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from .._inputs import name_of
from ._arrow import arrow, arrow_columns, checked_batch, named_columns
from ._frames import frame_of_moments, moments_of_frame
from ._merging import merge
from ._moments import Moments
from ._reading import read_rows
from ._rows import GroupedRows, check_containers, checked_arrays, grouped_rows
from ._storage import load_moments, save_moments
from ._streaming import read_batches


@dataclass(frozen=True, eq=False)
class GroupedMoments(Moments):
    """Within- and between-group moments of rows (x, y): all that a random-intercept model needs of its data.

    With z_ij = (x_ij, y_ij) the row i of group j and w_ij its weight, the state holds the total weight n_j and the
    weighted mean m_j of each group, and the pooled within-group scatter

        W = sum_j sum_i w_ij (z_ij - m_j)(z_ij - m_j)'.

    States of different rows merge exactly (Chan, Golub & LeVeque 1983): `a + b` is the state of the rows of both, in any
    order and wherever the cut falls, so that batches, files and machines may each read their own rows.

    Sharing a state shares group means, not rows; but the mean of a group of one row is that row.

    Make one with `from_arrays`; fit it with `RandomInterceptRegressor.fit_moments`.

    Attributes
    ----------
    labels : pandas.Index of shape (n_groups,)
        The group labels, sorted where they can be.
    counts : ndarray of shape (n_groups,)
        Total weight n_j of each group: its number of rows where there are no weights.
    n_rows : ndarray of shape (n_groups,), int
        Number of rows with a positive weight in each group.
    center : ndarray of shape (n_features + 1,)
        An arbitrary point amid the data, in units of (x, y).
    deviations : ndarray of shape (n_groups, n_features + 1)
        Group means minus `center`. Apart from it they keep digits that the means themselves could not: about 1e12, a
        double resolves no more than 1e-4.
    within : ndarray of shape (n_features + 1, n_features + 1)
        The pooled within-group scatter W, in units of (x, y) squared. Columns that are constant in every group have
        exact zeros; after a merge, zeros to rounding.
    sum_log_weight : float
        Sum of the logarithms of the row weights, 0 without weights.
    feature_names : tuple of str or None
        Names of the columns of x, where they have names.
    outcome_name : str or None
        The name of y, where it has one.
    remainder : Remainder or None
        Moments of what some slopes leave of y, if predictors explain so much of y that `within` holds few digits of the
        rest. `RandomInterceptRegressor.fit` reads the rows a second time for them.

    References
    ----------
    T. F. Chan, G. H. Golub and R. J. LeVeque (1983), "Algorithms for computing the sample variance", The American
    Statistician 37, 242-247, equations 2.1 (the update) and 1.7 (the shift).

    Examples
    --------
    >>> from sklearn_mlm import GroupedMoments
    >>> a = GroupedMoments.from_arrays([[0.0], [1.0]], [1.0, 3.0], ["north", "south"])
    >>> b = GroupedMoments.from_arrays([[2.0], [4.0]], [5.0, 7.0], ["south", "south"])
    >>> (a + b).means
    array([[0.        , 1.        ],
           [2.33333333, 5.        ]])
    """

    @classmethod
    def from_arrays(cls, X: Any, y: Any, groups: Any, sample_weight: Any = None) -> GroupedMoments:
        """Read rows into a state.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features), or None
            The predictors, without a column of ones. None stands for no predictors.
        y : array-like of shape (n_samples,)
            The outcome.
        groups : array-like of shape (n_samples,)
            The group label of each row.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights; a row of weight 0 is no row. None gives every row the weight 1.

        Returns
        -------
        moments : GroupedMoments

        Raises
        ------
        ValueError
            Where values are missing or infinite, lengths differ, or a weight is negative.
        """
        check_containers(X=X, y=y, groups=groups, sample_weight=sample_weight)
        names, X, values = checked_arrays(X, y)
        rows = grouped_rows(X, values, groups, sample_weight, feature_names=names, outcome_name=name_of(y))
        return cls(**vars(read_rows(rows)))

    @classmethod
    def from_batches(cls, batches: Iterable[Any], *, verbose: int = 0) -> GroupedMoments:
        """Read rows that come in batches, each of them once, into a state.

        Memory is that of the state and of one batch, whatever the number of rows. The result is that of `from_arrays` of all
        rows, to rounding, wherever batches are cut. A batch has been read when the next one is asked for, so that both may
        be in the same arrays. Several threads read it, with BLAS kept to one thread meanwhile.

        Parameters
        ----------
        batches : iterable of tuples (X, y, groups) or (X, y, groups, sample_weight)
            Each as `from_arrays` takes them, with the same columns. Groups may go on from batch to batch, and batches be
            empty. Data frames must have the same column names.
        verbose : int, default=0
            1 shows how many rows were read, and how fast; needs the extra "arrow", for tqdm.

        Returns
        -------
        moments : GroupedMoments

        Raises
        ------
        ValueError
            As `from_arrays`, saying in which batch or rows; or where there is no batch, or columns differ.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn_mlm import GroupedMoments, RandomInterceptRegressor
        >>> rng = np.random.default_rng(0)
        >>> effects = rng.standard_normal(1_000)
        >>> def a_million_rows():
        ...     for _ in range(10):
        ...         X, school = rng.standard_normal((100_000, 2)), rng.integers(0, 1_000, 100_000)
        ...         yield X, X @ [1.0, 2.0] + effects[school] + rng.standard_normal(100_000), school
        >>> model = RandomInterceptRegressor().fit_moments(GroupedMoments.from_batches(a_million_rows()))
        >>> model.coef_.round(2)
        array([1., 2.])
        """
        checked = (checked_batch(at, batch) for at, batch in enumerate(batches))
        return cls(**vars(read_batches(checked, verbose, lasting=False)))

    @classmethod
    def from_arrow(
        cls,
        source: Any,
        *,
        x: str | Iterable[str] | None,
        y: str,
        groups: str,
        sample_weight: str | None = None,
        verbose: int = 0,
    ) -> GroupedMoments:
        """Read the rows of a table that offers them as an Arrow stream into a state, batch by batch.

        Parameters
        ----------
        source : table
            Anything with an Arrow C stream, such as a table or reader of pyarrow, a relation of DuckDB or a frame of polars;
            a frame of pandas; or a dataset of pyarrow. Only the columns named are read if the source can leave out others.
        x : str, iterable of str or None
            Names of the predictors; None or an empty list for the null model.
        y, groups : str
            Names of the outcome and of the column of group labels. Labels may be numbers, strings, bytes, dates or times, or
            categories of these. Times keep their zone, and integers are never rounded.
        sample_weight : str or None, default=None
            Name of the column of row weights.
        verbose : int, default=0
            1 shows how many rows were read, and how fast; with tqdm, which the extra brings too.

        Returns
        -------
        moments : GroupedMoments

        Raises
        ------
        ImportError
            Where pyarrow is missing: it is the extra "arrow".
        TypeError
            If `source` offers no stream, or a name is no string.
        ValueError
            As `from_batches`, and if `source` lacks a column, or a column holds no numbers or no labels.

        Examples
        --------
        >>> import pyarrow as pa
        >>> from sklearn_mlm import GroupedMoments
        >>> table = pa.table({"school": ["north", "south", "south"], "ses": [0.0, 1.0, 4.0], "math": [1.0, 3.0, 5.0]})
        >>> GroupedMoments.from_arrow(table, x="ses", y="math", groups="school").to_frame()
                n_rows  weight  mean(ses)  mean(math)
        school
        north        1     1.0        0.0         1.0
        south        2     2.0        2.5         4.0
        """
        names = named_columns(x, y, groups, sample_weight)
        batches = (
            (names.x, one.X, one.y, names.y, one.groups, names.groups, one.sample_weight)
            for one in arrow_columns(source, names)
        )
        return cls(**vars(read_batches(batches, verbose, lasting=True)))

    @classmethod
    def from_parquet(
        cls,
        path: Any,
        *,
        x: str | Iterable[str] | None,
        y: str,
        groups: str,
        sample_weight: str | None = None,
        verbose: int = 0,
    ) -> GroupedMoments:
        """Read the rows of Parquet files into a state, batch by batch and no other columns than those named.

        Parameters
        ----------
        path : str, path, or iterable of them
            A file, a folder, a pattern such as "orders/*.parquet" or "orders/**/*.parquet", a URI that pyarrow knows, such
            as "s3://bucket/orders", or any iterable of these. Patterns work for local files only. A file that several
            entries find is read once, and an entry that is repeated is read again.
        x : str, iterable of str or None
            Names of the predictors; None or an empty list for the null model.
        y, groups : str
            Names of the outcome and of the column of group labels.
        sample_weight : str or None, default=None
            Name of the column of row weights.
        verbose : int, default=0
            1 shows how many rows were read, and how fast; with tqdm, which the extra brings too.

        Returns
        -------
        moments : GroupedMoments

        Raises
        ------
        ImportError, TypeError
            As `from_arrow`.
        ValueError
            As `from_arrow`, and if a file lacks a column, or labels of different files are of types that cannot be compared.
        FileNotFoundError
            If there is no such file, a folder holds none, or a pattern matches none.

        Notes
        -----
        **Folders** are read with the folders below them. Names that begin with "." are left out. So are names that begin
        with "_", except files that end in ".parquet", ".parq" or ".pq" and folders named for a column, as "_year=2024".

        **Types** may differ from file to file. Each column is read in a type that holds the values of all files, whatever
        their order. Numbers of different kinds are read as float64 in predictors, outcome and weights. Labels are never
        changed, so that text in one file and numbers in another are an error, as are dates and times, times with and without
        a zone, or 64-bit integers and floats.

        **Folder names** such as "school=01" hold a column. Its values are int64 if every one of them is written as Python
        writes an integer, and text otherwise, so that "01" and "1" are different labels. As a predictor, "01" is the
        number 1. Names are decoded as URLs are, and "__HIVE_DEFAULT_PARTITION__" is a missing value. If a file holds the
        column too, its values are read and not the name of its folder.

        Examples
        --------
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from sklearn_mlm import GroupedMoments
        >>> from sklearn_mlm.datasets import make_schools
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder) / "pupils.parquet"
        ...     make_schools(random_state=0, as_frame=True).frame.to_parquet(path)
        ...     moments = GroupedMoments.from_parquet(path, x="ses", y="math", groups="school")
        >>> moments
        GroupedMoments(n_groups=419, n_features=1, n_rows=6871, total_weight=6871)
        """
        arrow("from_parquet")
        from ._parquet import open_parquet

        names = named_columns(x, y, groups, sample_weight)
        return cls.from_arrow(open_parquet(path, names), **names._asdict(), verbose=verbose)

    def merge(*parts: GroupedMoments | Iterable[GroupedMoments]) -> GroupedMoments:
        """Return the state of the rows of all parts together, in one vectorised step.

        Call it on states, `a.merge(b, c)`, or on the class with an iterable of them, `GroupedMoments.merge(states)`.

        Parameters
        ----------
        *parts : GroupedMoments or iterable of GroupedMoments
            States with the same features; groups may stand in several, and parts may be empty.

        Returns
        -------
        moments : GroupedMoments

        Raises
        ------
        ValueError
            Where there are no parts, or their features differ.
        """
        states: list[GroupedMoments] = []
        for part in parts:
            states.extend([part] if isinstance(part, GroupedMoments) else part)
        for state in states:
            if not isinstance(state, GroupedMoments):
                raise TypeError(f"merge takes GroupedMoments, or an iterable of them; found {type(state).__name__}.")
        return merge(states)

    def to_frame(self) -> pd.DataFrame:
        """Return the groups as a table, a row each, for people and for other programs.

        With `within` it is the whole state, to the digits of the means and without a remainder. The frame's `attrs` hold
        what its columns do not: whether the columns of x and y have names, and `sum_log_weight`. Formats such as CSV leave
        them out.

        Returns
        -------
        frame : pandas.DataFrame of shape (n_groups, n_features + 3)
            Indexed by group label: "n_rows", "weight" (n_j), "mean(...)" of each feature by name (x0, x1, ... without), and
            "mean(...)" of the outcome by name ("mean(y)" without).

        See Also
        --------
        from_frame : The way back.

        Examples
        --------
        >>> from sklearn_mlm import GroupedMoments
        >>> moments = GroupedMoments.from_arrays([[0.0], [1.0], [4.0]], [1.0, 3.0, 5.0], ["north", "south", "south"])
        >>> moments.to_frame()
               n_rows  weight  mean(x0)  mean(y)
        north       1     1.0       0.0      1.0
        south       2     2.0       2.5      4.0
        """
        return frame_of_moments(self)

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, within: Any, *, sum_log_weight: float | None = None) -> GroupedMoments:
        """Return the state that a table of groups and a within-group scatter are of.

        Parameters
        ----------
        frame : pandas.DataFrame of shape (n_groups, n_features + 3)
            As `to_frame` returns it: indexed by label, with the columns in that order.
        within : array-like of shape (n_features + 1, n_features + 1)
            The pooled within-group scatter of (x, y).
        sum_log_weight : float or None, default=None
            The sum of the logarithms of the row weights. None takes it from the `attrs` of the frame, 0 if they are lost.

        Returns
        -------
        moments : GroupedMoments

        Raises
        ------
        ValueError
            Where the table is not of that form, or the scatter not of its size.

        Examples
        --------
        >>> from sklearn_mlm import GroupedMoments
        >>> moments = GroupedMoments.from_arrays([[0.0], [1.0], [4.0]], [1.0, 3.0, 5.0], ["north", "south", "south"])
        >>> GroupedMoments.from_frame(moments.to_frame(), moments.within)
        GroupedMoments(n_groups=2, n_features=1, n_rows=3, total_weight=3)
        """
        return cls(**vars(moments_of_frame(frame, within, sum_log_weight)))

    def save(self, file: Any) -> None:
        """Write the state to a file, from which `load` reads it to the last digit.

        Parameters
        ----------
        file : str, path or binary file object
            A NumPy archive (.npz) whatever its name, with a JSON header that has the version of the format. A path holds
            the whole state afterwards, or what it held before.

        Raises
        ------
        TypeError
            For labels other than numbers, strings, bytes, dates and tuples of these, or times.

        Notes
        -----
        Labels come back as plain numbers, strings, dates or times: "Int64" as int64, categories as what they are of.

        Examples
        --------
        >>> from io import BytesIO
        >>> from sklearn_mlm import GroupedMoments
        >>> moments = GroupedMoments.from_arrays([[0.0], [1.0], [4.0]], [1.0, 3.0, 5.0], ["north", "south", "south"])
        >>> file = BytesIO()
        >>> moments.save(file)
        >>> file.seek(0)
        0
        >>> GroupedMoments.load(file)
        GroupedMoments(n_groups=2, n_features=1, n_rows=3, total_weight=3)
        """
        save_moments(self, file)

    @classmethod
    def load(cls, file: Any) -> GroupedMoments:
        """Read a state that `save` has written; safe with files from strangers, since nothing in them runs.

        Parameters
        ----------
        file : str, path or binary file object

        Returns
        -------
        moments : GroupedMoments

        Raises
        ------
        ValueError
            Where the file is not of the format, of a version unknown, or its parts do not fit.
        """
        return cls(**vars(load_moments(file)))

    def __add__(self, other: object) -> GroupedMoments:
        if not isinstance(other, GroupedMoments):
            return NotImplemented
        return GroupedMoments.merge(self, other)

    def __radd__(self, other: object) -> GroupedMoments:
        # So that the built-in sum, which starts from 0, adds states up.
        return self if other == 0 else NotImplemented

    def __repr__(self) -> str:
        return (
            f"GroupedMoments(n_groups={self.n_groups}, n_features={self.n_features}, n_rows={int(self.n_rows.sum())}, "
            f"total_weight={self.counts.sum():g})"
        )


def moments_of(rows: GroupedRows) -> GroupedMoments:
    """Return the moments of checked rows."""
    return GroupedMoments(**vars(read_rows(rows)))

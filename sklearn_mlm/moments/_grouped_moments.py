"""`GroupedMoments`: the small, mergeable record of what a random-intercept model needs, and the ways to make one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import pandas as pd
from numpy.typing import ArrayLike

from .._inputs import name_of
from ._frames import frame_of_moments, moments_of_frame
from ._merging import merge
from ._moments import Moments
from ._reading import read_rows
from ._rows import GroupedRows, check_containers, checked_arrays, grouped_rows
from ._storage import FileLike, Paths, load_moments, save_moments
from ._streaming import checked_batch, read_batches

UserBatch = tuple[Any, ArrayLike, ArrayLike] | tuple[Any, ArrayLike, ArrayLike, ArrayLike | None]
"""A batch (X, y, groups) or (X, y, groups, sample_weight)."""


@dataclass(frozen=True, eq=False)
class GroupedMoments(Moments):
    """Within- and between-group moments of rows (x, y): all that a random-intercept model needs of its data.

    Let z_ij = (x_ij, y_ij) be row i of group j, and w_ij its weight. The moments are the total weight n_j and the weighted
    mean m_j of each group, and the pooled within-group scatter::

        W = sum_j sum_i w_ij (z_ij - m_j)(z_ij - m_j)'.

    Moments of different rows merge exactly, up to rounding (Chan, Golub & LeVeque 1983): `a + b` holds the moments of the
    rows of both, in any order and however the rows are split. Batches, files and machines can therefore each read their own
    rows.

    Moments contain group means and no rows, but the mean of a group with a single row is that row.

    Read rows with `from_arrays`, `from_batches`, `from_arrow` or `from_parquet`, and fit a model to the moments with
    `RandomInterceptRegressor.fit_moments`.

    Attributes
    ----------
    labels : pandas.Index of shape (n_groups,)
        The distinct group labels, sorted if they can be compared.
    counts : ndarray of shape (n_groups,)
        Total weight n_j of each group, which is its number of rows if there are no weights.
    n_rows : ndarray of shape (n_groups,), int
        Number of rows with a positive weight in each group.
    center : ndarray of shape (n_features + 1,)
        An arbitrary point within the range of the data, in units of (x, y).
    deviations : ndarray of shape (n_groups, n_features + 1)
        Group means minus `center`, in units of (x, y). They keep digits that the means would lose: near 1e12, a double
        resolves only 1e-4.
    within : ndarray of shape (n_features + 1, n_features + 1)
        The pooled within-group scatter W, in units of (x, y) squared. The entries of a column that is constant in every
        group are exactly 0, and after a merge 0 up to rounding.
    sum_log_weight : float
        Sum of the logarithms of the row weights; 0 if there are no weights.
    feature_names : tuple of str or None
        Names of the columns of x, if they have names.
    outcome_name : str or None
        Name of y, if it has one.
    remainder : Remainder or None
        Moments of what some slopes leave of y, if the predictors explain so much of y that `within` holds few digits of the
        rest. `RandomInterceptRegressor.fit` computes them in a second pass over the rows.

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
    def from_arrays(cls, X: Any, y: ArrayLike, groups: ArrayLike, sample_weight: ArrayLike | None = None) -> GroupedMoments:
        """Return the moments of rows in arrays.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features), or None
            The predictors, without a column of ones. None means that there are no predictors.
        y : array-like of shape (n_samples,)
            The outcome.
        groups : array-like of shape (n_samples,)
            The group label of each row.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights; a row of weight 0 is left out. None gives every row the weight 1.

        Returns
        -------
        moments : GroupedMoments
            The moments of the rows.

        Raises
        ------
        ValueError
            If values are missing, infinite or not numbers, if lengths differ, or if a weight is negative.
        """
        check_containers(X=X, y=y, groups=groups, sample_weight=sample_weight)
        if groups is None:
            raise ValueError("groups must hold the group label of each row; found None.")
        names, X, values = checked_arrays(X, y)
        rows = grouped_rows(X, values, groups, sample_weight, feature_names=names, outcome_name=name_of(y))
        return cls(**vars(read_rows(rows)))

    @classmethod
    def from_batches(cls, batches: Iterable[UserBatch], *, verbose: int = 0) -> GroupedMoments:
        """Return the moments of rows that come in batches, each of which is read once.

        Memory holds the moments and one batch, whatever the number of rows. The result equals that of `from_arrays` for all
        rows, up to rounding, however the rows are split into batches. A batch is read before the next one is requested, so
        that a generator may reuse its arrays. Several threads read a large batch, and BLAS uses one thread meanwhile.

        Parameters
        ----------
        batches : iterable of tuples (X, y, groups) or (X, y, groups, sample_weight)
            The rows, each entry as in `from_arrays`. All batches must have the same columns, and data frames the same column
            names. A group may have rows in several batches, and a batch may be empty.
        verbose : int, default=0
            1 shows the number of rows read, and the rate if tqdm is installed.

        Returns
        -------
        moments : GroupedMoments
            The moments of all rows.

        Raises
        ------
        TypeError
            If a batch is not a tuple of three or four entries.
        ValueError
            As in `from_arrays`, with the position of the batch or the rows. Also if there is no batch, or if columns differ.

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
        """Return the moments of a table that offers its rows as an Arrow stream, read batch by batch.

        Parameters
        ----------
        source : table
            Any object with an Arrow C stream, such as a pyarrow table or reader, a DuckDB relation or a polars frame; a
            pandas frame; or a pyarrow dataset. If the source can leave out columns, only the columns named are read. A
            dataset of large Parquet files needs ``ParquetFileFormat(pre_buffer=False)`` as its format, because pyarrow keeps
            each file in memory otherwise; `from_parquet` sees to that.
        x : str, iterable of str or None
            Names of the predictors. None or an empty list means that there are no predictors.
        y, groups : str
            Names of the outcome and of the column of group labels. Labels may be numbers, strings, bytes, dates or times, or
            categories of these. Times keep their zone, and integers are never rounded.
        sample_weight : str or None, default=None
            Name of the column of row weights. None gives every row the weight 1.
        verbose : int, default=0
            1 shows the number of rows read, and the rate if tqdm is installed.

        Returns
        -------
        moments : GroupedMoments
            The moments of all rows.

        Raises
        ------
        ImportError
            If pyarrow is missing, a part of the extra "arrow".
        TypeError
            If `source` offers no stream, or a name is not a string.
        ValueError
            As in `from_batches`. Also if `source` lacks a column, or a column does not hold numbers or labels as needed.

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
        check_pyarrow("from_arrow")
        from ._arrow import arrow_batches, named_columns

        batches = arrow_batches(source, named_columns(x, y, groups, sample_weight))
        return cls(**vars(read_batches(batches, verbose, lasting=True)))

    @classmethod
    def from_parquet(
        cls,
        path: Paths,
        *,
        x: str | Iterable[str] | None,
        y: str,
        groups: str,
        sample_weight: str | None = None,
        verbose: int = 0,
    ) -> GroupedMoments:
        """Return the moments of the rows in Parquet files, read batch by batch and only in the columns named.

        Parameters
        ----------
        path : str, path, or iterable of them
            A file, a folder, a pattern such as ``"orders/*.parquet"`` or ``"orders/**/*.parquet"``, a URI that pyarrow
            knows, such as ``"s3://bucket/orders"``, or any iterable of these. Patterns work for local files only. A file
            that several entries name is read once; the files of a repeated entry are read again.
        x : str, iterable of str or None
            Names of the predictors. None or an empty list means that there are no predictors.
        y, groups : str
            Names of the outcome and of the column of group labels.
        sample_weight : str or None, default=None
            Name of the column of row weights. None gives every row the weight 1.
        verbose : int, default=0
            1 shows the number of rows read, and the rate if tqdm is installed.

        Returns
        -------
        moments : GroupedMoments
            The moments of the rows of all files.

        Raises
        ------
        FileNotFoundError
            If a file does not exist, a folder holds no file, or a pattern matches none.
        ImportError
            As in `from_arrow`.
        TypeError
            If a path is not a path, or a name is not a string.
        ValueError
            As in `from_arrow`. Also if a file is not a Parquet file or lacks a column, or if the labels of two files have
            types that cannot be compared.

        Notes
        -----
        **Folders** are read with the folders below them. Names that begin with "." are skipped. So are names that begin with
        "_", except files that end in ".parquet", ".parq" or ".pq" and folders named for a column, such as "_year=2024".

        **Types** may differ from file to file. Each column is read in a type that holds the values of all files, whatever
        their order. Predictors, outcome and weights of different numeric kinds are read as float64. Labels are never
        changed: text in one file and numbers in another are an error, as are dates and times, times with and without a
        zone, or 64-bit integers and floats.

        **Folder names** such as "school=01" hold a column. Its values are int64 if each of them is written as Python writes
        an integer, and text otherwise, so that "01" and "1" are different labels. As a predictor, "01" is the number 1.
        Names are decoded as URLs are, and "__HIVE_DEFAULT_PARTITION__" is a missing value. If a file holds the column too,
        its values take precedence over the name of its folder.

        **Memory** is that of a few batches, however large a local file is. pyarrow keeps a remote file in memory while it
        reads it; so write remote data to several files.

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
        check_pyarrow("from_parquet")
        from ._arrow import named_columns
        from ._parquet import open_parquet

        names = named_columns(x, y, groups, sample_weight)
        return cls.from_arrow(open_parquet(path, names), **names._asdict(), verbose=verbose)

    def merge(
        self: GroupedMoments | Iterable[GroupedMoments], *others: GroupedMoments | Iterable[GroupedMoments]
    ) -> GroupedMoments:
        """Return the moments of the rows of all parts, in one vectorised step.

        Call it on an instance, `a.merge(b, c)`, or on the class with an iterable, `GroupedMoments.merge(parts)`.

        Parameters
        ----------
        *others : GroupedMoments or iterable of GroupedMoments
            Moments with the same features. A group may occur in several parts, and a part may have no rows.

        Returns
        -------
        moments : GroupedMoments
            The merged moments.

        Raises
        ------
        TypeError
            If a part is not a `GroupedMoments`.
        ValueError
            If there are no parts, if their features differ, or if only some of them were read with groups.
        """
        parts = [part for each in (self, *others) for part in ([each] if isinstance(each, GroupedMoments) else each)]
        for part in parts:
            if not isinstance(part, GroupedMoments):
                raise TypeError(f"merge takes GroupedMoments, or an iterable of them; found {type(part).__name__}.")
        return merge(parts)

    def to_frame(self) -> pd.DataFrame:
        """Return the groups as a table with one row per group.

        The table and `within` together hold everything except a remainder, to the precision of the means. The frame's
        `attrs` store what the columns cannot: whether x has names, the name of y, and `sum_log_weight`. Formats such as CSV
        drop `attrs`.

        Returns
        -------
        frame : pandas.DataFrame of shape (n_groups, n_features + 3)
            The columns are "n_rows", "weight" (n_j), "mean(...)" for each feature, and "mean(...)" for the outcome. The
            index holds the group labels. Features without names are called x0, x1, ..., and an outcome without a name y.

        See Also
        --------
        from_frame : Return the moments that a table and a within-group scatter hold.

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
    def from_frame(cls, frame: pd.DataFrame, within: ArrayLike, *, sum_log_weight: float | None = None) -> GroupedMoments:
        """Return the moments that a table of groups and a within-group scatter hold.

        Parameters
        ----------
        frame : pandas.DataFrame of shape (n_groups, n_features + 3)
            A table as `to_frame` returns it, with the labels as its index and the columns in the same order.
        within : array-like of shape (n_features + 1, n_features + 1)
            The pooled within-group scatter of (x, y), in units of (x, y) squared.
        sum_log_weight : float or None, default=None
            The sum of the logarithms of the row weights. None takes it from the `attrs` of the frame, or 0 if it is not
            there.

        Returns
        -------
        moments : GroupedMoments
            The moments, without a remainder.

        Raises
        ------
        TypeError
            If `frame` is not a pandas DataFrame.
        ValueError
            If the table has other columns, if `within` has another shape or is not a scatter matrix, or if values are
            impossible, such as a weight of 0 or a label that occurs twice.

        Examples
        --------
        >>> from sklearn_mlm import GroupedMoments
        >>> moments = GroupedMoments.from_arrays([[0.0], [1.0], [4.0]], [1.0, 3.0, 5.0], ["north", "south", "south"])
        >>> GroupedMoments.from_frame(moments.to_frame(), moments.within)
        GroupedMoments(n_groups=2, n_features=1, n_rows=3, total_weight=3)
        """
        return cls(**vars(moments_of_frame(frame, within, sum_log_weight)))

    def save(self, file: FileLike) -> None:
        """Write the moments to a file, from which `load` reads them to the last digit.

        Parameters
        ----------
        file : str, path or binary file object
            Where to write. The file is a NumPy archive (.npz), whatever its name, with a JSON header that has the version of
            the format. If writing to a path fails, the path keeps its old content.

        Raises
        ------
        TypeError
            If labels are not numbers, strings, bytes, dates, times or tuples, or if their time zone has no name.

        Notes
        -----
        `load` returns labels as plain numbers, strings, dates or times: "Int64" becomes int64, and categories become their
        values.

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
    def load(cls, file: FileLike) -> GroupedMoments:
        """Read moments from a file that `save` wrote. Files from strangers are safe to load, because nothing in them runs.

        Parameters
        ----------
        file : str, path or binary file object
            The file to read.

        Returns
        -------
        moments : GroupedMoments
            The moments in the file.

        Raises
        ------
        ValueError
            If the file has another format or an unknown version, or if its contents are inconsistent.
        """
        return cls(**vars(load_moments(file)))

    def __add__(self, other: object) -> GroupedMoments:
        if not isinstance(other, GroupedMoments):
            return NotImplemented
        return GroupedMoments.merge(self, other)

    def __radd__(self, other: object) -> GroupedMoments:
        # The built-in sum starts from 0.
        return self if other == 0 else NotImplemented

    def __repr__(self) -> str:
        return (
            f"GroupedMoments(n_groups={self.n_groups}, n_features={self.n_features}, n_rows={int(self.n_rows.sum())}, "
            f"total_weight={self.counts.sum():g})"
        )


def check_pyarrow(caller: str) -> None:
    """Raise an ImportError that names the extra if pyarrow is missing."""
    try:
        import_module("pyarrow")
    except ImportError as error:
        raise ImportError(f"{caller} reads with pyarrow: pip install 'sklearn-mlm[arrow]'.") from error


def moments_of(rows: GroupedRows) -> GroupedMoments:
    """Return the moments of checked rows."""
    return GroupedMoments(**vars(read_rows(rows)))

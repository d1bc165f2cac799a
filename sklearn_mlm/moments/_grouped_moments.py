"""`GroupedMoments`: the small mergeable state that rows are read into, and the code that reads rows into it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from .._inputs import name_of
from ._accumulator import Accumulator, in_rows
from ._arrow import arrow, arrow_columns, checked_batch, named_columns, progress
from ._label_tables import append_labels
from ._labels import factorize, has_groups, warn_of_twins
from ._remainder import SPACING, Remainder, remainders, unit_rounding
from ._rows import (
    NO_WEIGHT,
    Rows,
    as_numbers,
    check_containers,
    check_some_weight,
    checked_rows,
    drop_weightless,
    predictors_as_numbers,
    raise_not_finite,
)
from ._storage import DAMAGES, checked_state, pack_labels, read, unpack_labels, whole_numbers, write
from ._sums import central_value, within_and_between

# Scatter per row that the rounding of the values themselves could leave, relative to their square: two units in the last
# place.
_ROUNDING = (2 * np.finfo(np.float64).eps) ** 2


# Mean square of a column below which doubles lose digits of squares.
_LEAST_SQUARE = 1e-304


# Groups of states that are merged at once at least.
_WORTH_MERGING = 1 << 16


_ARRAYS = ("counts", "n_rows", "center", "deviations", "within")


_REMAINDER_ARRAYS, _REMAINDER_NUMBERS = ("slopes", "deviations", "within"), ("center", "noise", "lost")


@dataclass(frozen=True, eq=False)
class GroupedMoments:
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

    labels: pd.Index
    counts: np.ndarray
    n_rows: np.ndarray
    center: np.ndarray
    deviations: np.ndarray
    within: np.ndarray
    sum_log_weight: float = 0.0
    feature_names: tuple[str, ...] | None = None
    outcome_name: str | None = None
    remainder: Remainder | None = None

    @property
    def means(self) -> np.ndarray:
        """Weighted mean of (x, y) in each group, of shape (n_groups, n_features + 1)."""
        return self.center + self.deviations

    def __post_init__(self) -> None:
        # What is fitted from moments must not change under a model that keeps them.
        for name in _ARRAYS:
            view = np.asarray(getattr(self, name)).view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__post_init__()

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return len(self.labels)

    @property
    def n_features(self) -> int:
        """Number of columns of x."""
        return len(self.center) - 1

    def about_slopes(self, slopes: np.ndarray | None = None) -> tuple[GroupedMoments, np.ndarray]:
        """Return the moments of (x, y - x'b), and b.

        Parameters
        ----------
        slopes : ndarray of shape (n_features,) or None, default=None
            b; None takes the slopes of the remainder, 0 if there is none.

        Returns
        -------
        moments : GroupedMoments
        slopes : ndarray of shape (n_features,)
        """
        rest = self.remainder
        if rest is None:
            moments, known = self, np.zeros(self.n_features)
        else:
            known, within = rest.slopes, self.within.copy()
            within[-1] = within[:, -1] = rest.within
            moments = replace(
                self,
                center=np.append(self.center[:-1], rest.center),
                deviations=np.column_stack([self.deviations[:, :-1], rest.deviations]),
                within=within,
                remainder=None,
            )
        change = np.zeros(self.n_features) if slopes is None else slopes - known
        if not change.any():
            return moments, known
        to_rest = np.eye(self.n_features + 1)
        to_rest[:-1, -1] = -change
        center, deviations = moments.center @ to_rest, moments.deviations @ to_rest
        # What the rounding of a distant centre leaves out stays with the deviations.
        deviations[:, -1] += remainders(moments.center[None, :-1], moments.center[-1:], change, center[-1])
        return (
            replace(moments, center=center, deviations=deviations, within=to_rest.T @ moments.within @ to_rest),
            known + change,
        )

    def center_about(self, slopes: np.ndarray) -> float:
        """Return the mean of y - x'b, to the digits of its terms."""
        mean = self.center + self.counts @ self.deviations / (self.counts.sum() or 1.0)
        return float(mean[-1] - mean[:-1] @ slopes)

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
        outcome_name = name_of(y)
        check_containers(X=X, y=y, groups=groups, sample_weight=sample_weight)
        names, X, y, weights = checked_rows(X, y, sample_weight)
        check_some_weight(weights)
        codes, labels = factorize(groups, len(y))
        return replace(summarise(X, y, codes, labels, weights, names), outcome_name=outcome_name)

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
        return _accumulate((checked_batch(at, batch) for at, batch in enumerate(batches)), verbose, lasting=False)

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
        return _accumulate(batches, verbose, lasting=True)

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
        _check_same_features(states)
        filled = [state for state in states if state.n_groups] or states[:1]
        if len({has_groups(state.labels) for state in filled}) > 1:
            raise ValueError(
                "Cannot merge moments of rows that were read with groups and without: how rows without groups are grouped "
                "is not known. Read all rows with groups, or all without."
            )
        if len(filled) == 1:
            return filled[0]
        rests = [state for state in filled if state.remainder is not None]
        if rests:
            return _merge_remainders(filled, max(rests, key=lambda state: state.counts.sum()).remainder)
        codes, labels = factorize(append_labels([state.labels for state in filled]))
        center = filled[0].center
        # A part's group is a row that weighs as much as its rows: what they lack of the scatter is the parts' own.
        means = np.concatenate([state.deviations + (state.center - center) for state in filled])
        counts = np.concatenate([state.counts for state in filled])
        merged = summarise(means[:, :-1], means[:, -1], codes, labels, counts)
        return GroupedMoments(
            labels=labels,
            counts=merged.counts,
            n_rows=_sum_by_group(codes, np.concatenate([state.n_rows for state in filled]), len(labels)),
            center=center,
            deviations=merged.deviations + merged.center,
            within=sum((state.within for state in filled), merged.within),
            sum_log_weight=sum(state.sum_log_weight for state in filled),
            feature_names=next((state.feature_names for state in filled if state.feature_names is not None), None),
            outcome_name=_agreed(state.outcome_name for state in filled),
        )

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
        columns = [f"mean({name})" for name in (*shown_names(self), self.outcome_name or "y")]
        means = pd.DataFrame(self.means, index=self.labels, columns=columns)
        means.insert(0, "n_rows", self.n_rows)
        means.insert(1, "weight", self.counts)
        means.attrs.update(
            named=self.feature_names is not None, outcome_name=self.outcome_name, sum_log_weight=self.sum_log_weight
        )
        return means

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
        if not isinstance(frame, pd.DataFrame):
            raise TypeError(f"frame must be a pandas DataFrame, as to_frame returns; found {type(frame).__name__}.")
        columns = [str(name) for name in frame.columns]
        of_means = all(name.startswith("mean(") and name.endswith(")") for name in columns[2:])
        if columns[:2] != ["n_rows", "weight"] or len(columns) < 3 or not of_means:
            raise ValueError(
                'frame must have the columns "n_rows", "weight", a "mean(...)" for each feature and one of the outcome, in '
                f"that order, as to_frame gives them; found {columns!r}."
            )
        names = tuple(name[5:-1] for name in columns[2:-1])
        outcome_name = frame.attrs.get("outcome_name", None if columns[-1] == "mean(y)" else columns[-1][5:-1])
        means = frame.iloc[:, 2:].to_numpy(dtype=np.float64)
        center = central_value(means) if len(means) else np.zeros(means.shape[1])
        codes, labels = factorize(frame.index)
        if len(labels) < len(codes):
            raise ValueError(f"frame must have a row for each group: found {len(codes)} rows of {len(labels)} labels.")
        order = np.argsort(codes)
        return checked_state(
            cls(
                labels=labels.rename(frame.index.name),
                counts=frame["weight"].to_numpy(dtype=np.float64)[order],
                n_rows=whole_numbers(frame["n_rows"].to_numpy())[order],
                center=center,
                deviations=means[order] - center,
                within=np.array(within, dtype=np.float64),
                sum_log_weight=float(frame.attrs.get("sum_log_weight", 0.0) if sum_log_weight is None else sum_log_weight),
                feature_names=names if frame.attrs.get("named", True) else None,
                outcome_name=outcome_name,
            )
        )

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
        said, arrays = pack_labels(self.labels)
        name = self.labels.name
        header = {
            "labels": {**said, "name": name if isinstance(name, str) else None},
            "feature_names": self.feature_names,
            "outcome_name": self.outcome_name,
            "sum_log_weight": self.sum_log_weight,
        }
        arrays |= {field: getattr(self, field) for field in _ARRAYS}
        if self.remainder is not None:
            header["remainder"] = {field: getattr(self.remainder, field) for field in _REMAINDER_NUMBERS}
            arrays |= {f"remainder_{field}": getattr(self.remainder, field) for field in _REMAINDER_ARRAYS}
        write(file, header, arrays)

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
        header, arrays = read(file)
        try:
            names, said = header["feature_names"], header["labels"]
            if not (names is None or (isinstance(names, list) and all(isinstance(name, str) for name in names))):
                raise ValueError(f"feature_names must be a list of names; found {names!r}")
            return checked_state(
                cls(
                    labels=unpack_labels(said, arrays).rename(said["name"]),
                    sum_log_weight=float(header["sum_log_weight"]),
                    feature_names=None if names is None else tuple(names),
                    outcome_name=None if header["outcome_name"] is None else str(header["outcome_name"]),
                    remainder=_loaded_remainder(header.get("remainder"), arrays),
                    **{field: arrays[field] for field in _ARRAYS},
                )
            )
        except DAMAGES as error:
            raise ValueError(f"{file!r} is a damaged file of moments: {error}") from error

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


def _accumulate(batches: Iterable[Any], verbose: int, lasting: bool) -> GroupedMoments:
    """Return the state of batches as `checked_batch` returns them.

    Rows without weights go to an accumulator. Batches with weights are states, which are merged when they have more
    groups than what they are merged into, so that every row is merged a few times at most.
    """
    first: tuple[tuple[str, ...] | None, int] | None = None
    name_of_groups = name_of_outcome = None
    waiting: list[GroupedMoments] = []
    n_read = n_kept = n_merged = n_waiting = 0
    with progress(verbose) as tell, Accumulator() as accumulator:
        for names, X, y, y_name, labels, groups_name, weights in batches:
            n_features = 0 if X is None else len(X) if isinstance(X, list) else X.shape[1]
            first = first or (names, n_features)
            if (names, n_features) != first:
                raise ValueError(
                    f"The batch from row {n_read} on has columns other than the first: found {n_features} "
                    f"({names!r}), and {first[1]} before ({first[0]!r}). Read the same columns, in the same order."
                )
            name_of_groups, name_of_outcome = name_of_groups or groups_name, name_of_outcome or y_name
            start, n_read = n_read, n_read + len(y)
            if len(y) and weights is None:
                n_kept += len(y)
                accumulator.add(predictors_as_numbers(X), as_numbers(y, "y"), labels, first=start, lasting=lasting)
            elif len(y):
                n_kept += int(np.count_nonzero(weights))
                with in_rows(start, len(y)):
                    codes, levels = factorize(labels)
                    waiting.append(summarise(X, y, codes, levels, weights, names))
                n_waiting += waiting[-1].n_groups
                if n_waiting > max(n_merged, _WORTH_MERGING):
                    waiting = [GroupedMoments.merge(waiting)]
                    n_waiting, n_merged = 0, waiting[0].n_groups
            tell(len(y))
        if first is None:
            raise ValueError("There are no batches: pass at least one, be it empty, to say what the columns are.")
        names, n_features = first
        if n_read and not n_kept:
            raise ValueError(NO_WEIGHT)
        if not n_kept:
            return summarise(np.zeros((0, n_features)), np.zeros(0), np.zeros(0, dtype=np.intp), pd.Index([]), None, names)
        if accumulator.n_batches:
            result = accumulator.finish()
            waiting.append(GroupedMoments(n_rows=result.counts.astype(np.intp), feature_names=names, **result._asdict()))
        moments = GroupedMoments.merge(waiting)
    _refuse_vanishing_squares(moments)
    warn_of_twins(moments.labels[:0], moments.labels, stacklevel=3)
    return replace(moments, labels=moments.labels.rename(name_of_groups), outcome_name=name_of_outcome)


def shown_names(moments: GroupedMoments) -> tuple[str, ...]:
    """Return the names of the columns of x, or x0, x1, ... where they have none."""
    return moments.feature_names or tuple(f"x{i}" for i in range(moments.n_features))


def with_remainder(
    moments: GroupedMoments,
    slopes: np.ndarray,
    center: float,
    X: Any,
    y: np.ndarray,
    read: Callable[[np.ndarray], GroupedMoments],
) -> tuple[GroupedMoments, np.ndarray, GroupedMoments]:
    """Return moments with a remainder, what slopes leave of y, and its moments with x.

    Parameters
    ----------
    moments : GroupedMoments
        Of rows (x, y).
    slopes : ndarray of shape (n_features,)
        b.
    center : float
        A point amid the values of y - x'b.
    X, y
        The rows.
    read : callable
        Returns the moments of the rows with another outcome, which will be y - x'b - center.
    """
    left = remainders(X, y, slopes, center)
    rest = read(left)
    total_weight = moments.counts.sum()
    mean = moments.counts @ moments.deviations / total_weight
    scatter = moments.within.diagonal() + moments.counts @ (moments.deviations - mean) ** 2
    squares = total_weight * (moments.center + mean) ** 2 + scatter
    # Each of the sums that make up y has been rounded.
    n_sums = 1.0 + np.count_nonzero(slopes) / 8.0
    noise = n_sums * (unit_rounding(y) ** 2 * squares[-1] + unit_rounding(X) ** 2 * slopes**2 @ squares[:-1])
    remainder = Remainder(slopes, center, rest.deviations[:, -1] + rest.center[-1], rest.within[-1], float(noise))
    return replace(moments, remainder=remainder), left, rest


def _loaded_remainder(said: dict[str, Any] | None, arrays: dict[str, np.ndarray]) -> Remainder | None:
    """Return the remainder of a file, from what its header says and its arrays."""
    if said is None:
        return None
    parts: dict[str, Any] = {field: arrays[f"remainder_{field}"] for field in _REMAINDER_ARRAYS}
    parts |= {field: float(said[field]) for field in _REMAINDER_NUMBERS}
    return Remainder(**parts)


def _merge_remainders(states: list[GroupedMoments], first: Remainder | None) -> GroupedMoments:
    """Return the state of the rows of all parts together, with a remainder about the slopes of one of them."""
    assert first is not None
    whole = GroupedMoments.merge(replace(state, remainder=None) for state in states)
    rest = GroupedMoments.merge(state.about_slopes(first.slopes)[0] for state in states)
    rests = [state.remainder for state in states]
    noise = sum(first.noise if one is None else one.noise for one in rests)
    lost = sum(SPACING * state.within[-1, -1] if one is None else one.lost for state, one in zip(states, rests, strict=True))
    center, deviations = float(rest.center[-1]), rest.deviations[:, -1]
    return replace(whole, remainder=Remainder(first.slopes, center, deviations, rest.within[-1], noise, lost=float(lost)))


def _agreed(names: Iterable[str | None]) -> str | None:
    """Return the one name among names, if there is one."""
    found = {name for name in names if name is not None}
    return found.pop() if len(found) == 1 else None


def _check_same_features(states: Sequence[GroupedMoments]) -> None:
    """Raise unless the states could be of the same columns."""
    if not states:
        raise ValueError("merge needs at least one GroupedMoments; found none.")
    first = next((state for state in states if state.n_groups), states[0])
    for state in states:
        if state.n_features != first.n_features:
            raise ValueError(
                f"Cannot merge moments of {first.n_features} features with moments of {state.n_features}: "
                "read the same columns into every part."
            )
        if state.n_groups and shown_names(state) != shown_names(first):
            raise ValueError(
                f"Cannot merge moments of features {first.feature_names!r} with moments of {state.feature_names!r}: "
                "read the same columns, in the same order, into every part."
            )


def summarise(
    X: Any,
    y: np.ndarray,
    codes: np.ndarray,
    labels: pd.Index,
    weights: np.ndarray | None = None,
    feature_names: tuple[str, ...] | None = None,
) -> GroupedMoments:
    """Return the state of validated rows; values that are not finite are found here, at no cost of their own.

    Parameters
    ----------
    X : ndarray or CSR or CSC matrix of shape (n_samples, n_features), or None
    y : ndarray of shape (n_samples,)
    codes : ndarray of shape (n_samples,)
        Positions in `labels`.
    labels : pandas.Index of shape (n_groups,)
    weights : ndarray of shape (n_samples,) or None
        Rows of weight 0 count as no rows.
    feature_names : tuple of str or None

    Raises
    ------
    ValueError
        Where a value of X, y or the weights is not finite or squares to more than a double holds, or a weight is negative.
    """
    if weights is not None:
        X, y, codes, labels, weights = drop_weightless(X, y, codes, labels, weights)
    X, y = predictors_as_numbers(X), as_numbers(y, "y")
    rows = Rows(X, y)
    n_rows = np.bincount(codes, minlength=len(labels))
    counts = n_rows.astype(np.float64) if weights is None else _sum_by_group(codes, weights, len(labels))
    if not np.isfinite(counts.sum()):
        raise ValueError("sample_weight sums to more than a double holds. Divide the weights by a number.")
    if len(codes):
        center, deviations, within = within_and_between(rows, codes, counts, weights)
    else:
        width = rows.n_columns
        center, deviations, within = np.zeros(width), np.zeros((0, width)), np.zeros((width, width))
    if not (np.isfinite(within.diagonal()).all() and np.isfinite(deviations.sum())):
        raise_not_finite(X, y)
    sum_log_weight = 0.0 if weights is None else float(np.log(weights).sum())
    moments = GroupedMoments(labels, counts, n_rows, center, deviations, within, sum_log_weight, feature_names)
    _refuse_vanishing_squares(moments, rows)
    return moments


def _refuse_vanishing_squares(moments: GroupedMoments, rows: Rows | None = None) -> None:
    """Raise if a column varies, but by so little that squares vanish; rows, if given, tell that from a constant."""
    total_weight = moments.counts.sum()
    suspects = np.flatnonzero(moments.within.diagonal() < _LEAST_SQUARE * total_weight)
    if not len(suspects) or not moments.n_groups:
        return
    squares = moments.within.diagonal()[suspects] + moments.counts @ moments.deviations[:, suspects] ** 2
    for at in suspects[squares < _LEAST_SQUARE * total_weight].tolist():
        values = moments.deviations[:, at] if rows is None else rows.column(at)
        if moments.within[at, at] or np.ptp(values):
            name = "y" if at == moments.n_features else f"Column {shown_names(moments)[at]!r} of X"
            raise ValueError(
                f"{name} varies by so little that squares vanish in a double (below 1e-152). Rescale the column."
            )


def _sum_by_group(codes: np.ndarray, values: np.ndarray, n_groups: int) -> np.ndarray:
    """Return the sum of the values in each group, in the type of the values."""
    return np.bincount(codes, weights=values, minlength=n_groups).astype(values.dtype)


def rounding_scatter(total_weight: float, mean: np.ndarray, scatter: np.ndarray) -> np.ndarray:
    """Return the scatter that the rounding of the values themselves could leave of columns with this mean and scatter."""
    return _ROUNDING * (total_weight * mean**2 + scatter)


def varies_within(moments: GroupedMoments) -> np.ndarray:
    """Return which columns of (x, y) vary within groups, by more than rounding, which merging may leave."""
    total_weight = moments.counts.sum()
    mean = moments.counts @ moments.deviations / total_weight
    within = moments.within.diagonal()
    scatter = within + moments.counts @ (moments.deviations - mean) ** 2
    return within > rounding_scatter(total_weight, moments.center + mean, scatter)

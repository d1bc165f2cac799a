"""`GroupedScatter`: the mergeable record of what a model with random slopes needs, and the ways to make one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike

from .._inputs import name_of
from ._grouped_moments import GroupedMoments, UserBatch, check_pyarrow
from ._rows import GroupedRows, check_containers, checked_arrays, grouped_rows
from ._scatter import Scatter, Slopes, slope_positions
from ._scatter_merging import merge_scatters
from ._scatter_reading import read_scatter
from ._storage import FileLike, Paths, load_scatter, save_scatter
from ._streaming import checked_batch, read_scatter_batches


@dataclass(frozen=True, eq=False)
class GroupedScatter(Scatter):
    """Moments of rows (x, y), and each group's own products with some slope columns: what random slopes need of the data.

    Let A_j be the rows (x_ij, y_ij) of group j about their mean, times the roots of their weights, and let Q_j be the unit
    vectors that Gram and Schmidt make of the slope columns of A_j. Beside the moments, the record has::

        factors_j = Q_j' A_j,    rest = sum_j A_j' (I - Q_j Q_j') A_j.

    The rest is the scatter about each group's own regression on the slope columns, and no difference of larger numbers. A
    slope column that is constant in a group has a row of zeros there, so that groups may have fewer rows than slopes.

    Records of different rows merge exactly, up to rounding, in any order and however the rows are split. A record has
    J (m + 1) (p + 1) numbers for J groups, m slopes and p columns, and as many as the `GroupedMoments` of the same rows if
    there are no slopes. If groups have few rows each, that may be as much as the rows themselves.

    Read rows with `from_arrays`, `from_batches`, `from_arrow` or `from_parquet`, and fit a model to the record with
    `MixedEffectsRegressor.fit_moments`.

    Attributes
    ----------
    moments : GroupedMoments
        The moments of the same rows, from which `RandomInterceptRegressor` can be fitted too.
    slopes : tuple of int
        Positions of the slope columns among the columns of x.
    factors : ndarray of shape (n_groups, n_slopes, n_features + 1)
        The factors of the groups, in units of (x, y).
    rest : ndarray of shape (n_features + 1, n_features + 1)
        The rest, in units of (x, y) squared; exactly 0 for the slope columns. If the moments have a remainder, the factors
        and the rest hold it in place of y.

    Examples
    --------
    >>> from sklearn_mlm import GroupedScatter, MixedEffectsRegressor
    >>> from sklearn_mlm.datasets import load_sleepstudy
    >>> X, y, subject = load_sleepstudy(return_X_y_groups=True, as_frame=True)
    >>> parts = [GroupedScatter.from_arrays(X[i::2], y[i::2], subject[i::2], slopes="days") for i in range(2)]
    >>> model = MixedEffectsRegressor(random_effects="(1 + days | subject)").fit_moments(sum(parts))
    >>> model.variance_components_.round(2)
    subject (Intercept)    612.09
    subject days            35.07
    residual               654.94
    Name: variance, dtype: float64
    """

    moments: GroupedMoments

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.moments, GroupedMoments):
            object.__setattr__(self, "moments", GroupedMoments(**vars(self.moments)))

    @classmethod
    def from_arrays(
        cls, X: Any, y: ArrayLike, groups: ArrayLike, sample_weight: ArrayLike | None = None, *, slopes: Slopes
    ) -> GroupedScatter:
        """Return the record of rows in arrays.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The predictors, without a column of ones.
        y : array-like of shape (n_samples,)
            The outcome.
        groups : array-like of shape (n_samples,)
            Group label of each row.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights.
        slopes : str, int, or sequence of them
            Names or positions of the columns of X whose coefficients may vary between groups. A model can leave out some of
            them, but not add others.

        Returns
        -------
        scatter : GroupedScatter
            The record of the rows.

        Raises
        ------
        ValueError
            As `GroupedMoments.from_arrays`, or if X has no such slope column.

        Examples
        --------
        >>> from sklearn_mlm import GroupedScatter
        >>> GroupedScatter.from_arrays([[0.0], [1.0], [4.0]], [1.0, 3.0, 5.0], ["north", "south", "south"], slopes=0)
        GroupedScatter(n_groups=2, n_features=1, slopes=('x0',), n_rows=3, total_weight=3)
        """
        check_containers(X=X, y=y, groups=groups, sample_weight=sample_weight)
        outcome_name = name_of(y)
        names, X, y = checked_arrays(X, y)
        rows = grouped_rows(X, y, groups, sample_weight, feature_names=names, outcome_name=outcome_name)
        n_features = 0 if X is None else X.shape[1]
        return scatter_of(rows, slope_positions(slopes, names, n_features))

    @classmethod
    def from_batches(cls, batches: Iterable[UserBatch], *, slopes: Slopes, verbose: int = 0) -> GroupedScatter:
        """Return the record of rows that come in batches, in memory that does not grow with the number of rows.

        Parameters
        ----------
        batches : iterable of tuple
            Batches (X, y, groups) or (X, y, groups, sample_weight), as `GroupedMoments.from_batches` takes them.
        slopes : str, int, or sequence of them
            Names or positions of the columns whose coefficients may vary between groups.
        verbose : int, default=0
            1 shows the number of rows read, and the rate if tqdm is installed.

        Returns
        -------
        scatter : GroupedScatter
            The record of all rows.

        Raises
        ------
        TypeError, ValueError
            As in `GroupedMoments.from_batches`, or if there is no such slope column.
        """
        checked = (checked_batch(at, batch) for at, batch in enumerate(batches))
        return cls(**vars(read_scatter_batches(checked, slopes, verbose)))

    @classmethod
    def from_arrow(
        cls,
        source: Any,
        *,
        x: str | Iterable[str],
        y: str,
        groups: str,
        slopes: Slopes,
        sample_weight: str | None = None,
        verbose: int = 0,
    ) -> GroupedScatter:
        """Return the record of a table that offers its rows as an Arrow stream, read batch by batch.

        Parameters
        ----------
        source : table
            As in `GroupedMoments.from_arrow`.
        x : str or iterable of str
            Names of the predictors.
        y, groups : str
            Names of the outcome and of the column of group labels.
        slopes : str, int, or sequence of them
            Names or positions of the predictors whose coefficients may vary between groups.
        sample_weight : str or None, default=None
            Name of the column of row weights.
        verbose : int, default=0
            1 shows the number of rows read, and the rate if tqdm is installed.

        Returns
        -------
        scatter : GroupedScatter
            The record of all rows.

        Raises
        ------
        ImportError, TypeError, ValueError
            As in `GroupedMoments.from_arrow`, or if there is no such slope column.
        """
        check_pyarrow("from_arrow")
        from ._arrow import arrow_batches, named_columns

        batches = arrow_batches(source, named_columns(x, y, groups, sample_weight))
        return cls(**vars(read_scatter_batches(batches, slopes, verbose)))

    @classmethod
    def from_parquet(
        cls,
        path: Paths,
        *,
        x: str | Iterable[str],
        y: str,
        groups: str,
        slopes: Slopes,
        sample_weight: str | None = None,
        verbose: int = 0,
    ) -> GroupedScatter:
        """Return the record of the rows in Parquet files, read batch by batch and only in the columns named.

        Parameters
        ----------
        path : str, path, or iterable of them
            As in `GroupedMoments.from_parquet`.
        x : str or iterable of str
            Names of the predictors.
        y, groups : str
            Names of the outcome and of the column of group labels.
        slopes : str, int, or sequence of them
            Names or positions of the predictors whose coefficients may vary between groups.
        sample_weight : str or None, default=None
            Name of the column of row weights.
        verbose : int, default=0
            1 shows the number of rows read, and the rate if tqdm is installed.

        Returns
        -------
        scatter : GroupedScatter
            The record of the rows of all files.

        Raises
        ------
        FileNotFoundError, ImportError, TypeError, ValueError
            As in `GroupedMoments.from_parquet`, or if there is no such slope column.
        """
        check_pyarrow("from_parquet")
        from ._arrow import named_columns
        from ._parquet import open_parquet

        names = named_columns(x, y, groups, sample_weight)
        return cls.from_arrow(open_parquet(path, names), **names._asdict(), slopes=slopes, verbose=verbose)

    def merge(
        self: GroupedScatter | Iterable[GroupedScatter], *others: GroupedScatter | Iterable[GroupedScatter]
    ) -> GroupedScatter:
        """Return the record of the rows of all parts.

        Call it on an instance, `a.merge(b, c)`, or on the class with an iterable, `GroupedScatter.merge(parts)`.

        Parameters
        ----------
        *others : GroupedScatter or iterable of GroupedScatter
            Records with the same features and slopes. A group may occur in several parts, and a part may have no rows.

        Returns
        -------
        scatter : GroupedScatter
            The merged record.

        Raises
        ------
        TypeError
            If a part is not a `GroupedScatter`.
        ValueError
            If there are no parts, if their features or slopes differ, or if only some of them were read with groups.
        """
        parts = [part for each in (self, *others) for part in ([each] if isinstance(each, GroupedScatter) else each)]
        for part in parts:
            if not isinstance(part, GroupedScatter):
                raise TypeError(f"merge takes GroupedScatter, or an iterable of them; found {type(part).__name__}.")
        return merge_scatters(parts)

    def save(self, file: FileLike) -> None:
        """Write the record to a file, from which `load` reads it to the last digit; the format is that of `GroupedMoments`.

        Parameters
        ----------
        file : str, path or binary file object
            Where to write. `GroupedMoments.load` reads the moments from the same file.

        Raises
        ------
        TypeError
            As `GroupedMoments.save`.
        """
        save_scatter(self, file)

    @classmethod
    def load(cls, file: FileLike) -> GroupedScatter:
        """Read a record from a file that `save` wrote. Files from strangers are safe to load, because nothing in them runs.

        Parameters
        ----------
        file : str, path or binary file object
            The file to read.

        Returns
        -------
        scatter : GroupedScatter
            The record in the file.

        Raises
        ------
        ValueError
            As `GroupedMoments.load`, or if the file holds moments without slopes.
        """
        return cls(**vars(load_scatter(file)))

    def __add__(self, other: object) -> GroupedScatter:
        if not isinstance(other, GroupedScatter):
            return NotImplemented
        return GroupedScatter.merge(self, other)

    def __radd__(self, other: object) -> GroupedScatter:
        # The built-in sum starts from 0.
        return self if other == 0 else NotImplemented

    def __repr__(self) -> str:
        moments = self.moments
        slopes = tuple(moments.shown_names[at] for at in self.slopes)
        return (
            f"GroupedScatter(n_groups={self.n_groups}, n_features={self.n_features}, slopes={slopes!r}, "
            f"n_rows={int(moments.n_rows.sum())}, total_weight={moments.counts.sum():g})"
        )


def scatter_of(rows: GroupedRows, slopes: tuple[int, ...]) -> GroupedScatter:
    """Return the record of checked rows."""
    return GroupedScatter(**vars(read_scatter(rows, slopes)))

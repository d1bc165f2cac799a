"""`ReferenceGrid`: all combinations of the levels of a model's factors, at the means of its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pandas as pd

from .._tables import number_text, text_of_level
from .._typing import FixedDesign

CellWeights = Literal["equal", "proportional"]

# The most combinations that are listed.
_MOST_CELLS = 1_000_000


class ReferenceGrid:
    """Combinations of levels, and averages over some of the factors.

    Parameters
    ----------
    design : FixedDesign
        What a formula says of the columns.
    names : sequence of str
        The factors whose combinations are told apart, in order; the first changes fastest. The grid is averaged over the
        other factors.
    at : mapping of str to object
        Values of columns: one value, or a list of levels.
    weights : {"equal", "proportional"}
        Whether the levels of factors that are averaged over count alike, or as their combinations are frequent in the rows
        of the fit.

    Attributes
    ----------
    names : list of str
        The columns that are told apart.
    table : pandas.DataFrame
        Their combinations.
    averaged : list of str
        The factors that are averaged over.
    held : dict of str to object
        The value at which each other column is held.
    """

    def __init__(self, design: FixedDesign, names: Sequence[str], at: Mapping[str, Any], weights: CellWeights):
        if not isinstance(at, Mapping):
            raise TypeError(f"at must be a dictionary of values by the name of their column; found {at!r}.")
        self._design = design
        self.names = [self._column(name) for name in names]
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"The factors must be named once each; found {list(names)!r}.")
        given = {self._column(name): value for name, value in at.items()}
        levels: dict[str, pd.Index] = {}
        self.held: dict[str, Any] = {}
        for name, column in design.grid.items():
            chosen = given.get(name)
            several = isinstance(chosen, list | tuple | np.ndarray | pd.Index | pd.Series)
            if column.levels is not None:
                levels[name] = column.levels if chosen is None else self._chosen(name, list(chosen) if several else [chosen])
            elif name in self.names:
                if not several:
                    raise ValueError(
                        f"{name!r} holds numbers, not levels of a factor: name the values at which the means are wanted, "
                        f"such as at={{{name!r}: [{column.mean:.4g}]}}, or use estimated_trends for its slope."
                    )
                levels[name] = pd.Index(np.asarray(chosen, dtype=np.float64))
            elif several:
                raise ValueError(f"at holds several values of {name!r}: name it among the factors, or give one value.")
            else:
                self.held[name] = column.mean if chosen is None else float(chosen)
        # A factor that is held at one level has an average over one.
        self.averaged = [name for name in levels if name not in self.names]
        self._levels = levels
        order = [*self.names, *self.averaged]
        empty = next((name for name in order if not len(levels[name])), None)
        if empty is not None:
            raise ValueError(f"at names no value of {empty!r}.")
        n_cells = np.prod([float(len(levels[name])) for name in order])
        if n_cells > _MOST_CELLS:
            sizes = ", ".join(f"{name} {len(levels[name])}" for name in order)
            raise ValueError(
                f"There are {n_cells:.0f} combinations of levels ({sizes}), too many to list. Pass some of the levels by at."
            )
        shape = [len(levels[name]) for name in order]
        places = np.unravel_index(np.arange(int(n_cells)), shape, order="F") if order else []
        cells = {name: levels[name].take(where) for name, where in zip(order, places, strict=True)}
        n_rows = int(n_cells)
        self._n_means = int(np.prod(shape[: len(self.names)], initial=1))
        self._frame = pd.DataFrame({**cells, **self.held}, index=range(n_rows))
        for name, column in design.grid.items():
            if column.kind == "factor":
                self._frame[name] = pd.Categorical(self._frame[name], categories=column.levels)
        self.table = pd.DataFrame({name: cells[name][: self._n_means] for name in self.names}, index=range(self._n_means))
        self._weights = self._cell_weights(weights)

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the average of the rows of the model matrix for each combination that is told apart, and of the offset."""
        rows, offset = self._design.rows(self._frame)
        return self._averages(rows), self._averages(offset[:, None])[:, 0]

    def derivative(self, variable: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the derivative of these rows, and of the offset, by a column of numbers or a function of one column.

        Central differences at three steps are extrapolated to the step 0 (Richardson). They are exact for polynomials of a
        degree up to 6; for other functions the relative error is about 1e-9.

        Raises
        ------
        ValueError
            If no term has the variable, or it is a factor.
        """
        column = self._variable_of_numbers(variable)
        step = 0.02 * (self._design.grid[column].sd or 1.0)
        differences = [self._difference(variable, column, step / 2**at) for at in range(3)]
        for power in (4.0, 16.0):
            differences = [(power * finer - coarser) / (power - 1.0) for coarser, finer in pairwise(differences)]
        derivative = self._averages(differences[0])
        return derivative[:, :-1], derivative[:, -1]

    def _difference(self, variable: str, column: str, step: float) -> np.ndarray:
        """Return the difference quotient of the rows of all cells, and of the offset in a last column."""
        frames = [self._frame.assign(**{column: self._frame[column] + sign * step}) for sign in (1.0, -1.0)]
        high, low = (np.column_stack(self._design.rows(frame)) for frame in frames)
        if variable == column:
            return np.asarray((high - low) / (2.0 * step))
        above, below = (self._design.value_of(variable, frame) for frame in frames)
        return np.asarray((high - low) / (above - below)[:, None])

    def _averages(self, rows: np.ndarray) -> np.ndarray:
        """Return averages over the factors that are not told apart."""
        cells = rows.reshape(-1, self._n_means, rows.shape[1])
        return np.asarray(np.einsum("c,cmk->mk", self._weights, cells))

    def _cell_weights(self, weights: CellWeights) -> np.ndarray:
        """Return the weight of each combination of the factors that are averaged over."""
        averaged = self._frame[self.averaged].iloc[:: self._n_means]
        if weights == "equal" or not self.averaged:
            return np.full(len(averaged), 1.0 / len(averaged))
        counts = self._design.cells.groupby(self.averaged, observed=True)["count"].sum()
        counts.index = pd.MultiIndex.from_tuples([key if isinstance(key, tuple) else (key,) for key in counts.index])
        keys = pd.MultiIndex.from_frame(averaged.astype(object))
        found = counts.reindex(keys, fill_value=0.0).to_numpy(dtype=np.float64)
        return np.asarray(found / found.sum())

    def _column(self, name: str) -> str:
        """Return the column of the data that a name stands for: its own, or that of a factor such as factor(dose)."""
        if name in self._design.grid:
            return name
        columns = self._design.columns_of_variables.get(name, ())
        if len(columns) == 1:
            return columns[0]
        raise ValueError(
            f"{name!r} is not in the fixed part of the formula {self._design.formula!r}, which has the columns "
            f"{', '.join(map(repr, self._design.grid)) or 'none'}."
        )

    def _chosen(self, name: str, chosen: list[Any]) -> pd.Index:
        """Return levels of a factor that `at` asks for."""
        levels: pd.Index = self._design.grid[name].levels
        unknown = [one for one in chosen if one not in levels]
        if unknown:
            raise ValueError(f"at holds {unknown!r}, which {name!r} does not have: its levels are {list(levels)!r}.")
        found: pd.Index = pd.Index(chosen, dtype=levels.dtype)
        return found

    def _variable_of_numbers(self, variable: str) -> str:
        """Return the column that a variable is a function of; raise if it is a factor."""
        column = self._column(variable)
        if self._design.grid[column].levels is not None:
            raise ValueError(f"{variable!r} is a factor, which has no slope. Name a column of numbers.")
        return column

    def notes(self, variable: str | None = None) -> list[str]:
        """Return what the means, or slopes by a variable, are averages over, and where the other columns are held."""
        slope = () if variable is None else (self._column(variable),)
        notes, over = [], [name for name in self.averaged if len(self._levels[name]) > 1]
        if over:
            notes.append(f"Averaged over the levels of {', '.join(map(self._with_chosen_levels, over))}.")
        held = {name: text_of_level(self._levels[name][0]) for name in self.averaged if name not in over}
        held |= {name: number_text(value, 4).rstrip("0").rstrip(".") for name, value in self.held.items()}
        if held:
            notes.append(f"At {', '.join(f'{name} = {text}' for name, text in held.items())}.")
        for name in self.names:
            others = [other for other in over if self._interact(name, other, *slope)]
            if others:
                notes.append(
                    f"{name} interacts with {' and '.join(others)}, on which the differences between its levels depend."
                )
        return notes

    def _with_chosen_levels(self, name: str) -> str:
        """Return the name of a factor, with its levels if only some of them are averaged over."""
        levels = self._levels[name]
        some = len(levels) < len(self._design.grid[name].levels)
        return f"{name} ({', '.join(map(text_of_level, levels))})" if some else name

    def _interact(self, *names: str) -> bool:
        """Return whether a term of the model has all of some columns."""
        columns = self._design.columns_of_variables
        terms = (
            {name for one in (*factors, *numbers) for name in columns[one]} for _, _, factors, numbers in self._design.terms
        )
        return any(set(names) <= term for term in terms)

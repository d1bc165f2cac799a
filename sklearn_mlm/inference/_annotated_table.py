"""`AnnotatedTable`: a data frame that prints with digits that suit it, and says below what its figures are."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any, Self

import pandas as pd

from .._tables import cells_of, text_of_level

DDF_NAMES = {
    "kenward_roger": "Kenward and Roger's",
    "satterthwaite": "Satterthwaite's",
    "residual": "N - k",
    "normal": "infinite",
}
"""What degrees of freedom are called in notes."""


class AnnotatedTable(pd.DataFrame):  # type: ignore[misc, unused-ignore]
    """A data frame that prints its numbers with digits that suit them, and notes below, which are its attribute `notes`.

    Whatever pandas makes of it is an ordinary data frame.
    """

    _metadata = ["notes", "_labels", "_combinations"]  # noqa: RUF012
    notes: list[str]
    _labels: list[str]

    def annotated(self, notes: Sequence[str], labels: Sequence[str] = ()) -> Self:
        """Set the notes and the names of the columns that hold labels, and return the table.

        Parameters
        ----------
        notes : sequence of str
            Lines below the table.
        labels : sequence of str, default=()
            Columns that are printed as they are, in place of the index; without them the index is printed.

        Returns
        -------
        table : AnnotatedTable
            The same table.
        """
        self.notes, self._labels = list(notes), list(labels)
        return self

    @property
    def _constructor(self) -> Any:
        return pd.DataFrame

    def __repr__(self) -> str:
        texts = self._texts()
        n_labels = len(self._labels) or 1
        lines = [list(map(str, texts.columns)), *texts.to_numpy().tolist()]
        widths = [max(len(line[at]) for line in lines) for at in range(texts.shape[1])]
        aligned = [
            "  ".join(
                text.ljust(width) if at < n_labels else text.rjust(width)
                for at, (text, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        return "\n".join([*aligned, *self.notes])

    def _repr_html_(self) -> str:
        return self._texts().to_html(border=0, index=False) + "".join(f"<p>{escape(note)}</p>" for note in self.notes)

    def _texts(self) -> pd.DataFrame:
        """Return the cells as text, the labels in the first columns."""
        plain = pd.DataFrame(self)
        if not self._labels:
            labels = plain.index.to_frame(index=False, name=plain.index.name or "")
            return pd.concat([labels.map(str), cells_of(plain).reset_index(drop=True)], axis=1)
        labels, numbers = plain[self._labels].map(text_of_level), plain.drop(columns=self._labels)
        return pd.concat([labels, cells_of(numbers)], axis=1)

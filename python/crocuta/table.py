"""Tables that crocuta has written, for polars, pandas, Arrow, NumPy, AnnData and xarray."""

from __future__ import annotations

import json
import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import anndata
    import numpy as np
    import pandas as pd
    import polars as pl
    import pyarrow as pa
    import xarray


def read(path: str | os.PathLike[str]) -> Table:
    """Opens a table that crocuta has written.

    Only its footer is read now. Raises ``ValueError`` if the file is Parquet, but no table of
    crocuta's.
    """
    table = Table(path)
    if not table.metadata:
        raise ValueError(f"{table.path}: its footer does not say that crocuta wrote it")
    return table


class Table:
    """A table of crocuta's in a Parquet file; rows are read when they are asked for.

    Rows that go into memory are the whole table's: to read a region, or more rows than memory
    holds, open ``path`` with a reader that filters, such as ``polars.scan_parquet``.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """The table in the file ``path``, of which the footer is read."""
        import pyarrow.parquet as pq

        #: The file.
        self.path: str = os.fspath(path)
        self._file = pq.ParquetFile(self.path)

    def __len__(self) -> int:
        """The number of rows."""
        return self._file.metadata.num_rows

    def __repr__(self) -> str:
        """What the table is, in a line."""
        about = self.metadata
        model = (about.get("model") or {}).get("name")
        return f"<{about.get('table')} of {model}: {len(self)} rows, {', '.join(self.columns)}>"

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """What the footer says: columns, coordinates, model, reference, parameters."""
        footer = self._file.metadata.metadata or {}
        return json.loads(footer.get(b"crocuta", b"{}"))

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return self._file.schema_arrow.names

    @property
    def vector_columns(self) -> list[str]:
        """The names of the columns that hold a vector in each row."""
        return [field.name for field in self._file.schema_arrow if hasattr(field.type, "list_size")]

    @property
    def keys(self) -> pa.Table:
        """All columns but the vectors, as an Arrow table: what each row of a matrix is of."""
        vectors = self.vector_columns
        return self.to_arrow([name for name in self.columns if name not in vectors])

    @property
    def matrix(self) -> np.ndarray:
        """The vectors as a matrix, a row for each row of the table.

        Raises ``ValueError`` if the table has none, or has several columns of them:
        :meth:`to_numpy` takes one by its name.
        """
        names = self.vector_columns
        if len(names) != 1:
            several = f"has the vectors {', '.join(names)}: name one in to_numpy"
            raise ValueError(f"{self.path} {several if names else 'has no vectors'}")
        return self.to_numpy(names[0])

    def to_numpy(self, column: str) -> np.ndarray:
        """A column of vectors as a matrix (rows, dimensions), in the file's own float16 or float32.

        A table of one row group is not copied out of Arrow, and is read-only; of more, each group
        is copied once into its place, and memory holds the matrix and one group. A vector that is
        NULL is a row of NaN.
        """
        import numpy as np

        def values(chunk: pa.Array) -> np.ndarray:
            return chunk.flatten().to_numpy(zero_copy_only=True).reshape(-1, width)

        type = self._file.schema_arrow.field(column).type
        width = type.list_size
        groups = self._file.num_row_groups
        if groups == 1:
            whole = self.to_arrow([column])[column]
            if whole.num_chunks == 1 and whole.null_count == 0:
                return values(whole.chunk(0))
        matrix = np.empty((len(self), width), type.value_type.to_pandas_dtype())
        start = 0
        for group in range(groups):
            for chunk in self._file.read_row_group(group, columns=[column])[column].chunks:
                rows = matrix[start : start + len(chunk)]
                start += len(chunk)
                known = chunk.is_valid().to_numpy(zero_copy_only=False)
                rows[known] = values(chunk)
                rows[~known] = np.nan
        return matrix

    def to_arrow(self, columns: list[str] | None = None) -> pa.Table:
        """The table, or the columns named, as an Arrow table."""
        return self._file.read(columns=columns)

    def to_polars(self, columns: list[str] | None = None) -> pl.DataFrame:
        """The table, or the columns named, as a polars frame; vectors are of type ``Array``.

        If polars-config-meta is installed, as it is with polars-bio, the frame says that it counts
        from 0: polars-bio would take it to count from 1.
        """
        import polars as pl

        frame = pl.read_parquet(self.path, columns=columns)
        try:
            import polars_config_meta  # noqa: F401 (it adds config_meta to frames)
        except ModuleNotFoundError:
            return frame
        frame.config_meta.set(coordinate_system_zero_based=True)  # type: ignore[attr-defined]
        return frame

    def to_pandas(self, columns: list[str] | None = None) -> pd.DataFrame:
        """The table, or the columns named, as a pandas frame; vectors are NumPy arrays.

        Its ``attrs`` say that it counts from 0, for polars-bio; bioframe takes it as it is.
        """
        frame = self.to_arrow(columns).to_pandas()
        frame.attrs["coordinate_system_zero_based"] = True
        return frame

    def to_anndata(self) -> anndata.AnnData:
        """The vectors as ``X`` in float32, and the other columns as ``obs``.

        Of several columns of vectors each is in ``obsm`` by its name, and ``X`` is empty. The
        footer is JSON in ``uns["crocuta"]``, as HDF5 keeps it. It is made for tables of pooled
        rows, which memory holds.
        """
        import anndata
        import numpy as np

        obs = self.keys.to_pandas()
        obs.index = obs.index.astype(str)
        vectors = {name: self.to_numpy(name).astype(np.float32) for name in self.vector_columns}
        uns = {"crocuta": json.dumps(self.metadata)}
        if len(vectors) == 1:
            return anndata.AnnData(X=next(iter(vectors.values())), obs=obs, uns=uns)
        return anndata.AnnData(obs=obs, obsm=vectors, uns=uns)

    def to_xarray(self) -> xarray.Dataset:
        """Each column as a variable along ``row``; vectors have a second dimension of their own.

        The dimension of the column ``embedding`` is ``embedding_dim``. The footer is JSON in the
        attribute ``crocuta``.
        """
        import xarray

        keys = self.keys
        variables: dict[str, Any] = {}
        for name in self.columns:
            if name in keys.column_names:
                variables[name] = ("row", keys[name].to_pandas().to_numpy())
            else:
                variables[name] = (("row", f"{name}_dim"), self.to_numpy(name))
        return xarray.Dataset(variables, attrs={"crocuta": json.dumps(self.metadata)})

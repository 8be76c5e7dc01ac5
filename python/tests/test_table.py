"""Tables: what the footer says, and their rows in each library."""

import json

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import crocuta


def write_table(path, vectors: dict[str, list], row_group_size: int) -> str:
    """A table with such columns of vectors, as crocuta writes them."""
    rows = len(next(iter(vectors.values())))
    columns = {"start": pa.array(range(rows), pa.int64())}
    for name, values in vectors.items():
        columns[name] = pa.array(values, pa.list_(pa.float16(), 2))
    table = pa.table(columns).replace_schema_metadata({"crocuta": '{"table": "embeddings"}'})
    pq.write_table(table, path, row_group_size=row_group_size)
    return str(path)


def test_the_footer_tells_what_made_the_table(bins):
    assert bins.metadata["model"]["name"] == "crocuta-bacteria"
    assert bins.metadata["params"]["bin"] == 128
    assert len(bins) == 9
    assert repr(bins).startswith("<embeddings of crocuta-bacteria: 9 rows, chrom, start, end")


def test_a_parquet_file_of_another_program_is_refused(tmp_path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="a.parquet: its footer does not say that crocuta"):
        crocuta.read(tmp_path / "a.parquet")


def test_the_matrix_has_the_rows_of_the_table(bins):
    assert bins.matrix.shape == (9, 128)
    assert bins.matrix.dtype == np.float32
    assert (bins.matrix == np.stack(bins.to_pandas()["embedding"])).all()
    assert (bins.matrix == bins.to_polars()["embedding"].to_numpy()).all()
    assert bins.keys.column_names == ["chrom", "start", "end", "strand", "flags", "context_left"]


def test_the_matrix_of_one_row_group_is_not_copied(tmp_path, monkeypatch):
    table = crocuta.read(write_table(tmp_path / "t.parquet", {"embedding": [[1, 2], [3, 4]]}, 10))
    arrow = table.to_arrow()
    monkeypatch.setattr(table, "to_arrow", lambda columns: arrow.select(columns))
    inside = arrow["embedding"].chunk(0).flatten().buffers()[1].address
    assert table.matrix.__array_interface__["data"][0] == inside
    assert table.matrix.tolist() == [[1, 2], [3, 4]]


def test_the_matrix_of_several_row_groups_is_whole_and_null_is_not_a_number(tmp_path):
    vectors = [[1, 2], None, [3, 4], [5, 6], [7, 8]]
    for row_group_size in (2, 10):
        path = write_table(tmp_path / "t.parquet", {"embedding": vectors}, row_group_size)
        matrix = crocuta.read(path).matrix
        assert np.isnan(matrix[1]).all()
        assert matrix[[0, 2, 3, 4]].tolist() == [[1, 2], [3, 4], [5, 6], [7, 8]]


def test_vectors_of_several_layers_are_taken_by_name(tmp_path):
    vectors = {"embedding_0": [[1, 2]], "embedding_3": [[3, 4]]}
    table = crocuta.read(write_table(tmp_path / "t.parquet", vectors, 10))
    with pytest.raises(ValueError, match="embedding_0, embedding_3: name one in to_numpy"):
        table.matrix
    assert table.to_numpy("embedding_3").tolist() == [[3, 4]]
    assert table.to_anndata().obsm["embedding_3"].tolist() == [[3, 4]]


def test_a_table_without_vectors_has_no_matrix(genome):
    table = crocuta.predict(genome, region="two")
    with pytest.raises(ValueError, match="has no vectors"):
        table.matrix


def test_frames_say_that_they_count_from_zero(bins):
    assert bins.to_pandas().attrs == {"coordinate_system_zero_based": True}
    frame = bins.to_polars(["chrom", "start", "end"])
    assert frame.config_meta.get_metadata() == {"coordinate_system_zero_based": True}
    assert frame.schema["start"] == pl.Int64


def test_anndata_has_vectors_keys_and_footer(bins, tmp_path):
    bins.to_anndata().write_h5ad(tmp_path / "bins.h5ad")
    import anndata

    data = anndata.read_h5ad(tmp_path / "bins.h5ad")
    assert (data.X == bins.matrix).all()
    assert data.obs["start"].tolist() == bins.to_pandas()["start"].tolist()
    assert data.obs["chrom"].tolist() == ["one"] * 8 + ["two"]
    assert json.loads(data.uns["crocuta"]) == bins.metadata


def test_xarray_has_every_column(bins):
    dataset = bins.to_xarray()
    assert dict(dataset.sizes) == {"row": 9, "embedding_dim": 128}
    assert (dataset["embedding"].to_numpy() == bins.matrix).all()
    assert dataset["chrom"].to_numpy().tolist() == ["one"] * 8 + ["two"]
    assert json.loads(dataset.attrs["crocuta"]) == bins.metadata

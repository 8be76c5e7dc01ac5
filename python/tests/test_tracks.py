"""Tracks: what genome browsers' own library reads from them."""

import numpy as np
import pyBigWig

import crocuta

#: The contigs of `genome`, whole.
PLACES = [("one", 0, 1000), ("two", 0, 100)]


def test_a_bigwig_has_the_values_of_the_table(genome, tmp_path):
    model = "crocuta-bacteria-genes"
    crocuta.run("predict", genome, model=model, bigwig=tmp_path / "track")
    frame = crocuta.predict(genome, model=model).to_pandas()
    classes = [name.removeprefix("prob_") for name in frame if name.startswith("prob_")]
    assert {path.name for path in tmp_path.iterdir()} == {f"track.{name}.bw" for name in classes}
    for name in classes:
        with pyBigWig.open(str(tmp_path / f"track.{name}.bw")) as track:
            assert track.chroms() == {"one": 1000, "two": 100}
            values = [track.values(*place, numpy=True) for place in PLACES]
        np.testing.assert_array_equal(np.concatenate(values), frame[f"prob_{name}"].to_numpy())

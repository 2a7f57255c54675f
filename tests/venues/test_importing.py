"""Parquet files go in like the others, whatever their times are made of, and what is no file is called so."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipaid.errors import InvalidParameter, NotFound
from pipaid.seams import SystemDisk
from pipaid.venues.importing import read_candles
from tests.model.test_columns import columns, made

# It has no types of its own.
pa: Any = import_module("pyarrow")
parquet: Any = import_module("pyarrow.parquet")

ROWS = ("100 102 99 101.5 5", "101.5 103 101 102 0.25")


def written(path: Path, **changed: Any) -> Path:
    table: Any = pa.table({**columns(*ROWS), **changed})
    parquet.write_table(table, path)
    return path


@pytest.mark.parametrize("kind", ["int64", "datetime64[ms]", "datetime64[us]", "datetime64[ns]"])
def test_parquet_is_read_whatever_its_times_are(tmp_path: Path, kind: str) -> None:
    times = np.array(columns(*ROWS)["time_ms"])
    times = times if kind == "int64" else times.astype("datetime64[ms]").astype(kind)

    found = read_candles(SystemDisk(), written(tmp_path / "BTCUSDT-1m.parquet", time_ms=times))

    assert list(found) == list(made(*ROWS))


def test_parquet_without_what_candles_need_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT.parquet"
    parquet.write_table(pa.table({"time_ms": [0], "open": [1.0]}), path)
    with pytest.raises(InvalidParameter, match="lack high, low, close, volume"):
        read_candles(SystemDisk(), path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(InvalidParameter, match=r"BTCUSDT\.parquet: "):
        read_candles(SystemDisk(), path)
    with pytest.raises(InvalidParameter, match="no symbol in the name"):
        read_candles(SystemDisk(), written(tmp_path / "1.parquet"))


@pytest.mark.parametrize("name", ["nofile.csv", "nofile.csv.gz", "nofile.zip", "nofile.parquet", "BTCUSDT-1m.csv"])
def test_a_file_that_is_not_there_is_said_to_be_missing_whatever_its_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotFound, match=r": there is no such file$"):
        read_candles(SystemDisk(), tmp_path / name)


def test_a_folder_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match="this is a folder"):
        read_candles(SystemDisk(), tmp_path)

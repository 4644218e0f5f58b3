"""Sabotages of a source whose query fails: because the data lack what it breaks, or because the query is wrong."""

from datetime import date
from pathlib import Path

import duckdb
import pytest

from runs import write_files
from sabotages.sources import lacked_by


def error_of(query: str, source: Path) -> str:
    with duckdb.connect() as connection:
        rows = "select 'u' as user_id, 'i' as item_id, timestamp '2024-01-01' as event_at"
        connection.execute(f"copy ({rows}) to '{source}/events.parquet' (format parquet)")
    with pytest.raises((duckdb.BinderException, duckdb.CatalogException)) as failed:
        write_files(source, source / "sabotaged", date(2024, 2, 1), {"events": query})
    return str(failed.value)


@pytest.mark.parametrize(
    ("query", "lacked"),
    [
        ("select * replace (0 as price) from events", "the events have no price"),
        ("from events where price > 0", "the events have no price"),
        ("select events.* from events join items using (item_id)", "the data have no items"),
        ("select * replace (0 as user_id) from events where prize > 0", ""),
        ("from event", ""),
    ],
)
def test_a_query_is_excused_by_what_the_data_lack_alone(query: str, lacked: str, tmp_path: Path) -> None:
    assert lacked_by(tmp_path, error_of(query, tmp_path)) == lacked

"""Checks raw data when it lands. Works on a profile with one row per column, so that its cost does not depend on the data's
size."""

from typing import TYPE_CHECKING, Any

from recsys.settings import Count, section
from recsys.validation.expectations import Rule, examine
from recsys.validation_report import CheckResult

if TYPE_CHECKING:
    from pandas import DataFrame


@section
class RawLimits:
    min_events: Count


SETTINGS: dict[str, str | tuple[str, str]] = {"raw_rows": "min_events"}


def check(profile: list[dict[str, Any]], max_null_share: dict[str, dict[str, float]], limits: RawLimits) -> list[CheckResult]:
    return examine(*border(profile, max_null_share, limits))


def border(
    profile: list[dict[str, Any]], max_null_share: dict[str, dict[str, float]], limits: RawLimits
) -> tuple["DataFrame", list[Rule]]:
    """The table that is checked, and its rules. `profile`: the warehouse's profile of the raw tables. `max_null_share`: largest
    normal share of missing values by table and column, as the source declares it; its first table holds the events."""
    import pandas as pd
    from great_expectations import expectations as gxe

    shares = {f"{table}.{column}": share for table, columns in max_null_share.items() for column, share in columns.items()}
    table = pd.DataFrame(profile)
    table["name"] = table["table"] + "." + table["column"]
    table["null_limit"] = table["name"].map(shares).fillna(1.0)
    events = table["table"] == next(iter(max_null_share))
    table["enough_rows"] = ~events | (table["rows"] >= limits.min_events)
    count = int(table.loc[events, "rows"].max()) if events.any() else 0
    return table, [
        Rule(
            "raw_columns",
            gxe.ExpectColumnDistinctValuesToContainSet(column="name", value_set=sorted(shares)),
            f"the raw tables have the columns {', '.join(shares)}",
        ),
        Rule(
            "raw_rows",
            gxe.ExpectColumnValuesToBeInSet(column="enough_rows", value_set=[True]),
            f"at least {limits.min_events:,} events are needed; there are {count:,}",
        ),
        Rule(
            "raw_missing_values",
            gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="null_limit", column_B="null_share", or_equal=True),
            "no column has more missing values than is normal for its source",
        ),
    ]  # fmt: skip

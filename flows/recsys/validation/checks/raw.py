"""The border in: is what the source gave what it always gives? Judged on a profile, one row per column, whatever the size."""

from typing import Any

import pandas as pd

from recsys.settings import Count, section
from recsys.validation.expectations import Rule, examine
from recsys.validation_report import CheckResult


@section
class RawLimits:
    min_events: Count


SETTINGS: dict[str, str | tuple[str, str]] = {"raw_rows": "min_events"}


def check(profile: list[dict[str, Any]], max_null_share: dict[str, dict[str, float]], limits: RawLimits) -> list[CheckResult]:
    return examine(*border(profile, max_null_share, limits))


def border(
    profile: list[dict[str, Any]], max_null_share: dict[str, dict[str, float]], limits: RawLimits
) -> tuple[pd.DataFrame, list[Rule]]:
    """`profile` as the warehouse makes it; `max_null_share` as the source declares it. The first table holds the events."""
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
            f"at least {limits.min_events:,} events came in; {count:,} did",
        ),
        Rule(
            "raw_missing_values",
            gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="null_limit", column_B="null_share", or_equal=True),
            "no column misses more values than its source normally does",
        ),
    ]  # fmt: skip

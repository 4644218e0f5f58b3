"""Settings: reads and checks config.toml.

A wrong key or value raises RecsysError before a run starts. run.py holds the sections that change a release, deployment.py those
of scheduled and deployed flows.
"""

from typing import TYPE_CHECKING

from recsys.lazy import lazy

if TYPE_CHECKING:
    from recsys.settings import event_types
    from recsys.settings.deployment import WEEKDAYS, AlertSettings, Cloud, MonitorSettings, Operations, Schedule, read_operations
    from recsys.settings.event_types import (
        MAX_UNKNOWN_SHARE,
        advise_exclude_seen,
        check_ratings,
        count_types,
        explain_types,
        propose_types,
        read_types,
        repeat_share,
    )
    from recsys.settings.loading import config_schema, parse, parse_day, resolve, write_line, write_text
    from recsys.settings.run import Dataset, RuleSettings, Settings
    from recsys.settings.validation import (
        Count,
        Day,
        Days,
        NotNegative,
        Positive,
        PositiveDays,
        PositiveShare,
        Seed,
        Share,
        Text,
        build,
        check_parameters,
        parse_date,
        schema_of,
        section,
    )

__getattr__ = lazy(__name__, __file__)

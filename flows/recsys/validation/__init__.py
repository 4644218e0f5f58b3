"""Validation: checks of a model, its data and its lists, and the report that publishing requires.

A check is a file in checks/, a line in the registry and a section [checks.*] of config.toml.
"""

from typing import TYPE_CHECKING

from recsys.lazy import lazy

if TYPE_CHECKING:
    from recsys.validation import cases, expectations, expected_changes, perturbations
    from recsys.validation.advice import SettingNames, setting_of
    from recsys.validation.cases import SEVERITIES
    from recsys.validation.check_input import CheckInput
    from recsys.validation.checks import lists, raw
    from recsys.validation.checks.champion import released
    from recsys.validation.checks.drift import feature_drift
    from recsys.validation.checks.freshness import event_age
    from recsys.validation.measurements import measure
    from recsys.validation.registry import CHECKS, check_config, complete_raw, examine, limits, required

__getattr__ = lazy(__name__, __file__)

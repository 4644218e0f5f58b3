"""Rehearsal: what is replayed goes through the pipeline on any day."""

from dataclasses import replace

import pytest

from conftest import PROJECT
from recsys.pipeline import build_features, open_features
from recsys.validation.check_input import CheckInput
from recsys.validation.perturbations import replay

pytestmark = pytest.mark.slow


def test_a_day_after_quiet_ones_can_be_bad_days(audited: CheckInput) -> None:
    """Nothing happens on the three days before the cutoff, as where a shop is closed."""
    store, features, settings = audited.store, audited.features, audited.settings
    quiet = {"events": "from events where event_at < (select max(event_at)::date - 2 from events)"}
    raw = replay(store, features, settings, features.as_of, quiet)
    replayed = replace(settings, dataset=replace(settings.dataset, source="events"), as_of=features.as_of)
    world = open_features(store, build_features(store, raw, replayed, PROJECT, serving=True).id, settings)
    assert world.cutoffs == [features.as_of]
    assert world.state(features.as_of).history["days"].min() > 3

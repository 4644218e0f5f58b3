"""Metrics for Prometheus besides those of the middleware: releases in use, sources of lists, and the canary's results."""

import functools
from collections.abc import Iterator
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from recsys.releases import Answer, Reader
from recsys.serving.impressions import Impressions
from recsys.serving.release_manager import ReleaseManager

TALLY = {
    "answers": "Answers asked of the present canary",
    "failures": "Failed or poorer answers of the present canary",
    "listed": "Items in the live answers that the present canary was compared with",
    "common": "Items of these live answers that the present canary listed too",
}


class ServiceMetrics(Collector):
    """Counts answers by release and source; all other metrics are read from the service when Prometheus asks for them."""

    def __init__(self, registry: CollectorRegistry, live: ReleaseManager, impressions: Impressions | None):
        self.live, self.impressions = live, impressions
        answers = Counter("recs_answers", "Lists answered by release and source", ["release", "source"], registry=registry)
        self._count = functools.cache(answers.labels)
        registry.register(self)

    def count(self, reader: Reader, answer: Answer) -> None:
        self._count(reader.id, answer.source).inc()

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        live, today = self.live, datetime.now(UTC).date()
        canary = live.canary
        pointers = {"current": live.current, "canary": canary.reader if canary else None}
        info = GaugeMetricFamily("recs_release", "1 for each release in use", labels=["pointer", "release", "model"])
        age = GaugeMetricFamily("recs_release_age_days", "Days since the last event in the release", labels=["pointer"])
        for pointer, reader in pointers.items():
            if reader:
                info.add_metric([pointer, reader.id, reader.about["recommender"]], 1)
                age.add_metric([pointer], (today - reader.as_of).days)
        yield from (info, age)
        yield CounterMetricFamily("recs_releases_taken_up", "Releases taken up", value=live.loaded)
        yield CounterMetricFamily(
            "recs_releases_refused", "Releases refused as broken or without valid report", value=live.refusals
        )
        yield CounterMetricFamily("recs_canaries_returned", "Canaries that were ended because of failures", value=live.returns)
        for name, text in TALLY.items():
            yield GaugeMetricFamily(f"recs_canary_{name}", text, value=live.tally[name])
        dropped = self.impressions.dropped if self.impressions else 0
        yield CounterMetricFamily("recs_impressions_dropped", "Shown lists that were lost because memory was full", value=dropped)

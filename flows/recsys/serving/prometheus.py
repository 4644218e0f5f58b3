"""What Prometheus reads besides the guard's counts: which release answers, from where lists come, how the canary does."""

import functools
from collections.abc import Iterator
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from recsys.releases import Answer, Reader
from recsys.serving.impressions import Impressions
from recsys.serving.release_manager import ReleaseManager


class ServiceMetrics(Collector):
    """Counts answers by release and source; reads the rest where it is kept, when asked."""

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
        age = GaugeMetricFamily("recs_release_age_days", "Days since the last event it has seen", labels=["pointer"])
        for pointer, reader in pointers.items():
            if reader:
                info.add_metric([pointer, reader.id, reader.about["recommender"]], 1)
                age.add_metric([pointer], (today - reader.as_of).days)
        yield from (info, age)
        yield CounterMetricFamily("recs_releases_taken_up", "Releases taken up", value=live.loaded)
        yield CounterMetricFamily("recs_releases_refused", "Releases refused as broken or unproven", value=live.refusals)
        yield CounterMetricFamily("recs_canaries_returned", "Canaries sent back", value=live.returns)
        for name in ("answers", "failures", "listed", "common"):
            yield GaugeMetricFamily(f"recs_canary_{name}", f"Of the present canary: {name}", value=live.tally[name])
        dropped = self.impressions.dropped if self.impressions else 0
        yield CounterMetricFamily(
            "recs_impressions_dropped", "Lists shown that found no room in memory and are lost", value=dropped
        )

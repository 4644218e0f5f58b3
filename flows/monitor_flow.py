"""MonitorFlow: how did what was live do against what then happened?"""

from metaflow import card, step

from base_flow import BaseFlow, unattended


@unattended("monitor")
class MonitorFlow(BaseFlow):
    """start > land > build_features > judge > end

    Tells and alerts; moves no pointer.
    """

    @step
    def start(self):
        """Check everything that can be checked."""
        from datetime import UTC, datetime

        from recsys.daily_lists import champion
        from recsys.pipeline import check_settings
        from recsys.sources import open_source

        self.today = datetime.now(UTC).date()
        check_settings(self.settings)
        open_source(self.settings.dataset).prepare(self.access)
        champion(self.store)
        self.next(self.land)

    @step
    def land(self):
        """Take what the source gives into a raw snapshot; what is wrong with it is told by the flows that use it."""
        from recsys.pipeline import land

        self.raw_id, _ = land(self.store, self.settings, self.today, self.access)
        self.next(self.build_features)

    @step
    def build_features(self):
        """Run dbt as of the last cutoff alone, or find what RecommendFlow made of the same."""
        from recsys.pipeline import build_features

        self.built = build_features(self.store, self.raw_id, self.settings, self.project, serving=True)
        self.next(self.judge)

    @card(type="blank")
    @step
    def judge(self):
        """Hold the lists that were live against the target events since, keep the report, and alert if any check result failed."""
        from recsys.monitoring import report
        from recsys.pipeline import open_features
        from reporting import show_monitoring

        features = open_features(self.store, self.built.id, self.settings)
        self.report = report(self.store, features, self.today, self.operations.monitor, self.settings)
        show_monitoring(self.report, self.settings)
        self.warn("judge", self.report.failed)
        self.next(self.end)

    @step
    def end(self):
        """The report is in the store."""


if __name__ == "__main__":
    MonitorFlow()

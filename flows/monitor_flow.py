"""MonitorFlow: scores recently served lists against later purchases."""

from metaflow import card, step

from base_flow import BaseFlow, unattended


@unattended("monitor")
class MonitorFlow(BaseFlow):
    """start > land > build_features > judge > end

    Stores a report and sends alerts. Publishes nothing.
    """

    @step
    def start(self):
        """Check settings and source, and that a release is live."""
        from recsys.daily_lists import champion

        self.check_inputs()
        champion(self.store)
        self.next(self.land)

    @step
    def land(self):
        """Make a raw snapshot of the source. Its check results are left to the flows that publish."""
        from recsys.pipeline import land

        self.raw_id, _ = land(self.store, self.settings, self.today, self.access)
        self.next(self.build_features)

    @step
    def build_features(self):
        """Run dbt at the last cutoff only, or reuse the features of RecommendFlow."""
        from recsys.pipeline import build_features

        self.built = build_features(self.store, self.raw_id, self.settings, self.project, serving=True)
        self.next(self.judge)

    @card(type="blank")
    @step
    def judge(self):
        """Score recently live lists against later target events, store the report, and send an alert if a check result failed."""
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

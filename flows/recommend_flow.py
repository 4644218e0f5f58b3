"""RecommendFlow: makes and publishes today's lists with the live release's model."""

from metaflow import step

from base_flow import BaseFlow, unattended


@unattended("recommend")
class RecommendFlow(BaseFlow):
    """start > land > build_features > recommend (each shard of the users) > gather > validate > publish > end

    Trains nothing. The model keeps its check results until it is too old; data and lists are checked again.
    """

    @step
    def start(self):
        """Check settings and source, and read the live release."""
        from recsys.daily_lists import champion, check_target

        self.check_inputs()
        self.champion = champion(self.store)
        check_target(self.champion, self.settings)
        self.next(self.land)

    @step
    def land(self):
        """Make a raw snapshot of the source, and check it."""
        from recsys.pipeline import land

        self.raw_id, self.raw_results = land(self.store, self.settings, self.today, self.access)
        self.next(self.build_features)

    @step
    def build_features(self):
        """Run dbt at the last cutoff only, and split the users into shards."""
        from recsys.daily_lists import shards
        from recsys.pipeline import build_features
        from recsys.validation_report import require

        require({"raw": self.raw_results}, ["raw"], "raw data")
        self.built = build_features(self.store, self.raw_id, self.settings, self.project, serving=True)
        self.shards = shards(self.store, self.built.id, self.operations.recommend.users_per_shard, self.settings)
        self.next(self.recommend, foreach="shards")

    @step
    def recommend(self):
        """Make the lists of one shard with the champion's model, and store them as a part."""
        from recsys.daily_lists import recommend

        self.part = recommend(self.store, self.champion, self.built.id, self.input, self.settings)
        self.next(self.gather)

    @step
    def gather(self, inputs):
        """Join all parts to one unpublished release."""
        from recsys.daily_lists import gather

        self.merge_artifacts(inputs, include=["today", "champion", "raw_results", "built"])
        parts = [task.part for task in sorted(inputs, key=lambda task: task.input)]
        self.release_id = gather(self.store, self.champion, self.built.id, parts, self.settings, self.code.to_dict())
        self.next(self.validate)

    @step
    def validate(self):
        """Check data and lists, and store the validation report."""
        from recsys.daily_lists import validate

        self.report = validate(
            self.store,
            self.release_id,
            champion=self.champion,
            raw_results=self.raw_results,
            today=self.today,
            settings=self.settings,
            project=self.project,
        )
        self.next(self.publish)

    @step
    def publish(self):
        """Move CURRENT if the validation report allows it and no other champion went live. Send an alert on old data or models."""
        from datetime import UTC, datetime

        from recsys.daily_lists import required
        from recsys.publishing import ValidatedRelease, give_way, publish

        release = ValidatedRelease(self.release_id, self.report, self.champion.release)
        checks, at = required(self.report, self.settings), datetime.now(UTC).isoformat(timespec="seconds")
        self.live_id = publish(self.store, release, checks, on_conflict=give_way, at=at).id
        self.warn("publish", [result for result in self.report.checks.get("freshness", []) if not result.passed])
        self.next(self.end)

    @step
    def end(self):
        """The lists are live."""


if __name__ == "__main__":
    RecommendFlow()

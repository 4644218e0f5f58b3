"""RecommendFlow: new lists from the champion's model, as of today."""

from metaflow import step

from base_flow import BaseFlow, unattended


@unattended("recommend")
class RecommendFlow(BaseFlow):
    """start > land > build_features > recommend (each shard of the users) > gather > validate > publish > end

    Trains nothing: what was proven of the model is taken over while it is young enough; data and lists are judged anew.
    """

    @step
    def start(self):
        """Check everything that can be checked, and take up the champion."""
        from datetime import UTC, datetime

        from recsys.daily_lists import champion, check_target
        from recsys.pipeline import check_settings
        from recsys.sources import open_source

        self.today = datetime.now(UTC).date()
        check_settings(self.settings)
        open_source(self.settings.dataset).prepare(self.access)
        self.champion = champion(self.store)
        check_target(self.champion, self.settings)
        self.next(self.land)

    @step
    def land(self):
        """Take what the source gives into a raw snapshot, and check it at the border."""
        from recsys.pipeline import land

        self.raw_id, self.raw_results = land(self.store, self.settings, self.today, self.access)
        self.next(self.build_features)

    @step
    def build_features(self):
        """Run dbt as of the last cutoff alone, and share the users out."""
        from recsys.daily_lists import shards
        from recsys.pipeline import build_features
        from recsys.validation_report import require

        require({"raw": self.raw_results}, ["raw"], "raw data")
        self.built = build_features(self.store, self.raw_id, self.settings, self.project, serving=True)
        self.shards = shards(self.store, self.built.id, self.operations.recommend.users_per_shard, self.settings)
        self.next(self.recommend, foreach="shards")

    @step
    def recommend(self):
        """Make the lists of one shard, by the champion's model, as a part in the store."""
        from recsys.daily_lists import recommend

        self.part = recommend(self.store, self.champion, self.built.id, self.input, self.settings)
        self.next(self.gather)

    @step
    def gather(self, inputs):
        """Write all parts as one unpublished release."""
        from recsys.daily_lists import gather

        self.merge_artifacts(inputs, include=["today", "champion", "raw_results", "built"])
        parts = [task.part for task in sorted(inputs, key=lambda task: task.input)]
        self.release_id = gather(self.store, self.champion, self.built.id, parts, self.settings, self.code.to_dict())
        self.next(self.validate)

    @step
    def validate(self):
        """Judge data and lists, and lay the validation report beside the release."""
        from recsys.daily_lists import validate

        seen = (self.champion, self.raw_results, self.today)
        self.report = validate(self.store, self.release_id, *seen, self.settings, self.project)
        self.next(self.publish)

    @step
    def publish(self):
        """Move CURRENT, last, if the validation report allows it and no other champion went live. Alert of old data or models."""
        from datetime import UTC, datetime

        from recsys.daily_lists import required
        from recsys.publishing import ValidatedRelease, give_way, publish

        release, at = (
            ValidatedRelease(self.release_id, self.report, self.champion.release),
            datetime.now(UTC).isoformat(timespec="seconds"),
        )
        checks = required(self.report, self.settings)
        self.live_id = publish(self.store, release, checks, on_conflict=give_way, at=at).id
        self.warn("publish", [one for one in self.report.checks.get("freshness", []) if not one.passed])
        self.next(self.end)

    @step
    def end(self):
        """The lists are served from here on."""


if __name__ == "__main__":
    RecommendFlow()

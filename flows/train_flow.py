"""TrainFlow: trains and selects a recommender on raw events, and publishes a release."""

from metaflow import Parameter, card, step

from base_flow import BaseFlow, unattended


@unattended("train")
class TrainFlow(BaseFlow):
    """start > land > build_features > train (each recommender) > select > recommend > validate > publish > end

    Artifacts are snapshot ids and small results; the data are in the store.
    """

    audit = Parameter("audit", default=False, help="also run the costly checks, and train with several seeds")
    canary = Parameter("canary", default="", help="share of the users who get the release as a canary; empty: it goes live")

    @step
    def start(self):
        """Check settings and source, and read which release is live."""
        from recsys.pipeline import recipes

        self.check_inputs()
        self.audited = self.audit or self.settings.validation.audit
        self.recipes = recipes(self.settings, self.audited)
        self.live_id = self.store.current()
        self.next(self.land)

    @step
    def land(self):
        """Make a raw snapshot of the source, and check it."""
        from recsys.pipeline import land

        self.raw_id, self.raw_results = land(self.store, self.settings, self.today, self.access)
        self.next(self.build_features)

    @step
    def build_features(self):
        """Run dbt at every cutoff, or reuse the features of an earlier run. In an audit, also make features of perturbed data."""
        from recsys.pipeline import build_features, make_bad_days, require_outcomes
        from recsys.validation_report import require

        require({"raw": self.raw_results}, ["raw"], "raw data")
        self.built = build_features(self.store, self.raw_id, self.settings, self.project)
        require_outcomes(self.store, self.built.id, self.settings)
        self.bad_days = make_bad_days(self.store, self.built.id, self.settings, self.project) if self.audited else {}
        self.next(self.train, foreach="recipes")

    @step
    def train(self):
        """Score one recommender on the selection windows and the holdout, then fit it on all data. Skip it if they are too few."""
        from recsys.pipeline import train

        self.trained = train(self.store, self.input, self.built.id, self.bad_days, self.settings)
        self.next(self.select)

    @step
    def select(self, inputs):
        """Select the simplest recommender, and the simplest way to answer sessions, that no other beats significantly."""
        from recsys.pipeline import select, select_sessions

        self.merge_artifacts(inputs, include=["today", "live_id", "audited", "raw_results", "bad_days"])
        self.built = inputs[0].built  # `make step STEP=select` cannot read merged artifacts
        sessions = select_sessions(self.store, self.built.id, self.settings)
        self.selection = select([task.trained for task in inputs], self.settings, sessions)
        self.next(self.recommend)

    @step
    def recommend(self):
        """Write the lists of all users as an unpublished release."""
        from recsys.pipeline import recommend

        code = self.code.to_dict()
        self.release_id = recommend(self.store, self.selection, self.built.id, self.settings, code, audited=self.audited)
        self.next(self.validate)

    @card(type="blank")
    @step
    def validate(self):
        """Check data, lists and model, and store the validation report."""
        from recsys.pipeline import validate
        from recsys.validation import required
        from reporting import show_release

        self.report = validate(
            self.store,
            self.release_id,
            raw_results=self.raw_results,
            selection=self.selection,
            live_id=self.live_id,
            bad_days=self.bad_days,
            today=self.today,
            settings=self.settings,
            project=self.project,
        )
        self.required = required(self.audited)
        show_release(self.report, self.selection.winner, self.settings)
        self.next(self.publish)

    @step
    def publish(self):
        """Move CURRENT, or CANARY, if the validation report allows it and no other champion went live during the run."""
        from datetime import UTC, datetime
        from functools import partial

        from recsys.pipeline import recommend_again
        from recsys.publishing import ValidatedRelease, publish

        release, share = ValidatedRelease(self.release_id, self.report, self.live_id), float(self.canary) if self.canary else None
        update = partial(recommend_again, selection=self.selection, today=self.today, settings=self.settings, project=self.project)
        published = publish(self.store, release, self.required, share, update, at=datetime.now(UTC).isoformat(timespec="seconds"))
        self.release_id, self.report = published.id, published.report
        self.next(self.end)

    @step
    def end(self):
        """The release is live, or the canary."""


if __name__ == "__main__":
    TrainFlow()

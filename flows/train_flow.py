"""TrainFlow: from raw events to a published release."""

from metaflow import Parameter, card, step

from base_flow import BaseFlow, unattended


@unattended("train")
class TrainFlow(BaseFlow):
    """start > land > build_features > train (each recommender) > select > recommend > validate > publish > end

    Artifacts carry snapshot ids and small results; data lies in the store.
    """

    audit = Parameter("audit", default=False, help="also run the costly checks, and train the winner under several seeds")
    canary = Parameter(
        "canary", default=-1.0, help="share of the users who try the release beside the live one; below 0: it goes live"
    )

    @step
    def start(self):
        """Check everything that can be checked, and note what is live now."""
        from datetime import UTC, datetime

        from recsys.pipeline import check_settings, recipes
        from recsys.sources import open_source

        self.today = datetime.now(UTC).date()
        check_settings(self.settings)
        open_source(self.settings.dataset).prepare(self.access)
        self.audited = self.audit or self.settings.validation.audit
        self.recipes = recipes(self.settings, self.audited)
        self.champion = self.store.current()
        self.next(self.land)

    @step
    def land(self):
        """Take what the source gives into a raw snapshot, and check it at the border."""
        from recsys.pipeline import land

        self.raw_id, self.raw_results = land(self.store, self.settings, self.today, self.access)
        self.next(self.build_features)

    @step
    def build_features(self):
        """Run dbt as of every cutoff, or find what it made of the same before; in an audit, in perturbed worlds too."""
        from recsys.pipeline import build_features, make_bad_days, require_outcomes
        from recsys.validation_report import require

        require({"raw": self.raw_results}, ["raw"], "raw data")
        self.built = build_features(self.store, self.raw_id, self.settings, self.project)
        require_outcomes(self.store, self.built.id, self.settings)
        self.bad_days = make_bad_days(self.store, self.built.id, self.settings, self.project) if self.audited else {}
        self.next(self.train, foreach="recipes")

    @step
    def train(self):
        """Score one recommender on the selection windows and the holdout, then fit it on everything; or say why it is skipped."""
        from recsys.pipeline import train

        self.trained = train(self.store, self.input, self.built.id, self.bad_days, self.settings)
        self.next(self.select)

    @step
    def select(self, inputs):
        """Choose the simplest recommender that none beats beyond noise."""
        from recsys.pipeline import choose

        self.merge_artifacts(inputs, include=["today", "champion", "audited", "raw_results", "bad_days"])
        self.built = inputs[0].built  # not merged, for `make step STEP=select` reads it, and cannot read what is merged
        self.choice = choose([task.trained for task in inputs], self.settings)
        self.next(self.recommend)

    @step
    def recommend(self):
        """Write everybody's lists, by the saved model, as an unpublished release."""
        from recsys.pipeline import recommend

        made_by = (self.settings, self.code.to_dict(), self.audited)
        self.release_id = recommend(self.store, self.choice, self.built.id, *made_by)
        self.next(self.validate)

    @card(type="blank")
    @step
    def validate(self):
        """Gather the validation report on data, lists and model, and lay it beside the release."""
        from recsys.pipeline import validate
        from recsys.validation import required
        from reporting import show_release

        seen = (self.raw_results, self.choice, self.champion, self.bad_days, self.today)
        self.report = validate(self.store, self.release_id, *seen, self.settings, self.project)
        self.required = required(self.audited)
        show_release(self.report, self.choice.winner, self.settings)
        self.next(self.publish)

    @step
    def publish(self):
        """Move CURRENT, last, if the validation report allows it and no other champion went live meanwhile; or CANARY."""
        from datetime import UTC, datetime
        from functools import partial

        from recsys.pipeline import list_again
        from recsys.publishing import ValidatedRelease, publish

        release, share = ValidatedRelease(self.release_id, self.report, self.champion), self.canary if self.canary >= 0 else None
        relist = partial(list_again, choice=self.choice, today=self.today, settings=self.settings, project=self.project)
        published = publish(self.store, release, self.required, share, relist, at=datetime.now(UTC).isoformat(timespec="seconds"))
        self.release_id, self.report = published.id, published.report
        self.next(self.end)

    @step
    def end(self):
        """The release is served from here on."""


if __name__ == "__main__":
    TrainFlow()

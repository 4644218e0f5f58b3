"""TrainFlow: from raw events to a published release."""

from metaflow import card, step

from base_flow import BaseFlow


class TrainFlow(BaseFlow):
    """start > land > build_features > train (each recommender) > select > recommend > validate > publish > end

    Artifacts carry snapshot ids and small results; data lies in the store.
    """

    @step
    def start(self):
        """Check everything that can be checked, and note what is live now."""
        from datetime import UTC, datetime

        from recsys.recommenders import create
        from recsys.sources import open_source

        self.today = datetime.now(UTC).date()
        open_source(self.settings.dataset.source, self.settings.dataset.dials)
        for name, parameters in self.settings.recommenders.items():
            create(name, parameters)
        self.champion = self.store.current()
        self.next(self.land)

    @step
    def land(self):
        """Take what the source gives into a raw snapshot, and check it at the border."""
        from recsys.pipeline import land

        self.raw_id, self.raw_verdicts = land(self.store, self.settings, self.today)
        self.next(self.build_features)

    @step
    def build_features(self):
        """Run dbt as of every cutoff, or find what it made of the same before."""
        from recsys.pipeline import build_features
        from recsys.verdicts import require

        require(self.raw_verdicts, "raw data")
        self.built = build_features(self.store, self.raw_id, self.settings, self.project)
        self.dbt_overhead = self.built.dbt_overhead
        self.names = list(self.settings.recommenders)
        self.next(self.train, foreach="names")

    @step
    def train(self):
        """Score one recommender on the selection windows and the holdout, then fit it on everything."""
        from recsys.pipeline import train

        self.recommender = self.input
        self.windows, self.model_id = train(self.store, self.recommender, self.built.id, self.settings)
        self.next(self.select)

    @card(type="blank")
    @step
    def select(self, inputs):
        """Choose the simplest recommender that none beats beyond noise, and show what is possible beside it."""
        from cards import show_evaluations
        from recsys.evaluation import select
        from recsys.pipeline import oracle

        self.merge_artifacts(inputs, include=["today", "champion", "raw_verdicts", "built"])
        self.evaluations = {task.recommender: task.windows for task in inputs}
        self.winner = select(self.evaluations, self.settings)
        self.model_id = next(task.model_id for task in inputs if task.recommender == self.winner)
        self.oracle = oracle(self.store, inputs[0].built.id, self.settings)  # merged ones cannot be read by `make step`
        show_evaluations(self.evaluations, self.oracle, self.winner, self.settings)
        self.next(self.recommend)

    @step
    def recommend(self):
        """Write everybody's lists, by the saved model, as an unpublished release."""
        from recsys.pipeline import recommend

        holdout = {protocol: windows[0] for protocol, windows in self.evaluations[self.winner].items()}
        self.release_id = recommend(self.store, self.model_id, self.built.id, holdout, self.settings, self.code.to_dict())
        self.next(self.validate)

    @step
    def validate(self):
        """Gather the evidence on data, lists and model, and lay it beside the release."""
        from recsys.pipeline import validate

        self.evidence = validate(self.store, self.release_id, self.raw_verdicts, self.winner, self.evaluations, self.settings)
        self.next(self.publish)

    @step
    def publish(self):
        """Move CURRENT, last, if the evidence allows it and nobody else moved it meanwhile."""
        from recsys.publishing import publish

        publish(self.store, self.release_id, self.evidence, self.champion)
        self.next(self.end)

    @step
    def end(self):
        """The release is served from here on."""


if __name__ == "__main__":
    TrainFlow()

"""TuneFlow: changes one parameter of a recommender at a time, and compares the scores with the present ones."""

from metaflow import Parameter, catch, step

from base_flow import BaseFlow


class TuneFlow(BaseFlow):
    """start > evaluate (each variant) > compare > end

    Uses only the selection windows, since the holdout is for TrainFlow. Publishes nothing, and does not change config.toml.
    """

    recommender = Parameter("recommender", default="", help="a section of [tune.*]; by default the first")

    @step
    def start(self):
        """Check settings and source, and make the features that TrainFlow would, or reuse them."""
        from recsys.evaluation import variants
        from recsys.pipeline import build_features, land
        from recsys.validation_report import require

        self.check_inputs()
        self.tuned = self.recommender or next(iter(self.settings.tune), "")
        self.variants = variants(self.settings, self.tuned)
        raw_id, raw_results = land(self.store, self.settings, self.today, self.access)
        require({"raw": raw_results}, ["raw"], "raw data")
        self.built = build_features(self.store, raw_id, self.settings, self.project)
        self.next(self.evaluate, foreach="variants")

    @catch(var="failure", print_exception=False)
    @step
    def evaluate(self):
        """Score one variant on the selection windows. If it fails or is killed, the others go on."""
        from recsys.costs import cpu_seconds
        from recsys.pipeline import try_variant

        before = cpu_seconds()
        self.windows = try_variant(self.store, self.tuned, self.input.parameters, self.built.id, self.settings)
        self.cpu_seconds = cpu_seconds() - before
        self.next(self.compare)

    @step
    def compare(self, inputs):
        """Compare every variant with the present parameters, examine candidates and features, and write the log and the advice."""
        from recsys.evaluation import advice, findings, limits_log, log
        from recsys.pipeline import examine

        self.merge_artifacts(inputs, include=["today", "tuned", "built"])
        self.findings = findings([trial(task) for task in inputs], self.settings)
        day = self.today.isoformat()
        found, costs = examine(self.store, self.tuned, self.built.id, self.settings)
        self.log = limits_log(found, costs, self.tuned, day, self.built.id, self.settings)
        self.log += log(self.findings, self.tuned, day, self.built.id, self.settings)
        self.advice = advice(self.findings, self.tuned, self.settings)
        self.next(self.end)

    @step
    def end(self):
        """`make tune` adds the log to tuning.md. Nothing is changed in config.toml."""


def trial(task):
    """Returns the result of an `evaluate` task."""
    from recsys.evaluation import Trial

    if task.failure:
        kind = task.failure.type.rpartition(".")[2]
        return Trial(task.input, error=getattr(task, "refusal", "") or f"{kind}: {task.failure.exception}")
    return Trial(task.input, task.windows, task.cpu_seconds)


if __name__ == "__main__":
    TuneFlow()

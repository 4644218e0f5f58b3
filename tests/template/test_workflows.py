"""What CI does, as .github/workflows says it."""

import re

import yaml

from conftest import ROOT


def test_ci_calls_only_make_and_only_verbs_that_exist() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    ran = {tuple(step["run"].split()[:2]) for job in jobs.values() for step in job["steps"] if "run" in step}
    verbs = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.M))
    assert ran == {("make", verb) for verb in ("lint", "run", "test", "test-all", "deploy", "undeploy")}
    assert {verb for _, verb in ran} <= verbs
    assert all(needed in jobs for job in jobs.values() for needed in job.get("needs", []))


def test_ci_deploys_pushes_to_branches_and_undeploys_those_that_are_deleted() -> None:
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    jobs, events = yaml.safe_load(text)["jobs"], yaml.safe_load(text)[True]  # YAML 1.1 reads `on` as true
    assert events["push"] == {"branches": ["**"]}
    deleting = {name for name, job in jobs.items() if "event_name == 'delete'" in job["if"]}
    others = {name for name, job in jobs.items() if "event_name != 'delete'" in job["if"] or "event_name == 'push'" in job["if"]}
    assert (deleting, others) == ({"undeploy"}, jobs.keys() - {"undeploy"})
    assert jobs["undeploy"]["env"]["BRANCH"] == "${{ github.event.ref }}"
    for verb, given in {"deploy": ["AUTHORIZE", "BRANCH", "PRODUCTION"], "undeploy": ["BRANCH"]}.items():
        command = jobs[verb]["steps"][-1]["run"]
        assert sorted(re.findall(r'\b(\w+)="\$\1"', command)) == given  # in the environment alone they would not count
        assert jobs[verb]["env"].keys() == {"METAFLOW_USER", *given}
    assert jobs["undeploy"]["env"]["METAFLOW_USER"] == jobs["deploy"]["env"]["METAFLOW_USER"]

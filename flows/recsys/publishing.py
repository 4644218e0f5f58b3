"""Publishing: checks evidence and moves `CURRENT`. The one door to production, and nothing turns its lock off."""

from collections.abc import Iterable

from recsys import RecsysError
from recsys.store import Store
from recsys.verdicts import Evidence, require


def publish(store: Store, release: str, evidence: Evidence, expected: str | None, families: Iterable[str]) -> None:
    """Moves `CURRENT` to a release, if its evidence is its own, every one of the families of checks has spoken and nothing
    blocks. `expected` is what was live when the run began: if that has changed, raises Conflict."""
    require(evidence.families, families, "evidence")
    manifest = store.load("release", release).manifest
    bound = {"model": evidence.model, "features": evidence.features, "content": evidence.content}
    own = {"model": manifest.parents["model"], "features": manifest.parents["features"], "content": manifest.content}
    if bound != own:
        wrong = ", ".join(f"{name} {bound[name]}, not {own[name]}" for name in own if bound[name] != own[name])
        raise RecsysError(f"the evidence is not of release {release}: it speaks of {wrong}; run the flow again")
    if store.evidence(release) != evidence.to_json():
        raise RecsysError(f"evidence.json of release {release} is not what its checks wrote; run the flow again")
    store.point(release, expected, model=evidence.model)

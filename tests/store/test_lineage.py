"""What differs between two manifests, and the walk over parents."""

from recsys.releases.lineage import changes, trace
from recsys.store.snapshots import Store


def test_what_differs_is_named_with_dots_old_and_new() -> None:
    old = {"seed": 7, "lists": {"length": 50, "repeat": "all_items"}, "tune": {"x": [1]}, "gone": 1}
    new = {"seed": 7, "lists": {"length": 20, "repeat": "all_items"}, "tune": {"x": [1, 2]}, "came": {"a": 1}}
    assert changes(old, new) == {
        "lists.length": (50, 20),
        "tune.x": ([1], [1, 2]),
        "gone": (1, None),
        "came.a": (None, 1),
    }
    assert changes(old, old) == {}


def commit(store: Store, kind: str, id: str, **parents: str) -> None:
    with store.draft() as folder:
        (folder / "file").write_text(id)
        store.commit(folder, kind, {}, parents, id)


def test_a_release_has_its_own_features_whatever_its_model_learned_from(store: Store) -> None:
    commit(store, "raw", "r1")
    commit(store, "raw", "r2")
    commit(store, "features", "f1", raw="r1")
    commit(store, "features", "f2", raw="r2")
    commit(store, "model", "m1", features="f1")
    commit(store, "release", "today", features="f2", model="m1")
    found = trace(store, "today")
    assert {kind: manifest.id for kind, manifest in found.items()} == {
        "release": "today",
        "model": "m1",
        "features": "f2",
        "raw": "r2",
    }


def test_what_is_gone_is_left_out(store: Store) -> None:
    commit(store, "model", "m1", features="f1")
    commit(store, "release", "old", features="f1", model="m1")
    assert trace(store, "old").keys() == {"release", "model"}

"""Verbs about releases: list, verify, compare and explain them, and choose which one is live."""

import tempfile
from datetime import UTC, datetime
from typing import Annotated

import reporting
from cli.production import ROOT, code_version, is_production, require_committed_release
from cli.terminal import console, say, table
from cli.variables import Place, Range, no_release, option
from recsys import RecsysError, evaluation, publishing, recommenders, validation
from recsys.store import Store, open_store

Release = Annotated[str, option("one of `make releases`; by default, the live one", shown="ID")]
New = Annotated[bool, option("use the lists of new items, without those that the user had before", "--novel")]


def releases(place: Place) -> None:
    """Lists all releases in the store, newest first, with their roles: live, canary, previous, pinned.

    Example: make releases
    """
    chosen, kept = place.open()
    found, metric = publishing.listed(kept, chosen), chosen.evaluation.metric
    if not found:
        raise no_release(chosen)
    names, today = [f"{metric} {name}" for name in recommenders.LIST_KINDS], datetime.now(UTC).date()
    made = table(("", "release", "data", "days old", "winner", *names))
    for one in found:
        missing = "no users" if one.metrics else "damaged"
        means = [f"{one.metrics[name]:.4f}" if name in one.metrics else missing for name in recommenders.LIST_KINDS]
        age = str((today - one.as_of).days) if one.as_of else "damaged"
        made.add_row(", ".join(one.roles), one.id, " to ".join(one.days), age, one.recommender, *means)
    console.print(made)


def verify(place: Place, release: Release = "") -> None:
    """Checks that a release can be served: its files, structure and validation report, and answers for some users.

    Example: make verify RELEASE=20251108-1a2b3c4d
    """
    _, kept, release = place.open_release(release)
    report = publishing.verify(kept, release)
    console.print(f"release {release} can be served; none of its {len(report.results)} check results blocks")
    tell_faults(kept)


def tell_faults(kept: Store) -> None:
    """Prints the faults of a store's pointers, pins and records, one line each."""
    for fault in kept.faults():
        say(f"damaged: {fault}")


def rollback(
    place: Place, release: Annotated[str, option("one of `make releases`; by default, the one live before", shown="ID")] = ""
) -> None:
    """Makes the previous release live again, or any other release that passed its checks.

    Example: make rollback
    """
    chosen, kept = place.open()
    left, checks = kept.current(strict=not release), validation.required(chosen.validation.audit)
    release = publishing.rollback(kept, checks, release, at=datetime.now(UTC).isoformat(timespec="seconds"))
    console.print(f"release {release} is live; rolled back from {left}, which stays in the store")


def pin(
    place: Place,
    release: Annotated[str, option("one of `make releases`", shown="ID")],
    off: Annotated[bool, option("let `make gc` delete it again", "--off")] = False,
) -> None:
    """Protects a release from `make gc`.

    Example: make pin RELEASE=20251108-1a2b3c4d
    """
    _, kept = place.open()
    kept.pin(release, not off)
    console.print(f"release {release} is {'no longer pinned' if off else 'pinned'}")


def canary(
    place: Place,
    release: Annotated[str, option("one of `make releases`", shown="ID")] = "",
    share: Annotated[float | None, option("share of the users, such as 0.05", read=Range(0, 1), shown="SHARE")] = None,
    off: Annotated[bool, option("end the canary", "--off")] = False,
) -> None:
    """Serves a release to a share of the users, and the live one to all others.

    Example: make canary RELEASE=20251108-1a2b3c4d SHARE=0.05
    """
    chosen, kept = place.open()
    if off:
        kept.point_canary(None, kept.current())
        console.print("there is no canary")
        return
    if not release or share is None:
        raise RecsysError("RELEASE or SHARE is not given; pass RELEASE=, one of `make releases`, and SHARE=0.05, or OFF=1")
    require_release_of_commit(place, kept, release)
    publishing.try_out(kept, validation.required(chosen.validation.audit), release, share)
    console.print(f"release {release} is the canary of {share * 100:g}% of the users")


def promote(place: Place) -> None:
    """Makes the canary live for all users.

    Example: make promote
    """
    chosen, kept = place.open()
    if tried := kept.canary():
        require_release_of_commit(place, kept, tried.release)
    checks = validation.required(chosen.validation.audit)
    release = publishing.promote(kept, checks, at=datetime.now(UTC).isoformat(timespec="seconds"))
    console.print(f"release {release} is live; there is no canary")


def require_release_of_commit(place: Place, kept: Store, release: str) -> None:
    """Raises RecsysError if production's users would see a release that was made by uncommitted code. Rollbacks do not check
    this."""
    manifest = kept.find("release", release)
    if manifest and is_production(place.root, place.branch_name):
        require_committed_release(release, manifest.made_from["code"])


def gc(
    place: Place,
    keep: Annotated[int, option("newest releases to keep; 3 by default", read=Range(1, 1_000_000, is_whole=True), shown="N")] = 3,
    grace_hours: Annotated[
        float,
        option("keep all that is younger, since a run may be using it; 24 by default", read=Range(0, 87_600), shown="HOURS"),
    ] = 24,
    yes: Annotated[bool, option("delete what is listed", "--yes")] = False,
) -> None:
    """Lists unreferenced snapshots; with YES=1, deletes them.

    Example: make gc KEEP=5 YES=1
    """
    _, kept = place.open()
    found = (publishing.free if yes else publishing.unneeded)(kept, keep, grace_hours)
    if not found and (damaged := kept.faults()):
        raise RecsysError(f"nothing is freed while the store is damaged: {'; '.join(damaged)}")
    for (kind, id), size in found.items():
        console.print(f"{kind:<8}  {id:<18}  {size / 1e6:10,.1f} MB")
    total = f"{sum(found.values()) / 1e6:,.1f} MB in {len(found)} snapshots"
    console.print(f"freed {total}" if yes else f"would free {total}" + ("; pass YES=1 to do it" if found else ""))
    say(
        f"kept are the {keep} newest releases (KEEP=), those that are live, previous, canary or pinned, what they were made from,"
        f" and all that is younger than {grace_hours:g} hours (GRACE_HOURS=)"
    )


def reproduce(place: Place, release: Release = "") -> None:
    """Makes a release again from its raw snapshot and says whether the result is identical.

    Example: make reproduce
    """
    from recsys.reproduce import reproduce

    chosen, kept, release = place.open_release(release)
    with tempfile.TemporaryDirectory(prefix="reproduced-") as folder:
        scratch = open_store(folder, chosen.name)
        found = reproduce(kept, release, scratch, ROOT / "dbt_project", code_version())
    for line in (*found.differences, *found.other):
        say(line)
    if not found.identical:
        raise RecsysError(f"release {release} has content {found.content}, made again {found.remade}; what differs is listed above")
    console.print(f"identical content {found.content}")


def diff(
    place: Place,
    a: Annotated[str, option("the first release; by default, the one live before B", shown="ID")] = "",
    b: Annotated[str, option("the second release; by default, the live one", shown="ID")] = "",
) -> None:
    """Shows what changed from release A to release B: data, SQL, code, config, metrics and lists.

    Example: make diff
    """
    chosen, kept, b = place.open_release(b)
    a = a or next((move["previous"] or "" for move in kept.history() if move["release"] == b), "")
    if not a:
        raise RecsysError(f"no release went live before {b}; pass A= and B=, two of `make releases`")
    made = table(("", "", a, b, "change"))
    for section, rows in evaluation.diff(kept, a, b, chosen).items():
        for number, row in enumerate(rows or [("same", "", "", "")]):
            made.add_row("" if number else f"[bold]{section}[/bold]", *row)
    console.print(made)


def report(place: Place, release: Release = "") -> None:
    """Writes a page about a release to data/report.html, with the documents that it links to.

    Example: make report
    """
    target, (chosen, kept, release) = ROOT / "data" / "report.html", place.open_release(release)
    reporting.write(kept, release, chosen, ROOT / "dbt_project", target)
    console.print(f"report on release {release} written to {target.relative_to(ROOT)}")


def score(place: Place) -> None:
    """Prints the ML Test Score of the live release, computed from its validation report and the last test results.

    Example: make score
    """
    _, kept = place.open()
    reporting.show(reporting.Sources(ROOT, kept, kept.current()), console)


def explain(
    place: Place,
    user: Annotated[str, option("a user; `make export` writes all of them", shown="ID")],
    item: Annotated[str, option("explain this item: its features, and why it is in the list or not", shown="ID")] = "",
    novel: New = False,
    release: Release = "",
) -> None:
    """Explains why a user has this list: the history, the candidates with their features, and the rules.

    Example: make explain USER=u0000123
    """
    from cli.explanation import show
    from recsys.releases import explain

    (chosen, kept, release), list_kind = place.open_release(release), "new_items" if novel else "all_items"
    found = explain(kept, release, user, list_kind)
    console.print(f"release {release}, {list_kind} lists")
    show(found, item, chosen.evaluation.k, console)

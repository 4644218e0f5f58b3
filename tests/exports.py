"""Exports as other people's systems write them: small, made from a seed, and with tastes that a recommender can learn."""

import csv
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

START = datetime(2024, 1, 1, tzinfo=UTC)
GROUPS = 8  # of users and of items; a user mostly takes items of the own group


def history(
    users: int, items: int, days: int, per_day: float, seed: int
) -> Iterator[tuple[int, int, datetime, np.random.Generator]]:
    """User, item and time of each event, in order, and the dice for what else is to be said about it."""
    dice = np.random.default_rng(seed)
    popularity = 1 / np.arange(1, items + 1) ** 0.7
    group = np.arange(items) % GROUPS
    for day in range(days):
        for user in np.flatnonzero(dice.random(users) < per_day):
            weights = popularity * np.where(group == user % GROUPS, 12.0, 1.0)
            item = dice.choice(items, p=weights / weights.sum())
            yield int(user), int(item), START + timedelta(day, float(dice.uniform(7, 23)) * 3600), dice


def write_views(folder: Path) -> dict[str, str]:
    """Views alone, as JSON lines, of six weeks."""
    path = folder / "clickstream.jsonl"
    with path.open("w") as file:
        for user, item, at, _ in history(300, 60, 45, 0.4, 1):
            file.write(json.dumps({"visitor_id": user, "content_id": item, "event": "page_view", "time": at.isoformat()}) + "\n")
    return {"EVENTS": str(path)}


def write_ratings(folder: Path) -> dict[str, str]:
    """Ratings, each user and item once, in camel case and seconds since 1970."""
    path, seen = folder / "ratings.csv", set()
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["userId", "movieId", "rating", "timestamp"])
        for user, item, at, dice in history(400, 120, 150, 0.15, 2):
            if (user, item) not in seen:
                seen.add((user, item))
                liked = item % GROUPS == user % GROUPS
                writer.writerow([user, item, 0.5 * dice.integers(7 if liked else 3, 11), int(at.timestamp())])
    return {"EVENTS": str(path)}


def write_shop(folder: Path) -> dict[str, str]:
    """A shop's log and catalogue with names of their own, and milliseconds since 1970."""
    events, items = folder / "weblog.csv", folder / "catalogue.csv"
    with events.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["customer_ref", "sku", "ts", "action", "unit_price", "qty", "device"])
        for user, item, at, dice in history(400, 120, 140, 0.3, 3):
            kind = dice.choice(["page", "add_to_cart", "order", "ping"], p=[0.5, 0.2, 0.25, 0.05])
            price, device = 5 + item % 17, dice.choice(["phone", "laptop"])
            writer.writerow([f"c{user}", f"S-{item:03}", int(at.timestamp() * 1000), kind, price, 1, device])
    with items.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sku", "product_name", "dept", "brand", "weight"])
        writer.writerows(
            [f"S-{item:03}", f"Thing {item}", f"d{item % GROUPS}", f"b{item % 5}", item % 9 + 0.5] for item in range(120)
        )
    return {"EVENTS": str(events), "ITEMS": str(items)}

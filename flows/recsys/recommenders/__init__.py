"""Recommenders, by the name that config.toml gives them; registry.py lists them.

To add one, write a subclass of Recommender and its line in registry.py. Saved models hold no code.
"""

from typing import TYPE_CHECKING

from recsys.lazy import lazy

if TYPE_CHECKING:
    from recsys.recommenders.base import CHUNK, FILL_DAYS, LIST_KINDS, Lists, Recommender, Scorer, TooLittleData, popularity_order
    from recsys.recommenders.item_to_item import MAX_TOGETHER, ItemToItem, SameSession
    from recsys.recommenders.oracle import RankFunction, rank_by_truth
    from recsys.recommenders.rankers.base import Ranker
    from recsys.recommenders.registry import RECOMMENDERS, SIMPLE, check_config, create, load
    from recsys.recommenders.session_items import SESSION_DAYS, SessionItems
    from recsys.recommenders.top_k import position, rank, top
    from recsys.recommenders.two_stage import (
        CANDIDATE_SOURCES,
        Candidates,
        FeatureTable,
        TwoStage,
        candidates,
        fit_candidate_sources,
        numeric,
    )

__getattr__ = lazy(__name__, __file__)

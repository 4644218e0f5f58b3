"""Releases: writes and reads the files that are served.

Checks and the service read a release with the same reader. Business rules are applied when lists are written.
"""

from typing import TYPE_CHECKING

from recsys.lazy import lazy

if TYPE_CHECKING:
    from recsys.releases import lineage
    from recsys.releases.business_rules import HIDING, BusinessRules
    from recsys.releases.explanation import ExplainedItem, Explanation, UnknownUser, explain
    from recsys.releases.files import (
        HISTORY,
        SESSIONS,
        about,
        as_of,
        export,
        lists_file,
        new_id,
        prices,
        read_all,
        read_items,
        read_lists,
        read_lists_for,
        served,
        session_answers,
        trained_as_of,
        write,
        write_others,
        write_ranked,
    )
    from recsys.releases.lineage import changes, made_under, trace
    from recsys.releases.list_files import (
        CHUNK,
        RuleCounts,
        concatenate,
        connect,
        read_file,
        read_rows,
        unpack,
        write_lists,
        write_rows,
    )
    from recsys.releases.reader import ADVICE, DECAY, NO_FILTER, Answer, Filter, Reader
    from recsys.releases.session_index import SIMILARITIES, SIMPLEST, SessionAnswers, similar_items

__getattr__ = lazy(__name__, __file__)

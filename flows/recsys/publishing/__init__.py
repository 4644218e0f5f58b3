"""Publishing makes releases live. It is the only code that moves CURRENT, and it verifies the release and its report first."""

from typing import TYPE_CHECKING

from recsys.lazy import lazy

if TYPE_CHECKING:
    from recsys.publishing.lifecycle import ReleaseSummary, listed, promote, rollback, try_out
    from recsys.publishing.publication import ValidatedRelease, follow_champion, give_way, publish, same_champion
    from recsys.publishing.retention import free, unneeded
    from recsys.publishing.verification import verified, verify

__getattr__ = lazy(__name__, __file__)

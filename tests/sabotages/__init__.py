"""What may go wrong between raw events and a live release, each by one sabotage of a healthy run."""

from sabotages import documented, learned, released, report, sources
from sabotages.harness import PLACES, SABOTAGES, Outcome, Sabotage, attempt

__all__ = ["PLACES", "SABOTAGES", "Outcome", "Sabotage", "attempt", "documented", "learned", "released", "report", "sources"]

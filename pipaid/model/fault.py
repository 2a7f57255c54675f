"""What may go wrong between a daemon and its venue: the kinds, what each means, and what each happens to."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Fault(StrEnum):
    """What may go wrong between a daemon and its venue."""

    LOST = "lost"
    UNANSWERED = "unanswered"
    LATE = "late"
    BROKEN = "broken"
    GARBLED = "garbled"
    BANNED = "banned"
    REFUSED = "refused"
    DROPPED = "dropped"
    DOUBLED = "doubled"
    DELAYED = "delayed"
    SILENT = "silent"
    CUT = "cut"
    OUTAGE = "outage"


REQUEST_FAULTS: Final = (
    Fault.LOST,
    Fault.UNANSWERED,
    Fault.LATE,
    Fault.BROKEN,
    Fault.GARBLED,
    Fault.BANNED,
    Fault.REFUSED,
)
REPORT_FAULTS: Final = (Fault.DROPPED, Fault.DOUBLED, Fault.DELAYED, Fault.SILENT, Fault.CUT)
QUESTION_FAULTS: Final = (Fault.OUTAGE,)
# Between parts of one process no bytes travel: an answer that is malformed and one that is huge are both garbled.
MEANING: Final[Mapping[Fault, str]] = MappingProxyType(
    {
        Fault.LOST: "a request never reaches the venue, and no answer comes",
        Fault.UNANSWERED: "a request is carried out, but its answer gets lost",
        Fault.LATE: "a request reaches the venue up to 30 s later, long after it was given up",
        Fault.BROKEN: "the venue answers 503; about every other such request was carried out all the same",
        Fault.GARBLED: "a request is carried out, and nobody can read the answer: it is cut off, malformed or huge",
        Fault.BANNED: "too many requests: the venue refuses everything for 15 s",
        Fault.REFUSED: "the venue refuses a request with a reason",
        Fault.DROPPED: "a report is lost on the stream",
        Fault.DOUBLED: "a report comes twice",
        Fault.DELAYED: "a report comes up to 30 s later, after others that it preceded",
        Fault.SILENT: "the stream says nothing for 20 s, then everything at once",
        Fault.CUT: "the stream breaks: what is on its way is lost, and it is opened anew",
        Fault.OUTAGE: "a question to the venue is not answered",
    }
)

"""What makes a question unanswerable."""

from __future__ import annotations

from datetime import datetime, timedelta

from ledger.errors import InvalidArgument


class RawRowsGone(InvalidArgument):
    """The question needs raw rows from a time of which only hourly sums are left."""

    def __init__(self, bucket: timedelta, start: datetime, raw_from: datetime) -> None:
        self.bucket, self.start, self.raw_from = bucket, start, raw_from
        super().__init__(
            f"buckets of {bucket} need the raw rows since {start.isoformat()}, and those before"
            f" {raw_from.isoformat()} are only kept by the hour; start there, or ask for buckets"
            " of whole hours"
        )


class TooManyBuckets(InvalidArgument):
    """The window has more buckets, or days, than one answer may hold."""

    def __init__(self, buckets: int, most: int, advice: str) -> None:
        self.buckets, self.most = buckets, most
        super().__init__(
            f"the window has {buckets} buckets, and an answer at most {most}; {advice}"
        )

"""Dates as programs print them for people: ``13/06/2023``, ``6/13/23``, ``2023-06-13``.

Which number is the day and which the month is not written in such a file. It is inferred only where the file proves
it, and asked for otherwise: a wrong order would move every message by months, silently.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import groupby, pairwise
from typing import Final
from zoneinfo import ZoneInfo

from ..errors import SourceError
from .base import ORDERS, DateOrder
from .textfile import BadRecord

DATE: Final = r"(\d{1,4})[./-]\s?(\d{1,2})[./-]\s?(\d{1,4})\.?"
TIME: Final = r"(\d{1,2})[:.](\d{2})(?:[:.](\d{2}))?(?:\s*([AaPp])\.?\s?[Mm]\.?)?"
"""Hour, minute, second, and the first letter of AM or PM. ``\\s`` matches the narrow no-break space before it too."""

_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
NAMED: Final = rf"({'|'.join(_MONTHS)})[a-z]* +(\d{{1,2}}), +(\d{{4}}),? +{TIME}"
"""``May 17, 2022  5:29:42 PM``: month, day, year, and the groups of ``TIME``; case is ignored."""

_WRITTEN: Final = re.compile(rf"{DATE}(?:,?\s+{TIME})?")
_NAMED: Final = re.compile(NAMED, re.IGNORECASE)
_NUMBER: Final = re.compile(r"\d{9,13}(?:\.\d{1,9})?")
_MILLISECONDS_FROM: Final = 1e11

_STEP_BACK: Final = timedelta(days=1)
"""A chronological file may step back by a day, where a phone was offline or changed its zone."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """Three numbers of a date as they stand, each with how many digits it was written with."""

    values: tuple[int, int, int]
    digits: tuple[int, int, int]

    @classmethod
    def of(cls, written: Sequence[str]) -> Numbers:
        first, second, third = written
        return cls((int(first), int(second), int(third)), (len(first), len(second), len(third)))


@dataclass(frozen=True, slots=True)
class Written:
    """A date in numbers and a time of day, as they stand: hour, minute, second, half of the day."""

    date: Numbers
    clock: tuple[str, str, str | None, str | None]


def read_date(numbers: Numbers, order: DateOrder) -> date:
    """The day that ``numbers`` mean in this order.

    Raises:
        BadRecord: there is no such day, or its year is not one of messages.
    """
    places = {"dmy": (2, 1, 0), "mdy": (2, 0, 1), "ymd": (0, 1, 2)}[order]
    year, month, day = (numbers.values[place] for place in places)
    if any(numbers.digits[place] > 2 for place in places[1:]) or numbers.digits[places[0]] not in (2, 4):
        raise BadRecord("no such date")
    if numbers.digits[places[0]] == 2:
        year += 1900 if year >= 70 else 2000
    if not 1970 <= year <= 2100:
        raise BadRecord("no such date")
    try:
        return date(year, month, day)
    except ValueError:
        raise BadRecord("no such date") from None


def proven_order(dates: Iterable[Numbers], *, oldest_first: bool = True) -> DateOrder | None:
    """The one order in which ``dates``, in the order of the file, can be read; None if the file does not prove it.

    A year stands first only where it has four digits. Between day and month, an order is ruled out by a date that
    it does not allow (a month above 12), or by a step back where the file is chronological in the other order.

    Args:
        oldest_first: whether the file is known to be so; else it may as well be newest first.
    """
    steps = [numbers for numbers, _ in groupby(dates)]  # where the day changes: enough for a proof
    readings: dict[DateOrder, list[date]] = {}
    for order in ORDERS:
        if any((numbers.digits[0] == 4) != (order == "ymd") for numbers in steps):
            continue
        try:
            readings[order] = [read_date(numbers, order) for numbers in steps]
        except BadRecord:
            continue
    if len(readings) > 1:
        chronological = {order: days for order, days in readings.items() if _is_chronological(days, oldest_first)}
        readings = chronological or readings
    return next(iter(readings)) if len(readings) == 1 else None


def _is_chronological(days: Sequence[date], oldest_first: bool) -> bool:
    steps = [later - earlier for earlier, later in pairwise(days)]
    forward = all(step >= -_STEP_BACK for step in steps)
    return forward or (not oldest_first and all(step <= _STEP_BACK for step in steps))


def order_or_refuse(
    dates: Iterable[Numbers], stated: DateOrder | None, where: str, *, oldest_first: bool = True
) -> DateOrder:
    """The order that was stated, else the one that the dates prove.

    Raises:
        SourceError: neither; says which option decides it.
    """
    proven = stated or proven_order(dates, oldest_first=oldest_first)
    if proven is None:
        raise SourceError(
            f"the dates in {where} can be read in more than one order, or in none",
            "Say which one it is: --dates dmy (day first), mdy (month first) or ymd (year first)",
        )
    return proven


def read_clock(hour: str, minute: str, second: str | None, half: str | None) -> time:
    """A time of day from the groups of ``TIME``.

    Raises:
        BadRecord: there is no such time.
    """
    hours = int(hour)
    if half is not None:
        if not 1 <= hours <= 12:
            raise BadRecord("no such time")
        hours = hours % 12 + (12 if half in "Pp" else 0)
    try:
        return time(hours, int(minute), int(second or 0))
    except ValueError:
        raise BadRecord("no such time") from None


def read_moment(said: str, zone: tzinfo) -> int | Written:
    """Milliseconds since 1970 of a time as a table states it; ``Written`` where only an order of the numbers tells.

    Read are ISO 8601, seconds or milliseconds since 1970 (from 1973 on), and dates with an English month name.

    Raises:
        BadRecord: it is none of these.
    """
    said = said.strip()
    if (found := _WRITTEN.fullmatch(said)) is not None and len(found[1]) < 4:
        first, second, third, *clock = found.groups()
        return Written(Numbers.of((first, second, third)), (clock[0] or "0", clock[1] or "00", clock[2], clock[3]))
    try:
        if _NUMBER.fullmatch(said):
            return round(float(said) * (1000 if float(said) < _MILLISECONDS_FROM else 1))
        if (named := _NAMED.fullmatch(said)) is not None:
            return read_named(named.groups(), zone)
        moment = datetime.fromisoformat(said.replace("/", "-", 2) if said[4:5] == "/" else said)
        return round((moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise BadRecord("no usable time") from error


def read_written(written: Written, order: DateOrder, zone: tzinfo) -> int:
    """Milliseconds since 1970 of a date whose order is known.

    Raises:
        BadRecord: no such date or time.
    """
    return milliseconds(read_date(written.date, order), read_clock(*written.clock), zone)


def read_named(groups: Sequence[str], zone: tzinfo) -> int:
    """Milliseconds since 1970 of the groups of ``NAMED``.

    Raises:
        BadRecord: no such date or time.
    """
    month, day, year, hour, minute, second, half = groups
    day_of_year = (int(year), _MONTHS.index(month[:3].casefold()) + 1, int(day))
    try:
        return milliseconds(date(*day_of_year), read_clock(hour, minute, second, half), zone)
    except ValueError:
        raise BadRecord("no such date") from None


def milliseconds(day: date, clock: time, zone: tzinfo) -> int:
    """Milliseconds since 1970 of a local time; where clocks are put back, the first of the two."""
    return round(datetime.combine(day, clock, zone).timestamp() * 1000)


def zone_of(name: str | None) -> tzinfo:
    """The zone of a file's times; UTC if None, so that reading a file again gives the same times anywhere.

    Raises:
        SourceError: there is no such zone.
    """
    if name is None:
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        message = f"there is no time zone {name!r}"
        raise SourceError(message, "Give a name such as Europe/Berlin or America/New_York") from error

"""Calendars: finds years of other calendars that are the years which the English side gives."""
# SPDX-License-Identifier: Apache-2.0

import functools
import re
from collections.abc import Iterable
from typing import NamedTuple

from gshard_mt.languages import base_language


class Calendar(NamedTuple):
    """Year n of it overlaps with our year n + offset, for each of the offsets."""

    languages: str  # codes of those written with it
    offsets: tuple[float, ...]
    years: range
    has_our_months: bool = False  # otherwise days and months have other numbers, too
    has_short: bool = False  # `99` may stand for 1399
    ratio: float = 1.0  # of the length of its year and ours
    # Without one of these in the text, a number is no year of this calendar.
    words: tuple[str, ...] = ()


class SameYears(NamedTuple):
    """Numbers of a text that are years of its calendar, and the same years on the other side."""

    mine: set[int]
    others: set[int]
    has_other_days: bool  # days and months differ, too


_MUSLIM = (
    "ar arq ary arz acm ajp apc apd ars az azb bal ban bn bug ckb dv fa glk ha haz id jv kk ks ku"
    " ky ms mzn pa pnb ps prs sd skr so su sw tg tk tr tt ug ur uz"
)
_CHINESE = "zh yue nan hak cdo wuu lzh ami tay trv pwn bnn"


def _era(offset: int, last: int, *words: str) -> Calendar:
    return Calendar("ja ryu ain zh ko", (offset,), range(1, last + 1), True, words=words)


_CALENDARS = (
    # Solar and lunar Hijri; a lunar year is eleven days shorter than ours
    Calendar(
        "fa prs ps haz mzn glk lrc bqi ckb ku azb bal tg uz tk",
        (621, 622),
        range(1200, 1500),
        has_short=True,
    ),
    Calendar(_MUSLIM, (621.57, 622.57), range(1100, 1500), ratio=354.36708 / 365.2425),
    # Buddhist, Burmese
    Calendar("th lo km tts nod kxm sou", (-544, -543, -542), range(2300, 2600), True, True),
    Calendar("my si shn mnw ksw rki pi", (-544, -543), range(2300, 2600)),
    Calendar("my shn mnw rki", (638, 639), range(1100, 1400)),
    # Vikram Samvat, Nepal Sambat
    Calendar("ne mai bho new taj the thl dty", (-57, -56), range(1800, 2110), has_short=True),
    Calendar("hi gu raj awa sa mr anp mag", (-57, -56), range(1800, 2110)),
    Calendar("new ne", (879, 880), range(900, 1170)),
    # Shaka, Bengali, Kollam
    Calendar("hi mr te kn sa kok ta or gu bho mai", (78, 79), range(1500, 1960)),
    Calendar("bn as syl rkt ctg or", (593, 594), range(1100, 1450)),
    Calendar("ml", (824, 825), range(800, 1210)),
    # Ethiopian, Coptic
    Calendar("am ti om gez sid wal tig har so aa sgw", (7, 8), range(1500, 2040)),
    Calendar("cop", (283, 284), range(1200, 1760)),
    # Hebrew, Tibetan, Amazigh, Dangun
    Calendar("he yi lad", (-3761, -3760), range(5000, 5800)),
    Calendar("bo dz", (-127, -126), range(1700, 2170)),
    Calendar("kab tzm zgh shi rif ber shy", (-950, -949), range(2700, 2990)),
    Calendar("ko", (-2333,), range(4000, 4380), True),
    # Minguo, Juche and the eras of Japan
    Calendar(_CHINESE, (1911,), range(1, 130), True, words=("民國", "民国")),
    Calendar(_CHINESE, (1911,), range(60, 130), True, words=("{year}年",)),
    Calendar("ko", (1911,), range(1, 130), True, words=("주체", "민국")),
    _era(1867, 45, "明治", "메이지", "M{year}"),
    _era(1911, 15, "大正", "다이쇼", "T{year}"),
    _era(1925, 64, "昭和", "쇼와", "S{year}"),
    _era(1988, 31, "平成", "헤이세이", "H{year}"),
    _era(2018, 99, "令和", "레이와", "㋿", "R{year}"),
)
_WESTERN = range(1000, 2200)
_MOST_DAYS = 31
_FIRST_YEAR = re.compile(r"(?<=明治|大正|昭和|平成|令和)元(?=年)")


def with_first_years(text: str) -> str:
    """Returns the text with a digit for the first year of an era, which has a name: 令和元年."""
    return _FIRST_YEAR.sub("1", text)


def same_years(
    text: str, numbers: Iterable[int], others: Iterable[int], language: str
) -> SameYears:
    """Returns which of a text's numbers are, in a calendar of its language, years of `others`."""
    found = SameYears(set(), set(), False)
    western = [other for other in others if other in _WESTERN]
    for calendar in _calendars_of(language) if western else ():
        for number in numbers:
            words = [word.format(year=number) for word in calendar.words]
            if words and not any(word in text for word in words):
                continue
            if years := {year for year in western if year in _our_years(calendar, number)}:
                found.mine.add(number)
                found.others.update(years)
                found = found._replace(
                    has_other_days=found.has_other_days or not calendar.has_our_months
                )
    return found


def is_day(number: int) -> bool:
    """Tells whether a number may be that of a day or a month."""
    return 0 < number <= _MOST_DAYS


@functools.cache
def _calendars_of(language: str) -> tuple[Calendar, ...]:
    base = base_language(language)
    return tuple(each for each in _CALENDARS if base in each.languages.split())


def _our_years(calendar: Calendar, number: int) -> set[int]:
    """Returns our years that the year with this number, or with these last two digits, may mean."""
    years = [number]
    if calendar.has_short and number < 100:
        first, last = calendar.years.start // 100, calendar.years.stop // 100
        years += [100 * century + number for century in range(first, last + 1)]
    return {
        int(year * calendar.ratio + offset)
        for year in years
        if year in calendar.years
        for offset in calendar.offsets
    }

"""Numerals: tells whether the numbers of two sides contradict each other."""
# SPDX-License-Identifier: Apache-2.0

import re
from collections import Counter

from gshard_mt.data.cleaning.calendars import is_day, same_years, with_first_years

# 1,200 and 1.200 and 1 200 and 1'200 and 1,10,200 are each one number.
_THOUSANDS = re.compile(
    r"(?<=\d)(?:[.'’\u00a0\u202f\u066c ](?=\d{3}(?!\d))|,(?=(?:\d\d,)*\d{3}(?!\d)))"
)
_NUMBER = re.compile(r"\d+")
_CLOCK = re.compile(r"(?<![^\W\d])[ap]\.? ?m\b|o['’]?clock|\d[:.h]\d\d(?!\d)", re.IGNORECASE)
# Words that multiply: "10 million" is 1000万 and 10,000,000.
_MULTIPLE = re.compile(
    r"(?:hundred|thousand|[mb]illion|trillion|dozen|lakh|crore)s?\b|\d(?:k|[mb]n?)\b"
    r"|[百千万萬亿億兆백천만억조]",
    re.IGNORECASE,
)


def do_numbers_differ(source: str, english: str, language: str = "") -> bool:
    """Tells whether each side has a number that the other lacks.

    Digits of all scripts count by value; thousands separators and leading zeros are ignored. These
    are not differences: a number on one side only ("3" is also written "three"), 2 for 14 in times
    of day, '50 for 1950, years of a calendar of the language, and zeros for words that multiply.
    """
    mine, others = _numbers(with_first_years(source)), _numbers(english)
    only_mine, only_others = mine - others, others - mine
    if only_mine and only_others and language:
        only_mine, only_others = _without_same_years(source, only_mine, only_others, language)
    if not only_mine or not only_others:
        return False
    if _MULTIPLE.search(english) or _MULTIPLE.search(source):
        return False
    if _CLOCK.search(english) or _CLOCK.search(source):
        only_mine, only_others = _on_12_hours(only_mine), _on_12_hours(only_others)
    only_mine = _without_short_years(only_mine, only_others)
    only_others = _without_short_years(only_others, only_mine)
    only_mine, only_others = only_mine - only_others, only_others - only_mine
    if not only_mine or not only_others:
        return False
    return not _differ_by_thousands(only_mine, only_others)


def _numbers(text: str) -> Counter[int]:
    # int() accepts the digits of every script, but no more than 4,300 of them.
    return Counter(int(number[:300]) for number in _NUMBER.findall(_THOUSANDS.sub("", text)))


def _without_same_years(
    source: str, mine: Counter[int], others: Counter[int], language: str
) -> tuple[Counter[int], Counter[int]]:
    """Returns the numbers without those that give a date in two calendars."""
    same = same_years(source, mine, others, language)
    mine = Counter({each: times for each, times in mine.items() if each not in same.mine})
    others = Counter({each: times for each, times in others.items() if each not in same.others})
    if same.has_other_days and any(map(is_day, mine)) and any(map(is_day, others)):
        mine, others = (
            Counter({each: times for each, times in numbers.items() if not is_day(each)})
            for numbers in (mine, others)
        )
    return mine, others


def _on_12_hours(numbers: Counter[int]) -> Counter[int]:
    hours: Counter[int] = Counter()
    for number, times in numbers.items():
        # 2:30 is 14:30; midnight is 0, 12 or 24
        hours[number % 12 if number <= 24 else number] += times
    return hours


def _without_short_years(numbers: Counter[int], others: Counter[int]) -> Counter[int]:
    """Returns the numbers without those that abbreviate a year of the others, as in 1914-18."""
    short = {year % 100 for year in others if 1000 <= year < 2100}
    return Counter({number: times for number, times in numbers.items() if number not in short})


def _differ_by_thousands(mine: Counter[int], others: Counter[int]) -> bool:
    """Tells whether two single numbers differ by at least three zeros: "5 Millionen", 5,000,000."""
    if mine.total() != 1 or others.total() != 1:
        return False
    small, large = sorted([*mine, *others])
    return small > 0 and large >= 1000 * small and str(large).rstrip("0") == str(small).rstrip("0")

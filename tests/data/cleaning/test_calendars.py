"""Years of other calendars are no numbers that contradict the English side."""
# SPDX-License-Identifier: Apache-2.0

import pytest

from gshard_mt.config.records import CleaningConfig
from gshard_mt.data.cleaning.clean import REASONS, clean
from gshard_mt.data.cleaning.numerals import do_numbers_differ


@pytest.mark.parametrize(
    ("language", "source", "english"),
    [
        ("fa", "او در سال ۱۳۹۹ به تهران رفت.", "He went to Tehran in 2020."),
        ("fa", "آن‌ها در سال ۱۳۷۵ ازدواج کردند.", "They married in 1997."),
        ("fa", "۱۵ فروردین ۱۳۹۹", "April 3, 2020"),
        ("fa", "متولد ۵۷", "Born in 1978"),
        ("fa", "سال ۱۴۴۱ قمری", "the year 2019"),
        ("prs", "در سال ۱۳۸۰", "in 2001"),
        ("ps", "په ۱۴۰۰ کال", "in the year 2021"),
        ("th", "เกิดปี พ.ศ. 2563", "Born in 2020"),
        ("th", "วันที่ 5 มีนาคม 2499", "March 5, 1956"),
        ("lo", "ປີ 2560", "the year 2017"),
        ("km", "ព.ស. ២៥៦៣", "In 2019"),
        ("si", "බු.ව. 2563", "In 2020"),
        ("my", "၁၃၈၂ ခုနှစ်", "In 2020"),
        ("ne", "वि.सं. २०७७ सालमा", "In 2020"),
        ("ne", "२०७२ वैशाख १२ गते", "April 25, 2015"),
        ("ar", "عام ١٤٤١", "In 2020"),
        ("ar", "عام ١٣٥٠", "In 1932"),
        ("ur", "۱۴۰۰ ہجری", "In 1979"),
        ("id", "Tahun 1443 H", "The year 2021"),
        ("zh", "民國109年", "In 2020"),
        ("zh-Hant", "民國5年3月1日", "March 1, 1916, the 3rd month"),
        ("zh", "105年畢業", "Graduated in 2016"),
        ("ja", "令和2年", "In 2020"),
        ("ja", "令和元年5月1日", "May 1, 2019, month 5"),
        ("ja", "昭和64年と平成元年", "1989 and year 1"),
        ("ja", "明治45年", "In 1912"),
        ("ja", "H30年度", "Fiscal 2018"),
        ("ko", "단기 4353년", "In 2020"),
        ("ko", "주체109년", "In 2020"),
        ("ko", "쇼와 20년", "In 1945"),
        ("am", "በ2012 ዓ.ም.", "In 2020"),
        ("ti", "ብ2012", "In 2019"),
        ("om", "Bara 1999tti", "In 2007"),
        ("he", "שנת 5780", "In 2020"),
        ("bn", "১৪২৭ সালে", "In 2020"),
        ("hi", "शक 1942", "In 2020"),
        ("ml", "കൊല്ലവർഷം 1196", "In 2020"),
        ("kab", "Aseggas 2970", "The year 2020"),
        ("bo", "བོད་རྒྱལ་ལོ་ ༢༡༤༧", "In 2020"),
    ],
)
def test_the_same_year_in_two_calendars_is_no_difference(language, source, english):
    assert not do_numbers_differ(source, english, language)


@pytest.mark.parametrize(
    ("language", "source", "english"),
    [
        ("de", "Es war 1399", "It was 2020"),
        ("fa", "در سال ۱۳۹۹", "in 2015"),
        ("fa", "۱۳۹۹ نفر", "1200 people"),
        ("fa", "۱۵ نفر در ۱۳۹۹", "150 people in 2020"),
        ("th", "ปี 2563", "In 2011"),
        ("th", "วันที่ 5 มีนาคม 2499", "March 6, 1956"),
        ("zh", "5个人", "In 1916"),
        ("ja", "2年", "In 2020"),
        ("ja", "令和2年", "In 1990"),
        ("am", "በ2012", "In 1990"),
        ("ar", "عام ١٤٤١", "In 1999"),
    ],
)
def test_another_year_still_differs(language, source, english):
    assert do_numbers_differ(source, english, language)


def test_the_filter_knows_the_language():
    source, english = "او در سال ۱۳۹۹ به تهران رفت.", "He went to Tehran in 2020."
    for language, reason in (("fa", None), ("fa_Arab", None), ("ckb", None), ("sd", "numbers")):
        number = clean([source], [english], language, CleaningConfig(language=False)).reason[0]
        assert (REASONS[number - 1] if number else None) == reason

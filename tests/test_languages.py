"""Languages have one code each, whatever a corpus calls them."""
# SPDX-License-Identifier: Apache-2.0

import pytest
import regex

from gshard_mt.errors import DataError
from gshard_mt.languages import (
    code_of_name,
    english_name,
    find_language,
    is_language,
    language_code,
    match_languages,
    merge_locales,
    plain_tag,
    scripts_of,
    source_of_pair,
)

# code -> tags of FLORES, NLLB, OPUS, Tatoeba, Mozilla, GNOME, Microsoft, Wikipedia and BCP 47.
TAGS = {
    "de": "de deu ger DE de-DE de_AT deu_Latn de-1996 de-CH-1901 de-Latf de_DE.UTF-8 de_DE@euro"
    " de@collation=phonebook",
    "pt": "pt pt-BR pt_br por_Latn",
    "es": "es es-419 spa_Latn es-ES-u-co-trad",
    "ca": "ca ca-valencia ca-ES-valencia ca@valencia ca-ES-u-co-trad ca-x-house cat_Latn",
    "zh": "zh zh-Hans zh_Hant zh_TW zh-cmn-Hans-CN zho_Hans cmn cmn_Hant zh-CHS zh-Hant-HK"
    " zh-guoyu",
    "yue": "yue zh-yue yue_Hant zh_yue",
    "nan": "nan zh-min-nan zh_min_nan",
    "lzh": "lzh zh-classical",
    "sr": "sr srp scc sr-Cyrl srp_Cyrl sr-SP sr-ec",
    "sr_Latn": "sr_Latn sr-Latn-RS sr@latin sr@Latn sr_RS.UTF-8@latin sr_RS@ijekavianlatin sr-el"
    " sr_latin",
    "uz": "uz uzn uzn_Latn uz-UZ-Latn",
    "uz_Cyrl": "uz@cyrillic uz-Cyrl-UZ uz-UZ-Cyrl",
    "be": "be be-tarask be-x-old bel_Cyrl",
    "he": "he iw heb_Hebr",
    "id": "id in ind_Latn",
    "yi": "yi ji ydd ydd_Hebr",
    "jv": "jv jw jav_Latn",
    "ro": "ro mo ron_Latn rum",
    "hbs": "hbs sh",
    "ko": "ko kor_Hang ko-Kore kor_Hani",
    "ja": "ja jpn_Jpan jpn_Hira ja_JP ja-JP-mac",
    "ja_Latn": "ja_Latn jpn-Latn",
    "ru": "ru rus_Cyrl",
    "hi": "hi hin_Deva",
    "crh": "crh crh_Latn",
    "crh_Cyrl": "crh_Cyrl",
    "ks": "ks kas_Arab",
    "ks_Deva": "kas_Deva",
    "bho": "bho bh bih bho_Deva",
    "vro": "vro fiu-vro",
    "sgs": "sgs bat-smg",
    "jbo": "jbo art-lojban",
    "nn": "nn nno_Latn no-nyn",
    "nb": "nb nob_Latn no-bok",
    "apc": "apc ajp apc_Arab ar-apc",
    "arz": "arz arz_Arab ar-arz",
    "ary": "ary ary_Arab",
    "azb": "azb azb_Arab",
    "ckb": "ckb ckb_Arab",
    "ase": "ase sgn-ase",
    "ang": "ang",
    "gsw": "gsw",
    "en": "en eng eng_Latn en-US-x-house en_XX",
    "en_Shaw": "en@shaw",
} | {
    macro: f"{macro} {member}"
    for member, macro in (
        pair.split()
        for pair in (
            "swh sw,arb ar,azj az,ekk et,gug gn,khk mn,lvs lv,npi ne,ory or,pbt ps,pes fa,plt mg,"
            "quy qu,zsm ms,als sq,kmr ku,gaz om,fuv ff,knc kr,ayr ay,dik din,ike iu"
        ).split(",")
    )
}
# The languages of FLORES-200, some in two scripts.
FLORES = """ace_Arab ace_Latn acm_Arab acq_Arab aeb_Arab afr_Latn ajp_Arab aka_Latn als_Latn
    amh_Ethi apc_Arab arb_Arab arb_Latn ars_Arab ary_Arab arz_Arab asm_Beng ast_Latn awa_Deva
    ayr_Latn azb_Arab azj_Latn bak_Cyrl bam_Latn ban_Latn bel_Cyrl bem_Latn ben_Beng bho_Deva
    bjn_Arab bjn_Latn bod_Tibt bos_Latn bug_Latn bul_Cyrl cat_Latn ceb_Latn ces_Latn cjk_Latn
    ckb_Arab crh_Latn cym_Latn dan_Latn deu_Latn dik_Latn dyu_Latn dzo_Tibt ell_Grek epo_Latn
    est_Latn eus_Latn ewe_Latn fao_Latn fij_Latn fin_Latn fon_Latn fra_Latn fur_Latn fuv_Latn
    gaz_Latn gla_Latn gle_Latn glg_Latn grn_Latn guj_Gujr hat_Latn hau_Latn heb_Hebr hin_Deva
    hne_Deva hrv_Latn hun_Latn hye_Armn ibo_Latn ilo_Latn ind_Latn isl_Latn ita_Latn jav_Latn
    jpn_Jpan kab_Latn kac_Latn kam_Latn kan_Knda kas_Arab kas_Deva kat_Geor kaz_Cyrl kbp_Latn
    kea_Latn khk_Cyrl khm_Khmr kik_Latn kin_Latn kir_Cyrl kmb_Latn kmr_Latn knc_Arab knc_Latn
    kon_Latn kor_Hang lao_Laoo lij_Latn lim_Latn lin_Latn lit_Latn lmo_Latn ltg_Latn ltz_Latn
    lua_Latn lug_Latn luo_Latn lus_Latn lvs_Latn mag_Deva mai_Deva mal_Mlym mar_Deva min_Arab
    min_Latn mkd_Cyrl mlt_Latn mni_Beng mos_Latn mri_Latn mya_Mymr nld_Latn nno_Latn nob_Latn
    npi_Deva nso_Latn nus_Latn nya_Latn oci_Latn ory_Orya pag_Latn pan_Guru pap_Latn pbt_Arab
    pes_Arab plt_Latn pol_Latn por_Latn prs_Arab quy_Latn ron_Latn run_Latn rus_Cyrl sag_Latn
    san_Deva sat_Olck scn_Latn shn_Mymr sin_Sinh slk_Latn slv_Latn smo_Latn sna_Latn snd_Arab
    som_Latn sot_Latn spa_Latn srd_Latn srp_Cyrl ssw_Latn sun_Latn swe_Latn swh_Latn szl_Latn
    tam_Taml taq_Latn taq_Tfng tat_Cyrl tel_Telu tgk_Cyrl tgl_Latn tha_Thai tir_Ethi tpi_Latn
    tsn_Latn tso_Latn tuk_Latn tum_Latn tur_Latn twi_Latn tzm_Tfng uig_Arab ukr_Cyrl umb_Latn
    urd_Arab uzn_Latn vec_Latn vie_Latn war_Latn wol_Latn xho_Latn ydd_Hebr yor_Latn yue_Hant
    zho_Hans zho_Hant zsm_Latn zul_Latn""".split()


@pytest.mark.parametrize(
    ("code", "tag"), [(code, tag) for code in TAGS for tag in TAGS[code].split()]
)
def test_a_language_has_one_code(code, tag):
    assert is_language(tag)
    assert language_code(tag) == code


@pytest.mark.parametrize("tag", ["xx", "", "d", "de-", "../de", "x-default", "calv"])
def test_an_unknown_language_is_refused(tag):
    assert not is_language(tag)
    with pytest.raises(DataError, match="accepted: .*codes like de"):
        language_code(tag)


@pytest.mark.parametrize(
    ("name", "code"), [("Turkish", "tr"), ("german", "de"), ("klingon", "tlh")]
)
def test_a_name_is_answered_with_its_code(name, code):
    with pytest.raises(DataError, match=f"{name!r} is not a code; did you mean {code}?"):
        language_code(name)


@pytest.mark.parametrize(
    "tag",
    ["de-en", "zh_en", "ze_zh", "und", "mul", "zxx", "art-x-bork", "qaa", "roa-tara"]
    + ["de-yue", "deu-eng", "sensor.de", "de latn", "d" * 5000, "de-" + "x" * 5000, "i-default"],
)
def test_what_is_no_single_language_is_refused(tag):
    assert not is_language(tag)
    with pytest.raises(DataError) as refusal:
        language_code(tag)
    assert len(str(refusal.value)) < 200 and "\n" not in str(refusal.value)


def test_a_code_is_its_own_code():
    for tag in [*TAGS, *FLORES]:
        assert language_code(language_code(tag)) == language_code(tag)
        assert language_code(plain_tag(tag)) == language_code(tag)
        assert plain_tag(plain_tag(tag)) == plain_tag(tag)


def test_flores_has_a_script_only_where_a_language_has_two_or_another_than_the_default():
    merged = merge_locales(FLORES)
    assert {code for code in merged.values() if "_" in code} == {
        *("ace_Arab", "ar_Latn", "bjn_Arab", "kr_Arab", "ks_Deva", "min_Arab", "taq_Tfng")
    }
    # Written in two forms of Han; merged by ISO 639 in 2023.
    assert len(set(merged.values())) == len(FLORES) - 2
    assert merged["zho_Hans"] == merged["zho_Hant"] and merged["ajp_Arab"] == merged["apc_Arab"]


def test_a_script_is_kept_only_where_two_meet():
    assert merge_locales(["sr", "sr-Latn"]) == {"sr": "sr", "sr-Latn": "sr_Latn"}
    assert merge_locales(["sr-Latn"]) == {"sr-Latn": "sr"}
    assert set(merge_locales(["zh-Hans", "zh-Hant", "zh"]).values()) == {"zh"}
    assert set(merge_locales(["es", "es-419"]).values()) == {"es"}


@pytest.mark.parametrize(
    "tags",
    ["de deu_Latn", "ko kor_Hang", "ja jpn_Jpan", "ru rus_Cyrl", "hi hin_Deva", "sr sr-Cyrl"]
    + ["el ell_Grek", "am amh_Ethi", "pa pan_Guru", "yue yue_Hant", "crh crh_Latn", "ber ber_Latn"],
)
def test_the_default_script_counts_as_none(tags):
    assert len(set(merge_locales(tags.split()).values())) == 1


def test_a_run_knows_a_language_by_every_tag():
    run = ["de", "sr", "nb", "zh", "ks", "ks_Deva", "kok"]
    for tag, code in [("deu", "de"), ("zh_TW", "zh"), ("sr@latin", "sr"), ("no", "nb")] + [
        ("kas_Arab", "ks"),
        ("kas_Deva", "ks_Deva"),
        ("gom_Deva", "kok"),
    ]:
        assert find_language(tag, run) == code
    for tag in ("nn", "fr", "yue", "ks_Latn", "klingon"):
        assert find_language(tag, run) is None


def test_tags_of_a_test_set_do_not_share_a_code_of_the_run():
    assert match_languages(["sr-Latn"], ["sr"]) == {"sr-Latn": "sr"}
    both = {"sr-Latn": "sr_Latn", "sr": "sr"}
    assert match_languages(both, ["sr"]) == match_languages(both, ["sr", "sr_Latn"]) == both
    assert match_languages(["fra_Latn"], ["sr"]) == {"fra_Latn": "fr"}


@pytest.mark.parametrize(
    ("pair", "source"),
    [("de-en", "de"), ("deu_Latn-eng_Latn", "de"), ("zh-Hant-en", "zh"), ("pt-BR-en-US", "pt")]
    + [("sr@latin-en", "sr_Latn"), ("en", None), ("de", None), ("de-fr", None), ("x-en", None)],
)
def test_a_pair_names_its_source(pair, source):
    assert source_of_pair(pair) == source


def test_names_are_plain_english():
    assert english_name("de") == "German"
    assert english_name("el") == "Modern Greek"
    assert english_name("sr_Latn") == "Serbian (Latn)"
    assert code_of_name("German") == code_of_name("german ") == "de"
    assert code_of_name("Deutsch") is None


@pytest.mark.parametrize(
    ("tag", "scripts"),
    [("de", {"Latn"}), ("uk", {"Cyrl"}), ("sr", {"Cyrl", "Latn"}), ("sr_Latn", {"Latn"})]
    + [("zh-Hant", {"Hani"}), ("ja", {"Hani", "Hira", "Kana"}), ("ko", {"Hang", "Hani"})]
    + [("pa", {"Arab", "Guru"}), ("grc", {"Grek"}), ("tlh", set()), ("srp_Cyrl", {"Cyrl"})]
    + [("kor_Hang", {"Hang", "Hani"}), ("crh", {"Cyrl", "Latn"}), ("pnb", {"Arab"})],
)  # fmt: skip
def test_a_language_has_its_scripts(tag, scripts):
    assert scripts_of(tag) - {"Cprt"} == scripts


def test_a_script_of_a_language_is_one_of_unicode():
    for tag in ("az", "ff", "ha", "kk", "mn", "sd", "uz", "yue", "mni", "sat", "ber", "hbs"):
        for script in scripts_of(tag):
            assert regex.compile(rf"\p{{sc={script}}}")

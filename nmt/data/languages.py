"""Reduces language codes of corpora to ISO 639-1, so that a score's tokeniser does not depend on a file's name."""

import re

# ISO 639-1 code, then its ISO 639-3 code and other codes in use for the same language (bibliographic ISO 639-2,
# withdrawn ones, and the main members of a macrolanguage, as `cmn` of `zh`).
_CODES = """
aa aar|ab abk|ae ave|af afr|ak aka|am amh|an arg|ar ara arb|as asm|av ava|ay aym ayr|az aze azj|ba bak|be bel|bg bul
bi bis|bm bam|bn ben|bo bod tib|br bre|bs bos|ca cat|ce che|ch cha|co cos|cr cre|cs ces cze|cu chu|cv chv|cy cym wel
da dan|de deu ger|dv div|dz dzo|ee ewe|el ell gre|en eng|eo epo|es spa|et est ekk|eu eus baq|fa fas per pes|ff ful
fi fin|fj fij|fo fao|fr fra fre|fy fry|ga gle|gd gla|gl glg|gn grn|gu guj|gv glv|ha hau|he heb iw|hi hin|ho hmo|hr hrv
ht hat|hu hun|hy hye arm|hz her|ia ina|id ind in|ie ile|ig ibo|ii iii|ik ipk|io ido|is isl ice|it ita|iu iku|ja jpn jp
jv jav jw|ka kat geo|kg kon|ki kik|kj kua|kk kaz|kl kal|km khm|kn kan|ko kor|kr kau|ks kas|ku kur kmr|kv kom|kw cor
ky kir|la lat|lb ltz|lg lug|li lim|ln lin|lo lao|lt lit|lu lub|lv lav lvs|mg mlg plt|mh mah|mi mri mao|mk mkd mac|ml mal
mn mon khk|mr mar|ms msa may zsm|mt mlt|my mya bur|na nau|nb nob|nd nde|ne nep npi|ng ndo|nl nld dut|nn nno|no nor
nr nbl|nv nav|ny nya|oc oci|oj oji|om orm gaz|or ori ory|os oss|pa pan|pi pli|pl pol|ps pus pbt|pt por|qu que quy
rm roh|rn run|ro ron rum mo|ru rus|rw kin|sa san|sc srd|sd snd|se sme|sg sag|si sin|sk slk slo|sl slv|sm smo|sn sna
so som|sq sqi alb als|sr srp|ss ssw|st sot|su sun|sv swe|sw swa swh|ta tam|te tel|tg tgk|th tha|ti tir|tk tuk|tl tgl
tn tsn|to ton|tr tur|ts tso|tt tat|tw twi|ty tah|ug uig|uk ukr|ur urd|uz uzb uzn|ve ven|vi vie|vo vol|wa wln|wo wol
xh xho|yi yid ydd ji|yo yor|za zha|zh zho chi cmn yue wuu lzh cn|zu zul
"""
_REDUCED = {code: codes[0] for codes in map(str.split, re.split(r"[|\n]", _CODES.strip())) for code in codes}


def iso639_1(code: str) -> str:
    """Return the ISO 639-1 code of a language code or tag.

    Script, region and variant are dropped (``zh-CN``, ``zh_Hans`` and ``cmn`` are ``zh``), and so is what stands before
    the last dot of a file suffix (``tok.de``). ``cn`` and ``jp``, which are countries, are taken for the languages that
    corpora mean by them. A language without a two-letter code keeps its primary subtag in lower case.
    """
    primary = re.split(r"[-_]", code.rpartition(".")[2])[0].lower()
    return _REDUCED.get(primary, primary)

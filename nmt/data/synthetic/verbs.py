"""Verbs with their principal parts and frames, and the tenses and modals that they appear in."""

from dataclasses import dataclass
from typing import Literal

from nmt.data.synthetic.lexicon import Preposition

# what a verb takes; "place" needs a place, "direction" a destination
Frame = Literal[
    "none",
    "accusative",
    "dative",
    "ditransitive",
    "preposition",
    "direction",
    "place",
    "clause",
    "infinitive",
    "copula",
]
Forms = tuple[str, str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Verb:
    """A verb in both languages; finite forms are for (I, he, we).

    ``particle`` follows the English verb and answers the German prefix (picks up, holt ab); ``marker`` follows it and
    has no German word of its own (looks for, sucht). ``prefix`` is the separable one. German forms stand without it.
    """

    english_present: Forms
    english_past: Forms
    base: str
    english_participle: str
    particle: str
    marker: str
    german_present: Forms
    german_past: Forms
    infinitive: str
    participle: str
    prefix: str
    sein: bool
    reflexive: bool
    frame: Frame
    subject: str
    object: str
    preposition: Preposition | None
    conjunctions: tuple[str, ...]
    action: bool


def third_person(base: str) -> str:
    """Return the English third person singular of a regular verb."""
    if base.endswith(("s", "sh", "ch", "x", "o")):
        return base + "es"
    if base.endswith("y") and base[-2] not in "aeiou":
        return base[:-1] + "ies"
    return base + "s"


def _plural(past: str) -> str:
    return past + ("n" if past.endswith("e") else "en")


def _first(infinitive: str) -> str:
    """Return the ich-form of the present: the stem and -e."""
    return infinitive[: -2 if infinitive.endswith("en") else -1] + "e"


def _verb(
    english: str,
    german: str,
    frame: Frame = "none",
    *,
    subject: str = "person",
    object: str = "",
    marker: str = "",
    preposition: str = "",
    conjunctions: str = "",
    action: bool = True,
) -> Verb:
    """Make a verb.

    Args:
        english: base, past, participle and, where there is one, the particle.
        german: infinitive, third person present, past, participle; ``ab|holen`` has a separable prefix, a leading
            ``sich`` makes it reflexive, a leading ``ist`` before the participle takes sein in the perfect.
        frame: what it takes.
        subject: noun group of its subject.
        object: noun group of its object or destination.
        marker: preposition after the English verb alone.
        preposition: ``English German case`` of a prepositional object.
        conjunctions: those that open its complement clause.
        action: whether an adverb of manner suits it.
    """
    base, past, english_participle, *particle = english.split()
    words = german.split()
    reflexive, sein = "sich" in words, "ist" in words
    infinitive, third, german_past, participle = (word for word in words if word not in ("sich", "ist"))
    prefix, _, infinitive = infinitive.rpartition("|")
    first = third if infinitive == "wissen" else _first(infinitive)
    return Verb(
        english_present=(base, third_person(base), base),
        english_past=(past, past, past),
        base=base,
        english_participle=english_participle,
        particle=particle[0] if particle else "",
        marker=marker,
        german_present=(first, third, infinitive),
        german_past=(german_past, german_past, _plural(german_past)),
        infinitive=infinitive,
        participle=participle,
        prefix=prefix,
        sein=sein,
        reflexive=reflexive,
        frame=frame,
        subject=subject,
        object=object,
        preposition=Preposition(*preposition.split()) if preposition else None,  # type: ignore[arg-type]
        conjunctions=tuple(conjunctions.split()),
        action=action,
    )


BE = Verb(
    english_present=("am", "is", "are"),
    english_past=("was", "was", "were"),
    base="be",
    english_participle="been",
    particle="",
    marker="",
    german_present=("bin", "ist", "sind"),
    german_past=("war", "war", "waren"),
    infinitive="sein",
    participle="gewesen",
    prefix="",
    sein=True,
    reflexive=False,
    frame="copula",
    subject="any",
    object="",
    preposition=None,
    conjunctions=(),
    action=False,
)
VERBS: tuple[Verb, ...] = (
    # nothing but a subject
    _verb("sleep slept slept", "schlafen schläft schlief geschlafen", subject="animate", action=False),
    _verb("laugh laughed laughed", "lachen lacht lachte gelacht"),
    _verb("cry cried cried", "weinen weint weinte geweint", action=False),
    _verb("work worked worked", "arbeiten arbeitet arbeitete gearbeitet"),
    _verb("dance danced danced", "tanzen tanzt tanzte getanzt"),
    _verb("sing sang sung", "singen singt sang gesungen"),
    _verb("wait waited waited", "warten wartet wartete gewartet", subject="animate"),
    _verb("dream dreamed dreamed", "träumen träumt träumte geträumt", action=False),
    _verb("swim swam swum", "schwimmen schwimmt schwamm ist geschwommen", subject="animate"),
    _verb("bark barked barked", "bellen bellt bellte gebellt", subject="dog"),
    _verb("arrive arrived arrived", "an|kommen kommt kam ist gekommen", action=False),
    _verb("return returned returned", "zurück|kommen kommt kam ist gekommen", subject="animate"),
    _verb("wake woke woken up", "auf|wachen wacht wachte ist gewacht", subject="animate", action=False),
    _verb("fall fell fallen asleep", "ein|schlafen schläft schlief ist geschlafen", subject="animate", action=False),
    _verb("rest rested rested", "sich aus|ruhen ruht ruhte geruht", subject="animate", action=False),
    _verb("sit sat sat down", "sich hin|setzen setzt setzte gesetzt"),
    _verb("live lived lived", "wohnen wohnt wohnte gewohnt", "place", action=False),
    # motion to a place
    _verb("go went gone", "gehen geht ging ist gegangen", "direction", object="inside"),
    _verb("run ran run", "laufen läuft lief ist gelaufen", "direction", object="inside", subject="animate"),
    _verb("come came come", "kommen kommt kam ist gekommen", "direction", object="inside", subject="animate"),
    # accusative
    _verb("see saw seen", "sehen sieht sah gesehen", "accusative", subject="animate", object="any", action=False),
    _verb(
        "find found found", "finden findet fand gefunden", "accusative", subject="animate", object="any", action=False
    ),
    _verb("love loved loved", "lieben liebt liebte geliebt", "accusative", object="animate", action=False),
    _verb("know knew known", "kennen kennt kannte gekannt", "accusative", object="person", action=False),
    _verb("look looked looked", "suchen sucht suchte gesucht", "accusative", object="any", marker="for"),
    _verb(
        "hear heard heard", "hören hört hörte gehört", "accusative", subject="animate", object="animate", action=False
    ),
    _verb("visit visited visited", "besuchen besucht besuchte besucht", "accusative", object="visited"),
    _verb("ask asked asked", "fragen fragt fragte gefragt", "accusative", object="person"),
    _verb("call called called", "an|rufen ruft rief gerufen", "accusative", object="person"),
    _verb("invite invited invited", "ein|laden lädt lud geladen", "accusative", object="person", action=False),
    _verb("pick picked picked up", "ab|holen holt holte geholt", "accusative", object="person"),
    _verb("feed fed fed", "füttern füttert fütterte gefüttert", "accusative", object="animal"),
    _verb("catch caught caught", "fangen fängt fing gefangen", "accusative", object="animal"),
    _verb("buy bought bought", "kaufen kauft kaufte gekauft", "accusative", object="thing"),
    _verb(
        "forget forgot forgotten", "vergessen vergisst vergaß vergessen", "accusative", object="portable", action=False
    ),
    _verb("carry carried carried", "tragen trägt trug getragen", "accusative", object="portable"),
    _verb("open opened opened", "auf|machen macht machte gemacht", "accusative", object="openable"),
    _verb("close closed closed", "zu|machen macht machte gemacht", "accusative", object="openable"),
    _verb("wash washed washed", "waschen wäscht wusch gewaschen", "accusative", object="washable"),
    _verb("build built built", "bauen baut baute gebaut", "accusative", object="made"),
    _verb("eat ate eaten", "essen isst aß gegessen", "accusative", subject="animate", object="food"),
    _verb("write wrote written", "schreiben schreibt schrieb geschrieben", "accusative", object="text"),
    _verb("bring brought brought back", "zurück|bringen bringt brachte gebracht", "accusative", object="portable"),
    _verb("take took taken along", "mit|nehmen nimmt nahm genommen", "accusative", object="portable"),
    # dative
    _verb("help helped helped", "helfen hilft half geholfen", "dative", object="animate"),
    _verb("thank thanked thanked", "danken dankt dankte gedankt", "dative", object="person", action=False),
    _verb("answer answered answered", "antworten antwortet antwortete geantwortet", "dative", object="person"),
    _verb("follow followed followed", "folgen folgt folgte ist gefolgt", "dative", subject="animate", object="animate"),
    _verb("listen listened listened", "zu|hören hört hörte gehört", "dative", object="person", marker="to"),
    # dative and accusative
    _verb("give gave given", "geben gibt gab gegeben", "ditransitive", object="portable"),
    _verb("show showed shown", "zeigen zeigt zeigte gezeigt", "ditransitive", object="thing"),
    _verb("send sent sent", "schicken schickt schickte geschickt", "ditransitive", object="portable"),
    _verb("lend lent lent", "leihen leiht lieh geliehen", "ditransitive", object="portable"),
    _verb("tell told told", "erzählen erzählt erzählte erzählt", "ditransitive", object="told"),
    _verb("sell sold sold", "verkaufen verkauft verkaufte verkauft", "ditransitive", object="thing"),
    # a prepositional object
    _verb(
        "speak spoke spoken",
        "sprechen spricht sprach gesprochen",
        "preposition",
        object="person",
        preposition="with mit dat",
    ),
    _verb(
        "play played played",
        "spielen spielt spielte gespielt",
        "preposition",
        subject="animate",
        object="animate",
        preposition="with mit dat",
    ),
    _verb(
        "wait waited waited",
        "warten wartet wartete gewartet",
        "preposition",
        subject="animate",
        object="animate",
        preposition="for auf acc",
    ),
    _verb(
        "think thought thought",
        "denken denkt dachte gedacht",
        "preposition",
        object="animate",
        preposition="of an acc",
        action=False,
    ),
    # a complement clause
    _verb("know knew known", "wissen weiß wusste gewusst", "clause", conjunctions="that whether"),
    _verb("believe believed believed", "glauben glaubt glaubte geglaubt", "clause", conjunctions="that"),
    _verb("say said said", "sagen sagt sagte gesagt", "clause", conjunctions="that"),
    _verb("hope hoped hoped", "hoffen hofft hoffte gehofft", "clause", conjunctions="that"),
    _verb("think thought thought", "denken denkt dachte gedacht", "clause", conjunctions="that"),
    _verb("ask asked asked", "fragen fragt fragte gefragt", "clause", conjunctions="whether"),
    # an infinitive
    _verb("try tried tried", "versuchen versucht versuchte versucht", "infinitive"),
    _verb("begin began begun", "beginnen beginnt begann begonnen", "infinitive"),
    _verb("forget forgot forgotten", "vergessen vergisst vergaß vergessen", "infinitive"),
    _verb("promise promised promised", "versprechen verspricht versprach versprochen", "infinitive"),
    _verb("hope hoped hoped", "hoffen hofft hoffte gehofft", "infinitive"),
)


@dataclass(frozen=True, slots=True, eq=False)
class Tense:
    """A tense or a modal: the auxiliary of both languages, if any, and the form of the main verb that goes with it.

    ``participle`` follows the English auxiliary (is allowed to). ``time`` says which adverbials of time agree;
    ``negatable`` is false where a negation would need do-support or another German verb (must not is darf nicht);
    ``active`` ones do not go with an adjective (can be old).
    """

    english: Forms | None
    german: Forms | None
    english_form: Literal["present", "past", "participle", "base"]
    marker: bool
    time: Literal["past", "present", "future", "perfect"]
    negatable: bool = True
    active: bool = False
    participle: str = ""


def _modal(
    english: str,
    german: str,
    time: Literal["past", "present", "future"],
    *,
    negatable: bool = True,
    active: bool = False,
) -> Tense:
    """Make a modal.

    Args:
        english: the form, or three; then ``allowed`` where it follows; then ``to`` where the infinitive has it.
        german: singular and plural.
        time: as in :class:`Tense`.
        negatable: as in :class:`Tense`.
        active: as in :class:`Tense`.
    """
    words = english.split()
    forms = [word for word in words if word not in ("allowed", "to")]
    first, third, plural = forms * 3 if len(forms) == 1 else forms
    german_singular, german_plural = german.split()
    return Tense(
        (first, third, plural),
        (german_singular, german_singular, german_plural),
        "base",
        "to" in words,
        time,
        negatable,
        active,
        "allowed" if "allowed" in words else "",
    )


PRESENT = Tense(None, None, "present", marker=False, time="present")
PAST = Tense(None, None, "past", marker=False, time="past")
PERFECT = Tense(("have", "has", "have"), ("habe", "hat", "haben"), "participle", False, "perfect")
PLUPERFECT = Tense(("had", "had", "had"), ("hatte", "hatte", "hatten"), "participle", False, "past")
FUTURE = Tense(("will", "will", "will"), ("werde", "wird", "werden"), "base", False, "future")
PRESENT_MODALS = {
    "can": _modal("can", "kann können", "present", active=True),
    "may": _modal("am is are allowed to", "darf dürfen", "future", active=True),
    "must": _modal("must", "muss müssen", "future", negatable=False),
    "should": _modal("should", "sollte sollten", "future"),
    "want": _modal("want wants want to", "will wollen", "future", negatable=False),
}
PAST_MODALS = {
    "can": _modal("could", "konnte konnten", "past", active=True),
    "must": _modal("had to", "musste mussten", "past", negatable=False),
    "want": _modal("wanted to", "wollte wollten", "past", negatable=False),
}
SEIN: dict[Tense, Forms] = {PERFECT: ("bin", "ist", "sind"), PLUPERFECT: ("war", "war", "waren")}
CONJUNCTIONS = {
    "that": "dass",
    "whether": "ob",
    "because": "weil",
    "although": "obwohl",
    "if": "wenn",
    "when": "als",
    "while": "während",
    "before": "bevor",
    "after": "nachdem",
}

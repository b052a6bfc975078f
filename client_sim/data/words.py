"""The words and frames of the synthetic language: everyday English, written for this project, most frequent first."""

FRAMES = (
    "i am going to the {n} {t}",
    "do you want to {v} the {n} with me ?",
    "can you {v} the {n} {t} ?",
    "the {n} is very {a}",
    "i think the {n} was {a} {t}",
    "we should {v} the {n} before it gets too late",
    "have you seen the {a} {n} ?",
    "let me know when you are at the {n}",
    "see you {t}",
    "thank you so much for the {n} !",
    "i don't know how to {v} the {n}",
    "sorry , i can't {v} {t}",
    "{p} wants to {v} a {a} {n}",
    "please tell {p} that the {n} is here",
    "i will call you {t}",
    "it is so {a} today",
    "what do you think about the {a} {n} ?",
    "how are you doing {t} ?",
    "are you coming to the {n} {t} ?",
    "my {n} is not {a} any more",
    "{p} and i will {v} {t}",
    "that was a really {a} {n}",
    "i need to {v} first , then we can talk about the {n}",
    "good morning , did you {v} the {n} ?",
    "happy birthday {p} !",
    "where did you put the {n} ?",
    "ok , i will {v} it {t}",
    "i love the {a} {n} that you got",
    "there is a new {n} near the {n}",
    "yes , {p} said it would be {a}",
)
"""Each is a sentence; `{n} {v} {a}` are words of the topic, `{t}` is a time and `{p}` a person."""

TIMES = (
    "tomorrow",
    "today",
    "tonight",
    "later",
    "this morning",
    "next week",
    "on friday",
    "after work",
    "this weekend",
    "on monday",
    "in an hour",
    "at night",
)
PEOPLE = (
    "mom",
    "dad",
    "john",
    "sarah",
    "my brother",
    "my sister",
    "the boss",
    "anna",
    "mike",
    "my friend",
    "the teacher",
    "grandma",
)


def _topic(nouns: str, verbs: str, adjectives: str) -> dict[str, tuple[str, ...]]:
    return {"n": tuple(nouns.split()), "v": tuple(verbs.split()), "a": tuple(adjectives.split())}


TOPICS = {
    "food": _topic(
        "food dinner coffee lunch kitchen pizza cake bread cheese soup chicken fruit salad tea restaurant recipe sugar apple",
        "eat cook make order try taste share buy bake bring",
        "good hot fresh sweet cold delicious spicy cheap healthy empty",
    ),
    "travel": _topic(
        "train car airport bus hotel flight road city beach station ticket map bridge island passport boat mountain bag",
        "take book visit miss leave catch find drive reach pack",
        "late long far fast early crowded beautiful expensive safe slow",
    ),
    "work": _topic(
        "meeting office report project email computer job plan team client phone deadline interview desk "
        "contract document question schedule",
        "send finish start check read write move change sign discuss",
        "important busy ready new difficult boring short final urgent useful",
    ),
    "sport": _topic(
        "game team match ball player coach season score gym race field goal bike pool trophy stadium league practice",
        "play watch win lose run train join follow support swim",
        "great close strong tired easy hard exciting amazing terrible fair",
    ),
    "home": _topic(
        "house room dog door garden bed cat window table floor key box wall lamp chair neighbor roof baby",
        "clean open fix close paint feed wash build keep sell",
        "big small dirty quiet old warm broken dark nice green",
    ),
    "music": _topic(
        "song music movie concert book show band guitar story party picture radio dance piano album voice theater video",
        "hear see sing learn record enjoy finish remember choose practice",
        "loud funny sad famous popular strange modern classic free wonderful",
    ),
    "health": _topic(
        "doctor hospital medicine head hand nurse heart sleep water stomach tooth cold walk skin test eye pain rest",
        "feel see rest wait help stop call need drink exercise",
        "sick better bad fine serious normal weak careful painful worried",
    ),
    "school": _topic(
        "class teacher test school homework book paper student lesson history math science library exam "
        "english grade pencil college",
        "study pass learn teach fail understand answer explain draw finish",
        "smart wrong right simple interesting perfect young clear correct lazy",
    ),
}

PRIVATE_FRAME = "the code is {w} ."
"""Carries a device's own sequence of words, which no other device has: what memorisation would show."""
SYLLABLES = ("zor", "vik", "mal", "tuk", "ree", "dax", "pol", "nim", "qua", "bez", "lu", "ghi", "sto", "wex", "yan", "fru")
"""Invented names, outside any vocabulary, are made of these."""

"""Carriers and entities of the synthetic corrections, by locale; written for this project, numbers fictional."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LocaleWords:
    """`carriers` hold `{e}` where the entity stands; forms hold slots that are filled from `slots`, `#` is a digit, `@` 1 to 9."""

    carriers: tuple[str, ...]
    plain: tuple[str, ...]
    forms: Mapping[str, tuple[str, ...]]
    slots: Mapping[str, tuple[str, ...]]
    spaced: tuple[str, ...] = ()
    """Entities with spaces around them where others have none: digits have no script, so no token would begin with them."""


_NAMES = ("anna", "mike", "sara", "tom", "lucia", "ken", "maria", "leo", "emma", "noah")
_HOSTS = ("example.com", "example.org", "mail.example", "shop.example", "news.example")
_EMAIL = ("{name}@{host}", "{name}.{name}@{host}", "{name}##@{host}")
_URL = ("www.{host}", "https://{host}/{name}", "http://{host}")

ENGLISH = LocaleWords(
    carriers=(
        "come to {e} tonight",
        "the party is at {e} , bring food",
        "send it to {e} please",
        "i live at {e}",
        "my new place : {e}",
        "reach me at {e} after six",
        "is it {e} ?",
        "ok here it is {e} see you soon",
        "they moved to {e} last year",
        "{e} is what she told me",
        "can you check {e} for me",
        "meet us near {e} at noon",
    ),
    plain=(
        "do you want to get lunch tomorrow",
        "i think the movie starts at eight",
        "that sounds great , thank you so much",
        "we should paint the kitchen this weekend",
        "did anyone feed the cat today",
        "the meeting was moved to monday morning",
        "your train leaves from the other station",
        "i have two tickets for the game",
    ),
    forms={
        "address": (
            "@# {street} {way}, {city}",
            "@## {street} {way}, {city}, {state} #####",
            "@## {side} {street} {way}",
            "@### {street} {way}, {city} {state}",
            "@# {street} {way} apt @, {city}, {state} #####",
            "@## {street} {way}, {city}, #####",
        ),
        "phone": ("(###) 555-01##", "### 555 01##", "###-555-01##", "+1 ### 555 01##", "1 (###) 555 01##"),
        "email": _EMAIL,
        "url": _URL,
    },
    slots={
        "street": ("Main", "Oak", "Maple", "Park", "Cedar", "Lake", "Hill", "Washington", "Colfax", "Elm", "Church", "River"),
        "way": ("Street", "St", "Avenue", "Ave", "Road", "Rd", "Drive", "Lane", "Blvd", "Court"),
        "city": ("Springfield", "Evanston", "Portland", "Austin", "Salem", "New Haven", "San Jose", "Denver", "Oakland"),
        "state": ("CA", "IL", "OR", "TX", "NY", "CO", "WA"),
        "side": ("North", "South", "W", "E", "N"),
        "name": _NAMES,
        "host": _HOSTS,
    },
)

SPANISH = LocaleWords(
    carriers=(
        "ven a {e} esta noche",
        "la fiesta es en {e} , trae algo",
        "mándalo a {e} por favor",
        "vivo en {e}",
        "mi casa nueva : {e}",
        "llámame al {e} después de las seis",
        "¿ es {e} ?",
        "vale aquí está {e} nos vemos",
        "se mudaron a {e} el año pasado",
        "{e} es lo que me dijo",
        "puedes mirar {e} un momento",
        "quedamos cerca de {e} a mediodía",
    ),
    plain=(
        "quieres comer conmigo mañana",
        "creo que la película empieza a las ocho",
        "me parece genial , muchas gracias",
        "hay que pintar la cocina este fin de semana",
        "alguien ha dado de comer al gato hoy",
        "la reunión es ahora el lunes por la mañana",
        "tu tren sale de la otra estación",
        "tengo dos entradas para el partido",
    ),
    forms={
        "address": (
            "{way} {street} @#, {city}",
            "{way} de {street} @, {post}### {city}",
            "{way} {street} n.º @#, @º {door}, {city}",
            "{way} {street}, @#, {post}### {city}",
            "{way} de {street} @##",
        ),
        "phone": ("+34 6## ### ###", "6## ## ## ##", "91 555 01 ##", "(93) 555 01 ##", "6########"),
        "email": _EMAIL,
        "url": _URL,
    },
    slots={
        "street": ("Mayor", "Alcalá", "Goya", "Colón", "Sevilla", "Cervantes", "Serrano", "Olmos", "Toledo", "Luna"),
        "way": ("Calle", "C/", "Avenida", "Av.", "Plaza", "Paseo", "Ronda"),
        "city": ("Madrid", "Sevilla", "Valencia", "Bilbao", "Las Palmas", "Granada", "San Sebastián"),
        "post": ("28", "41", "46", "48", "35"),
        "door": ("A", "B", "dcha.", "izda."),
        "name": _NAMES,
        "host": _HOSTS,
    },
)

JAPANESE = LocaleWords(
    carriers=(
        "今夜は{e}に来てください",
        "これを{e}に送ってね",
        "わたしは{e}に住んでいます",
        "あたらしい家は{e}です",
        "あとで{e}に電話してください",
        "それは{e}ですか",
        "これです、{e}でまた会いましょう",
        "まえは{e}にいました",
        "ここは{e}のちかくです",
        "もういちど{e}をみてくれますか",
    ),
    plain=(
        "明日いっしょに昼食をたべませんか",
        "映画は八時にはじまると思います",
        "それはいいですね 本当にありがとう",
        "今週の週末に台所をぬりましょう",
        "だれか今日ネコにごはんをあげましたか",
        "会議は月曜の朝になりました",
        "電車はべつの駅から出ます",
        "試合のチケットが二枚あります",
    ),
    forms={
        "address": (
            "{prefecture}{city}{town}@-#-#",
            "{prefecture}{city}{town}@丁目@番#号",
            "{prefecture}{town}@丁目@-#",
            "{prefecture}{city}{town}@-# {house}@0#",
        ),
        "phone": ("03-5550-01##", "090 5550 01##", "06-5550-01##", "+81 3 5550 01##", "080-5550-01##"),
        "email": _EMAIL,
        "url": _URL,
    },
    slots={
        "prefecture": ("東京都", "大阪府", "京都府", "北海道", "神奈川県", "愛知県", "福岡県"),
        "city": (
            "さいたま市",
            "つくば市",
            "渋谷区",
            "新宿区",
            "大阪市北区",
            "名古屋市中区",
            "横浜市西区",
            "札幌市中央区",
            "京都市左京区",
        ),
        "town": ("神南", "梅田", "みなとみらい町", "三ノ宮", "あざみ野", "八ツ橋町", "大通西", "つつじヶ丘", "桜木町"),
        "house": ("サクラハイツ", "メゾン", "パークビル"),
        "name": _NAMES,
        "host": _HOSTS,
    },
    spaced=("phone",),
)

BY_LOCALE: Mapping[str, LocaleWords] = {"en": ENGLISH, "es": SPANISH, "ja": JAPANESE}

"""The words from which the demo's requests are made."""

from collections.abc import Callable
from random import Random


def _list(text: str) -> tuple[str, ...]:
    """Split ``a | b | c``; one word per line would bury this module."""
    return tuple(part.strip() for part in text.split("|"))


PEOPLE = _list(
    "Amara | Bogdan | Chiara | Dmitri | Elif | Femi | Greta | Hana | Ignacio | Jonas | Keiko | Leila | Mateo | Nadia"
    "| Omar | Priya | Quentin | Rosa | Sanne | Tomasz | Uma | Viktor | Wendy | Yusuf"
)
SURNAMES = _list("Moreau | Lindqvist | Okafor | Tanaka | Vega | Weiss | Novak | Haddad")
PLACES = _list("bakery | library | harbour | school | workshop | market stall | greenhouse | museum | garage | kiosk")
THINGS = _list("apples | tickets | notebooks | bricks | bottles | stamps | seedlings | cables | chairs | postcards")
DAYS = _list("Monday | Tuesday | Wednesday | Thursday | Friday | Saturday | Sunday")
TOWNS = _list("Aarhus | Bergen | Cork | Dresden | Evora | Freiburg | Ghent | Halifax | Izmir | Jaipur | Kazan | Lyon")
FIRMS = _list(
    "Northwind Foods | Alder & Sons | Bluewater Ferries | Corvid Optics | Delta Paper | Ember Tiles | Fjord Logistics"
    "| Granite Insurance | Harrow Bikes | Ivory Press | Juniper Health | Kestrel Energy"
)

OPENINGS = (
    *[""] * 4,
    "Hi! ",
    "Hello, ",
    "Quick one: ",
    "Could you help me with this? ",
    "I need this before lunch. ",
    "Thanks in advance. ",
    "Sorry to bother you again. ",
    "For the team meeting: ",
    "My colleague asked me this. ",
)
CLOSINGS = (
    *[""] * 4,
    "Thanks!",
    "Please be brief.",
    "Take your time.",
    "Let me know if anything is unclear.",
    "Please double-check the result.",
    "No explanation needed, only the result.",
    "It is rather urgent.",
)

ISOTOPES = _list(
    "iodine-131 | phosphorus-32 | thorium-234 | radon-222 | chromium-51 | gold-198 | xenon-133 | sulfur-35"
)
REMARKS = (
    "Assume ideal behaviour throughout.",
    "Neglect any contribution of the solvent.",
    "State which approximation you rely on.",
    "Consider whether the usual sign convention applies.",
    "The experiment was carried out under standard pressure unless noted otherwise.",
    "Ignore corrections beyond those the question calls for.",
    "Only one of the options is consistent with the data.",
    "Derive the result from first principles before choosing.",
)

VERBS = _list("compute | find | collect | process | select | build | extract | handle | filter | make")
NOUNS = _list("items | result | values | words | groups | data | entries | pieces | records | list")
CODE_REQUESTS = (
    "Write a Python function called {name}.",
    "Please implement def {name}(...) in Python.",
    "I need a small Python helper named `{name}`.",
    "Complete this function: def {name}(...):",
    "Can you code {name} in Python 3 for me?",
)
WISHES = (
    "It must work for empty input as well.",
    "Do not import any library.",
    "Add no print statements, just return the value.",
    "Keep it readable, our interns maintain this class later.",
    "The method has to run in linear time if possible.",
    "Do not modify the argument in place.",
    "It will be called from a loop with many iterations.",
    "The unit tests compare the return value exactly.",
)


def _date(random: Random) -> str:
    return f"2025-{random.randint(1, 12):02}-{random.randint(1, 28):02}"


def _amount(random: Random) -> str:
    return f"{random.randint(20, 4999)}.{random.randint(0, 99):02}"


def _email(random: Random) -> str:
    return f"{random.choice(PEOPLE).lower()}{random.randint(1, 99)}@example.com"


def _person(random: Random) -> str:
    return f"{random.choice(PEOPLE)} {random.choice(SURNAMES)}"


FIELDS: dict[str, tuple[str, Callable[[Random], str | int]]] = {
    "customer": ("The order was placed by {}.", _person),
    "email": ("Questions go to {}.", _email),
    "order_date": ("It reached us on {}.", _date),
    "delivery_date": ("We promised to deliver by {}.", _date),
    "amount": ("The invoice is over {} EUR in total.", _amount),
    "discount": ("A rebate of {} EUR has been granted.", _amount),
    "quantity": ("It concerns {} units.", lambda random: random.randint(2, 240)),
    "city": ("The goods go to {}.", lambda random: random.choice(TOWNS)),
    "supplier": ("They are made by {}.", lambda random: random.choice(FIRMS)),
    "invoice_number": ("Please quote reference R-{}.", lambda random: random.randint(10_000, 99_999)),
    "contact": ("On our side {} looks after it.", _person),
}
"""By field, how a letter mentions it, and its values."""
EXTRACTION_REQUESTS = (
    "Extract the fields {fields} from the message below and return them as a JSON object.",
    "Return valid JSON with exactly these keys: {fields}. Source:",
    "Parse the following email into JSON ({fields}).",
    "From this text pull out {fields}. Output must be machine-readable JSON, nothing else.",
)

ENGLISH = (
    _list("The engineer | My neighbour | A young doctor | The old captain | Our teacher | The committee | A tourist"),
    _list("is looking for | has found | would like to buy | described | cannot open | has forgotten | is repairing"),
    _list("the red suitcase | a cheap ticket | the broken window | an interesting book | the long contract | the key"),
)
LANGUAGES = {
    "German": (
        _list(
            "Der Ingenieur | Mein Nachbar | Ein Arzt | Der alte Kapitän | Unser Lehrer | Der Ausschuss | Ein Tourist"
        ),
        _list("sucht | fand | möchte | beschrieb | öffnet nicht | vergaß | repariert"),
        _list("den Koffer | ein billiges Ticket | das Fenster | ein spannendes Buch | den Vertrag | den Schlüssel"),
    ),
    "French": (
        _list("L'ingénieur | Mon voisin | Un médecin | Le capitaine | Notre professeur | Le comité | Un touriste"),
        _list("cherche | a trouvé | voudrait acheter | a décrit | ne peut pas ouvrir | a oublié | répare"),
        _list("la valise | un billet pas cher | la fenêtre | un livre intéressant | le long contrat | la clé"),
    ),
    "Spanish": (
        _list("El ingeniero | Mi vecino | Un médico | El capitán | Nuestro profesor | El comité | Un turista"),
        _list("busca | ha encontrado | quisiera comprar | describió | no puede abrir | ha olvidado | está reparando"),
        _list("la maleta | un billete barato | la ventana rota | un libro interesante | el contrato | la llave"),
    ),
}
"""Subjects, verbs and objects, in the order of ``ENGLISH``."""
TRANSLATION_REQUESTS = (
    "Translate into {language}, one line per sentence:",
    "How do you say this in {language}?",
    "Please give me the {language} version of these sentences.",
    "I am writing to a partner who only reads {language}. Put this into {language}:",
)

AUDIENCES = _list("its shareholders | its staff | its creditors | its suppliers | the press")
FIGURES = (
    ("revenue", "million euros"),
    ("the operating cost", "million euros"),
    ("the order book", "contracts"),
    ("the workforce", "people"),
    ("investment in new plant", "thousand euros"),
    ("the backlog of complaints", "cases"),
    ("export volume", "containers"),
    ("sick leave", "days"),
    ("energy use", "megawatt hours"),
    ("the dividend", "cents per share"),
)
STATEMENTS = (
    "After a quarter that few had expected to be easy, {subject} came to {number} {unit}.",
    "The board reported that {subject} had reached {number} {unit}.",
    "According to the chair, {subject} stood at {number} {unit}, slightly better than planned.",
    "In the discussion that followed, {subject} was put at {number} {unit}.",
)
FILLERS = (
    "Several speakers asked for more detail, which the board promised to supply in writing.",
    "{firm} sees no reason to change course, although the market remains difficult.",
    "An analyst in the room called this encouraging and wanted to know how long it would last.",
    "The weather, a strike at the port and a weak currency all played their part.",
    "{firm} has weathered worse, as one of the older members reminded the audience.",
)
SUMMARY_REQUESTS = (
    "Summarise the following report, one sentence per key figure.",
    "Give me the gist of this article with all of its figures.",
    "TL;DR please, but keep the numbers:",
    "I missed this meeting. What were the main points?",
    "Write a short summary of the text below for our newsletter.",
)

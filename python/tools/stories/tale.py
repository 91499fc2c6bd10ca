"""A tale being told: its characters and things, the sentences so far, and the facts that can be asked about."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from . import lexicon as lex
from .grammar import finish, inflect, parse, plural

PRONOUNS = {
    "he": {"he": "he", "him": "him", "his": "his", "himself": "himself", "own": "his own"},
    "she": {"he": "she", "him": "her", "his": "her", "himself": "herself", "own": "her own"},
    "it": {"he": "it", "him": "it", "his": "its", "himself": "itself", "own": "its own"},
    "they": {"he": "they", "him": "them", "his": "their", "himself": "themselves", "own": "their own"},
}
FIRST_PERSON = {False: {"i": "I", "me": "me", "my": "my", "am": "am", "im": "I'm", "myself": "myself", "mine": "mine", "was": "was"},
                True: {"i": "we", "me": "us", "my": "our", "am": "are", "im": "we're", "myself": "ourselves", "mine": "ours", "was": "were"}}


@dataclass
class Character:
    """Somebody in the tale. ``name`` is empty for a character known by its kind ("the owl")."""

    kind: lex.Kind
    name: str
    gender: str             # a key of PRONOUNS
    look: str = ""
    is_plural: bool = False

    def form(self, form: str, rng: random.Random) -> str:
        noun = "two " + plural(self.kind.noun) if self.is_plural else self.kind.noun
        full = f"two {self.look} {plural(self.kind.noun)}" if self.is_plural else f"{self.look} {noun}".strip()
        if form in PRONOUNS["he"]:
            return PRONOUNS[self.gender][form]
        if form in FIRST_PERSON[False]:
            return FIRST_PERSON[self.is_plural][form]
        match form:
            case "":
                return self.name or "the " + noun
            case "s":
                return (self.name or "the " + noun) + "'s"
            case "ref":     # the name, or now and then the kind
                return self.name if self.name and rng.random() < 0.7 else "the " + (full if rng.random() < 0.4 else noun)
            case "the":
                return "the " + noun
            case "kind":
                return plural(self.kind.noun) if self.is_plural else noun
            case "a":
                return noun if self.is_plural else "a " + noun
            case "full":    # a young fox
                return full if self.is_plural else "a " + full
            case "intro":   # a young fox named Mia
                words = full if self.is_plural else "a " + full
                return f"{words} {rng.choice(('named', 'called'))} {self.name}" if self.name else words
        raise ValueError(f"stories: character has no form {form!r}")


@dataclass
class Item:
    """A thing in the tale with the one adjective that it keeps ("red hat")."""

    thing: lex.Thing
    look: str

    @property
    def is_plural(self) -> bool:
        return self.thing.plural

    def form(self, form: str, rng: random.Random) -> str:
        noun, full = self.thing.noun, f"{self.look} {self.thing.noun}".strip()
        forms = {"": noun, "the": "the " + noun, "full": full, "thefull": "the " + full, "look": self.look,
                 "a": full if self.is_plural else "a " + full, "use": self.thing.use,
                 "he": "they" if self.is_plural else "it", "him": "them" if self.is_plural else "it",
                 "that": "those" if self.is_plural else "that", "one": "some" if self.is_plural else "one",
                 "this": "these" if self.is_plural else "this"}
        if form not in forms:
            raise ValueError(f"stories: thing has no form {form!r}")
        return forms[form]


@dataclass
class Word:
    """A plain phrase with a number, so that verbs can agree with it."""

    text: str
    is_plural: bool = False

    def form(self, form: str, rng: random.Random) -> str:
        if form:
            raise ValueError(f"stories: {self.text!r} has no form {form!r}")
        return self.text


@dataclass
class Fact:
    """A question about the tale and its answers, rendered."""

    question: str
    answer: str


@dataclass
class Tale:
    """State of one story. Plots call ``say``, ``speak``, ``fact`` and ``request``; ``text`` gives the result."""

    rng: random.Random
    present: bool = False
    paragraphs: list[list[str]] = field(default_factory=lambda: [[]])
    facts: list[Fact] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    entities: dict[str, object] = field(default_factory=dict)
    key: tuple = ()
    title: str = ""

    def __post_init__(self) -> None:
        self.entities.update(one=Word(""), they=Word("", True))

    # --- rendering

    def render(self, template: str, present: bool | None = None) -> str:
        """The template's text; ``present`` overrides the tense of the tale."""
        tense = self.present if present is None else present
        rng, entities, out = self.rng, self.entities, []

        def walk(items: tuple) -> None:
            for item in items:
                if isinstance(item, str):
                    out.append(item)
                elif item[0] == "alt":
                    walk(rng.choice(item[1]))
                elif item[0] == "verb":
                    out.append(inflect(item[1], entities[item[2]].is_plural, tense))
                else:
                    form = item[2]
                    if form[:1].isupper():
                        text = entities[item[1]].form(form[0].lower() + form[1:], rng)
                        out.append(text[0].upper() + text[1:])
                    else:
                        out.append(entities[item[1]].form(form, rng))

        walk(parse(template))
        return "".join(out)

    def say(self, *templates: str, chance: float = 1.0) -> None:
        """Add one of the templates (a sentence or several) to the current paragraph; with ``chance`` < 1 perhaps not."""
        if chance < 1.0 and self.rng.random() >= chance:
            return
        self.paragraphs[-1].append(finish(self.render(self.rng.choice(templates))))

    def speak(self, who: str, *templates: str, to: str = "", mood: str = "", pronoun: bool = False) -> None:
        """Add direct speech of ``who``. ``mood`` is a verb to use instead of the usual said/asked/cried."""
        rng = self.rng
        words = finish(self.render(rng.choice(templates), present=True))
        speaker = self.entities[who]
        name = speaker.form("ref", rng)
        verb = mood or rng.choice({"?": ("ask", "ask", "say"), "!": ("cry", "call", "shout", "say", "say", "say")}.get(
            words[-1], ("say", "say", "say", "answer") if to == "" and len(self.paragraphs[-1]) > 0
            and self.paragraphs[-1][-1].startswith('"') else ("say",)))
        told = inflect(verb, speaker.is_plural, self.present)
        listener = f" to {self.entities[to].form('', rng)}" if to and verb == "say" and rng.random() < 0.5 else ""
        ended = words[:-1] + "," if words[-1] == "." else words
        draw = rng.random()
        alone = not any(isinstance(e, Character) and e is not speaker and e.gender == speaker.gender for e in self.entities.values())
        if pronoun and alone and draw < 0.5:      # "she said" only where there is one she
            sentence = f'"{ended}" {speaker.form("he", rng)} {told}.'
        elif draw < 0.75:
            sentence = f'"{ended}" {told} {name}{listener}.' if not listener else f'"{ended}" {name} {told}{listener}.'
        else:
            sentence = f'{name[0].upper() + name[1:]} {told}{listener}, "{words}"'
        self.paragraphs[-1].append(sentence)

    def paragraph(self, chance: float = 1.0) -> None:
        """Begin a new paragraph (with ``chance`` < 1 perhaps not)."""
        if self.paragraphs[-1] and (chance >= 1.0 or self.rng.random() < chance):
            self.paragraphs.append([])

    def fact(self, question: str, *answers: str) -> None:
        """Remember a question about the tale; one of the answers is kept."""
        self.facts.append(Fact(finish(self.render(question)), finish(self.render(self.rng.choice(answers)))))

    def request(self, clause: str) -> None:
        """A relative clause that sums the tale up: "who loses a red hat"."""
        self.requests.append(finish(self.render(clause, present=True)).replace("Who ", "who ", 1))

    @property
    def text(self) -> str:
        """The story: sentences joined by spaces, paragraphs by a single newline."""
        return "\n".join(" ".join(p) for p in self.paragraphs if p)

    # --- casting

    def put(self, key: str, entity: object) -> object:
        self.entities[key] = Word(entity) if isinstance(entity, str) else entity
        return self.entities[key]

    def name(self, gender: str) -> str:
        """A name nobody in the tale has yet; one in eight is invented, so that names must be copied, not recalled."""
        rng = self.rng
        taken = {e.name for e in self.entities.values() if isinstance(e, Character)}
        while True:
            if rng.random() < 0.125:
                name = rng.choice(lex.NAME_STARTS) + rng.choice(lex.NAME_VOWELS)
                if rng.random() < 0.5:
                    name += rng.choice(lex.NAME_MIDDLES) + rng.choice(lex.NAME_VOWELS)
                name += rng.choice(lex.NAME_MIDDLES) + rng.choice(lex.NAME_ENDS)
            else:
                name = rng.choice(lex.HE_NAMES if gender == "he" else lex.SHE_NAMES)
            if not any(name in t or t in name for t in taken if t):
                return name

    def character(self, key: str, kinds: tuple[lex.Kind, ...], named: bool = True, pair: float = 0.0) -> Character:
        """Cast a character of a kind that is not in the tale yet; ``pair`` is the chance of two of a kind."""
        rng = self.rng
        taken = {e.kind.noun for e in self.entities.values() if isinstance(e, Character)}
        kind = rng.choice([k for k in kinds if k.noun not in taken])
        look = rng.choice((kind.looks or lex.LOOKS[kind.size]).split())
        if pair and not kind.gender and rng.random() < pair:
            first, second = self.name("he"), self.name("she")
            while first[:3] == second[:3]:
                second = self.name("she")
            return self.put(key, Character(kind, f"{first} and {second}", "they", look, True))
        gender = kind.gender or rng.choice(("he", "she"))
        return self.put(key, Character(kind, self.name(gender) if named else "", gender, look))

    def item(self, key: str, things: tuple[lex.Thing, ...]) -> Item:
        """Choose a thing that is not in the tale yet, with one adjective."""
        taken = {e.thing.noun for e in self.entities.values() if isinstance(e, Item)}
        thing = self.rng.choice([t for t in things if t.noun not in taken])
        look = self.rng.choice(lex.COLOURS if self.rng.random() < 0.5 else thing.looks or lex.COLOURS)
        return self.put(key, Item(thing, look))

    def spots(self, count: int) -> list[str]:
        """Distinct corners of the tale's place."""
        return self.rng.sample(self.place.spots, count)

    @property
    def place(self) -> lex.Place:
        return self.entities["P"]

    @property
    def hero(self) -> Character:
        return self.entities["H"]

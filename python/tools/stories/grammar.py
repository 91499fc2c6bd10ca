"""English word forms and the template language the plots are written in.

A template is a string with three kinds of holes:

* ``(one|two|three)``  one alternative, chosen at random; alternatives nest;
* ``[verb X]``         ``verb`` (base form) inflected for the number of entity ``X`` and the tense of the tale;
* ``{X}``, ``{X.form}``  entity ``X`` of the tale, in one of its forms (``{H.his}``, ``{T.a}``, ``{H.The}``).

Templates are parsed once and kept. Parentheses, brackets and braces have no other use in the story texts.
"""

from __future__ import annotations

import re
from functools import lru_cache

# base: (third person singular, past, past participle)
IRREGULAR = {
    "be": ("is", "was", "been"), "have": ("has", "had", "had"), "do": ("does", "did", "done"),
    "can": ("can", "could", "could"), "will": ("will", "would", "would"), "must": ("must", "must", "must"),
    "go": ("goes", "went", "gone"), "say": ("says", "said", "said"), "see": ("sees", "saw", "seen"),
    "find": ("finds", "found", "found"), "lose": ("loses", "lost", "lost"), "feel": ("feels", "felt", "felt"),
    "make": ("makes", "made", "made"), "take": ("takes", "took", "taken"), "give": ("gives", "gave", "given"),
    "come": ("comes", "came", "come"), "run": ("runs", "ran", "run"), "sit": ("sits", "sat", "sat"),
    "tell": ("tells", "told", "told"), "think": ("thinks", "thought", "thought"), "know": ("knows", "knew", "known"),
    "hear": ("hears", "heard", "heard"), "hold": ("holds", "held", "held"), "keep": ("keeps", "kept", "kept"),
    "leave": ("leaves", "left", "left"), "begin": ("begins", "began", "begun"), "fall": ("falls", "fell", "fallen"),
    "fly": ("flies", "flew", "flown"), "grow": ("grows", "grew", "grown"), "bring": ("brings", "brought", "brought"),
    "buy": ("buys", "bought", "bought"), "catch": ("catches", "caught", "caught"), "eat": ("eats", "ate", "eaten"),
    "drink": ("drinks", "drank", "drunk"), "sing": ("sings", "sang", "sung"), "swim": ("swims", "swam", "swum"),
    "sleep": ("sleeps", "slept", "slept"), "wake": ("wakes", "woke", "woken"), "shake": ("shakes", "shook", "shaken"),
    "stand": ("stands", "stood", "stood"), "understand": ("understands", "understood", "understood"),
    "put": ("puts", "put", "put"), "let": ("lets", "let", "let"), "cut": ("cuts", "cut", "cut"),
    "hide": ("hides", "hid", "hidden"), "break": ("breaks", "broke", "broken"), "speak": ("speaks", "spoke", "spoken"),
    "hang": ("hangs", "hung", "hung"), "blow": ("blows", "blew", "blown"), "throw": ("throws", "threw", "thrown"),
    "dig": ("digs", "dug", "dug"), "meet": ("meets", "met", "met"), "build": ("builds", "built", "built"),
    "creep": ("creeps", "crept", "crept"), "swing": ("swings", "swung", "swung"), "lie": ("lies", "lay", "lain"),
    "lead": ("leads", "led", "led"), "wear": ("wears", "wore", "worn"), "win": ("wins", "won", "won"),
    "forget": ("forgets", "forgot", "forgotten"), "get": ("gets", "got", "got"), "ride": ("rides", "rode", "ridden"),
    "read": ("reads", "read", "read"), "write": ("writes", "wrote", "written"), "rise": ("rises", "rose", "risen"),
    "shine": ("shines", "shone", "shone"), "set": ("sets", "set", "set"), "sweep": ("sweeps", "swept", "swept"),
    "spend": ("spends", "spent", "spent"), "teach": ("teaches", "taught", "taught"), "stick": ("sticks", "stuck", "stuck"),
    "bend": ("bends", "bent", "bent"), "sew": ("sews", "sewed", "sewn"), "light": ("lights", "lit", "lit"),
    "weep": ("weeps", "wept", "wept"), "leap": ("leaps", "leapt", "leapt"), "mean": ("means", "meant", "meant"),
    "draw": ("draws", "drew", "drawn"), "fight": ("fights", "fought", "fought"), "pay": ("pays", "paid", "paid"),
    "sink": ("sinks", "sank", "sunk"), "slide": ("slides", "slid", "slid"), "show": ("shows", "showed", "shown"),
    "choose": ("chooses", "chose", "chosen"), "steal": ("steals", "stole", "stolen"), "ring": ("rings", "rang", "rung"),
    "send": ("sends", "sent", "sent"), "bake": ("bakes", "baked", "baked"), "spin": ("spins", "spun", "spun"),
    "tie": ("ties", "tied", "tied"), "become": ("becomes", "became", "become"), "hit": ("hits", "hit", "hit"),
    "hurt": ("hurts", "hurt", "hurt"), "tear": ("tears", "tore", "torn"), "die": ("dies", "died", "died"),
}
DOUBLING = {"stop", "hug", "clap", "nod", "beg", "grab", "hop", "skip", "trip", "slip", "plan", "drop", "hum", "pat",
            "drag", "tap", "chat", "wrap", "step", "rub", "spot", "tug", "jog", "dip", "scrub", "admit", "flap", "trot", "quarrel", "drip", "stir"}
PLURAL = {"mouse": "mice", "goose": "geese", "sheep": "sheep", "deer": "deer", "wolf": "wolves", "fox": "foxes",
          "elf": "elves", "child": "children", "knife": "knives", "loaf": "loaves", "berry": "berries",
          "pony": "ponies", "puppy": "puppies", "fairy": "fairies", "butterfly": "butterflies", "penny": "pennies",
          "monkey": "monkeys", "donkey": "donkeys", "cherry": "cherries", "peach": "peaches", "leaf": "leaves"}
SPOKEN_A = ("uni", "use", "one", "ukul")          # vowel letters that sound like a consonant
SPOKEN_AN = ("hour", "honest", "honour")          # consonant letters that sound like a vowel


def third_person(verb: str) -> str:
    """``carry`` -> ``carries``."""
    if verb in IRREGULAR:
        return IRREGULAR[verb][0]
    if verb.endswith(("s", "sh", "ch", "x", "z", "o")):
        return verb + "es"
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ies"
    return verb + "s"


def past(verb: str) -> str:
    """``carry`` -> ``carried``."""
    if verb in IRREGULAR:
        return IRREGULAR[verb][1]
    if verb in DOUBLING:
        return verb + verb[-1] + "ed"
    if verb.endswith("e"):
        return verb + "d"
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ied"
    return verb + "ed"


def plural(noun: str) -> str:
    """``mouse`` -> ``mice``; a phrase inflects its last word (``bear cub`` -> ``bear cubs``)."""
    head, _, last = noun.rpartition(" ")
    if last in PLURAL:
        last = PLURAL[last]
    elif last.endswith(("s", "sh", "ch", "x")):
        last += "es"
    elif last.endswith("y") and last[-2] not in "aeiou":
        last = last[:-1] + "ies"
    else:
        last += "s"
    return f"{head} {last}" if head else last


def inflect(verb: str, is_plural: bool, present: bool) -> str:
    """``verb`` for a third-person subject in the present or the past."""
    if present:
        if verb == "be":
            return "are" if is_plural else "is"
        return verb if is_plural else third_person(verb)
    if verb == "be":
        return "were" if is_plural else "was"
    return past(verb)


def article(following: str) -> str:
    """``a`` or ``an`` for the words that follow."""
    word = following.lower()
    if word.startswith(SPOKEN_AN):
        return "an"
    return "an" if word[:1] in "aeiou" and not word.startswith(SPOKEN_A) else "a"


_ARTICLE = re.compile(r"\b([Aa]) (?=([A-Za-z]+))")
_CANNOT = re.compile(r"\b([Cc])an not\b")
_START = re.compile(r"(^|[.!?] |\n)([a-z])")


def finish(text: str) -> str:
    """Set a/an by the word that follows, and capitals at the starts of sentences."""
    def fix(match: re.Match) -> str:
        chosen = article(match[2])
        return (chosen.capitalize() if match[1] == "A" else chosen) + " "
    text = _CANNOT.sub(r"\1annot", _ARTICLE.sub(fix, text))
    return _START.sub(lambda m: m[1] + m[2].upper(), text)


_SMALL_WORDS = {"a", "an", "and", "the", "of", "to", "in", "about", "for", "his", "her", "their", "its", "on", "from", "by"}


def title_case(text: str) -> str:
    """``the fox and the lost kite`` -> ``The Fox and the Lost Kite``."""
    words = text.split(" ")
    return " ".join(w if i and w in _SMALL_WORDS else w[:1].upper() + w[1:] for i, w in enumerate(words))


# --- templates -----------------------------------------------------------------------------------

_TOKEN = re.compile(r"[(|)]|\[[^\]]*\]|\{[^}]*\}|[^(|)\[{]+")


@lru_cache(maxsize=None)
def parse(template: str) -> tuple:
    """The template as nested tuples: str | ('slot', key, form) | ('verb', verb, key) | ('alt', sequences)."""
    tokens = _TOKEN.findall(template)
    if "".join(tokens) != template:
        raise ValueError(f"stories: unreadable template {template!r}")
    position = 0

    def sequence(nested: bool) -> tuple:
        nonlocal position
        items: list = []
        while position < len(tokens):
            token = tokens[position]
            if nested and token in "|)":
                break
            position += 1
            if token == "(":
                options = []
                while True:
                    options.append(sequence(True))
                    if position >= len(tokens):
                        raise ValueError(f"stories: unclosed '(' in {template!r}")
                    position += 1
                    if tokens[position - 1] == ")":
                        break
                items.append(("alt", tuple(options)))
            elif token[0] == "[":
                verb, key = token[1:-1].split()
                items.append(("verb", verb, key))
            elif token[0] == "{":
                key, _, form = token[1:-1].partition(".")
                items.append(("slot", key, form))
            elif token in "|)":
                raise ValueError(f"stories: stray {token!r} in {template!r}")
            else:
                items.append(token)
        return tuple(items)

    return sequence(False)

"""The parts every plot shares: casting the hero, openings, endings."""

from __future__ import annotations

from . import lexicon as lex
from .tale import Tale

LIKES = ("sing songs", "count the stars", "watch the clouds", "bake bread", "collect shells", "draw pictures", "tell riddles",
         "dance in the rain", "climb the hill", "listen to stories", "plant flowers", "whistle", "build little houses of twigs",
         "look for mushrooms", "feed the birds", "paint stones", "read old books", "make soup", "play hide and seek",
         "sit by the fire", "fly kites", "tell jokes", "swim", "sleep late on Sundays", "watch the moon", "make music",
         "drink warm milk", "walk in the wind", "chase butterflies", "learn new words")
HEROES = lex.ANIMALS * 2 + lex.PEOPLE + lex.FANTASTIC * 2
FRIENDS = lex.ANIMALS + lex.PEOPLE[:4] + lex.FANTASTIC
SOME_HEROES = tuple(k for k in HEROES if k.noun not in ("snail", "ant", "beetle", "crab", "bee", "butterfly"))   # can carry, pull and wear things


def begin(tale: Tale, heroes: tuple[lex.Kind, ...] = SOME_HEROES, pair: float = 0.0) -> None:
    """Cast the hero ``H`` and the place ``P``."""
    tale.character("H", heroes, pair=pair)
    tale.entities["P"] = tale.rng.choice(lex.PLACES)
    tale.put("where", tale.render(tale.rng.choice(tale.place.where)))


def introduce(tale: Tale) -> None:
    """Opening: who, where, what the hero is like, perhaps the season."""
    rng = tale.rng
    trait, second = rng.sample(lex.GOOD_TRAITS, 2)
    tale.put("trait", trait)
    tale.put("trait2", second)
    tale.put("like", rng.choice(LIKES))
    tale.say("Once upon a time, {H.intro} [live H] {where}.",
             "Once upon a time, there [be H] {H.intro} who [live H] {where}.",
             "{H} [be H] {H.full} who [live H] {where}.",
             "{where} there [live H] {H.intro}.",
             "(Long ago|A long time ago|Many years ago), {H.intro} [live H] {where}." if not tale.present else
             "Not far from here, {H.intro} [live H] {where}.",
             "Far away, (beyond the hills|on the other side of the sea|where the road ends), {H.intro} [live H] {where}.",
             "This is the story of {H}, {H.full} who [live H] {where}.",
             "There once [be H] {H.intro}. {H} [live H] {where}." if not tale.present else "Meet {H}, {H.full}. {H} [live H] {where}.",
             "{H.full} [live H] {where}. {H.His} name [be one] {H}." if not tale.hero.is_plural else
             "{H.full} [live H] {where}. {H.His} names [be they] {H}.")
    tale.fact("(Where [do H] {H} live?|Where [be one] the home of {H}?)", "{H} [live H] {where}.")
    if not tale.hero.is_plural:
        tale.fact("What [be one] the name of {H.the}?", "{H.His} name [be one] {H}.", "{H.The} [be H] called {H}.")
    tale.fact("(Who [be H] {H}?|What kind of (character|creature) [be H] {H}?)" if not tale.hero.kind.person else "Who [be H] {H}?",
              "{H} [be H] {H.full}.", "{H} [be H] {H.full} who [live H] {where}.")
    draw = rng.random()
    if draw < 0.3:
        tale.say("{H.he} [be H] {trait} and {trait2}, and {H.he} [like H] to {like}.",
                 "{H.he} [like H] to {like}, and everybody [know one] that {H.he} [be H] {trait}.")
    elif draw < 0.6:
        tale.say("(Most of all|More than anything), {H.he} [love H] to {like}.",
                 "Every (morning|evening|day), {H.he} [like H] to {like}.",
                 "{H.he} [love H] to {like}, even (in the rain|on cold days|when nobody [be one] watching).")
    elif draw < 0.8:
        tale.say("{H.he} [be H] very {trait}.",
                 "Everybody [like one] {H} because {H.he} [be H] so {trait}.",
                 "The neighbours often [say they] that nobody [be one] as {trait} as {H}.",
                 "{H} [be H] {trait}, and {H.his} friends [be they] {trait2} too.")
    if draw < 0.6:
        tale.fact("What [do H] {H} (like|love) to do?", "{H.He} [like H] to {like}.")


def weather(tale: Tale, chance: float = 0.4) -> None:
    """Perhaps a sentence about the season."""
    if tale.rng.random() < chance:
        season, sentences = tale.rng.choice(lex.SEASONS)
        tale.say("It [be one] (early|late) " + season + ". " + tale.rng.choice(sentences) + ".",
                 "It [be one] " + season + ". " + tale.rng.choice(sentences) + ".")


def befriend(tale: Tale) -> None:
    """Cast and introduce the hero's friend ``F``."""
    tale.character("F", FRIENDS)
    tale.say("{H.his} best friend [be one] {F.intro}.", "{H.he} [have H] a good friend, {F.intro}.",
             "{H.his} neighbour [be one] {F.intro}, and the (two|friends) [spend they] every day together."
             if not tale.hero.is_plural else "{H.his} neighbour [be one] {F.intro}.")
    tale.fact("Who [be one] (the best friend|the friend) of {H}?", "{F}, {F.full}.", "{H.His} friend [be one] {F.intro}.")


def close(tale: Tale, *morals: str, together: str = "", abroad: bool = False, picture: bool = True) -> None:
    """Ending: a last picture, sometimes the moral, sometimes "The end.".

    ``together`` is who is with the hero; ``abroad`` says that they still have to go home.
    """
    if not picture:
        pass
    elif together:
        tale.put("B", tale.entities[together])
        tale.say("From that day on, {H} and {B} [be they] the best of friends.",
                 "That evening, {H} and {B} [sit they] together (under the stars|by the fire|on the doorstep) and [tell they] stories "
                 "until it [be one] dark.",
                 "After that, {H} and {B} [see they] each other every day.",
                 "And {H} and {B} [laugh they] about it for a long time.",
                 *(("Then {H} and {B} [walk they] home (together|side by side), (tired but happy|singing all the way|hungry for dinner).",) * 2
                   if abroad else ()),
                 chance=0.8)
    else:
        tale.say("That night, {H} [sleep H] (well|very well|like a stone).",
                 "When the moon [rise one], {H} [lie H] in bed and [smile H].",
                 "{H} [be H] (very happy|happy and proud|as happy as could be) when {H.he} [go H] to bed that (night|evening).",
                 "And {H} never [forget H] that day.",
                 *(("{H} [go H] home with a (light|warm|full) heart.",) if abroad else ()), chance=0.8)
    if morals and tale.rng.random() < 0.55:
        moral = tale.render(tale.rng.choice(morals), present=True)
        tale.say("And so {H} [learn H] that " + moral + ".", "{H} [have H] learned that " + moral + ".",
                 "That [be one] how {H} [learn H] that " + moral + ".", "The lesson is that " + moral + ".",
                 "Remember: " + moral + ".")
        tale.fact("What [do H] {H} learn?", "{H} [learn H] that " + moral + ".")
    if tale.rng.random() < 0.2:
        tale.paragraphs[-1].append("The end.")

"""Plots that turn on a thing: lost, broken, made, quarrelled over, swapped, wished for, carried."""

from __future__ import annotations

from . import lexicon as lex
from .frame import FRIENDS, HEROES, SOME_HEROES, befriend, begin, close, introduce, weather
from .tale import Tale

PORTABLE = tuple(t for t in lex.THINGS if t.noun != "window")


def lost_thing(t: Tale) -> None:
    """The hero loses a thing, searches, and somebody finds it."""
    begin(t, SOME_HEROES)
    wind = t.rng.random() < 0.3
    t.item("T", tuple(x for x in PORTABLE if x.light) if wind else PORTABLE)
    first, second, last = t.spots(3)
    t.put("s1", first), t.put("s2", second), t.put("s3", last)
    t.character("F", FRIENDS)
    t.key = ("lost", t.hero.kind.noun, t.entities["T"].thing.noun, t.entities["F"].kind.noun)
    t.title = "{H.The} and the Lost {T}"
    t.request("who loses {T.a}")
    introduce(t)
    t.say("{H} [have H] {T.a}, and {H.he} [use H] {T.him} to {T.use}.",
          "{H.his} dearest treasure [be one] {T.a}. With {T.him}, {H.he} [can H] {T.use}.",
          "On {H.his} birthday, {H.he} [have H] been given {T.a}. {H.he} [use H] {T.him} to {T.use}, and {H.he} [take H] {T.him} everywhere.")
    t.fact("What [do H] {H} use {T.the} for?", "{H.He} [use H] {T.him} to {T.use}.")
    t.paragraph(0.6)
    weather(t, 0.3)
    if wind:
        t.say("(One day|One windy morning|One afternoon), a strong wind [come one] and [blow one] {T.the} away.",
              "One day, while {H} [be H] out walking, the wind [blow one] {T.the} (high into the air|over the rooftops|far away).")
        t.fact("How [do H] {H} lose {T.the}?", "The wind [blow one] {T.him} away.")
    else:
        t.say("(One day|One morning|One afternoon), {T.the} [be T] gone.",
              "One (day|morning|evening), {H} [want H] to {T.use}, but {T.the} [be T] gone.",
              "Then, one day, {H} [can H] not find {T.the} anywhere.")
        t.fact("What [do H] {H} lose?", "{H} [lose H] {T.a}.", "{H.He} [lose H] {H.his} {T.full}.")
    t.say("{H} [be H] very sad.", "{H} [sit H] down and [begin H] to cry.", "{H} [feel H] sad, for there [be one] no other {T} like {T.him}.",
          "{H.his} heart [sink one].")
    t.fact("Why [be H] {H} sad?", "{H} [be H] sad because {T.the} [be T] gone.", "Because {H.he} [have H] lost {H.his} {T}.")
    if t.rng.random() < 0.8:
        t.say("{H.he} [look H] {s1}, but {T.the} [be T] not there. {H.he} [look H] {s2}, but there [be one] nothing there (either|but dust|but an old nail).",
              "First {H.he} [look H] {s1}. Then {H.he} [look H] {s2}. But {T.the} [be T] nowhere to be found.",
              "{H.he} [search H] {s1} and {s2}, but {H.he} [find H] nothing.")
        t.fact("Where [do H] {H} look first?", "{H.He} [look H] {s1}.", "First, {H} [look H] {s1}.")
    t.paragraph(0.6)
    t.say("{F.intro} [come F] along.", "Just then, {F.intro} [come F] by.", "On the way home, {H.he} [meet H] {F.intro}.", "{F.intro} [see F] {H} and [stop F].")
    t.speak("F", "Why are you so sad?", "What is the matter?", "Why are you crying?", "What are you looking for?", mood="ask")
    t.speak("H", "I have lost {H.my} {T}.", "{H.My} {T.full} [be T] gone.", "I cannot find {H.my} {T}, and I have looked everywhere.", mood="", pronoun=True)
    t.speak("F", "Do not worry. I will help you.", "Let us look together!", "Four eyes see more than two. Let us look again!", "Dry your tears. We will find {T.him}!")
    draw = t.rng.random()
    if draw < 0.5:
        t.say("So they [look they] together, and soon {F} [find F] {T.the} {s3}.",
              "They [look they] high and low. At last, {F} [look F] {s3}, and there [be T] {T.the}!",
              "It [do one] not take long. {s3}, {F} [find F] {T.thefull}.")
        t.fact("Who [find F] {T.the}?", "{F} [find F] {T.him}.", "{F.The} [find F] {T.the}.")
    elif draw < 0.8:
        t.speak("F", "When did you have {T.him} last?", "Where were you yesterday?", mood="ask")
        t.say("{H} [think H] for a while. Then {H.he} [remember H]: {H.he} [have H] been resting {s3} the day before.",
              "{H} [scratch H] {H.his} head. Yesterday {H.he} [have H] been playing {s3}.")
        t.say("They [run they] there, and {H} [find H] {T.the} {s3}, (safe and sound|just where {H.he} [have H] left {T.him}).")
        t.fact("Who [find H] {T.the}?", "{H} [find H] {T.him}.")
    else:
        t.character("G", lex.HELPER_ANIMALS, named=False)
        t.say("Together they [ask they] {G.full}, who [have G] seen {T.a} {s3}. They [go they] there at once, and there [be T] {T.the}.",
              "They [ask they] everyone they [meet they]. At last {G.full} [say G] that {T.a} [lie T] {s3}. And so it [be one]!")
        t.fact("Who [know G] where {T.the} [be T]?", "{G.The} [know G] it.")
    t.fact("Where [be T] {T.the}?", "{T.The} [be T] {s3}.", "{s3}.")
    t.paragraph(0.4)
    t.speak("H", "Thank you!", "Thank you, {F}! You are a true friend!", "Oh, thank you! {H.I} {H.am} so happy!", pronoun=True)
    t.say("{H} [hug H] {F}.", "{H} [jump H] for joy.", "{H} [be H] so happy that {H.he} [dance H] around {F}.", chance=0.6)
    close(t, "a good friend is worth more than {T.a}", "it is easier to find things together", "asking for help is nothing to be ashamed of",
          "two pairs of eyes are better than one", together="F", abroad=True)


def broken_thing(t: Tale) -> None:
    """The hero breaks somebody's thing, hides it, and in the end tells the truth."""
    begin(t, SOME_HEROES)
    t.item("T", tuple(x for x in PORTABLE if x.breaks))
    t.character("F", tuple(k for k in FRIENDS if k.size > 0))
    t.put("s1", t.spots(1)[0])
    t.key = ("broken", t.hero.kind.noun, t.entities["T"].thing.noun, t.entities["F"].kind.noun)
    t.title = "The Broken {T}"
    t.request("who breaks {T.a} and tells the truth")
    introduce(t)
    t.say("Next door [live F] {F.intro}, who [have F] {T.a}.", "{H.his} friend [be one] {F.intro}. {F} [have F] {T.a} and [be F] very proud of {T.him}.",
          "One day, {H} [visit H] {F.intro}. On the table [stand T] {T.a}.")
    t.fact("Who [have F] {T.a}?", "{F} [have F] {T.him}.", "{F.The} [have F] {T.a}.")
    t.paragraph(0.5)
    t.say("(One day|One afternoon), while {F} [be F] (in the kitchen|out in the yard|fetching water), {H} [pick H] {T.the} up to look at {T.him}. "
          "(But {T.he} [slip T] from {H.his} hands and [fall T] to the floor|But {H} [sneeze H], and {T.the} [fall T] to the floor). Crash! {T.the} [be T] broken.",
          "One rainy day, {H} [play H] with a ball in ({F.s} house|the house of {F}). The ball [hit one] {T.the}, and {T.the} [break T] into (two|three|many) pieces.")
    t.fact("Who [break H] {T.the}?", "{H} [break H] {T.him}.")
    t.say("{H} [be H] frightened. Quickly, {H.he} [hide H] the pieces {s1}.", "{H} [do H] not know what to do. {H.he} [gather H] the pieces and [hide H] them {s1}.")
    t.fact("Where [do H] {H} hide the pieces?", "{H.He} [hide H] them {s1}.")
    t.speak("F", "Have you seen {F.my} {T}?", "Where [be T] {F.my} {T}?", mood="ask")
    if t.rng.random() < 0.7:
        t.speak("H", "No, I have not.", "I do not know.", "Perhaps the wind took {T.him}.", pronoun=True)
        t.say("But {H.he} [feel H] bad, because it [be one] not true.", "As soon as {H.he} [have H] said it, {H.his} ears [grow they] hot.",
              "That night, {H} [can H] not sleep. {H.he} [think H] of {T.the} and of the lie.")
        t.fact("Why [do H] {H} feel bad?", "Because {H.he} [have H] not told the truth.", "{H.He} [feel H] bad because {H.he} [have H] told a lie.")
        t.paragraph(0.6)
        t.say("(The next morning|The next day|At last), {H} [go H] to {F}.", "{H} [can H] not bear it any longer and [go H] back to {F}.")
    else:
        t.say("{H} [look H] at the floor. {H.he} [feel H] {H.his} heart beat.", "{H} [be H] quiet for a long time.")
    t.speak("H", "I have to tell you something. I broke your {T}, and I am sorry.", "It was me. I broke {T.the}. I am so sorry.",
            "I am sorry, {F}. I broke your {T} and hid the pieces.", pronoun=True)
    t.say("{F} [be F] sad for a moment, but then {F.he} [smile F].", "{F} [look F] at {H} for a long time.", "{F} [take F] a deep breath.")
    t.speak("F", "Thank you for telling me the truth.", "A {T} can be mended. A friend who tells the truth is hard to find.",
            "I am not angry. It was brave of you to tell me.")
    t.say("Together they [glue they] the pieces, and {T.the} [be T] almost as good as new.", "They [mend they] {T.the} together, piece by piece.",
          "{H} [work H] for {F} for three days and [buy H] {F.him} a new {T}.")
    close(t, "the truth is better than a lie", "it takes courage to say sorry", "a lie is a heavy thing to carry", "friends forgive each other",
          together="F")


def birthday_gift(t: Tale) -> None:
    """The hero makes a present for a friend; something is missing, somebody gives it."""
    begin(t, SOME_HEROES)
    t.item("T", tuple(x for x in PORTABLE if x.craft))
    needs = {"hat": "wool", "scarf": "wool", "mittens": "wool", "cap": "cloth", "blanket": "wool", "bag": "leather", "doll": "cloth",
             "pillow": "feathers", "kite": "string", "flag": "cloth", "boots": "leather", "necklace": "beads", "basket": "willow twigs",
             "lantern": "paper", "cup": "clay", "bowl": "clay"}
    t.put("stuff", needs.get(t.entities["T"].thing.noun, "wood"))
    t.key = ("gift", t.hero.kind.noun, t.entities["T"].thing.noun, t.place.noun)
    t.title = "A Present from {H}"
    introduce(t)
    befriend(t)
    t.request("who makes {T.a} for a friend")
    t.paragraph(0.5)
    t.say("Soon it [will one] be ({F.s} birthday|the birthday of {F}), and {H} [want H] to give {F.him} something special.",
          "(One day|One morning), {H} [remember H] that the next day [be one] ({F.s} birthday|the birthday of {F}), and {H.he} [have H] no present.",
          "The birthday of {F} [be one] near, but {H} [have H] no money for a present.")
    t.fact("Whose birthday [be one] it?", "It [be one] ({F.s} birthday|the birthday of {F}).")
    t.speak("H", "I will make {T.a}!", "I know what to do. I will make {F.him} {T.a}!", "I will make {T.a} with {H.my} own hands!", mood="think" if t.rng.random() < 0.4 else "")
    t.say("{H.he} [begin H] at once. But soon there [be one] no {stuff} left.", "{H} [work H] all morning. Then {H.he} [see H] that {H.he} [need H] more {stuff}.",
          "But to make {T.a}, {H.he} [need H] {stuff}, and {H.he} [have H] none.")
    t.fact("What [do H] {H} need?", "{H} [need H] {stuff}.", "{H.He} [need H] {stuff} to make {T.a}.")
    t.character("G", lex.HELPER_ANIMALS + lex.PEOPLE)
    t.say("So {H} [go H] to {G.intro}.", "Then {H} [think H] of {G.intro}, who [have G] a whole box of {stuff}.")
    t.put("job", t.rng.choice(("sweep the floor", "carry the firewood", "water the beans", "wash the dishes", "paint the fence", "clean the windows", "pick the apples")))
    if t.rng.random() < 0.6:
        t.speak("G", "I will give you {stuff} if you help me to {job}.", "You may have {stuff}, but first help me to {job}.")
        t.say("{H} [help H] gladly, and {G} [give G] {H.him} all the {stuff} {H.he} [need H].", "So {H} [help H] {G} to {job}, and in return {H.he} [get H] the {stuff}.")
        t.fact("How [do H] {H} get the {stuff}?", "{H} [help H] {G} to {job}.", "{G} [give G] it to {H.him} because {H.he} [help H] to {job}."
               if t.entities["stuff"].text not in ("feathers", "beads", "willow twigs") else "{H} [help H] {G} to {job}.")
    else:
        t.speak("G", "Take as much as you like. A present for a friend is a good reason.", "Of course you may have some. What are neighbours for?")
        t.fact("Who [give G] {H} the {stuff}?", "{G} [give G] it to {H.him}." if t.entities["stuff"].text not in ("feathers", "beads", "willow twigs")
               else "{G} [give G] them to {H.him}.")
    t.say("{H} [work H] until late in the night, and at last {T.the} [be T] ready.", "That evening, {H} [finish H] {T.the} and [tie H] a ribbon around {T.him}.")
    t.paragraph(0.6)
    t.say("The next day, {F} [open F] the present. {F.His} eyes [shine they].", "When {F} [see F] {T.the}, {F.he} [can F] hardly speak.",
          "On the birthday, {F} [open F] the present and [find F] {T.a}.")
    t.speak("F", "Did you make {T.him} yourself?", "This is the best present of all!" if not t.entities["T"].is_plural else "These are the best present of all!",
            "Oh, {T.a}! Thank you, {H}!", "I will keep {T.him} forever!")
    t.fact("What [do H] {H} make for {F}?", "{H} [make H] {T.a} for {F}.", "{H.He} [make H] {T.a}.")
    close(t, "the best presents are made with love", "a present does not have to cost money", "it is a joy to give", together="F")


def quarrel(t: Tale) -> None:
    """Two friends quarrel over a thing, lose it, and make peace."""
    begin(t, SOME_HEROES)
    t.item("T", tuple(x for x in PORTABLE if not x.breaks and not x.plural and x.noun not in ("letter", "glasses", "key", "pillow")))
    t.put("water", t.place.water)
    t.put("s1", t.spots(1)[0])
    t.key = ("quarrel", t.hero.kind.noun, t.entities["T"].thing.noun, t.place.noun)
    t.title = "The Quarrel about the {T}"
    introduce(t)
    befriend(t)
    t.request("who quarrels with a friend over {T.a}")
    t.paragraph(0.4)
    t.say("(One day|One morning), they [find they] {T.a} {s1}.", "(One day|One afternoon), the two friends [see they] something {s1}. It [be one] {T.a}.")
    t.fact("What [do they] the friends find?", "They [find they] {T.a}.", "They [find they] {T.a} {s1}.")
    t.fact("Where [be one] {T.the} when they [find they] it?", "It [be one] {s1}.")
    t.speak("H", "It is mine! I saw it first!", "I saw it first!", "Give it to me! I need it!")
    t.speak("F", "No, it is mine!", "No, I was here first!", "I found it, so it belongs to me!")
    t.say("They [pull they] and they [pull they], and neither of them [will one] let go.", "{H} [pull H] on one side and {F} [pull F] on the other.",
          "They [shout they] so loudly that the birds [fly they] away.")
    if t.rng.random() < 0.5:
        t.say("Suddenly {T.the} [fly one] out of their hands and [fall one] into the {water}.", "Then both of them [slip they], and {T.the} [fall one] into the {water} and [be one] gone.")
        t.fact("What [happen one] to {T.the}?", "It [fall one] into the {water}.")
    else:
        t.character("G", tuple(k for k in lex.ANIMALS if k.flies), named=False)
        t.say("While they [quarrel they], {G.full} [take G] {T.the} and [fly G] away with it.", "They [quarrel they] so long that they [do they] not see {G.full}. {G.the} [take G] {T.the} and [be G] gone.")
        t.fact("Who [take G] {T.the}?", "{G.A} [take G] it.")
    t.paragraph(0.5)
    t.say("{H} [look H] at {F}, and {F} [look F] at {H}. Now neither of them [have one] {T.a}.", "For a while, they [say they] nothing at all. Then {H} [feel H] ashamed.",
          "They [go they] home without a word, and both [be they] sad. The next day, {H} [knock H] at ({F.s} door|the door of {F}).")
    t.speak("H", "I am sorry. You are more important to me than {T.a}.", "I am sorry that I shouted at you.", "It was silly of me. Can we be friends again?", pronoun=True)
    t.speak("F", "I am sorry, too.", "I was silly as well. Let us never quarrel again!", "Of course we are friends! Next time, we will share.", pronoun=True)
    t.say("They [shake they] hands and [begin they] to laugh.", "Then they [share they] a big pancake, and each [get one] the bigger half, or so they both [think they].",
          "And they [build they] a new {T} together." if t.entities["T"].thing.noun in ("kite", "boat", "drum", "wagon", "doll", "basket", "flag") else "{F} [laugh F], and soon they [play they] together again.")
    close(t, "those who quarrel over a thing may both lose it", "sharing is better than fighting", "a friend is worth more than any treasure", together="F", abroad=True)


def trade_chain(t: Tale) -> None:
    """The hero swaps one thing for another until the last one is just what is needed."""
    begin(t, SOME_HEROES)
    things = [t.item(k, tuple(x for x in PORTABLE if not x.plural)) for k in ("T", "U", "V")]
    t.key = ("trade", t.hero.kind.noun, things[0].thing.noun, things[1].thing.noun, things[2].thing.noun)
    t.title = "{H} Goes to Market"
    t.request("who trades {T.a} for {U.a}")
    introduce(t)
    t.say("{H} [have H] {T.a}, but what {H.he} really [want H] [be one] {V.a}.", "{H} [wish H] for {V.a}, but all {H.he} [have H] [be one] {T.a}.")
    t.fact("What [do H] {H} want?", "{H} [want H] {V.a}.")
    t.speak("H", "I will go and trade {H.my} {T}.", "Perhaps somebody needs {T.a}.", mood="")
    t.paragraph(0.5)
    t.character("F", FRIENDS + lex.PEOPLE)
    t.say("On the way, {H} [meet H] {F.intro}, who [carry F] {U.a}.", "Soon {H.he} [meet H] {F.intro} with {U.a} in a sack.")
    t.speak("F", "What a fine {T}! I need one to {T.use}. Will you take {F.my} {U} for it?", "I have always wanted {T.a}. I will give you {F.my} {U} for it.",
            "Will you swap your {T} for {F.my} {U}?")
    t.say("{H} [agree H], and now {H.he} [have H] {U.a}.", "{H} [think H] about it and [nod H]. So {F} [get F] {T.the}, and {H} [get H] {U.the}.")
    t.fact("Who [get F] {T.the}?", "{F} [get F] it.", "{F.The} [get F] {T.the}.")
    t.paragraph(0.4)
    t.character("G", FRIENDS + lex.PEOPLE)
    t.say("A little later, {H.he} [meet H] {G.intro}. {G} [look G] sad.", "At the end of the road [sit G] {G.intro} with a long face.")
    t.speak("H", "What is the matter?", "Why do you look so sad?", mood="ask")
    t.speak("G", "I want to {U.use}, but I have no {U}. All I have is {V.a}.", "I need {U.a}, but I only have {V.a}.", pronoun=True)
    t.speak("H", "Then take {H.my} {U}!", "That is easy! Take {U.the}, and give me {V.the}!", "How lucky we are! Let us swap!")
    t.say("So {G} [get G] {U.the}, {H} [get H] {V.the}, and both [be they] happy.", "{G} [smile G] and [give G] {H.him} {V.the}. At last, {H} [have H] {V.a}!")
    t.fact("Who [get G] {U.the}?", "{G} [get G] it.", "{G.The} [get G] {U.the}.")
    t.fact("What [do H] {H} have (at|in) the end?", "{H} [have H] {V.a}.", "In the end, {H.he} [have H] {V.a}.")
    t.say("With it, {H.he} [can H] {V.use}.", "Now {H.he} [can H] {V.use} as often as {H.he} [like H].")
    close(t, "what one does not need may be a treasure to another", "a fair trade makes two people happy", "it pays to ask", abroad=True)


def magic_wish(t: Tale) -> None:
    """A magic thing grants a foolish wish; the hero wishes everything back."""
    begin(t, tuple(k for k in HEROES if k.noun not in ("fairy", "giant", "elephant")))
    t.item("T", tuple(x for x in PORTABLE if x.noun in ("ring", "stone", "lantern", "bell", "coin", "feather", "key", "mirror", "whistle", "teapot", "spoon", "flute", "drum")))
    t.put("s1", t.spots(1)[0])
    wishes = {
        "to be as big as a house": ("{H} [grow H] and [grow H] until {H.he} [be H] as big as a house", "But now {H} [can H] not go through {H.his} own door, and {H.his} friends [be they] afraid of {H.him}", "big"),
        "to be as small as a pea": ("{H} [become H] smaller and smaller until {H.he} [be H] as small as a pea", "But now every drop of rain [be one] as big as a bucket, and nobody [can one] hear {H.him}", "small"),
        "for a house full of cake": ("there [be one] cake on the table, cake on the bed and cake on the floor", "But after a week of cake, {H} [have H] a stomach ache, and there [be one] no room to sleep", "cake"),
        "that it would never be night": ("the sun [stand one] still in the sky", "But nobody [can one] sleep any more, and {H} [miss H] the moon and the stars", "day"),
        "that it would snow all year": ("it [begin one] to snow, and it [do one] not stop", "But soon the snow [reach one] up to the roof, and {H} [be H] cold and [miss H] the flowers", "snow"),
        "to have all the toys in the world": ("toys [fall they] from the sky until the house [be one] full", "But there [be one] nobody to play with, because all the other children [have they] no toys and [be they] angry", "toys"),
        "to be invisible": ("nobody [can one] see {H.him} any more", "But when {H.he} [say H] hello, everybody [run one] away, and {H} [be H] lonely", "invisible"),
        "for golden apples on every tree": ("all the apples [turn they] to gold", "But nobody [can one] eat golden apples, and {H} [be H] hungry", "gold"),
    }
    wish = t.rng.choice(tuple(wishes))
    granted, trouble, short = wishes[wish]
    t.put("wish", wish)
    t.key = ("wish", t.hero.kind.noun, t.entities["T"].thing.noun, short)
    t.title = "The Magic {T}"
    t.request("who finds a magic {T}")
    introduce(t)
    t.paragraph(0.4)
    t.say("(One day|One evening|One morning), {H} [find H] {T.a} {s1}.", "(One day|One night), {H} [see H] something shine {s1}. It [be one] {T.a}.")
    t.fact("What [do H] {H} find?", "{H} [find H] {T.a}.", "{H.He} [find H] a magic {T}.")
    t.fact("Where [be one] {T.the}?", "It [be one] {s1}.")
    t.put("voice", t.rng.choice(("a small voice", "a deep voice", "a silver voice")))
    t.say('When {H.he} [touch H] it, {voice} [say one], "I am a magic {T}. (Make a wish!|You have one wish!|Tell me what you want!)"')
    t.say("{H} [wish H] {wish}.", "{H} [do H] not think for long. {H.he} [wish H] {wish}.")
    t.fact("What [do H] {H} wish for?" if wish.startswith("for") else "What [do H] {H} wish?", "{H} [wish H] {wish}.")
    t.say("And at once, " + granted + ".", "No sooner said than done: " + granted + "!", "There [be one] a flash of light, and " + granted + ".")
    t.say("At first, {H} [be H] delighted.", "What fun it [be one]!", "How {H} [laugh H]!", chance=0.7)
    t.paragraph(0.4)
    t.say(trouble + ".")
    t.fact("Why [be H] {H} not happy with the wish?", trouble.replace("But now ", "Because ").replace("But ", "Because ") + ".")
    t.speak("H", "This is not what I wanted!", "I wish that everything were as it was before!", "Please, {T}, take the wish back!", "What have I done? Please make it as it was before!")
    t.say("{T.the} [shine T] once more, and everything [be one] as before.", "There [be one] a soft sound, and everything [be one] just as it [have one] been.")
    t.say("{H} [put H] {T.the} back {s1} and [go H] home.", "{H} [throw H] {T.the} into the " + t.place.water + ", where nobody [can one] find it.", chance=0.8)
    close(t, "one should think before making a wish", "what we have is often just enough", "not every wish is a wise one", "it is good to be just as one is")


def soup_for_all(t: Tale) -> None:
    """Everybody has one ingredient and nobody a meal, until the hero puts them together."""
    begin(t, SOME_HEROES, pair=0.25)
    foods = t.rng.sample(("a carrot", "an onion", "a potato", "a bag of beans", "a cabbage", "a handful of peas", "a pinch of salt", "a bunch of herbs", "a turnip", "some mushrooms"), 3)
    for key, food in zip(("f1", "f2", "f3"), foods):
        t.put(key, food)
    t.put("pot", t.rng.choice(("a big pot", "an old kettle", "a copper pot", "a black iron pot")))
    t.key = ("soup", t.hero.kind.noun, *sorted(foods))
    t.title = "Soup for Everyone"
    t.request("who make soup for everyone" if t.hero.is_plural else "who makes soup for everyone")
    introduce(t)
    t.say("One cold evening, {H} [be H] hungry, but there [be one] nothing in the house but {pot} and {f1}.", "It [be one] a long, hard winter, and all that {H} [have H] left [be one] {f1} and {pot}.")
    t.fact("What [do H] {H} have in the house?", "{H} [have H] {pot} and {f1}.")
    t.speak("H", "That is not enough for a soup.", "One cannot make a soup from that alone.", mood="")
    t.character("F", FRIENDS)
    t.character("G", FRIENDS)
    t.paragraph(0.5)
    t.say("There [be one] a knock at the door. Outside [stand F] {F.intro}.", "Then {F.intro} [come F] to the door.")
    t.speak("F", "I am hungry, and I have nothing but {f2}.", "All I have left is {f2}. What can one cook from that?")
    t.speak("H", "Come in! {f1} and {f2} are better than one.", "Put it in the pot! Now we have two things.")
    t.say("A moment later, {G.intro} [come G] along with {f3}, and that [go one] into the pot, too.", "The smell [bring one] {G.intro} to the door. {G} [have G] {f3}, and soon that [be one] in the pot as well.")
    t.fact("Who [bring F] {f2}?", "{F} [bring F] {f2}.", "{F.The}, {F}.")
    t.fact("What [do G] {G} bring?", "{G} [bring G] {f3}.")
    t.say("They [stir they] and they [taste they], and the kitchen [grow one] warm.", "Soon the soup [begin one] to boil, and the windows [turn they] white with steam.")
    t.say("It [be one] the best soup they [have they] ever eaten.", "There [be one] enough for everyone, and even a little left over.")
    t.say("{G} [tell G] a funny story, and {F} [laugh F] until {F.his} sides [ache they].", chance=0.5)
    close(t, "a little from everyone is enough for all", "together, even poor neighbours can be rich", "sharing fills more bowls than saving")

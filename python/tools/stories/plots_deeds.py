"""Plots that turn on what somebody does: being brave, racing, rescuing, learning, waiting, helping."""

from __future__ import annotations

from . import lexicon as lex
from .frame import FRIENDS, SOME_HEROES, befriend, begin, close, introduce, weather
from .tale import Tale


def afraid(t: Tale) -> None:
    """The hero is afraid of something and overcomes it to help a friend."""
    begin(t, SOME_HEROES)
    fears = {
        "the dark": ("When the lamps [go they] out, {H} always [hide H] under the blanket", "One night, {F} [lose F] the way home and [call F] for help in the dark",
                     "{H} [take H] a lantern and [step H] out into the night", "The dark [be one] not so terrible after all. There [be they] stars, and an owl [say one] good evening"),
        "thunder": ("Whenever a storm [come one], {H} [crawl H] under the table", "Then a great storm [come one], and {F} [be F] all alone in the old boathouse",
                    "{H} [put H] on a coat and [run H] through the rain while the thunder [roll one]", "After a while, the thunder [sound one] almost like a drum"),
        "deep water": ("{H} never [go H] into the water further than the knees", "One day, {F} [fall F] into the {water} and [can F] not get out",
                       "{H} [forget H] all fear, [jump H] into the water and [pull H] {F} to the shore", "The water [be one] cold, but it [carry one] {H.him}"),
        "heights": ("{H} never [climb H] anything higher than a chair", "One day, {F} [be F] stuck at the top of a tall tower, and the ladder [be one] long and shaky",
                    "{H} [climb H] up, step by step, and never [look H] down", "From up there, one [can one] see the whole land, and it [be one] beautiful"),
        "the big bridge": ("The bridge [creak one] and [swing one], and {H} always [take H] the long way round", "One day, {F} [twist F] a foot on the other side and [can F] not walk",
                           "{H} [take H] a deep breath and [walk H] across the bridge, plank by plank", "The bridge [creak one], but it [hold one]"),
        "the old cave": ("People [say they] that something [growl one] in there", "One day, ({F.s} ball|the ball of {F}) [roll one] into the cave, and {F} [go F] in after it and [do F] not come back",
                         "{H} [light H] a candle and [walk H] into the cave", "The growling [be one] only the wind between the stones"),
    }
    fear = t.rng.choice(tuple(fears))
    habit, need, deed, surprise = fears[fear]
    t.put("fear", fear), t.put("water", t.place.water)
    introduce(t)
    t.character("F", FRIENDS)
    t.key = ("afraid", t.hero.kind.noun, fear, t.entities["F"].kind.noun)
    t.title = "{H} and {fear}"
    t.request("who is afraid of {fear}" if not t.hero.is_plural else "who are afraid of {fear}")
    t.say("But {H} [be H] afraid of {fear}. " + habit + ".", "There [be one] only one thing that {H} [do H] not like: {fear}. " + habit + ".",
          "{H} [be H] not afraid of mud or snow, but {H.he} [be H] very much afraid of {fear}. " + habit + ".")
    t.fact("What [be H] {H} afraid of?", "{H} [be H] afraid of {fear}.", "Of {fear}.")
    t.say("{H} [have H] a friend, {F.intro}. \"(There is nothing to be afraid of|One day you will be brave|Everyone is afraid of something),\" {F} often [say F].",
          "{H.his} best friend [be one] {F.intro}. {F} never [laugh F] at {H.him}.")
    t.paragraph(0.6)
    t.say(need + ".")
    t.speak("F", "Help! Is anybody there?", "Help me, please!", "{H}! Can you hear me?", mood="call")
    t.say("{H} [hear H] it. {H.his} heart [pound one].", "{H} [tremble H] like a leaf. But {H.he} [think H] of {H.his} friend.", "There [be one] nobody else near, only {H}.")
    t.speak("H", "I have to help {F}.", "If I do not go, who will?", "I am afraid, but I will go.", mood="think" if t.rng.random() < 0.3 else "", pronoun=True)
    t.say(deed + ".")
    t.fact("Why [be H] {H} brave?", "{H} [be H] brave because {F} [need F] help.", "Because {F} [be F] in trouble.")
    t.say(surprise + ".")
    t.paragraph(0.5)
    t.say("Soon {F} [be F] safe. {F.he} [hug F] {H}.", "{F} [hold F] on to {H}, and together they [reach they] home.")
    t.speak("F", "You came! You are the bravest {H.kind} I know!", "Thank you, {H}! Were you not afraid?", "I knew that you would come!")
    t.speak("H", "I was afraid, but you needed me.", "I was, a little. But now I am not afraid any more.", "A friend is more important than {fear}.", pronoun=True)
    t.fact("Who [save H] {F}?", "{H} [save H] {F.him}.", "{H.The} [save H] {F}.")
    close(t, "being brave means being afraid and going all the same", "courage grows when a friend needs us", "many things look smaller from close by", together="F")


def race(t: Tale) -> None:
    """A fast boaster and a slow, steady runner."""
    t.character("H", tuple(k for k in lex.ANIMALS if k.pace == "slow"))
    t.entities["P"] = t.rng.choice(lex.PLACES)
    t.put("where", t.render(t.rng.choice(t.place.where)))
    t.put("goal", t.rng.choice(t.place.goals))
    t.character("F", tuple(k for k in lex.ANIMALS if k.pace == "fast"))
    delays = ("[lie F] down under a tree and [fall F] asleep", "[stop F] to look at {F.himself} in the water", "[stop F] to eat berries until {F.his} belly [be one] full",
              "[take F] the wrong path and [get F] lost", "[stop F] to tell everyone how fast {F.he} [be F]", "[chase F] a butterfly")
    delay = t.rng.choice(delays)
    t.key = ("race", t.hero.kind.noun, t.entities["F"].kind.noun, t.entities["goal"].text, delay)
    t.title = "The {H.kind} and the {F.kind}"
    t.request("who wins a race against {F.a}")
    introduce(t)
    t.say("In the same place [live F] {F.intro}, who [be F] very proud of {F.his} long legs.", "{H} [have H] a neighbour, {F.intro}. {F} [be F] fast and [like F] to boast.")
    t.speak("F", "Nobody is as fast as I am!", "I am the fastest {F.kind} in the world!", "You are so slow, {H}! I could sleep all day and still be faster than you!")
    t.say("All the others [grow they] tired of it.", "Everyone [sigh one].", chance=0.4)
    t.speak("H", "Then let us have a race to {goal}.", "I will race you to {goal}.", "Shall we see? Let us run to {goal}!", pronoun=True)
    t.fact("Where [do they] they race to?", "They [race they] to {goal}.", "To {goal}.")
    t.say("{F} [laugh F] until {F.his} eyes [be they] wet. But {F.he} [agree F].", "{F} [can F] not stop laughing.")
    t.paragraph(0.6)
    t.character("G", lex.HELPER_ANIMALS, named=False)
    t.say("The next morning, everybody [come one] to watch. {G.full} [count G] to three, and off they [go they]!", "{G.full} [wave G] a flag, and the race [begin one].")
    t.say("{F} [run F] like the wind and [be F] soon out of sight. {H} [go H] slowly, step by step.", "In a moment, {F} [be F] far ahead, and {H} [be H] all alone on the road.")
    t.say("Halfway, {F} [look F] back and [see F] nobody. So {F.he} " + delay + ".", "{F} [think F] that there [be one] plenty of time, so {F.he} " + delay + ".")
    t.fact("(Why [do F] {F} lose|Why [do F] {F} not win)?", "{F} [lose F] because {F.he} " + delay + ".", "Because {F.he} " + delay + ".")
    t.say("But {H} [do H] not stop. {H.he} [go H] on and on.", "{H} [be H] tired, and {H.his} feet [ache they], but {H.he} [do H] not rest.", "Step by step, {H} [come H] closer and [pass H] by without a sound.")
    t.say("When {F} at last [come F] running, {H} [sit H] at {goal} already.", "At last, {F} [jump F] up and [run F] as fast as {F.he} [can F]. But it [be one] too late: {H} [stand H] at {goal}, and everybody [cheer one].")
    t.fact("Who [win H] the race?", "{H} [win H] the race.", "{H.The} [win H].")
    t.speak("F", "How did you do that?", "But I am so fast!", "You have won. I will never laugh at you again.")
    t.speak("H", "I am slow, but I did not stop.", "I just went on, step by step.", "You are faster, but I did not forget where I wanted to go.", pronoun=True)
    close(t, "slow and steady wins the race", "it does not help to be fast if one does not go on", "those who boast may lose in the end")


def rescue(t: Tale) -> None:
    """Somebody is stuck; pulling alone is not enough, pulling together is."""
    begin(t, SOME_HEROES, pair=0.2)
    introduce(t)
    t.put("trap", t.rng.choice(t.place.trap))
    t.character("F", FRIENDS)
    t.key = ("rescue", t.hero.kind.noun, t.entities["F"].kind.noun, t.entities["trap"].text)
    t.title = "{F} in Trouble"
    t.request("who rescue {F.a} from {trap}" if t.hero.is_plural else "who rescues {F.a} from {trap}")
    t.paragraph(0.5)
    weather(t)
    t.say("(One day|One morning|One evening), {H} [hear H] somebody cry for help.", "On the way to " + t.rng.choice(t.place.goals) + ", {H} [hear H] a faint cry.")
    t.say("It [be one] {F.intro}, who [be F] stuck in {trap}.", "{H.he} [run H] to see what it [be one] and [find H] {F.intro}. {F.he} [be F] stuck in {trap}.")
    t.fact("Where [be F] {F} stuck?", "{F} [be F] stuck in {trap}.", "In {trap}.")
    t.speak("F", "Please help me! I cannot get out.", "I have been here since last night.", "The more I pull, the worse it gets!")
    t.speak("H", "Hold on! {H.i} will pull you out.", "Do not be afraid. {H.i} will help you.", "Hold on to {H.me}!", pronoun=True)
    t.say("{H} [pull H] and [pull H], but {F} [do F] not move.", "{H} [pull H] as hard as {H.he} [can H], but it [be one] not enough.")
    helpers = t.rng.choice((1, 2, 2))
    t.character("G", FRIENDS)
    t.paragraph(0.4)
    t.say("So {H.he} [run H] to fetch {G.intro}.", "Then {G.intro} [come G] by and [take G] hold, too.", "Luckily, {G.intro} [hear G] the noise and [come G] to help.")
    t.fact("Who [help G] {H}?", "{G} [help G] {H.him}.", "{G.The}, {G}.") if helpers == 1 else None
    if helpers == 2:
        t.character("K", tuple(k for k in lex.ANIMALS if k.size == 0), named=False)
        t.say("They [pull they] together, but it [be one] still not enough.", "Now {F} [move F] a little, but only a little.")
        t.say("At last {K.full} [come K]. \"What can you do? You are so (small|little)!\" [say G] {G}. But {K.the} [take K] hold, too.",
              "\"Let me help,\" [say K] {K.full}. The others [smile they], but they [let they] {K.him} try.")
        t.fact("Who [come K] last?", "{K.The} [come K] last.", "{K.A} [come K] last.")
    t.say("One, two, three! With a loud pop, {F} [be F] free, and they all [fall they] on top of each other.", "They [pull they] once more, and suddenly {F} [be F] free!",
          "One, two, three, and {F} [come F] free. Everybody [laugh one].")
    t.paragraph(0.4)
    t.speak("F", "Thank you! Without you, I would still be there.", "How can I ever thank you?", "You are true friends!")
    if helpers == 2:
        t.say("{H} [thank H] {K.the} most of all.", "And {G} [tell G] {K.the}, \"You may be small, but you are strong enough.\"", "Nobody [have one] thought that {K.a} [will K] make the difference.", chance=0.8)
        close(t, "even the smallest help can make the difference", "together we are strong", "nobody is too small to help")
    else:
        t.say("{F} [give F] them the finest apple from {F.his} bag.", "{F} [invite F] them both to supper." if not t.hero.is_plural else "{F} [invite F] them all to supper.", chance=0.7)
        close(t, "together we are strong", "it is no shame to ask for help", "one must never pass by when somebody cries for help", together="F", abroad=True)


def seed(t: Tale) -> None:
    """The hero plants a seed, has to wait, and shares the harvest."""
    begin(t, SOME_HEROES, pair=0.2)
    plants = {"sunflower": ("taller than the house", False, "its yellow face [turn one] to the sun"), "pumpkin": ("as big as a cart", True, "it [shine one] like a lamp"),
              "apple tree": ("strong and green", True, "it [be one] full of red apples"), "strawberry plant": ("thick and green", True, "it [be one] full of sweet berries"),
              "rose": ("higher than the fence", False, "its smell [fill one] the whole street"), "melon": ("round and heavy", True, "it [be one] as sweet as honey"),
              "cherry tree": ("high and wide", True, "it [be one] full of dark cherries"), "turnip": ("as big as a barrel", True, "only its green leaves [look they] out of the ground")}
    plant = t.rng.choice(tuple(plants))
    size, eaten, view = plants[plant]
    t.put("plant", plant)
    introduce(t)
    befriend(t)
    t.key = ("seed", t.hero.kind.noun, plant, t.entities["F"].kind.noun)
    t.title = "The {H.kind} and the Seed" if not t.hero.is_plural else "The Little Seed"
    t.request("who plant the seed of a {plant}" if t.hero.is_plural else "who plants the seed of a {plant}")
    t.paragraph(0.5)
    t.put("giver", t.rng.choice(("an old woman", "an old man", "a passing crow", "the wind", "a kind pedlar")))
    t.say("One spring day, {giver} [give one] {H.him} a seed." if t.entities["giver"].text != "the wind" else "One spring day, the wind [carry one] a seed to ({H.s} door|the door of {H}).")
    t.speak("H", "{H.i} will plant it and see what it becomes.", "What a small seed! {H.i} wonder what is inside.", "It is tiny, but {H.i} will take good care of it.", pronoun=True)
    t.say("{H} [dig H] a hole, [put H] the seed into the earth and [water H] it.", "So {H.he} [plant H] the seed behind the house and [give H] it water.")
    t.fact("What [do H] {H} plant?", "{H} [plant H] a seed.", "{H.He} [plant H] the seed of a {plant}.")
    t.say("The next morning, there [be one] nothing to see. The morning after that, there [be one] still nothing.", "One day [pass one], and another, and a whole week, but nothing [happen one].")
    t.speak("F", "Perhaps it is only a stone.", "Forget it and come to play!", "Nothing will ever grow there.", "Why do you water the bare earth?")
    t.speak("H", "{H.i} will wait.", "Good things take time.", "Just wait and see.", "It only needs more time.", pronoun=True)
    t.say("And {H} [water H] the seed every day.", "{H} [sit H] down beside the spot and [sing H] a song for the seed.", "Every day, {H} [bring H] water, and {H.he} [pull H] out the weeds.")
    t.paragraph(0.5)
    t.say("Then, one morning, a little green tip [look one] out of the earth. It [grow one] and [grow one] until it [be one] " + size + ".",
          "At last, after a warm rain, there [be one] a green leaf. Week by week it [grow one], and in summer it [be one] " + size + ".")
    t.say("It [be one] a {plant}, and " + view + "!", "What a {plant} it [be one]! And " + view + ".")
    t.fact("What [grow one] from the seed?", "A {plant} [grow one] from the seed.", "It [be one] a {plant}.")
    t.speak("F", "I am sorry that I laughed.", "I have never seen anything like it!", "So you were right to wait!")
    if eaten:
        t.say("{H} [share H] it with {F} and with all the neighbours.", "There [be one] enough for everyone, and {H} [share H] it with {F} and the whole neighbourhood.")
        t.fact("Who [do H] {H} share it with?", "{H} [share H] it with {F} and the neighbours.")
    else:
        t.say("{H} [keep H] the seeds, and the next spring everyone [get one] one of them.", "People [come they] from far away to see it, and {H} [be H] proud.")
    close(t, "good things take time", "patience is a quiet kind of magic", "great things begin small", together="F")


def learn_skill(t: Tale) -> None:
    """The hero cannot do something, practises, and does it in the end."""
    begin(t, SOME_HEROES)
    skills = {"whistle": ("only air [come one] out", "a clear, high note [come one] out"), "juggle": ("all the balls [fall they] on the floor", "three balls [dance they] in the air"),
              "skate": ("{H.he} [sit H] down on the ice with a bump", "{H.he} [glide H] over the ice like a swan"),
              "dance": ("{H.he} [step H] on everybody's toes", "{H.he} [turn H] round and round, as light as a feather"),
              "play the flute": ("it [sound one] like a sick goose", "a song [rise one] over the roofs, soft and sweet"),
              "bake a cake": ("the cake [be one] as hard as a stone", "the cake [be one] golden and light"),
              "write": ("the letters [look they] like squashed beetles", "the letters [stand they] in a straight line"),
              "fly a kite": ("the kite [fall one] on its nose", "the kite [climb one] high above the trees"),
              "ride a bicycle": ("{H.he} [land H] in the bushes", "{H.he} [ride H] all the way down the road"),
              "paint": ("the horse [look one] like a potato with legs", "the picture [look one] just like the real thing"),
              "knit": ("the wool [be one] one big knot", "there [be one] a long, straight scarf"),
              "row a boat": ("the boat [go one] round and round", "the boat [go one] straight across the water")}
    skill = t.rng.choice(tuple(skills))
    failure, success = skills[skill]
    t.put("skill", skill)
    introduce(t)
    t.character("F", FRIENDS + lex.PEOPLE)
    t.key = ("learn", t.hero.kind.noun, skill, t.entities["F"].kind.noun)
    t.title = "{H} Learns to " + " ".join(w.capitalize() if w not in ("a", "the") else w for w in skill.split())
    t.request("who learn to {skill}" if t.hero.is_plural else "who learns to {skill}")
    t.say("There [be one] one thing that {H} [want H] to do more than anything: {H.he} [want H] to {skill}. But {H.he} [can H] not.", "All the others [can they] {skill}. Only {H} [can H] not.")
    t.fact("What [do H] {H} want to learn?", "{H} [want H] to learn to {skill}.", "{H.He} [want H] to {skill}.")
    t.say("{H.he} [try H] it once, but " + failure + ".", "Whenever {H.he} [try H], " + failure + ".")
    t.fact("What [happen one] when {H} [try H] for the first time?", failure.replace("{H.he}", "{H.He}") + ".")
    t.say("The others [laugh they], and {H} [run H] home.", "{H} [be H] so ashamed that {H.he} [hide H] in {H.his} room.", chance=0.6)
    t.speak("H", "I will never learn it.", "I am just not good at it.", "It is too hard for {H.me}.", pronoun=True)
    t.paragraph(0.5)
    t.say("{F.intro} [hear F] that.", "But there [be F] {F.intro}, who [hear F] everything.", "Then {H.he} [meet H] {F.intro}.")
    t.speak("F", "Nobody can do it the first time. I will show you how.", "Do you know how often I failed when I learned it? A hundred times! Try again!", "Try a little every day. That is the whole secret.")
    t.fact("Who [help F] {H}?", "{F} [help F] {H.him}.", "{F.The}, {F}.")
    t.say("So {H} [practise H] every day. On Monday, " + failure + ". On Tuesday, it [go one] a little better.", "Day after day, {H} [practise H] with {F}. Sometimes it [go one] well, and sometimes it [do one] not.",
          "{H} [try H] ten times, and twenty times, and a hundred times. {H.he} [do H] not give up.")
    t.say("\"Again!\" [say F] {F}. And {H} [try H] again.", "\"Better!\" [say F] {F}.", chance=0.5)
    t.paragraph(0.4)
    t.say("Then, one morning, " + success + "!", "And one day, when {H.he} hardly [think H] of it any more, " + success + ".")
    t.speak("H", "I did it!", "Look! I can do it!", "{F}, did you see that?")
    t.speak("F", "I knew that you could do it.", "You see? You only had to go on.", "I am so proud of you!")
    t.fact("How [do H] {H} learn to {skill}?", "{H} [practise H] every day.", "{H.He} [practise H] again and again and [do H] not give up.")
    close(t, "practice makes perfect", "nobody is born a master", "those who do not give up will get there in the end", together="F")

"""Plots that turn on meeting somebody: new friends, the sick, the hungry, strange noises, long roads, storms."""

from __future__ import annotations

from . import lexicon as lex
from .frame import FRIENDS, HEROES, SOME_HEROES, befriend, begin, close, introduce, weather
from .tale import Tale

SMALL_GIFTS = ("a pot of soup", "a jar of honey", "a warm blanket", "a basket of apples", "a loaf of bread", "a bunch of flowers", "a cherry pie", "a honey cake", "a bag of nuts", "a picture")


def new_friend(t: Tale) -> None:
    """The hero is new and lonely, and finds a friend in an unexpected way."""
    begin(t, HEROES)
    introduce(t)
    t.character("F", FRIENDS)
    games = {"football": "There [be one] only one player missing", "hide and seek": "Nobody [find one] {H}, because {H.he} [know H] the best hiding place",
             "a singing game": "{H} [know H] a song that nobody else [know one]", "marbles": "{H} [win H] once, and {F} [win F] twice",
             "pirates": "{H} [be H] the captain, and {F} [be F] the crew", "catch": "They [run they] until they [be they] out of breath"}
    game = t.rng.choice(tuple(games))
    t.put("game", game)
    t.put("goal", t.rng.choice(t.place.goals))
    t.key = ("friend", t.hero.kind.noun, t.entities["F"].kind.noun, game, t.place.noun)
    t.title = "{H} Finds a Friend"
    t.request("who find a new friend" if t.hero.is_plural else "who finds a new friend")
    t.say("But {H} [be H] new there and [know H] nobody.", "{H} [have H] only just moved there, and {H.he} [be H] lonely.", "Only one thing [be one] missing: {H} [have H] no friends.")
    t.fact("Why [be H] {H} lonely?", "{H} [be H] lonely because {H.he} [have H] no friends there.", "Because {H.he} [know H] nobody.")
    t.say("Every day, {H.he} [watch H] the others play {game}, but {H.he} [do H] not dare to ask.", "{H.he} [sit H] at the window and [listen H] to the others, who [play they] {game}.")
    t.fact("What [do they] the others play?", "They [play they] {game}.")
    t.paragraph(0.5)
    t.say("(One day|One afternoon), {F.intro} [sit F] down next to {H.him}.", "Then, one day, a ball [roll one] to {H.his} feet, and after the ball [come F] {F.intro}.", "(One morning|One day), {H} [meet H] {F.intro} at the well.")
    t.speak("F", "Hello! I have not seen you before. What is your name?", "Are you new here? My name is {F}.", "Hello! Who are you?")
    t.speak("H", "My name is {H}. I do not know anybody here.", "{H.I} {H.am} {H}, and I would like to play, too.", pronoun=True)
    t.speak("F", "Now you know me! Would you like to play {game}?", "Then come with me! We are playing {game}.", "That is easy to change. Let us play {game}!")
    t.say("They [play they] {game} until the sun [go one] down. " + games[game] + ".", "{H} [smile H] for the first time that week, and off they [go they]. " + games[game] + ".")
    t.fact("Who [ask F] {H} to play?", "{F} [ask F] {H.him} to play.", "{F.The}, {F}.")
    t.paragraph(0.4)
    t.speak("F", "Will you come back tomorrow?", "Tomorrow I will show you {goal}.", "It was fun to play with you!", mood="")
    t.speak("H", "Yes, gladly!", "I would love to!", "Tomorrow, and the day after, and the day after that!", pronoun=True)
    close(t, "a friendly word can open every door", "one has to be brave to make friends", "a stranger is a friend we have not met yet", together="F", abroad=True)


def sick_friend(t: Tale) -> None:
    """The hero's friend is ill; the hero brings something; later it is the other way round."""
    begin(t, SOME_HEROES)
    introduce(t)
    befriend(t)
    gift = t.put("gift", t.rng.choice(SMALL_GIFTS))
    ill = t.put("ill", t.rng.choice(("a bad cold", "a sore throat", "a fever", "a broken leg", "a terrible cough", "a stomach ache")))
    t.key = ("sick", t.hero.kind.noun, t.entities["F"].kind.noun, gift.text, ill.text)
    t.title = "{F} Is Ill"
    t.request("who visit a sick friend" if t.hero.is_plural else "who visits a sick friend")
    t.paragraph(0.4)
    weather(t)
    t.say("(One day|One morning), {F} [do F] not come out to play.", "(One day|One morning), {H} [wait H] for {F}, but {F} [do F] not come.")
    t.say("{F.he} [lie F] in bed with {ill}.", "{H} [go H] to see {F.him} and [find H] {F.him} in bed with {ill}.")
    t.fact("Why [do F] {F} not come?", "{F} [have F] {ill}.", "Because {F.he} [have F] {ill}.")
    t.speak("F", "I feel terrible.", "I am so bored, and everything hurts.", "Do not come too close, or you will be ill, too!" if "leg" not in ill.text else "I cannot walk, and it is so boring.")
    t.say("{H} [think H] about what {H.he} [can H] do. Then {H.he} [run H] home and [come H] back with {gift}.", "{H} [go H] home at once. An hour later, {H.he} [knock H] at the door again, with {gift} under {H.his} arm.")
    t.fact("What [do H] {H} bring?", "{H} [bring H] {gift}.", "{H.He} [bring H] {F.him} {gift}.")
    t.speak("H", "I have brought you {gift}.", "This will do you good.", "Look what I have for you!")
    t.say("Then {H} [sit H] down beside the bed and [tell H] one story after another.", "{H} [stay H] all afternoon and [read H] to {F.him} from a big book." if not t.present else "{H} [stay H] all afternoon and [sing H] for {F.him}.", "They [play they] cards until {F} [fall F] asleep.")
    t.say("A few days later, {F} [be F] well again.", "And every day, {F} [feel F] a little better." if "leg" not in ill.text else "Week by week, {F} [get F] better.")
    if t.rng.random() < 0.5:
        t.paragraph(0.5)
        t.say("(In the winter|A month later|The next week), it [be one] {H} who [lie H] in bed with a cold. There [be one] a knock at the door.", "But soon after that, {H} [wake H] up with a cough. Somebody [knock one] at the door.")
        t.say("It [be one] {F}, and {F.he} [have F] {gift}.", "In [come F] {F} with {gift} and a big smile.")
        t.speak("F", "Now it is my turn!", "You helped me, and now I will help you.", pronoun=True)
        t.fact("Who [visit F] {H}?", "{F} [visit F] {H.him}.")
    close(t, "friends take care of each other", "kindness comes back", "a visit is the best medicine", together="F")


def share_food(t: Tale) -> None:
    """The hero shares the last food with somebody hungry, and is repaid."""
    begin(t, SOME_HEROES, pair=0.2)
    food = t.put("food", t.rng.choice(lex.FOODS))
    introduce(t)
    t.character("F", FRIENDS)
    t.put("goal", t.rng.choice(t.place.goals))
    t.key = ("share", t.hero.kind.noun, food.text, t.entities["F"].kind.noun)
    t.title = "{H} and the {food}"
    t.request(("who share" if t.hero.is_plural else "who shares") + " a {food} with a hungry {F.kind}")
    t.paragraph(0.4)
    t.say("(One day|One morning), {H} [be H] on the way to {goal}. All that {H.he} [have H] to eat [be one] a {food}.", "(One day|One afternoon), {H} [pack H] a {food} and [walk H] to {goal}.")
    t.fact("Where [do H] {H} want to go?", "{H} [want H] to go to {goal}.", "To {goal}.")
    t.say("By the side of the road [sit F] {F.intro}.", "On the way, {H} [meet H] {F.intro}, who [look F] thin and tired.")
    t.speak("F", "I have not eaten since yesterday.", "I am so hungry that I could eat a stone.", "Do you have something to eat for me?")
    if t.rng.random() < 0.4:
        t.say("{H} [look H] at the {food}. {H.he} [be H] hungry, too. At first, {H.he} [want H] to walk on.", "{H} [think H] of {H.his} own empty stomach, and for a moment {H.he} [do H] not answer.")
    t.say("Then {H} [cut H] the {food} in two and [give H] {F} one half." if "bag" not in food.text and "pot" not in food.text and "jar" not in food.text and "bowl" not in food.text else "Then {H} [give H] {F} half of the {food}.",
          "\"We will share,\" [say H] {H}, and {H.he} [give H] {F} half of the {food}.")
    t.fact("What [do H] {H} share?", "{H} [share H] a {food}.", "{H.He} [share H] {H.his} {food} with {F}.")
    t.speak("F", "Thank you! I will not forget that.", "You are very kind. One day I will help you, too.", "That was the best {food} of my life!")
    t.paragraph(0.5)
    returns = {"{H} [get H] lost in the fog. It [grow one] dark, and {H.he} [do H] not know the way": ("{F} [come F] with a light and [lead F] {H.him} home", "{F} [show F] {H.him} the way"),
               "the wheel of ({H.s} cart|the cart of {H}) [break one], and {H.he} [sit H] by the road": ("{F} [come F] by and [mend F] the wheel", "{F} [mend F] the wheel"),
               "a storm [blow one] the roof off ({H.s} house|the house of {H})": ("{F} [knock F] at the door with a hammer and a ladder, and by evening there [be one] a new roof", "{F} [build F] a new roof"),
               "{H} [fall H] into a deep ditch and [can H] not get out": ("{F} [hear F] the cries and [throw F] down a rope", "{F} [throw F] down a rope"),
               "{H} [lose H] {H.his} key and [stand H] in the rain before the locked door": ("{F} [come F] along and [find F] the key in the grass", "{F} [find F] the key")}
    trouble = t.rng.choice(tuple(returns))
    help_, answer = returns[trouble]
    t.say("(A week later|Not long after|Some time later), " + trouble + ".")
    t.say("Then " + help_ + ".", "Luckily, " + help_ + ".")
    t.fact("How [do F] {F} help {H}?", answer + ".")
    t.speak("F", "You shared with me when I was hungry. Now I can help you.", "Do you remember the {food}? I have not forgotten it.", pronoun=True)
    close(t, "kindness always finds its way back", "those who share are never poor", "a small kindness can grow large", together="F", abroad=True)


def strange_noise(t: Tale) -> None:
    """A noise at night turns out to be something harmless."""
    begin(t, SOME_HEROES, pair=0.25)
    noises = {"a scratching": ("a kitten that [want one] to come in", "It [be one] only a kitten"), "a tapping": ("a branch that [knock one] against the window", "It [be one] only a branch"),
              "a humming": ("an old kettle that somebody [have one] left on the stove", "It [be one] only a kettle"), "a rattling": ("a hedgehog with its nose in a tin", "It [be one] only a hedgehog"),
              "a howling": ("the wind in the chimney", "It [be one] only the wind"), "a dripping": ("water that [drip one] from the roof into a bucket", "It [be one] only water"),
              "a squeaking": ("a family of mice that [dance one] on the floor", "It [be one] only a family of mice"), "a snoring": ("a baby owl, fast asleep in the attic", "It [be one] only a baby owl")}
    noise = t.rng.choice(tuple(noises))
    what, answer = noises[noise]
    t.put("noise", noise)
    introduce(t)
    befriend(t)
    t.key = ("noise", t.hero.kind.noun, noise, t.entities["F"].kind.noun)
    t.title = "A Noise in the Night"
    t.request(("who hear" if t.hero.is_plural else "who hears") + " {noise} in the night")
    t.paragraph(0.5)
    t.say("One night, {H} [wake H] up. There [be one] a strange noise in the house: {noise}.", "It [be one] late, and everyone [be one] asleep. Suddenly {H} [hear H] {noise}.")
    t.fact("What [do H] {H} hear?", "{H} [hear H] {noise}.", "{noise}.")
    t.speak("H", "Is somebody there?", "What was that?", "Who is it?", mood="whisper", pronoun=True)
    t.say("Nobody [answer one]. But the noise [come one] again, louder than before.", "It [be one] quiet for a moment. Then it [begin one] again.")
    t.say("Perhaps it [be one] a ghost! Perhaps it [be one] a robber!", "{H} [hide H] under the blanket.", "{H} [think H] of ghosts and robbers, and {H.his} teeth [chatter they].", chance=0.7)
    if t.rng.random() < 0.6:
        t.say("So {H} [run H] over to {F} and [wake H] {F.him}.", "{H} [climb H] out of the window and [fetch H] {F}.")
        t.speak("F", "We will go and look together.", "A noise? Let us find out what it is!", "Take the lamp, and I will take the broom.")
        t.fact("Who [go F] with {H}?", "{F} [go F] with {H.him}.")
        t.say("They [creep they] through the house on tiptoe. The noise [come one] from (behind the door|the kitchen|above).", "Slowly, they [open they] the door. The stairs [creak they] under their feet.")
        t.say("{F} [hold F] up the lamp. And what [do they] they see? It [be one] " + what + "!", "There it [be one]: " + what + "!")
    else:
        t.say("But {H} [want H] to know. {H.he} [take H] a candle and [go H] down the stairs, step by step.", "At last {H} [get H] up, [light H] a lamp and [follow H] the noise.")
        t.say("And what [do H] {H.he} find? It [be one] " + what + "!", "There it [be one]: " + what + "!")
    t.fact("What [make one] the noise?", answer + ".")
    t.say("{H} [begin H] to laugh and [can H] not stop.", "How {H} [laugh H]!")
    t.paragraph(0.3)
    t.say("In the morning, {H} [tell H] everybody about it at breakfast.", "After that, {H} [sleep H] until late in the morning.", chance=0.7)
    close(t, "most ghosts are only noises", "it is better to look than to be afraid", "in the dark, small things sound big", picture=False)


def journey(t: Tale) -> None:
    """The hero carries something to somebody far away and has to choose the way."""
    begin(t, SOME_HEROES, pair=0.25)
    gift = t.put("gift", t.rng.choice(SMALL_GIFTS))
    relative = t.put("relative", t.rng.choice(("grandmother", "grandfather", "aunt", "uncle", "old teacher", "sister", "brother")))
    introduce(t)
    t.character("F", lex.HELPER_ANIMALS)
    obstacles = {"a river without a bridge": ("{F} [know F] a place where big stones [lie they] in the water, and they [jump they] from one to the next", "They [jump they] from stone to stone"),
                 "a gate that [be one] locked": ("{F} [crawl F] under it and [open F] it from the other side", "{F} [open F] it from the other side"),
                 "a dog that [bark one] at everyone": ("{F} [tell F] the dog a joke, and the dog [laugh one] so much that it [forget one] to bark", "{F} [tell F] the dog a joke"),
                 "a fork in the road without a sign": ("{F} [ask F] a cow, and the cow [point one] to the left with her horn", "{F} [ask F] a cow"),
                 "a fallen tree across the road": ("together they [roll they] the tree aside", "They [roll they] the tree aside together"),
                 "a thick fog": ("they [hold they] on to each other and [sing they] until the fog [be one] gone", "They [hold they] on to each other and [sing they]")}
    obstacle = t.rng.choice(tuple(obstacles))
    solution, answer = obstacles[obstacle]
    t.put("obstacle", t.render(obstacle))
    t.key = ("journey", t.hero.kind.noun, relative.text, obstacle, gift.text)
    t.title = "A Visit to " + relative.text.title() if relative.text in ("grandmother", "grandfather") else "The Long Road"
    t.request(("who bring" if t.hero.is_plural else "who brings") + " {gift} to {H.his} {relative}")
    t.paragraph(0.4)
    t.say("One day, {H} [want H] to visit {H.his} {relative}, who [live one] on the other side of the hills. {H.he} [take H] {gift} along.",
          "{H.his} {relative} [live one] far away. (One morning|One day), {H} [set H] out with {gift} to pay a visit.")
    t.fact("Who [do H] {H} want to visit?", "{H} [want H] to visit {H.his} {relative}.", "{H.His} {relative}.")
    t.fact("What [do H] {H} take along?", "{H.He} [take H] {gift}.", "{H} [take H] {gift} along.")
    weather(t, 0.3)
    t.say("The road [be one] long, and {H} [sing H] to make it shorter.", "{H} [walk H] through a wood and over a hill.", "After an hour, {H.his} feet [begin they] to hurt.")
    t.say("On a milestone [sit F] {F.intro}.", "Soon {H.he} [meet H] {F.intro}.")
    t.speak("F", "Where are you going with {gift}?", "May I come with you? Two are better company than one." if not t.hero.is_plural else "May I come with you?", mood="ask")
    t.speak("H", "{H.I} {H.am} on the way to {H.my} {relative}. Come along!", "To see {H.my} {relative}. Would you like to come, too?", pronoun=True)
    t.paragraph(0.4)
    t.say("So they [go they] on together, until they [come they] to {obstacle}.", "They [talk they] about this and that. Suddenly, they [stop they]: before them [be one] {obstacle}.")
    t.speak("H", "What shall we do now?", "Now we have to turn back.", "How can we go on?", pronoun=True)
    t.speak("F", "Let me think.", "I have an idea!", "Do not give up so soon!")
    t.say("And indeed, " + solution + ".", "Then " + solution + ".")
    t.fact("How [do they] they get past {obstacle}?", answer + ".")
    t.paragraph(0.4)
    t.say("In the evening, they [reach they] the little house. The {relative} [stand one] at the door and [wave one].", "At last they [see they] a light. The {relative} [open one] the door with a smile.")
    t.put("R", "the " + relative.text)
    t.say('"(What a surprise|How good to see you|Come in, come in)!" [say one] {R}. "(And you have brought a friend|And what is that? Oh, {gift}|Sit down by the fire)!"')
    t.say("They all [sit they] around the table and [talk they] until midnight.", "There [be one] hot milk for everyone, and the road [be one] soon forgotten.")
    close(t, "a long road is shorter with a friend", "there is almost always a way", "good company is half the journey", together="F")


def storm(t: Tale) -> None:
    """A storm comes; one house stands, and its owner lets the careless neighbour in."""
    begin(t, SOME_HEROES)
    introduce(t)
    t.character("F", FRIENDS)
    coming = t.put("coming", t.rng.choice(("a great storm", "a hard winter", "a big flood", "a heavy snowfall")))
    work = t.rng.choice(("mend the roof", "gather firewood", "fill the cellar with food", "build a strong wall", "close every hole in the house"))
    fun = t.rng.choice(("lie in the sun", "dance all day", "play the fiddle", "sleep until noon", "blow soap bubbles", "tell jokes"))
    t.put("work", work), t.put("fun", fun)
    t.key = ("storm", t.hero.kind.noun, t.entities["F"].kind.noun, coming.text, work, fun)
    t.title = "Before the Storm" if "storm" in coming.text else "Before the Winter" if "winter" in coming.text or "snow" in coming.text else "Before the Flood"
    t.request("who prepare for {coming}" if t.hero.is_plural else "who prepares for {coming}")
    t.say("Next door [live F] {F.intro}, who [like F] nothing better than to {fun}.", "{H.his} neighbour [be one] {F.intro}. All day long, {F} only [want F] to {fun}.")
    t.fact("What [do F] {F} like to do?", "{F} [like F] to {fun}.")
    t.paragraph(0.4)
    t.say("(One day|One morning), the old owl [warn one] everybody that {coming} [be one] on the way.", "The swallows [fly they] low, and the old people [say they] that {coming} [be one] coming.")
    t.say("So {H} [begin H] to {work}.", "{H} [do H] not wait. {H.he} [get H] up early to {work}.")
    t.fact("What [do H] {H} do before {coming}?", "{H} [begin H] to {work}.")
    t.speak("F", "Why do you work so hard? The sky is blue!", "Leave that and come to play!", "You worry too much!")
    t.speak("H", "You should {work}, too. {coming} is coming.", "I can play when the work is done.", "Today the sky is blue, but tomorrow it may not be.", pronoun=True)
    t.say("But {F} only [laugh F] and [go F] on as before.", "{F} [shake F] {F.his} head and [go F] away to {fun}.")
    t.paragraph(0.5)
    ends = {"a great storm": "Three days later, the storm [come one]. It [tear one] the roof off ({F.s} house|the house of {F})", "a hard winter": "Then the winter [come one]. The snow [lie one] deep, and in ({F.s} house|the house of {F}) there [be one] nothing left to eat and no fire",
            "a big flood": "Then the rain [begin one]. The water [rise one] and [rise one], and soon ({F.s} house|the house of {F}) [be one] full of it", "a heavy snowfall": "Then the snow [begin one] to fall, and it [fall one] for a week. The wind [blow one] through every hole in ({F.s} house|the house of {F})"}
    t.say(ends[coming.text] + ".")
    t.say("Wet and cold, {F} [knock F] at ({H.s} door|the door of {H}).", "{F} [tremble F] with cold and [do F] not know where to go. At last {F.he} [knock F] at ({H.s} door|the door of {H}).")
    t.speak("F", "Please let me in!", "You were right, and I was wrong. May I come in?", "I am so cold! Can I stay with you?")
    t.fact("Why [do F] {F} come to {H}?", "{F} [be F] cold and [have F] nowhere to go.", "Because {F.his} own house [be one] no good in the bad weather.")
    t.speak("H", "Of course. Sit down by the fire!", "Come in quickly! There is room for two.", "That is what neighbours are for.", pronoun=True)
    t.say("They [drink they] hot tea and [listen they] to the wind outside.", "{H} [give H] {F.him} dry clothes and a bowl of soup.")
    t.say("The next year, {F} [be F] the first to {work}.", "When it [be one] over, {F} [ask F] {H} to show {F.him} how to {work}.", "And when the sun [shine one] again, {F} [help F] {H} with the work.")
    close(t, "first the work, then the play", "it is wise to think of tomorrow", "a good neighbour opens the door", together="F")

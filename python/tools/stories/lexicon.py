"""Who and what the stories are about: names, kinds of characters, things, and places with their corners."""

from __future__ import annotations

from dataclasses import dataclass

HE_NAMES = ("Tom Ben Max Leo Sam Finn Oscar Hugo Jack Theo Felix Otto Milo Bruno Emil Anton Jonas Rufus Toby Oliver Peter "
            "Henry George Albert Walter Arthur Edgar Pip Barnaby Jasper Simon Martin Nico Luca Omar Ravi Kofi Ivan Pablo "
            "Diego Kenji Hassan Amir Noah Elias Gus Rowan Alfie Bertie Casper").split()
SHE_NAMES = ("Mia Anna Lily Rosa Ella Emma Clara Nora Ruby Ivy Hazel Poppy Daisy Lucy Molly Alice Greta Frida Ida Luna "
             "Maya Zoe Sofia Olive Tilda Wanda Martha Betty Nell Tess Flora Stella Amina Priya Yuki Mei Fatima Leila Ines "
             "Carmen Olga Vera Hana Juno Pearl Penny Dora Matilda Agnes Willa").split()
NAME_STARTS = "B Br D Dr F Fl G Gr H J K Kr L M N P Pl Qu R S Sn T Tr V W Y Z Zw Sk Bl Th Ch".split()
NAME_VOWELS = "a e i o u oo ee ai".split()
NAME_MIDDLES = "b bb d dd f g gg k l ll m mm n nn nd mp p pp r rr s t tt v x z zz lb nk rk".split()
NAME_ENDS = "o y a us in en er le ix um i ou et el ock ip".split()


@dataclass(frozen=True)
class Kind:
    """A kind of character. ``size`` 0 tiny .. 3 big; ``gender`` fixed to he/she or open ('')."""

    noun: str
    size: int = 1
    gender: str = ""
    flies: bool = False
    person: bool = False
    looks: str = ""         # adjectives that fit, where those of its size do not
    pace: str = ""          # 'slow' or 'fast' for races


def _kinds(words: str, **traits) -> tuple[Kind, ...]:
    return tuple(Kind(w.replace("_", " "), **traits) for w in words.split())


ANIMALS = (
    _kinds("mouse hamster frog mole lizard", size=0) + _kinds("beetle ant", size=0, pace="slow")
    + _kinds("snail", size=0, pace="slow") + _kinds("turtle tortoise", size=1, pace="slow")
    + _kinds("rabbit hare", pace="fast") + _kinds("squirrel hedgehog cat kitten puppy otter badger raccoon piglet "
                                                  "lamb penguin koala crab chipmunk weasel skunk lemur sloth gecko wombat")
    + _kinds("fox dog", size=2, pace="fast") + _kinds("goat pig sheep seal monkey beaver walrus turkey alligator", size=2)
    + _kinds("duck goose pigeon magpie stork heron", flies=True) + _kinds("hen", gender="she") + _kinds("rooster", gender="he")
    + _kinds("sparrow robin bee butterfly", size=0, flies=True) + _kinds("owl crow parrot swan eagle pelican flamingo", flies=True)
    + _kinds("bear elephant cow camel panda hippo rhino buffalo moose gorilla crocodile llama", size=3) + _kinds("horse deer lion tiger zebra wolf leopard ostrich", size=3, pace="fast")
    + _kinds("donkey pony giraffe kangaroo", size=3)
)
FANTASTIC = _kinds("dragon giant troll unicorn dinosaur monster", size=3) + _kinds("elf robot dwarf ghost", size=1) + _kinds("fairy", size=0, flies=True)
PEOPLE = (
    _kinds("girl princess", gender="she", person=True) + _kinds("boy prince", gender="he", person=True)
    + _kinds("farmer baker tailor shoemaker miller gardener sailor shepherd painter teacher clockmaker potter "
             "musician blacksmith carpenter beekeeper knight doctor nurse cook wizard pirate clown astronaut pilot", size=2, person=True)
    + _kinds("queen witch", size=2, gender="she", person=True)
    + _kinds("grandmother", size=2, gender="she", person=True, looks="old")
    + _kinds("king fisherman postman", size=2, gender="he", person=True)
    + _kinds("grandfather", size=2, gender="he", person=True, looks="old")
)
HELPER_ANIMALS = tuple(k for k in ANIMALS if k.noun not in ("snail", "ant", "beetle"))

GOOD_TRAITS = ("kind cheerful clever gentle patient curious brave helpful friendly careful honest quiet polite hopeful "
               "thoughtful lively").split()
LOOKS = {0: "tiny little small", 1: "little small young", 2: "young old tall", 3: "big old young strong"}
COLOURS = "red blue green yellow white brown orange purple grey pink golden silver".split()


@dataclass(frozen=True)
class Thing:
    """Something that can be carried. ``made_of`` are words that may stand before it beside the colours."""

    noun: str
    plural: bool = False
    looks: tuple[str, ...] = ()
    use: str = ""           # "{H.he} [use] it to ..." as an infinitive: what a character does with it
    breaks: bool = False
    light: bool = True      # the wind can take it
    craft: bool = False     # somebody can make it as a present


_OLD = ("old", "new", "pretty")
_WOOD = ("wooden", "old", "tiny", "round")
THINGS = (
    Thing("hat", looks=_OLD + ("woollen",), use="keep the sun away", craft=True),
    Thing("scarf", looks=_OLD + ("long", "warm", "woollen"), use="keep warm", craft=True),
    Thing("cap", looks=_OLD, use="keep the rain away", craft=True),
    Thing("mittens", plural=True, looks=("warm", "soft", "woollen"), use="keep warm in the snow", craft=True),
    Thing("kite", looks=_OLD + ("big", "paper"), use="play in the wind", craft=True),
    Thing("balloon", looks=("big", "round", "shiny"), use="play"),
    Thing("umbrella", looks=_OLD + ("big",), use="stay dry in the rain"),
    Thing("blanket", looks=("warm", "soft", "old", "thick"), use="keep warm at night", craft=True),
    Thing("letter", looks=("long", "folded"), use="think of an old friend"),
    Thing("map", looks=("old", "paper", "folded"), use="find the way"),
    Thing("feather", looks=("long", "soft"), use="write letters"),
    Thing("flag", looks=("small", "bright", "old"), use="wave at the boats", craft=True),
    Thing("ribbon", looks=("long", "silk", "pretty"), use="dress up on Sundays"),
    Thing("ball", looks=("round", "bouncy", "rubber", "old"), use="play every afternoon", light=False),
    Thing("drum", looks=_WOOD, use="make music", light=False, craft=True),
    Thing("flute", looks=("wooden", "little", "old"), use="play songs", light=False, craft=True),
    Thing("bell", looks=("little", "brass", "shiny", "old"), use="call friends to dinner", light=False),
    Thing("key", looks=("rusty", "little", "brass", "iron"), use="open the front door", light=False),
    Thing("ring", looks=("shiny", "little", "old"), use="think of happy days", light=False),
    Thing("coin", looks=("shiny", "old", "lucky"), use="play heads or tails", light=False),
    Thing("button", looks=("shiny", "round", "wooden"), use="close a warm coat", light=False),
    Thing("lantern", looks=("old", "bright", "little", "paper"), use="see in the dark", breaks=True, light=False, craft=True),
    Thing("cup", looks=("little", "painted", "old"), use="drink tea", breaks=True, light=False, craft=True),
    Thing("bowl", looks=("painted", "big", "round"), use="eat soup", breaks=True, light=False, craft=True),
    Thing("vase", looks=("tall", "painted", "old"), use="hold flowers", breaks=True, light=False),
    Thing("jar", looks=("round", "tall", "clay"), use="keep honey", breaks=True, light=False),
    Thing("mirror", looks=("round", "little", "old"), use="look at the stars", breaks=True, light=False),
    Thing("clock", looks=("old", "wooden", "loud"), use="know the time", breaks=True, light=False, craft=True),
    Thing("teapot", looks=("round", "painted", "old"), use="make tea", breaks=True, light=False),
    Thing("window", looks=("round", "little"), use="let the light in", breaks=True, light=False),
    Thing("music box", looks=("little", "old", "painted"), use="listen to an old song", breaks=True, light=False, craft=True),
    Thing("boat", looks=("little", "wooden", "toy"), use="play at the pond", light=False, craft=True),
    Thing("basket", looks=("big", "round", "old"), use="carry apples", light=False, craft=True),
    Thing("spoon", looks=("wooden", "big", "shiny"), use="stir the soup", light=False, craft=True),
    Thing("book", looks=("thick", "old", "little"), use="read before bed", light=False),
    Thing("stick", looks=("long", "walking", "strong"), use="walk up the hill", light=False),
    Thing("stone", looks=("smooth", "shiny", "round"), use="hold the door open", light=False),
    Thing("boots", plural=True, looks=("big", "rubber", "shiny", "old"), use="jump in puddles", light=False, craft=True),
    Thing("glasses", plural=True, looks=("round", "old"), use="read the newspaper", light=False),
    Thing("marbles", plural=True, looks=("shiny", "round", "glass"), use="play with friends", light=False),
    Thing("bag", looks=("big", "old", "leather"), use="carry bread home", light=False, craft=True),
    Thing("doll", looks=("little", "rag", "old"), use="play", light=False, craft=True),
    Thing("bucket", looks=("big", "tin", "old"), use="carry water", light=False),
    Thing("brush", looks=("soft", "little"), use="paint pictures", light=False),
    Thing("whistle", looks=("tin", "little", "loud", "shiny"), use="call for help", light=False),
    Thing("pillow", looks=("soft", "big"), use="sleep well", craft=True, light=False),
    Thing("necklace", looks=("pretty", "long", "shiny"), use="dress up on Sundays", light=False, craft=True),
)
FOODS = ("apple", "pear", "plum", "peach", "cherry pie", "apple pie", "loaf of bread", "piece of cheese", "honey cake",
         "carrot", "pot of soup", "bowl of porridge", "bag of nuts", "basket of berries", "jar of jam", "jar of honey",
         "bunch of grapes", "pumpkin pie", "pancake", "sandwich", "bag of cookies", "slice of cake", "melon", "sweet potato")


@dataclass(frozen=True)
class Place:
    """Where a tale happens. ``where`` follows 'lived'; ``spots`` follow 'looked' and 'was'; ``goals`` follow 'to'."""

    noun: str
    where: tuple[str, ...]
    spots: tuple[str, ...]
    goals: tuple[str, ...]
    water: str
    sounds: str
    people: bool            # people fit here
    trap: tuple[str, ...]   # where somebody can get stuck: "stuck in ..."
    wild: bool = True


PLACES = (
    Place("forest", ("in a (deep|green|quiet) forest", "in a (cosy|small) house at the edge of the forest",
                     "under a (tall|big|crooked) oak tree in the forest"),
          ("under a fern", "behind a mossy log", "beside the stream", "at the foot of the old oak", "under a pile of leaves",
           "among the mushrooms", "behind the bramble bush", "under a pine tree"),
          ("the clearing", "the old oak", "the hollow tree", "the waterfall"), "stream",
          "the wind whispered in the leaves", True, ("a thorn bush", "a deep hole", "the hollow of a tree", "the mud by the stream")),
    Place("village", ("in a (small|quiet|sleepy) village", "in a village (at the foot of a mountain|between two hills|near a river)",
                      "in a little house with a (red|green|blue) door"),
          ("under the bench by the well", "behind the bakery", "beside the old mill", "under the bridge", "behind the church",
           "next to the pump", "under the market table", "by the garden gate"),
          ("the market", "the old mill", "the bridge", "the bakery"), "river",
          "the bells rang over the roofs", True, ("the dry well", "the mud under the bridge", "a narrow fence"), False),
    Place("farm", ("on a (small|busy|sunny) farm", "on a farm (beside a river|at the end of a long road|among wide fields)",
                   "in a (red|warm|old) barn on a farm"),
          ("in the hay", "behind the barn", "under the old cart", "beside the pond", "by the henhouse", "under the apple tree",
           "behind the fence", "next to the water trough"),
          ("the barn", "the orchard", "the pond", "the far field"), "pond",
          "the hens clucked in the yard", True, ("the mud by the pond", "a deep ditch", "the fence", "an empty barrel"), False),
    Place("seaside", ("in a (small|white|windy) house by the sea", "on a (small|sunny|rocky) island",
                      "near a (quiet|wide) beach"),
          ("behind a rock", "under an old boat", "beside the lighthouse", "under a heap of seaweed", "in the dunes",
           "among the shells", "next to the pier", "behind the fishing nets"),
          ("the lighthouse", "the beach", "the pier", "the harbour"), "sea",
          "the waves rolled up the beach", True, ("an old fishing net", "a crack in the rocks", "the wet sand")),
    Place("mountain", ("high up on a (snowy|green|steep) mountain", "in a (small|stone|wooden) hut on a mountain",
                       "in a valley between two mountains"),
          ("beside the path", "under a pine tree", "behind a grey rock", "in a small cave", "by the spring", "under the wooden bridge",
           "next to the hut", "among the blue flowers"),
          ("the top of the mountain", "the old hut", "the cave", "the spring"), "lake",
          "the wind sang between the rocks", True, ("a deep crack", "the deep snow", "a thorn bush")),
    Place("meadow", ("in a (wide|sunny|green) meadow", "beside a meadow full of flowers", "on a hill above a meadow"),
          ("in the tall grass", "under a daisy", "behind the hedge", "beside the brook", "next to the stone wall",
           "under the willow", "among the poppies", "by the wooden gate"),
          ("the hedge", "the brook", "the willow", "the top of the hill"), "brook",
          "the crickets sang in the grass", True, ("the hedge", "the mud by the brook", "a deep hole")),
    Place("town", ("in a (busy|big|noisy) town", "in a (narrow|tall|yellow) house in the middle of a town", "in a town with many towers"),
          ("under a bench in the park", "behind the fountain", "beside the school", "under the stairs", "next to the bookshop",
           "behind the old theatre", "by the station", "under a table in the market"),
          ("the park", "the market", "the station", "the library"), "canal",
          "the carts rattled over the stones", True, ("a narrow gate", "an empty barrel", "the fence of the park"), False),
    Place("castle", ("in a (great|grey|old) castle", "in a castle (on a hill|beside a lake|with seven towers)",
                     "in the (highest|oldest) tower of a castle"),
          ("under the stairs", "behind the throne", "beside the great door", "in the kitchen", "under a long table",
           "behind a curtain", "next to the stables", "in the rose garden"),
          ("the great hall", "the highest tower", "the rose garden", "the stables"), "moat",
          "the flags flapped on the towers", True, ("the dry well", "a narrow window", "an old chest"), False),
    Place("lake", ("beside a (clear|quiet|blue) lake", "in a hut on the shore of a lake", "among the reeds of a lake"),
          ("in the reeds", "under an old boat", "behind a willow", "beside the landing", "next to the boathouse",
           "under a flat stone", "among the water lilies", "by the little bridge"),
          ("the boathouse", "the far shore", "the little bridge", "the willow"), "lake",
          "the reeds rustled softly", True, ("the mud", "an old fishing net", "the roots of a willow")),
    Place("garden", ("in a (large|wild|secret) garden", "in a garden behind an old house", "in a house with a (wild|beautiful) garden"),
          ("under a cabbage leaf", "behind the greenhouse", "beside the fountain", "among the roses", "under the bench",
           "next to the beans", "behind the watering can", "by the garden gate"),
          ("the greenhouse", "the fountain", "the pumpkin patch", "the apple tree"), "pond",
          "the bees hummed over the flowers", True, ("an empty flowerpot", "the rose bush", "the fence"), False),
)

SEASONS = (
    ("spring", ("The first flowers [be they] opening", "The trees [be they] turning green", "The last snow [have one] melted")),
    ("summer", ("The sun [be one] warm and the days [be they] long", "The air [smell one] of hay", "The sky [be one] blue from end to end")),
    ("autumn", ("The leaves [be they] turning red and gold", "The apples [be they] ripe", "A cool wind [blow one] over the land")),
    ("winter", ("The roofs [be they] white with snow", "The nights [be they] long and cold", "Frost [sparkle one] on every branch")),
)

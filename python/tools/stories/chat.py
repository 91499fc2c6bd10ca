"""The World chat format around the tales: requests that match the story, questions about it, a little small talk."""

from __future__ import annotations

import random

from .grammar import finish
from .tale import Character, Item, Tale

ASKS = ("Tell me a story", "Please tell me a story", "Can you tell me a story", "Write a story", "I would like to hear a story",
        "Tell me a short story", "Could you tell me a story", "I want a story", "Give me a story", "Write a short story")
AGAIN = ("Tell me another story", "I want another story", "One more story", "Now a story")
SYSTEMS = ("You tell stories.", "You are a storyteller.", "You are a helpful assistant.", "Answer with short stories.", "You are a friendly storyteller for children.")
SMALL_TALK = (
    (("Hello", "Hi", "Hello!", "Hi!", "Hey", "Good morning", "Good evening", "hello", "hi", "Hi there", "Hello there!"),
     ("Hello! Would you like to hear a story?", "Hello! What shall the story be about?", "Hello! Shall I tell you a story?")),
    (("Who are you?", "What are you?", "What is your name?", "who are you", "Are you a robot?"),
     ("I am a very small language model, and I tell stories.", "I am a small model that tells stories.", "I tell stories. I am very small, but I know many of them.")),
    (("What can you do?", "Can you help me?", "What do you know?", "help", "How does this work?"),
     ("I can tell you a story. Just name somebody and something.", "I can tell stories and answer questions about them.")),
    (("How are you?", "How are you today?", "How do you do?"), ("I am well, thank you! Would you like to hear a story?", "Very well! I have a story for you, if you like.")),
    (("What is the capital of France?", "What is two plus two?", "Write a program.", "What is the weather like?", "Who won the game?", "What time is it?",
      "Solve this equation.", "Translate this sentence.", "How far away is the sun?", "What is the meaning of life?", "Who wrote this book?", "Explain gravity."),
     ("I do not know that. I only know stories. Would you like to hear one?", "I only tell stories. Shall I tell you one?")),
)
THANKS = (("Thank you!", "Thanks!", "That was nice.", "I liked that story.", "Good story!", "thanks"),
          ("You are welcome! Shall I tell you another one?", "I am glad that you liked it.", "You are welcome!"))
FAREWELLS = (("Goodbye!", "Bye!", "Good night!", "bye"), ("Goodbye! Come back soon!", "Good night! Sweet dreams!", "Goodbye! There is always another story."))


def turn(user: str, assistant: str) -> str:
    """One exchange in the World chat format."""
    return f"User: {user}\n\nAssistant: {assistant}\n\n"


def request(tale: Tale, rng: random.Random, asks: tuple[str, ...] = ASKS) -> str:
    """What a user may say to get this very tale; ``tale`` says what is in it."""
    hero = tale.hero
    friend = tale.entities.get("F")
    item = tale.entities.get("T")
    clause = rng.choice(tale.requests) if tale.requests else ""
    draw = rng.random()
    if draw < 0.08:
        about = ""
    elif draw < 0.26:
        about = "{H.a}" if rng.random() < 0.6 else "{H.full}"
    elif draw < 0.44:
        about = "{H.a} named {H}"
    elif draw < 0.5:
        about = "{H}"
    elif draw < 0.58 and isinstance(friend, Character):
        about = "{H.a} and {F.a}"
    elif draw < 0.64 and isinstance(item, Item):
        about = "{T.a}"
    elif draw < 0.72 and clause:
        about = "{H.a} named {H} " + clause
    elif draw < 0.78:
        about = "{H}, {H.full}"
    else:
        about = "{H.a} " + clause
    text = rng.choice(asks) + (" about " + tale.render(about, present=True).strip() if about else "")
    if hero.is_plural and "two " not in text and about.startswith("{H.a}"):
        raise ValueError("stories: a plural hero is asked for in the singular")
    text += "?" if text.startswith(("Can", "Could")) else rng.choice((".", ".", ".", "", "!"))
    text = finish(text)
    return text[0].lower() + text[1:] if rng.random() < 0.08 else text


def conversation(tales: list[Tale], rng: random.Random) -> str:
    """Requests, stories, and questions about the story just told, ending with a blank line."""
    out = [f"System: {rng.choice(SYSTEMS)}\n\n"] if rng.random() < 0.04 else []
    if rng.random() < 0.1:
        for asked, answered in rng.sample(SMALL_TALK, rng.choice((1, 1, 2))):
            out.append(turn(rng.choice(asked), rng.choice(answered)))
    for index, tale in enumerate(tales):
        out.append(turn(request(tale, rng, ASKS if index == 0 else ASKS[:4] + AGAIN * 2), tale.text))
        count = rng.choice((0, 0, 1, 2, 3, 4))
        facts = rng.sample(tale.facts, min(count, len(tale.facts)))
        out.extend(turn(fact.question, fact.answer) for fact in facts)
    if rng.random() < 0.08:
        out.append(turn(rng.choice(THANKS[0]), rng.choice(THANKS[1])))
    if rng.random() < 0.04:
        out.append(turn(rng.choice(FAREWELLS[0]), rng.choice(FAREWELLS[1])))
    return "".join(out)

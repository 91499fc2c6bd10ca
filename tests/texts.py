"""Text of every kind for tokenizer tests: many scripts, emoji, code, control characters, every Unicode plane."""

from __future__ import annotations

import random

_SENTENCES = (
    "The quick brown fox can't jump over the lazy dogs' 1,234.56 kennels; it'd rather sleep.",
    "Größere Übermut tut selten gut, sagte der Bär im Fußgängertunnel.",
    "Où est passé l'été ? « Ça dépend », répondit-elle.",
    "¿Dónde está el niño? ¡Mañana será otro día!",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.",
    "人工智能正在改变世界，但递归神经网络仍然有它的位置。",
    "吾輩は猫である。名前はまだ無い。カタカナもｶﾅも。",
    "키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다.",
    "نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر",
    "דג סקרן שט בים מאוכזב ולפתע מצא לו חברה",
    "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश।",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน",
    "Pijamalı hasta yağız şoföre çabucak güvendi. İstanbul'da ıslak.",
    "Příliš žluťoučký kůň úpěl ďábelské ódy. Zażółć gęślą jaźń.",
    "Chuyện kể rằng ngày xửa ngày xưa có một ông lão đánh cá.",
    "აბგდევზ ԱԲԳԴ አማርኛ தமிழ் తెలుగు ಕನ್ನಡ മലയാളം ខ្មែរ မြန်မာ བོད་ ᠮᠣᠩᠭᠣᠯ",
    'def f(x: int) -> str:\n\treturn f"{x!r:>10}"  # TODO: ∀x∈ℝ, ⌈x⌉ ≥ x',
    "for (int i = 0; i < n; ++i) { a[i] ^= b[i] >> 3; }\r\n",
    '{"key": [1, 2.5e-10, null, true], "path": "C:\\\\temp\\\\new"}',
    "<html><body class='x'>&nbsp;</body></html> https://example.com/?q=a%20b#frag",
    "👩🏽‍🚀👨‍👩‍👧‍👦🏳️‍🌈🇩🇪 ❤️ 👍🏿 1️⃣ 🤷‍♀️",
    "e\u0301 vs é, Å vs Å, ﬁ ligature, ½ ² ₂ Ⅷ ①",
    "\t\t\t  \n\n\n   \r\n\r\n \u00a0\u2003\u3000\u200b\ufeff\u2028 \x0b\x0c\x85",
    "System: You are helpful.\n\nUser: Hi!\n\nAssistant: Hello <s>[PAD65530]<|im_start|>user<|im_end|>",
    "0123456789 3.14159265358979 0xDEADBEEF 1e-5 ١٢٣ １２３ 百二十三",
)

# Blocks to draw single characters from; the surrogates are not characters.
_BLOCKS = (
    (0x00, 0x20), (0x20, 0x7F), (0x80, 0x250), (0x370, 0x530), (0x590, 0x780), (0x900, 0xE00), (0xE00, 0x1100),
    (0x1E00, 0x2000),
    (0x2000, 0x2C00), (0x3000, 0x3200), (0x4E00, 0xA000), (0xAC00, 0xD7A4), (0xE000, 0x10000), (0x10000, 0x20000),
    (0x1F300, 0x1FA00),
    *((plane << 16, (plane + 1) << 16) for plane in range(2, 17)),
)  # fmt: skip


def mixed_text(rng: random.Random, n_chars: int) -> str:
    """A text of ``n_chars`` characters: sentences, cut-up sentences, and runs of characters from one block."""
    parts: list[str] = []
    length = 0
    while length < n_chars:
        if rng.random() < 0.75:
            part = rng.choice(_SENTENCES)
            if rng.random() < 0.3:
                part = part[rng.randrange(len(part)) :]
            part += rng.choice(("", " ", "\n", "\n\n", "   "))
        else:
            low, high = rng.choice(_BLOCKS)
            part = "".join(chr(rng.randrange(low, high)) for _ in range(rng.randint(1, 12)))
        parts.append(part)
        length += len(part)
    return "".join(parts)[:n_chars]


def random_bytes(rng: random.Random, n: int) -> bytes:
    """Bytes that are mostly not UTF-8: noise, and text with single bytes hit."""
    noise = bytearray(rng.randbytes(n // 2) + mixed_text(rng, n // 2).encode())
    for _ in range(n // 20):
        noise[rng.randrange(len(noise))] = rng.randrange(256)
    return bytes(noise[:n])

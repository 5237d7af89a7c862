#!/usr/bin/env python3
"""Makes tests/text/golden: small tokenizers of the kinds that are supported, and what the Hugging Face `tokenizers`
library does with a hard corpus.

  python3 tests/text/make.py             writes corpus.json, KIND.json and KIND.expected.jsonl
  python3 tests/text/make.py FOLDER N    the same into FOLDER, with N random texts instead; then
  FT_TEXT_GOLDEN=FOLDER test_text        compares our ids and texts with them

A line of the expectations belongs to one text: the ids, without what the post-processor adds, the text that they decode
to (null: the same text), and that text without special tokens (absent: no other). Package: tokenizers 0.23.
"""
import json
import pathlib
import random
import sys
import unicodedata

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).resolve().parent
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
TEXT = """The quick brown fox jumps over the lazy dog; it's 1234567 o'clock, isn't it? They'll SAY "we've DONE 3.14159".
def main(argc, argv):\n    return {"x": [1, 22, 333, 4444], 'y': a**2}  # comment\n\n\n\tfor (int i = 0; i < 10; ++i)
Der Bär läßt grüßen. Où est la forêt? ¿Qué pasó mañana? Żółć, naïve café. Привет, мир! Как дела? Γειά σου Κόσμε.
日本語のテキストと漢字。中文没有空格，也有标点。한국어 문장도 있습니다. مرحبا بالعالم، كيف الحال؟ שלום עולם. नमस्ते दुनिया ๑๒๓ สวัสดี
😀😃 👩‍👩‍👧 🇫🇷 ½ ⅷ ² Ⅻ — “quotes” … €100 £5 x≤y ∀∃ →""" * 2
B = pre_tokenizers


def level(regex=True, prefix=False):
    return B.ByteLevel(add_prefix_space=prefix, use_regex=regex)


def splits(pattern, behavior="isolated", invert=False):
    return B.Sequence([B.Split(Regex(pattern), behavior, invert), level(False)])


# Name: pre-tokenizer, normalizer, size of the vocabulary, special tokens, others, further changes of the JSON.
KINDS = {
    "gpt2": (level(), None, 380, ["<|endoftext|>"], [], {}),
    "prefix": (level(prefix=True), None, 330, ["<s>"],
               [AddedToken("<mask>", lstrip=True, special=True), AddedToken("<r>", rstrip=True, normalized=False),
                AddedToken("word", single_word=True), AddedToken("é!", normalized=True)], {}),
    "falcon": (B.Sequence([B.Punctuation("contiguous"), level(), B.Digits(False),
                           B.Split(Regex("[0-9][0-9][0-9]"), "isolated")]), None, 350,
               [">>TITLE<<", ">>ABSTRACT<<", "<|endoftext|>", "<|im_start|>"], ["\n\n", "\t\t"], {}),
    "llama3": (splits(LLAMA3), None, 350, ["<|begin_of_text|>", "<|end_of_text|>"], [],
               {"ignore_merges": True, "strings": True, "bos": "<|begin_of_text|>"}),
    "qwen2": (splits(QWEN2), normalizers.NFC(), 340, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
              ["<tool_call>", AddedToken("é", normalized=True)], {}),
    "o200k": (splits(O200K), normalizers.Sequence([]), 340, ["<|endoftext|>"], [], {}),
    "digits": (B.Sequence([B.Digits(True), B.Punctuation("merged_with_previous"), B.Split("e", "merged_with_next"),
                           level(False)]), None, 320, ["<end>"], [], {}),
    "words": (B.Sequence([B.Whitespace(), B.Split(Regex(r"\w+|\d"), "removed", True),
                          B.Split(Regex(r"(?<=o)[u-w\u00e9]|^The|\W$"), "contiguous"), level(False)]),
              None, 320, [], [], {}),
    "whole": (level(False), normalizers.Sequence([normalizers.NFC()]), 320, [], [], {}),
    "unknown": (B.Split(" ", "merged_with_next"), None, 120, ["<unk>"], [], {"unk": "<unk>", "fuse": True}),
}


def make(name):
    pre, normalizer, size, special, others, more = KINDS[name]
    tokenizer = Tokenizer(models.BPE(unk_token=more.get("unk"), fuse_unk=more.get("fuse", False)))
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    alphabet = list("abcdehlnoqrtuwxz \n.1234'é日本有👩\u200d") if more.get("unk") else B.ByteLevel.alphabet()
    tokenizer.train_from_iterator([TEXT], trainers.BpeTrainer(
        vocab_size=size, min_frequency=1, special_tokens=special, initial_alphabet=alphabet, show_progress=False,
        limit_alphabet=len(alphabet)))
    tokenizer.add_tokens(others)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    if "bos" in more:
        bos = more["bos"]
        tokenizer.post_processor = processors.Sequence([processors.ByteLevel(), processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, tokenizer.token_to_id(bos))])])
    data = json.loads(tokenizer.to_str())
    if more.get("ignore_merges"):
        data["model"]["ignore_merges"] = True
        data["model"]["vocab"]["Ġqwxz"] = tokenizer.get_vocab_size()  # that no merges make
    if more.get("strings"):
        data["model"]["merges"] = [" ".join(pair) for pair in data["model"]["merges"]]
    return data


CORPUS = [
    "", " ", "  ", "a", "Hello world", " Hello  world ", "it's they'll I'M WE'VE 'tis o'clock 'S 'ſ",
    "x" * 9, "0123456789 12 345 6789 1,234,567.89",
    "a\nb\r\nc\n\n\nd\t\te \t \n  f", "\n", "\n\n\n\n", "   \n   \n\t x", "trailing   ",
    "a  \u00a0 b\u2003\u2003c\u3000d\u180ee\u0085f\u2028g",
    "e\u0301 é e\u0301\u0323 \u1e69 \u0073\u0323\u0307 \ufb01 \u212b \u00c5 Å \uac00 \u1100\u1161\u11a8", "\u0301abc",
    "na\u00efve caf\u00e9 fa\u00e7ade",
    "日本語のテキスト。漢字とカナ、ｶﾅ", "中文没有空格，也有标点。", "한국어 문장", "مرحبا بالعالم ١٢٣", "नमस्ते दुनिया १२३", "สวัสดี ๑๒๓", "שלום",
    "😀 👩‍👩‍👧‍👦 🇫🇷🇩🇪 👍🏽 \U0001f9d1\u200d\U0001f680", "½ ⅷ ² Ⅻ ① ٣ 𝟗 一二三",
    "—“x”… €100 x≤y ∀∃→ !!! ?!... --- ===> ((( ))) <<< >>>",
    "a_b __init__ snake_case CamelCaseWord XMLHttpRequest iPhone", "\u200b\u200c\u200d\ufeff\u00ad",
    "\0\x01\x1f\x7f\x80", "\ufffd \uffff \U0010ffff \ue000",
    "<|endoftext|>", "a<|endoftext|>b", " <|endoftext|> <|im_start|>user\nhi<|im_end|>", "<|endoftext|",
    "<<|endoftext|>|endoftext|>", "<|begin_of_text|>x<|end_of_text|>",
    ">>TITLE<<>>ABSTRACT<< >>TITLE <<", "<s> a <mask> b <r>  c <mask><mask>  <r> <r>\n",
    "word words sword word. (word) word_ éword wordé word", "é! é é e\u0301!", "<tool_call>{}</tool_call>",
    "<unk> <end>",
    "The qwxz  qwxz qwxz", "def f(x):\n\treturn x  # done\n\n\n", "ſt K Å ß ẞ ŉ İ ı", "ǅ ǈ ʰ ª º ᵃ ⁿ",
    "thequickbrownfox" * 3, "a" * 17 + " " * 11 + "\n" * 7,
    "eeee" + "The\nThe ou oé ow vou", "\u0600\u06dd\u2060 \u2061", "ᾳ ͅ ̈́ \u0344 \u0958 \u2126 \ufb1d \U0001d15e",
]
ALPHABETS = [
    "abcdefghijklmnopqrstuvwxyz ", "aeTheo '\n\t  .,;:!?-_()[]{}<>|/\\\"#$%&*+=@^`~0123456789", "'stSTrevmlLdDſ ",
    " \n\r\t\u00a0\u2003\u3000\u0085\u2028\u180e\u200b\x0b\x0c\x1c",
    "eéèa\u0301\u0300\u0323\u0327\u0308oOuUñn\u030aÅÅΩΩ\u0344\ufb01가ᄀ\u1161\u11a8", "日本語漢字中文，。、한국어カナ",
    "Приветмир αβγΣς שלום مرحبا हिन्दी ไทย", "😀👩\u200d👧🇫🇷👍🏽❤\ufe0f✈½²Ⅻ٣१๑𝟗①"]
SPECIALS = ["<|endoftext|>", "<|im_start|>", ">>TITLE<<", "<s>", "<mask>", "<r>", "word", "é!", "\n\n", "\t\t",
            "<tool_call>", "<unk>", " qwxz", "<|begin_of_text|>", "'s", "'LL", "123", "  "]


def known(code):
    """Whether all libraries know it: PCRE2 may have Unicode 14, the normalizer of `tokenizers` has an older one."""
    character = chr(code)
    between = f"a\u0323{character}\u0334\u0301"
    return (unicodedata.category(character) not in ("Cn", "Cs")
            and normalizers.NFC().normalize_str(between) == unicodedata.normalize("NFC", between))


def random_text(rng):
    parts = []
    for _ in range(rng.randint(0, 12)):
        kind = rng.random()
        if kind < 0.2:
            parts.append(rng.choice(SPECIALS))
        elif kind < 0.3:
            highest = 0x110000 if rng.random() < 0.3 else 0x3000
            codes = [rng.randrange(highest) for _ in range(rng.randint(1, 8))]
            parts.append("".join(chr(c) for c in codes if known(c)))
        elif kind < 0.4:
            at = rng.randrange(len(TEXT))
            parts.append(TEXT[at:at + rng.randint(1, 60)])
        else:
            alphabet = rng.choice(ALPHABETS)
            parts.append("".join(rng.choice(alphabet) for _ in range(rng.randint(1, 20))))
    return "".join(parts)


def expected(tokenizer, text):
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    return {"ids": ids, "text": tokenizer.decode(ids, skip_special_tokens=False), "shown": tokenizer.decode(ids)}


def main():
    folder, texts = HERE / "golden", CORPUS
    if len(sys.argv) == 3:
        folder, texts = pathlib.Path(sys.argv[1]), [random_text(random) for _ in range(int(sys.argv[2]))]
    folder.mkdir(exist_ok=True)
    (folder / "corpus.json").write_text(json.dumps(texts, indent=0) + "\n")
    for name in KINDS:
        path = folder / f"{name}.json"
        path.write_text(json.dumps(make(name), ensure_ascii=False, separators=(",", ":")) + "\n")
        tokenizer = Tokenizer.from_file(str(path))
        lines = []
        for text in texts:
            want = expected(tokenizer, text)
            line = [want["ids"], None if want["text"] == text else want["text"]]
            lines.append(json.dumps(line + [want["shown"]] * (want["shown"] != want["text"]), separators=(",", ":")))
        path.with_suffix(".expected.jsonl").write_text("\n".join(lines) + "\n")


main()

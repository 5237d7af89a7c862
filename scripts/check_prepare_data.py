#!/usr/bin/env python3
"""scripts/prepare_data.py, checked: a small BPE tokenizer is made, texts are prepared with it in every kind of file, the
set is read back by falcon-train inspect --verify, decoded, and compared text by text; damaged inputs must be refused.

Needs: pip install tokenizers numpy (zst is checked where zstandard is installed)
Example: scripts/check_prepare_data.py --binary build/cpu/falcon-train
"""
import argparse
import gzip
import importlib.util
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).resolve().parent
ZST = importlib.util.find_spec("zstandard") is not None


def make_tokenizer(path, text):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(text.split("\n\n"), trainers.BpeTrainer(
        vocab_size=800, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False))
    tokenizer.save(str(path))
    return tokenizer


def lines(pairs):
    return "".join(json.dumps({"q": prompt, "text": text}) + "\n" for prompt, text in pairs).encode()


def write_inputs(folder, text):
    """Files of every kind, in the order of their names; returns what documents they hold."""
    pairs = [(part[:9], part[9:] + "é\U0001F600") for part in text.split("\n\n")]
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    (folder / ".hidden.txt").write_text("not this")
    (folder / "self").symlink_to(".")
    (folder / "z.zip").write_bytes(b"PK\x03\x04")
    (folder / "b.jsonl").write_bytes(lines(pairs).replace(b"\n", b"\r\n") + b"\n")
    (folder / "c.txt.gz").write_bytes(gzip.compress(text.encode()))
    (folder / "d.NDJSON.GZ").write_bytes(b"".join(gzip.compress(lines([p])) for p in pairs) + bytes(512))
    (folder / "e.jsonl").write_bytes(b'{"n": [NaN, 1e999], "q": "", "text": "\\ud83d\\u0041 \\ud83d\\ude00"}\n')
    expected = [("", text), *pairs, ("", text), *pairs, ("", "\ufffdA \U0001F600")]
    if ZST:
        import zstandard
        wide = zstandard.ZstdCompressionParameters(window_log=30, write_content_size=False)  # as zstd --long=30
        start = zstandard.ZstdCompressor(compression_params=wide).compressobj()
        frames = [b"\x50\x2a\x4d\x18\x03\0\0\0abc", start.compress(lines(pairs[:1])) + start.flush()]
        frames += [zstandard.compress(lines([p])) for p in pairs[1:]]
        (folder / "sub" / "e.jsonl.zst").write_bytes(b"".join(frames))
        expected += pairs
    return expected


def read_set(prefix):
    """Tokens and mask of each document, with nothing but numpy."""
    idx = pathlib.Path(f"{prefix}.idx").read_bytes()
    dtype = {4: numpy.int32, 8: numpy.uint16}[idx[17]]
    sequences, bounds = numpy.frombuffer(idx, "<u8", 2, 18).tolist()
    lengths = numpy.frombuffer(idx, "<i4", sequences, 34)
    ends = numpy.concatenate([[0], numpy.cumsum(lengths)])
    documents = ends[numpy.frombuffer(idx, "<i8", bounds, 34 + 12 * sequences)].tolist()
    tokens, mask = numpy.fromfile(f"{prefix}.bin", dtype), numpy.fromfile(f"{prefix}.mask.bin", numpy.uint8)
    return [(tokens[a:b].tolist(), mask[a:b].tolist()) for a, b in zip(documents, documents[1:])]


def prepare(folder, *arguments):
    command = [sys.executable, HERE / "prepare_data.py", "--tokenizer", folder / "tokenizer.json", *arguments]
    return subprocess.run([str(part) for part in command], stderr=subprocess.PIPE, text=True)


def check_command(binary, folder, prefix):
    """falcon-train tokenize makes the same set of the same files."""
    other = folder / "out" / "command"
    subprocess.run([binary, "tokenize", str(folder / "in"), "--tokenizer", str(folder / "tokenizer.json"),
                    "--prompt-field", "q", "--out", str(other)], check=True, stderr=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL)
    for end in (".bin", ".idx", ".mask.bin", ".json"):
        a, b = (pathlib.Path(f"{p}{end}").read_bytes() for p in (prefix, other))
        same = json.loads(a) == json.loads(b) if end == ".json" else a == b
        assert same, f"falcon-train tokenize writes another {end}: {a[:400]} {b[:400]}"
    print("falcon-train tokenize --tokenizer writes the same files")


def check_refusals(folder, packed):
    wrong = {"field.jsonl": (b'{"text": "a"}\n{"text": 3}\n', 'field.jsonl:2: the object has no text in "text"'),
             "json.jsonl": (b'{"text": "a"}\n{oh\n', "json.jsonl:2: is no JSON"),
             "cut.txt.gz": (packed[: len(packed) // 2], "cut.txt.gz: cannot be read: it is cut short"),
             "plain.txt.gz": (b"plain", "plain.txt.gz: is damaged"),
             "latin.txt": (b"abc\xff", "latin.txt: is not UTF-8 at byte 3"),
             "hollow.jsonl": (b"\n", "no documents"),
             "late.jsonl.gz": (gzip.compress(b'{"text": "a"}\n') + packed[:30], "late.jsonl.gz: cannot be read"),
             "x.jsonl.bz2": (b"BZh91AY&SY", "x.jsonl.bz2: is packed with bzip2"),
             "x.parquet": (b"PAR1", "x.parquet: is a container of records"),
             "x.txt": (b"a\0b", "x.txt: is binary data")}
    if ZST:
        import zstandard
        wrong["cut.txt.zst"] = (zstandard.compress(packed)[:-9], "cut.txt.zst: cannot be read: it is cut short")
        wrong["plain.txt.zst"] = (b"plain, not packed", "plain.txt.zst: is damaged")
    wrong["refused.json"] = (b"my text", "which it would replace")
    for name, (content, message) in wrong.items():
        (folder / name).write_bytes(content)
        result = prepare(folder, folder / name, "--out", folder / "refused")
        left = [path.name for path in folder.glob("refused*") if path.name != name]
        if result.returncode != 2 or message not in result.stderr or left or (folder / name).read_bytes() != content:
            sys.exit(f"{name}: expected a refusal with '{message}', got {result.returncode}: {result.stderr}, {left}")
    (folder / "refused.json").unlink()
    for name, count in (("late.jsonl.gz", 1), ("field.jsonl", 1), ("json.jsonl", 1)):
        result = prepare(folder, folder / name, "--skip-bad", "--out", folder / "skipped")
        note = json.loads((folder / "skipped.json").read_text())
        if result.returncode or note["documents"] != 1 or f"{count} bad lines or files were left out" not in result.stderr:
            sys.exit(f"{name}: --skip-bad: {result.returncode}: {result.stderr}, {note}")
    print(f"{len(wrong)} damaged inputs refused by name, nothing left behind")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True, help="falcon-train")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        text = (HERE.parent / "README.md").read_text()
        tokenizer = make_tokenizer(folder / "tokenizer.json", text)
        expected = write_inputs(folder / "in", text)
        prefix = folder / "out" / "set"
        result = prepare(folder, folder / "in", "--prompt-field", "q", "--out", prefix)
        if result.returncode:
            sys.exit(result.stderr)
        got = read_set(prefix)
        assert len(got) == len(expected), (len(got), len(expected))
        for d, ((ids, mask), (prompt, text)) in enumerate(zip(got, expected)):
            n = mask.count(0)
            assert mask == [0] * n + [1] * (len(ids) - n) and ids[-1] == 0, f"document {d}: mask or end"
            assert tokenizer.decode(ids[:n]) == prompt and tokenizer.decode(ids[n:-1]) == text, f"document {d} differs"
        print(f"{len(got)} documents decoded: all equal{'' if ZST else ' (zst not checked: no zstandard)'}")
        shown = subprocess.run([options.binary, "inspect", "--verify", str(prefix)], check=True, text=True,
                               stdout=subprocess.PIPE).stdout
        for part in (f"documents {len(got)}", "vocabulary 800, end of document 0", f"{len(got)} of {len(got)} documents end"):
            assert part in shown, f"'{part}' is missing in: {shown}"
        print("falcon-train inspect --verify agrees")
        check_command(options.binary, folder, prefix)
        check_refusals(folder, (folder / "in" / "c.txt.gz").read_bytes())


if __name__ == "__main__":
    main()

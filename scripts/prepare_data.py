#!/usr/bin/env python3
"""Text to token sets (PREFIX.bin, .idx, .json) with a Hugging Face tokenizer.json.

The counterpart of `falcon-train tokenize`, which knows bytes only: the same inputs (text files, one document each;
.jsonl, a document a line; folders; .gz and .zst), the same format, which Megatron-LM reads too. An end-of-document
token is appended to each document. Several cores are used; the files appear whole, at the end, or not at all.

Needs: pip install tokenizers numpy (and zstandard 0.19 or newer for .zst)
Example: scripts/prepare_data.py --tokenizer falcon-h1/tokenizer.json web/*.jsonl.zst --out data/web
Then:    falcon-train inspect data/web --verify
"""
import argparse
import contextlib
import gzip
import io
import json
import os
import pathlib
import sys
import time

try:
    import numpy
    from tokenizers import Tokenizer
except ImportError as error:
    sys.exit(f"{error}; pip install tokenizers numpy")

PACKED = (".gz", ".zst")
LONGEST_SEQUENCE = 1 << 24      # as `falcon-train tokenize`: longer documents become several sequences
BATCH_BYTES = 8 << 20           # text handed to the tokenizer at once
ENDS = ("<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "</s>", "<eos>", "[SEP]")


class Fault(Exception):
    pass


def extension(path):
    name = path.name
    for packed in PACKED:
        name = name.removesuffix(packed)
    return pathlib.PurePath(name).suffix


def input_files(inputs, out):
    written = {pathlib.Path(f"{out}{end}").resolve() for end in (".bin", ".idx", ".json", ".mask.bin")}
    files = []
    for name in inputs:
        path = pathlib.Path(name)
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.is_file() and p.resolve() not in written)
            if not found:
                raise Fault(f"{path}: the folder holds no files")
            files += found
        elif path.exists():
            files.append(path)
        else:
            raise Fault(f"{path}: no such file or folder")
    return files


class ZstStream(io.RawIOBase):
    """All frames of a file, unpacked. Unlike zstandard's own stream it knows a file that is cut short."""

    def __init__(self, raw, zstandard):
        self.raw, self.start = raw, zstandard.ZstdDecompressor().decompressobj
        self.frame, self.unpacked = None, b""

    def readable(self):
        return True

    def readinto(self, buffer):
        while not self.unpacked:
            packed = self.raw.read(1 << 17)
            if not packed:
                if self.frame:
                    raise EOFError("it is cut short")
                return 0
            parts = []
            while packed:
                self.frame = self.frame or self.start()
                parts.append(self.frame.decompress(packed))
                packed = b""
                if self.frame.eof:
                    packed, self.frame = self.frame.unused_data, None
            self.unpacked = memoryview(b"".join(parts))
        n = min(len(buffer), len(self.unpacked))
        buffer[:n] = self.unpacked[:n]
        self.unpacked = self.unpacked[n:]
        return n


@contextlib.contextmanager
def opened(path):
    """The unpacked bytes of a file, and the file itself, whose place tells the progress."""
    with open(path, "rb") as raw:
        if path.suffix == ".gz":
            yield io.BufferedReader(gzip.GzipFile(fileobj=raw)), raw
        elif path.suffix == ".zst":
            try:
                import zstandard
            except ImportError:
                raise Fault(f"{path}: pip install zstandard, to read .zst") from None
            yield io.BufferedReader(ZstStream(raw, zstandard), 1 << 20), raw
        else:
            yield raw, raw


def documents_of(path, options):
    """(prompt, text, bytes of the file read so far) of each document."""
    with opened(path) as (stream, raw):
        if extension(path) != ".jsonl":
            try:
                yield "", stream.read().decode("utf-8"), raw.tell()
            except UnicodeDecodeError as error:
                raise Fault(f"{path}: is not UTF-8 at byte {error.start}; convert it first") from None
            return
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                item = json.loads(line)
            except ValueError as error:
                raise Fault(f"{path}:{number}: is no JSON: {error}") from None
            texts = []
            for option, field in (("--prompt-field", options.prompt_field), ("--field", options.field)):
                if field is None:
                    texts.append("")
                    continue
                text = item.get(field) if isinstance(item, dict) else None
                if not isinstance(text, str):
                    raise Fault(f'{path}:{number}: the object has no text in "{field}"; {option} names another')
                try:
                    text.encode()
                except UnicodeEncodeError:
                    raise Fault(f'{path}:{number}: "{field}" holds half a surrogate pair, which is no text') from None
                texts.append(text)
            yield *texts, raw.tell()


def end_token(tokenizer, tokenizer_path, wanted):
    """The id that ends documents: an id, a token, or what the tokenizer's files name."""
    if wanted == "none":
        return None
    if wanted is not None:
        token = tokenizer.token_to_id(wanted)
        if token is None and wanted.isdecimal() and int(wanted) < tokenizer.get_vocab_size():
            token = int(wanted)
        if token is None:
            raise Fault(f"--end-of-document {wanted}: is neither a token nor an id of {tokenizer_path}")
        return token
    beside = tokenizer_path.with_name("tokenizer_config.json")
    candidates = list(ENDS)
    if beside.exists():
        named = json.loads(beside.read_text()).get("eos_token")
        named = named.get("content") if isinstance(named, dict) else named
        if named:
            candidates.insert(0, named)
    for candidate in candidates:
        token = tokenizer.token_to_id(candidate)
        if token is not None:
            return token
    raise Fault(f"{tokenizer_path}: has none of {', '.join(candidates)}; say --end-of-document TOKEN, or none")


class Writer:
    """Megatron's .bin and .idx, and PREFIX.mask.bin; temporary names until finish()."""

    def __init__(self, out, vocabulary, masked):
        self.out = out
        self.dtype, self.code = (numpy.uint16, 8) if vocabulary < 65500 else (numpy.int32, 4)
        self.vocabulary = vocabulary
        pathlib.Path(out).parent.mkdir(parents=True, exist_ok=True)
        self.ends = [".bin", *([".mask.bin"] if masked else []), ".idx"]
        self.files = {end: open(self.temporary(end), "wb") for end in self.ends}
        self.lengths, self.bounds = [], [0]

    def temporary(self, end):
        return f"{self.out}{end}.tmp-{os.getpid()}"

    def add(self, ids, prompt_length):
        if ids.size and not 0 <= ids.min() <= ids.max() < self.vocabulary:
            raise Fault(f"the tokenizer gave id {ids.max()}, its vocabulary has {self.vocabulary}")
        ids.astype(self.dtype).tofile(self.files[".bin"])
        if ".mask.bin" in self.files:
            (numpy.arange(ids.size) >= prompt_length).astype(numpy.uint8).tofile(self.files[".mask.bin"])
        self.lengths += [min(LONGEST_SEQUENCE, ids.size - at) for at in range(0, ids.size, LONGEST_SEQUENCE)]
        self.bounds.append(len(self.lengths))

    def finish(self):
        lengths = numpy.array(self.lengths, dtype="<i4")
        sizes = lengths.astype("<i8") * numpy.dtype(self.dtype).itemsize
        idx = self.files[".idx"]
        idx.write(b"MMIDIDX\0\0" + numpy.array([1], "<u8").tobytes() + bytes([self.code]))
        idx.write(numpy.array([len(lengths), len(self.bounds)], "<u8").tobytes())
        idx.write(lengths.tobytes())
        idx.write((numpy.cumsum(sizes) - sizes).astype("<i8").tobytes())
        idx.write(numpy.array(self.bounds, "<i8").tobytes())
        for file in self.files.values():
            file.flush()
            os.fsync(file.fileno())
            file.close()
        # An index is only ever beside its own tokens and mask: the old one goes first, the new one comes last.
        for old in (".idx", ".mask.bin", ".json"):
            pathlib.Path(f"{self.out}{old}").unlink(missing_ok=True)
        for end in self.ends:
            os.replace(self.temporary(end), f"{self.out}{end}")

    def discard(self):
        for end, file in self.files.items():
            file.close()
            pathlib.Path(self.temporary(end)).unlink(missing_ok=True)


class Progress:
    def __init__(self, total):
        self.total, self.begin, self.shown = total, time.monotonic(), 0.0
        self.terminal = sys.stderr.isatty()

    def show(self, done, documents, tokens, text):
        now = time.monotonic()
        if now - max(self.shown, self.begin) < (0.25 if self.terminal else 30):
            return
        self.shown = now
        seconds, share = now - self.begin, done / max(self.total, 1)
        left = f", {seconds * (1 - share) / share:.0f} s left" if share > 0 else ""
        line = f"{100 * share:3.0f}%  {documents} documents, {tokens} tokens, {text / 1e6 / seconds:.1f} MB/s{left}"
        line = f"\r\033[K{line}" if self.terminal else line + "\n"
        print(line, end="", file=sys.stderr, flush=True)

    def end(self):
        if self.terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def encode(tokenizer, batch, end, writer):
    """Writes a batch of (prompt, text); returns its tokens. Prompts are tokenized apart, so that the boundary between
    prompt and text is one between tokens."""
    texts = [text for _, text in batch]
    if any(prompt for prompt, _ in batch):
        texts += [prompt for prompt, _ in batch]
    encoded = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    tokens = 0
    for i in range(len(batch)):
        prompt = encoded[len(batch) + i].ids if len(texts) > len(batch) else []
        ids = numpy.array(prompt + encoded[i].ids + ([] if end is None else [end]), dtype=numpy.int64)
        writer.add(ids, len(prompt))
        tokens += ids.size
    return tokens


def prepare(options):
    path = pathlib.Path(options.tokenizer)
    if path.is_dir():
        path = path / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        raise Fault(f"{path}: is no tokenizer.json that can be read: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    end = end_token(tokenizer, path, options.end_of_document)
    vocabulary = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
    files = input_files(options.inputs, options.out)
    progress = Progress(sum(f.stat().st_size for f in files))
    writer = Writer(options.out, vocabulary, options.prompt_field is not None)
    documents = tokens = text_bytes = done = 0
    batch, size = [], 0
    try:
        for file in files:
            place = 0
            try:
                for prompt, text, place in documents_of(file, options):
                    batch.append((prompt, text))
                    size += len(prompt.encode()) + len(text.encode())
                    if size >= BATCH_BYTES:
                        tokens += encode(tokenizer, batch, end, writer)
                        documents, text_bytes, batch, size = documents + len(batch), text_bytes + size, [], 0
                        progress.show(done + place, documents, tokens, text_bytes)
            except (OSError, EOFError) as error:
                raise Fault(f"{file}: cannot be read: {error}") from None
            except Exception as error:
                if type(error).__name__ in ("ZstdError", "error"):  # zstandard's, zlib's
                    raise Fault(f"{file}: is damaged: {error}") from None
                raise
            done += file.stat().st_size
        if batch:
            tokens += encode(tokenizer, batch, end, writer)
            documents, text_bytes = documents + len(batch), text_bytes + size
        if documents == 0:
            raise Fault("the inputs hold no documents; nothing is written")
        writer.finish()
    except BaseException:
        writer.discard()
        raise
    finally:
        progress.end()
    about = {"tokenizer": str(path), "vocab_size": vocabulary, "end_of_document": end, "documents": documents,
             "tokens": tokens, "bytes": text_bytes}
    temporary = pathlib.Path(writer.temporary(".json"))
    temporary.write_text(json.dumps(about, indent=2) + "\n")
    os.replace(temporary, f"{options.out}.json")
    seconds = time.monotonic() - progress.begin
    print(f"{options.out}: {documents} documents, {tokens} tokens, vocabulary {vocabulary}, end of document {end}; "
          f"{text_bytes / 1e6:.1f} MB of text in {seconds:.1f} s", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="text files, .jsonl, folders; .gz and .zst too")
    parser.add_argument("--out", required=True, metavar="PREFIX", help="writes PREFIX.bin, .idx, .json")
    parser.add_argument("--tokenizer", required=True, help="tokenizer.json, or a folder that holds one")
    parser.add_argument("--field", default="text", help="of JSONL lines: holds the text (default: text)")
    parser.add_argument("--prompt-field", help="of JSONL lines: goes before the text and is left out of the loss "
                        "(PREFIX.mask.bin)")
    parser.add_argument("--end-of-document", metavar="TOKEN", help="token or id appended to each document, or none; "
                        "default: eos_token of tokenizer_config.json, or a usual name")
    try:
        prepare(parser.parse_args())
    except Fault as fault:
        sys.exit(f"prepare_data.py: {fault}")
    except OSError as error:
        sys.exit(f"prepare_data.py: {error}")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Text to token sets (PREFIX.bin, .idx, .json) with a Hugging Face tokenizer.json.

The counterpart of `falcon-train tokenize --tokenizer` for kinds of tokenizer that it refuses: the same inputs (text
files, one document each; .jsonl and .ndjson, a document a line; folders; .gz and .zst), the same format, which
Megatron-LM reads too. An end-of-document token is appended to each document. Several cores are used; the files appear
whole, at the end, or not at all, and replace nothing but an older set.

Needs: pip install tokenizers numpy (and zstandard 0.19 or newer for .zst)
Example: scripts/prepare_data.py --tokenizer falcon-h1/tokenizer.json web/*.jsonl.zst --out data/web
Then:    falcon-train inspect data/web --verify
"""
import argparse
import contextlib
import io
import json
import os
import pathlib
import re
import sys
import time
import zlib

try:
    import numpy
    from tokenizers import Tokenizer
except ImportError as error:
    sys.exit(f"{error}; pip install tokenizers numpy")

PACKED = (".gz", ".zst")
LINES = (".jsonl", ".ndjson", ".jsonlines", ".ldjson")
WRITTEN = (".bin", ".idx", ".json", ".mask.bin")
LOOKED = 64 << 10               # bytes of a file that tell whether it is text
MAGICS = ((4, b"1AY&SY", "packed with bzip2"), (0, b"\xfd7zXZ\0", "packed with xz"), (0, b"]\0\0", "packed with lzma"),
          (0, b"\x04\x22\x4d\x18", "packed with lz4"), (0, b"\x28\xb5\x2f\xfd", "packed with zstd"),
          (0, b"\x1f\x8b", "packed with gzip"), (0, b"PK\x03\x04", "a zip archive"), (0, b"7z\xbc\xaf", "a 7z archive"),
          (257, b"ustar", "a tar archive"), (0, b"MMIDIDX\0\0", "a part of a token set"), (0, b"%PDF-", "a PDF"),
          (0, b"\xff\xfe\0\0", "UTF-32 text (convert it to UTF-8)"),
          (0, b"\xff\xfe", "UTF-16 text (convert it to UTF-8)"), (0, b"\xfe\xff", "UTF-16 text (convert it to UTF-8)"))
NAMES = {"packed in a way that is not known here": ".bz2 .tbz .tbz2 .xz .txz .lzma .lz4 .lzo .sz .snappy .br .z",
         "an archive": ".zip .7z .rar .tar .tgz .tzst .jar .whl .epub .docx .xlsx .pptx .odt .npz",
         "a container of records": ".parquet .arrow .feather .avro .orc .tfrecord .tfrecords .msgpack .npy .h5 .hdf5 .db",
         "a model's weights": ".safetensors .gguf .pt .pth .ckpt .onnx .pkl .pickle",
         "a document of another format": ".pdf .doc .xls .ppt .png .jpg .jpeg .gif .webp .bmp .tif .tiff .ico .mp3 .wav "
                                         ".flac .ogg .m4a .mp4 .avi .mov .mkv .webm .so .o .a .exe .dll .class .pyc"}
LONGEST_SEQUENCE = 1 << 24      # as `falcon-train tokenize`: longer documents become several sequences
BATCH_BYTES = 8 << 20           # text handed to the tokenizer at once
ENDS = ("<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "</s>", "<eos>", "[SEP]")


class Fault(Exception):
    pass


def extension(path):
    name = path.name.lower()
    for packed in PACKED:
        name = name.removesuffix(packed)
    return pathlib.PurePath(name).suffix


def identity(path):
    """What a file is, whatever it is called; None where there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def is_note(path):
    """Whether a file is the note of a token set, as falcon-train and this script write it."""
    try:
        about = json.loads(path.read_bytes()) if path.stat().st_size <= 1 << 20 else None
    except ValueError:
        return False
    return isinstance(about, dict) and isinstance(about.get("tokenizer"), str) and isinstance(about.get("tokens"), int)


def is_index(path):
    try:
        with open(path, "rb") as file:
            return file.read(7) == b"MMIDIDX"
    except (FileNotFoundError, IsADirectoryError):
        return False


def not_text(path):
    """What a file is that holds no text; empty for text, as far as its name and first bytes tell."""
    if not path.is_file():
        return ""
    for end in (".mask.bin", ".bin", ".json"):
        if path.name.endswith(end) and is_index(f"{str(path).removesuffix(end)}.idx") and (end != ".json" or is_note(path)):
            return "a part of a token set"
    try:
        with opened(path) as (stream, _):
            head = stream.read(LOOKED)
    except Fault:
        raise
    except Exception:  # damaged, which reading it will tell
        head = b""
    for at, magic, kind in MAGICS:
        if head[at:].startswith(magic):
            return kind
    for kind, names in NAMES.items():
        if extension(path) in names.split():
            return kind
    if extension(path) in LINES:
        return ""
    if b"\0" in head:
        return "binary data (it holds NUL bytes)"
    odd = head.decode("utf-8", "replace").count("\ufffd")
    return "binary data (it is not UTF-8)" if odd > len(head) * 3 // 10 else ""


def files_below(folder):
    """Each file once, whatever links lead to it; hidden ones are left out."""
    files, seen, folders = [], set(), [folder]
    while folders:
        at = folders.pop(0)
        if identity(at) in seen:
            continue
        seen.add(identity(at))
        for path in sorted(at.iterdir(), key=lambda p: (p.is_symlink(), p)):
            if path.name.startswith("."):
                continue
            if path.is_dir():
                folders.append(path)
            elif path.is_file() and identity(path) not in seen:
                seen.add(identity(path))
                files.append(path)
    return sorted(files)


def texts_below(folder):
    texts, others = [], {}
    for path in files_below(folder):
        kind = not_text(path)
        if kind:
            others.setdefault(kind, []).append(path)
        else:
            texts.append(path)
    for kind, paths in sorted(others.items()):
        print(f"{folder}: {len(paths)} left out, {kind}: {paths[0]}{', ...' if len(paths) > 1 else ''}", file=sys.stderr)
    if not texts:
        raise Fault(f"{folder}: the folder holds no text")
    return texts


def check_not_replaced(path, out, what):
    for end in WRITTEN:
        written = identity(f"{out}{end}")
        if written and written == identity(path):
            raise Fault(f"--out {out}: {out}{end} is the {what} {path}, which it would replace; choose another --out")


def check_outputs(out):
    """What stands where the set is to go must be an older set's."""
    try:
        str(out).encode()
    except UnicodeEncodeError:
        raise Fault(f"--out {os.fsencode(out)}: the name is not UTF-8") from None
    for end in WRITTEN:
        path = pathlib.Path(f"{out}{end}")
        if path.exists() and not (is_note(path) if end == ".json" else is_index(f"{out}.idx")):
            raise Fault(f"{path}: is there already and belongs to no token set, so it is not replaced; choose another "
                        "--out, or move it away")


def input_files(inputs, out, tokenizer):
    paths = [pathlib.Path(name) for name in inputs]
    for path in paths:
        if not path.exists():
            raise Fault(f"{path}: no such file or folder")
        check_not_replaced(path, out, "input")
    check_not_replaced(tokenizer, out, "tokenizer")
    files = []
    for path in paths:
        if path.is_dir():
            files += texts_below(path)
            continue
        kind = not_text(path)
        if kind:
            raise Fault(f"{path}: is {kind}, not text; inputs are text and JSON Lines, as they are or packed and named "
                        "so (.gz, .zst): rename, unpack or convert it first")
        files.append(path)
    for path in files:
        check_not_replaced(path, out, "input")
    check_outputs(out)
    return files


class Unpacked(io.RawIOBase):
    """All members of a .gz or frames of a .zst. Unlike Python's own streams it knows a .zst that is cut short, and gives
    what comes before damage."""

    def __init__(self, raw, start, padded):
        self.raw, self.start, self.padded = raw, start, padded
        self.frame, self.unpacked, self.any, self.fault = None, b"", False, None

    def readable(self):
        return True

    def more(self, packed):
        parts = []
        try:
            while packed:
                if self.padded and self.any and not self.frame:
                    packed = packed.lstrip(b"\0")
                    if not packed:
                        break
                self.frame, self.any = self.frame or self.start(), True
                parts.append(self.frame.decompress(packed))
                packed = b""
                if self.frame.eof:
                    packed, self.frame = self.frame.unused_data, None
        except Exception as fault:
            self.fault = fault
        return memoryview(b"".join(parts))

    def readinto(self, buffer):
        while not self.unpacked:
            if self.fault:
                raise self.fault
            packed = self.raw.read(1 << 17)
            if not packed:
                if self.frame:
                    raise EOFError("it is cut short")
                return 0
            self.unpacked = self.more(packed)
        n = min(len(buffer), len(self.unpacked))
        buffer[:n] = self.unpacked[:n]
        self.unpacked = self.unpacked[n:]
        return n


@contextlib.contextmanager
def opened(path):
    """The unpacked bytes of a file, and the file itself, whose place tells the progress."""
    with open(path, "rb") as raw:
        if path.suffix.lower() == ".gz":
            yield io.BufferedReader(Unpacked(raw, lambda: zlib.decompressobj(31), True), 1 << 16), raw
        elif path.suffix.lower() == ".zst":
            try:
                import zstandard
            except ImportError:
                raise Fault(f"{path}: pip install zstandard, to read .zst") from None
            start = zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj
            yield io.BufferedReader(Unpacked(raw, start, False), 1 << 16), raw
        else:
            yield raw, raw


def texts_of(line, options):
    """(prompt, text) of a line of JSON. Half a surrogate pair becomes U+FFFD."""
    try:
        item = json.loads(line)
    except ValueError as error:
        raise Fault(f"is no JSON: {error}") from None
    except RecursionError:
        raise Fault("is no JSON that can be read: it is nested too deeply") from None
    texts = []
    for option, field in (("--prompt-field", options.prompt_field), ("--field", options.field)):
        if field is None:
            texts.append("")
            continue
        text = item.get(field) if isinstance(item, dict) else None
        if not isinstance(text, str):
            raise Fault(f'the object has no text in "{field}"; {option} names another')
        texts.append(re.sub("[\ud800-\udfff]", "\ufffd", text))
    return texts


def documents_of(path, options, bad):
    """(prompt, text, bytes of the file read so far) of each document."""
    with opened(path) as (stream, raw):
        if extension(path) not in LINES:
            try:
                yield "", stream.read().decode("utf-8-sig"), raw.tell()
            except UnicodeDecodeError as error:
                bad(f"{path}: is not UTF-8 at byte {error.start}; convert it first")
            return
        for number, line in enumerate(stream, 1):
            line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.strip():
                continue
            try:
                texts = texts_of(line, options)
            except Fault as fault:
                bad(f"{path}:{number}: {fault}")
                continue
            yield *texts, raw.tell()


class Bad:
    """What cannot be read: the first ends the job, or with --skip-bad it is left out and counted."""

    def __init__(self, skip):
        self.skip, self.count = skip, 0

    def __call__(self, what):
        if not self.skip:
            raise Fault(f"{what}; --skip-bad leaves out what is bad, and counts it")
        self.count += 1
        if self.count <= 5:
            print(f"left out: {what}", file=sys.stderr)

    def tell(self):
        if self.count:
            print(f"{self.count} bad lines or files were left out in all", file=sys.stderr)


def named_end(tokenizer, tokenizer_path):
    """The id that a file beside the tokenizer names as the end; None where none does."""
    for name, key in (("tokenizer_config.json", "eos_token"), ("special_tokens_map.json", "eos_token"),
                      ("generation_config.json", "eos_token_id"), ("config.json", "eos_token_id")):
        beside = tokenizer_path.with_name(name)
        if not beside.is_file():
            continue
        try:
            value = json.loads(beside.read_text()).get(key)
        except (ValueError, AttributeError):
            raise Fault(f"{beside}: is no JSON object; mend it, or say --end-of-document TOKEN, or none") from None
        named = value[0] if isinstance(value, list) and value else value
        named = named.get("content") if isinstance(named, dict) else named
        if named is None:
            continue
        token = tokenizer.token_to_id(named) if isinstance(named, str) else named
        if token is None or tokenizer.id_to_token(token) is None:
            raise Fault(f"{beside}: names {named} as the end, which is no token of {tokenizer_path}; "
                        "say --end-of-document TOKEN, or none")
        return token
    return None


def end_token(tokenizer, tokenizer_path, wanted):
    """The id that ends documents: an id, a token, or what the tokenizer's files name."""
    if wanted == "none":
        return None
    if wanted is not None:  # digits are an id: no token of digits ends documents
        token = int(wanted) if wanted.isdecimal() else tokenizer.token_to_id(wanted)
        if token is None or tokenizer.id_to_token(token) is None:
            raise Fault(f"--end-of-document {wanted}: is neither a token nor an id of {tokenizer_path}")
        return token
    token = named_end(tokenizer, tokenizer_path)
    for candidate in ENDS:
        token = tokenizer.token_to_id(candidate) if token is None else token
    if token is None:
        raise Fault(f"{tokenizer_path}: no file beside it names the token that ends documents, and it has none of "
                    f"{', '.join(ENDS)}; say --end-of-document TOKEN, or none")
    return token


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
    ids = {token: name for name, token in tokenizer.get_vocab(with_added_tokens=True).items()}
    vocabulary = max(ids) + 1
    files = input_files(options.inputs, options.out, path)
    bad = Bad(options.skip_bad)
    progress = Progress(sum(f.stat().st_size for f in files))
    writer = Writer(options.out, vocabulary, options.prompt_field is not None)
    documents = tokens = text_bytes = done = 0
    batch, size = [], 0
    try:
        for file in files:
            place = 0
            try:
                for prompt, text, place in documents_of(file, options, bad):
                    batch.append((prompt, text))
                    size += len(prompt.encode()) + len(text.encode())
                    if size >= BATCH_BYTES:
                        tokens += encode(tokenizer, batch, end, writer)
                        documents, text_bytes, batch, size = documents + len(batch), text_bytes + size, [], 0
                        progress.show(done + place, documents, tokens, text_bytes)
            except (OSError, EOFError) as error:
                bad(f"{file}: cannot be read: {error}")
            except Exception as error:
                if type(error).__name__ not in ("ZstdError", "error"):  # zstandard's, zlib's
                    raise
                bad(f"{file}: is damaged: {error}")
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
        bad.tell()
    vocabulary_hash = zlib.crc32("".join(f"{token} {ids[token]}\n" for token in sorted(ids)).encode())
    about = {"tokenizer": os.path.abspath(path), "tokenizer_hash": f"{vocabulary_hash:08x}", "vocab_size": vocabulary,
             "end_of_document": end, "documents": documents, "tokens": tokens, "bytes": text_bytes}
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
    parser.add_argument("--skip-bad", action="store_true", help="leave out bad lines and damaged files, and count them; "
                        "default: the first ends the job")
    parser.add_argument("--end-of-document", metavar="TOKEN", help="token or id appended to each document, or none; "
                        "default: what the files beside the tokenizer name, or a usual name")
    try:
        prepare(parser.parse_args())
    except Fault as fault:
        print(f"prepare_data.py: {fault}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        sys.exit(f"prepare_data.py: {error}")


if __name__ == "__main__":
    main()

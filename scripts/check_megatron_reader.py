#!/usr/bin/env python3
"""Token sets against Megatron-LM's own reader and writer, token for token.

1. `falcon-train tokenize` writes a set; megatron.core's IndexedDataset must read the same tokens and documents.
2. megatron.core's IndexedDatasetBuilder writes sets (several sequences a document, empty documents; uint16 and
   int32); falcon-train's reader must give the same, by way of the hidden case [.megatron] of the test test_data.

Needs: pip install megatron-core torch numpy
Example: scripts/check_megatron_reader.py --tokenize-binary build/falcon-train --test-binary build/tests/test_data
"""
import argparse
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import warnings

warnings.filterwarnings("ignore")
try:
    import numpy
    import torch
    from megatron.core.datasets.indexed_dataset import IndexedDataset, IndexedDatasetBuilder
except ImportError as error:
    sys.exit(f"{error}; pip install megatron-core torch numpy")

END_OF_DOCUMENT = 256


def documents_of(prefix):
    """Documents as lists of tokens, the way Megatron reads them."""
    data = IndexedDataset(str(prefix))
    bounds = data.document_indices
    return [[int(t) for s in range(bounds[d], bounds[d + 1]) for t in data[s]] for d in range(len(bounds) - 1)]


def compare(what, got, expected):
    if len(got) != len(expected):
        sys.exit(f"{what}: {len(got)} documents, expected {len(expected)}")
    for d, (a, b) in enumerate(zip(got, expected)):
        if a != b:
            at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
            sys.exit(f"{what}: document {d} differs at token {at} ({len(a)} tokens, expected {len(b)})")
    print(f"{what}: {len(got)} documents, {sum(map(len, got))} tokens agree")


def check_ours_read_by_megatron(tokenize_command, folder):
    texts = [bytes(random.randrange(1, 128) for _ in range(random.randrange(400))) for _ in range(200)] + [b""]
    inputs = folder / "texts"
    inputs.mkdir()
    for i, text in enumerate(texts):
        (inputs / f"{i:04}.txt").write_bytes(text)
    prefix = folder / "ours"
    subprocess.run([*tokenize_command, str(inputs), "--out", str(prefix)], check=True)
    compare("tokenize -> IndexedDataset", documents_of(prefix), [[*text, END_OF_DOCUMENT] for text in texts])


def check_megatron_read_by_ours(test_binary, folder, dtype, vocabulary):
    prefix = folder / f"theirs-{numpy.dtype(dtype).name}"
    builder = IndexedDatasetBuilder(f"{prefix}.bin", dtype=dtype)
    expected = []
    for _ in range(300):
        document = []
        for _ in range(random.choice([0, 1, 1, 1, 2, 5])):
            sequence = [random.randrange(vocabulary) for _ in range(random.choice([0, 1, 7, 300]))]
            builder.add_item(torch.tensor(sequence, dtype=torch.int64))
            document += sequence
        builder.end_document()
        expected.append(document)
    builder.finalize(f"{prefix}.idx")
    compare(f"IndexedDatasetBuilder -> IndexedDataset ({numpy.dtype(dtype).name})", documents_of(prefix), expected)
    text = folder / "expected.txt"
    text.write_text("".join(" ".join(map(str, d)) + "\n" for d in expected))
    environment = dict(os.environ, FT_MEGATRON_PREFIX=str(prefix), FT_MEGATRON_EXPECT=str(text))
    subprocess.run([str(test_binary), "[.megatron]"], env=environment, check=True, stdout=subprocess.DEVNULL)
    print(f"IndexedDatasetBuilder -> falcon-train ({numpy.dtype(dtype).name}): "
          f"{len(expected)} documents, {sum(map(len, expected))} tokens agree")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenize-binary", type=pathlib.Path, help="falcon-train; its command tokenize is run")
    parser.add_argument("--test-binary", type=pathlib.Path, help="test_data, for sets that Megatron wrote")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not (options.tokenize_binary or options.test_binary):
        parser.error("give --tokenize-binary, --test-binary or both")
    random.seed(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        if options.tokenize_binary:
            check_ours_read_by_megatron([str(options.tokenize_binary.resolve()), "tokenize"], folder)
        if options.test_binary:
            for dtype, vocabulary in ((numpy.uint16, 65000), (numpy.int32, 200000)):
                check_megatron_read_by_ours(options.test_binary.resolve(), folder, dtype, vocabulary)


if __name__ == "__main__":
    main()

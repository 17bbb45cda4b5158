"""The behaviour family: closed forms, the model's own forward pass, and a rotation that stitching repairs."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    ViTConfig,
)

from realign.artifacts.command import UserError
from realign.cli import main
from realign.hrsa.behaviour import Vocabulary, measure
from realign.hrsa.groups import Groups
from realign.hrsa.heads import Head, NoHead
from realign.hrsa.next_tokens import following, shared_tokens
from realign.hrsa.opening import pair_up
from realign.hrsa.reading import ArrayStates, StateFile
from realign.hrsa.tokenwise import half_share, means_without_each, token_numbers
from realign.results.columns import COLUMNS
from realign.study.hrsa import BehaviourJob

CPU = torch.device("cpu")
SHAPE = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "initializer_range": 0.3, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
}  # fmt: skip


def save_model(folder, seed, kind="qwen3", vocabulary=256, added=(), **more):
    """A tiny random language model over bytes, with its tokenizer."""
    symbols = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *added]
    tokenizer = Tokenizer(models.BPE({symbol: i for i, symbol in enumerate(symbols)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="!").save_pretrained(folder)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(kind, vocab_size=vocabulary, **{**SHAPE, **more}), dtype=torch.float32
    )
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:  # a norm without an effect would hide that it is applied twice
                weight.add_(0.5 * torch.randn_like(weight))
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("behaviour") / "texts.jsonl"
    words = ["the", "mean", "of", "two", "models", "tells", "what", "changed", "in", "a", "token"]
    draw = np.random.default_rng(0)
    rows = [{"id": f"t{i}", "text": " ".join(draw.choice(words, 3 + i % 9))} for i in range(24)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def extracted(tmp_path_factory, corpus):
    """Makes a model's states over the texts, as the command does; the models have one attention mode."""

    def extract(model, attention="causal", tokens=20_000):
        states = tmp_path_factory.mktemp("states") / "states.h5"
        words = ["extract", "--model", model, "--corpus", corpus, "--states", states, "--pooled"]
        words += [states.with_name("pooled.h5"), "--attention", attention, "--tokens.count", tokens]
        assert main([*map(str, words), "--store", str(states.parent / "store")]) == 0
        return states

    return extract


def compared(folder, corpus, left, right, *more):
    """The rows of one comparison, from models and files of states by the command."""
    (left_model, left), (right_model, right) = left, right
    out = folder / "behaviour.parquet"
    words = ["hrsa_behaviour", "--left", left, "--right", right, "--left-model", left_model]
    words += ["--right-model", right_model, "--corpus", corpus, "--measures", out, "--force"]
    code = main([*map(str, words), "--store", str(folder / "store"), *more])
    return pq.read_table(out).to_pandas() if code == 0 else code


def number(table, name, **about):
    """One number, of the whole unless said otherwise."""
    measure, statistic = name.split(".")
    found = table[(table["measure"] == measure) & (table["statistic"] == statistic)]
    if "layer_left" not in about:
        found = found[found["layer_left"].isna()]
    if "part" not in about:
        found = found[found["part"].isna() | (found["part"] == "")]
    for column, value in about.items():
        found = found[found[column] == value]
    (row,) = found.itertuples()
    return row.value


def direct(model, corpus):
    """Logits and ids of each text, from the model as it is."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    for line in corpus.read_text().splitlines():
        ids = torch.tensor([tokenizer(json.loads(line)["text"])["input_ids"]])
        with torch.no_grad():
            out = network(ids, output_hidden_states=True, use_cache=False)
        yield out.logits[0], ids[0], [states[0] for states in out.hidden_states], network


def test_numbers_of_a_token_in_closed_form():
    p, q = torch.tensor([[0.5, 0.25, 0.25]]), torch.tensor([[0.25, 0.25, 0.5]])
    found = {k: v.item() for k, v in token_numbers(p.log(), q.log(), torch.tensor([2])).items()}
    assert found["token_kl.left_right"] == pytest.approx(0.25 * np.log(2), abs=1e-6)
    assert found["token_kl.right_left"] == pytest.approx(0.25 * np.log(2), abs=1e-6)
    m = np.array([0.375, 0.25, 0.375])
    js = (
        sum((np.array(s) * np.log(np.array(s) / m)).sum() for s in ([0.5, 0.25, 0.25], [0.25, 0.25, 0.5])) / 2
    )
    assert found["token_js.mean"] == pytest.approx(js, abs=1e-6)
    assert found["top1_agreement.share"] == 0
    assert np.exp(found["top_rank.left_in_right"]) == pytest.approx(2)  # only the last is more likely
    assert found["token_entropy.left"] == pytest.approx(1.5 * np.log(2), abs=1e-6)
    assert found["text_loss.left"] == pytest.approx(np.log(4), abs=1e-6)
    assert found["text_loss.change"] == pytest.approx(-np.log(2), abs=1e-6)
    unknown = token_numbers(p.log(), q.log(), torch.tensor([-1]))
    assert unknown["text_loss.left"].isnan().all()


def test_half_of_the_divergence_lies_on_so_many_tokens():
    groups = Groups(np.repeat(np.arange(5), 4))
    alike = half_share(groups, np.full(20, 0.3))
    np.testing.assert_allclose(alike, 0.5)
    one = np.zeros(20)
    one[3] = 2.0
    shares = half_share(groups, one)
    assert shares[0] == pytest.approx(0.5 / 20)
    assert np.isnan(shares[1 + groups.of_row[3]])  # nothing is left without it
    values = np.arange(20.0)
    means = means_without_each(groups, np.where(values == 7, np.nan, values))
    assert means[0] == pytest.approx((values.sum() - 7) / 19)


def test_a_model_and_itself(tmp_path, corpus, extracted):
    model = save_model(tmp_path / "model", 0)
    side = (model, extracted(model))
    table = compared(tmp_path, corpus, side, side)
    for name in ("token_kl.left_right", "token_kl.right_left", "text_loss.change"):
        assert number(table, name) == 0
    assert number(table, "token_js.mean") < 1e-7  # of the mean of both, which is rounded
    assert number(table, "top1_agreement.share") == number(table, "top_rank.left_in_right") == 1
    assert number(table, "perplexity.ratio") == 1
    assert number(table, "stitching.identity", direction="right") == 0
    assert number(table, "token_kl.rounding") < 1e-6  # of float32
    assert (table[table.measure == "lens_kl"].query("statistic == 'between'").value == 0).all()
    assert "half_share" not in set(table.statistic)  # of nothing


@pytest.mark.parametrize("tied", [True, False])
def test_numbers_are_those_of_the_models_own_pass(tmp_path, corpus, extracted, tied):
    folders = [save_model(tmp_path / f"m{seed}", seed, tie_word_embeddings=tied) for seed in (0, 1)]
    sides = [(folder, extracted(folder)) for folder in folders]
    table = compared(tmp_path, corpus, *sides, "--sample", "100000")
    passes = list(zip(*(direct(folder, corpus) for folder in folders), strict=True))
    lp, lq = (torch.cat([one[side][0] for one in passes]).log_softmax(-1) for side in (0, 1))
    kl = (lp.exp() * (lp - lq)).sum(-1).mean().item()
    assert number(table, "token_kl.left_right") == pytest.approx(kl, rel=1e-4)
    assert number(table, "top1_agreement.share") == (lp.argmax(-1) == lq.argmax(-1)).float().mean().item()
    losses = torch.cat(
        [torch.nn.functional.cross_entropy(one[0][0][:-1], one[0][1][1:], reduction="none") for one in passes]
    )
    assert number(table, "text_loss.left") == pytest.approx(losses.mean().item(), rel=1e-4)
    assert number(table, "perplexity.left") == pytest.approx(losses.mean().exp().item(), rel=1e-4)
    lenses = []
    for side in (0, 1):
        network = passes[0][side][3]
        states = torch.cat([one[side][2][1] for one in passes])  # of the first block
        with torch.no_grad():
            lenses.append(network.lm_head(network.model.norm(states)).log_softmax(-1))
    lens = (lenses[0].exp() * (lenses[0] - lenses[1])).sum(-1).mean().item()
    assert number(table, "lens_kl.between", layer_left=1) == pytest.approx(lens, rel=1e-4)
    own = (lp.exp() * (lp - lenses[0])).sum(-1).mean().item()
    assert number(table, "lens_kl.left_own", layer_left=1) == pytest.approx(own, rel=1e-4)
    assert number(table, "lens_kl.between", layer_left=2) == pytest.approx(kl, rel=1e-4)  # normed once
    for part in ("entropy", "position"):
        parts = table[(table.part == part) & table.ci_low.notna()]
        assert set(parts[parts.measure == "token_kl"].statistic) == {"left_right", "right_left"}


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("llama", {}),
        ("gemma2", {"final_logit_softcapping": 2.0, "head_dim": 8}),
        ("granite", {"logits_scaling": 4.0}),
        ("cohere", {}),
        ("gpt2", {"n_embd": 16, "n_layer": 2, "n_head": 2}),
        ("phi", {"num_key_value_heads": 2}),
        ("qwen2_moe", {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 8}),
    ],
)
def test_heads_give_each_kind_of_models_own_logits(tmp_path, kind, more):
    folder = save_model(tmp_path / kind, 0, kind, **more)
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.randint(0, 256, (1, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, states = network(ids, use_cache=False).logits, network.base_model(ids).last_hidden_state
    head = Head(folder, CPU)
    torch.testing.assert_close(head.logits(states[0]), expected[0], atol=1e-5, rtol=1e-5)
    assert head.vocabulary == 256


def test_only_tokens_that_both_models_have_are_compared(tmp_path, corpus, extracted, capsys):
    left = save_model(tmp_path / "left", 0, vocabulary=264)  # eight rows are padding
    right = save_model(tmp_path / "right", 1, vocabulary=260, added=["<extra>"])
    table = compared(tmp_path, corpus, (left, extracted(left)), (right, extracted(right)))
    passes = list(zip(direct(left, corpus), direct(right, corpus), strict=True))
    lp, lq = (torch.cat([one[side][0] for one in passes]) for side in (0, 1))
    known = [side[:, :256].log_softmax(-1) for side in (lp, lq)]
    kl = (known[0].exp() * (known[0] - known[1])).sum(-1).mean().item()
    assert number(table, "token_kl.left_right") == pytest.approx(kl, rel=1e-4)
    assert number(table, "token_kl.shared_tokens") == 256
    outside = lp.softmax(-1)[:, 256:].sum(-1).mean().item()
    assert number(table, "token_kl.outside_left") == pytest.approx(outside, rel=1e-3)
    assert "256 of the 264 rows of the left model's head" in capsys.readouterr().err


def test_of_a_sample_of_tokens_the_text_still_says_what_follows(tmp_path, corpus, extracted):
    model = save_model(tmp_path / "model", 0)
    states = extracted(model, tokens=120)
    tokenizer = AutoTokenizer.from_pretrained(model)
    texts = [tokenizer(json.loads(line)["text"])["input_ids"] for line in corpus.read_text().splitlines()]
    with StateFile(states) as file:
        assert file.tokens == 120
        found = following(file, corpus, tokenizer)
        wanted = [
            (*texts[t], -1)[p + 1] for t, p in zip(file.text_index, file.position, strict=True)
        ]  # fmt: skip
        assert found.tolist() == wanted
        other = corpus.with_name("other.jsonl")
        other.write_text(corpus.read_text().replace("the", "our"))
        with pytest.raises(UserError, match=r"does not hold the tokens of .*other\.jsonl"):
            following(file, other, tokenizer)


class Matrix:
    """A head without a norm."""

    def __init__(self, weights, shift=0.0):
        self.weights, self.vocabulary = torch.as_tensor(weights, dtype=torch.float32), weights.shape[1]
        self.shift = shift

    def logits(self, states):
        return (states - self.shift) @ self.weights

    def normed(self, states):
        return states


def test_stitching_repairs_a_rotation(random):
    texts = np.repeat(np.arange(40), 12)
    weights = random.standard_normal((6, 9))
    left = random.standard_normal((2, 480, 6)) * np.linspace(2, 0.5, 6)
    turn, _ = np.linalg.qr(random.standard_normal((6, 6)))
    right = left @ turn + 3.0
    probabilities = torch.as_tensor(left[-1] @ weights).softmax(-1).numpy()
    follows = np.array([random.choice(9, p=p / p.sum()) for p in probabilities])
    settings = BehaviourJob(sample=480)
    pair = pair_up(ArrayStates(left, texts), ArrayStates(right, texts), settings, {"level": "token"})
    told = Vocabulary(np.arange(9), follows, np.tile(np.arange(12), 40))
    heads = Matrix(weights), Matrix(turn.T @ weights, shift=3.0)  # which say the same
    measure(pair, heads, told, settings)
    table = pair.rows.table().to_pandas()
    assert number(table, "token_kl.left_right") < 1e-6
    for direction in ("right", "back"):
        added = {m: number(table, f"stitching.{m}", direction=direction) for m in
                 ("affine", "rotation", "identity", "shuffled")}  # fmt: skip
        assert abs(added["rotation"]) < 1e-4
        assert abs(added["affine"]) < 0.01  # but for the ridge
        assert added["identity"] > 1
        assert added["shuffled"] > 0.3


def test_what_cannot_be_read_as_next_tokens_is_refused(tmp_path, corpus, extracted, capsys):
    model = save_model(tmp_path / "model", 0)
    side, blind = (model, extracted(model)), (model, extracted(model, attention="bidirectional"))
    assert compared(tmp_path, corpus, blind, blind) == 1
    assert "with causal attention alone" in capsys.readouterr().err
    pooled = (model, side[1].with_name("pooled.h5"))
    assert compared(tmp_path, corpus, pooled, pooled) == 1
    assert "holds pooled states" in capsys.readouterr().err
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    (adapter / "config.json").write_text((model / "config.json").read_text())
    with pytest.raises(UserError, match="holds an adapter"):
        Head(adapter, CPU)
    headless = save_model(tmp_path / "headless", 0, tie_word_embeddings=False)
    AutoModel.from_pretrained(headless).save_pretrained(headless)
    with pytest.raises(NoHead, match=r"holds no lm_head\.weight"):
        Head(headless, CPU)
    encoder = tmp_path / "encoder"
    ViTConfig(num_hidden_layers=1).save_pretrained(encoder)
    with pytest.raises(NoHead, match="a vit model does not say what comes next"):
        Head(encoder, CPU)


def test_a_pair_of_which_nothing_can_be_said_ends_without_numbers(tmp_path, corpus, extracted, capsys):
    """Its job must not fail a study of several pairs."""
    model = save_model(tmp_path / "model", 0)
    headless = save_model(tmp_path / "headless", 0, tie_word_embeddings=False)
    states = extracted(headless)
    AutoModel.from_pretrained(headless).save_pretrained(headless)
    table = compared(tmp_path, corpus, (model, extracted(model)), (headless, states))
    assert len(table) == 0
    assert list(table.columns) == COLUMNS["measures"]
    assert "behaviour is not measured" in capsys.readouterr().err


def test_shared_tokens_are_those_of_one_name_and_one_id():
    class Words:
        def __init__(self, *words):
            self.words = words

        def get_vocab(self):
            return {word: i for i, word in enumerate(self.words)}

    left, right = Words("a", "b", "c", "d"), Words("a", "x", "c", "d", "e")
    assert shared_tokens(left, right, 4).tolist() == [0, 2, 3]
    assert shared_tokens(left, right, 3).tolist() == [0, 2]

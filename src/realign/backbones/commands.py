"""The commands of the backbones room: fetch, import, derive, score, and check a pair."""

from realign.artifacts.command import Command, Input, Output
from realign.study.backbones import (
    CheckPairJob,
    FetchHub,
    ImportModel,
    Merge,
    Pretrain,
    Rlvr,
    ScoreJob,
    Sft,
    Untrained,
)

_MODEL = Output("The model, a folder in Hugging Face layout.", manifest=True)
_HISTORY = Output("One JSON object a step: loss, learning rate, seconds, and what the method measures.")
_FORMATS = {"backbone": 1}

FETCH_HUB = Command(
    name="fetch_hub",
    help="Fetch a model from a hub: only the files that are needed, checked against the hub's hashes.",
    run="realign.backbones.hub:run",
    settings=FetchHub,
    outputs={"model": _MODEL},
    formats=_FORMATS,
)

IMPORT_PATH = Command(
    name="import_path",
    help="Bring in a model from a local folder in Hugging Face layout.",
    run="realign.backbones.imports:run_folder",
    settings=ImportModel,
    inputs={"source": Input("The folder.")},
    outputs={"model": _MODEL},
    formats=_FORMATS,
)

IMPORT_GGUF = Command(
    name="import_gguf",
    help="Dequantize a GGUF file into safetensors.",
    run="realign.backbones.imports:run_gguf",
    settings=ImportModel,
    inputs={"source": Input("The GGUF file, or a folder that holds one.")},
    outputs={"model": _MODEL},
    formats=_FORMATS,
)

PRETRAIN = Command(
    name="pretrain",
    help="Make a small language model and its tokenizer from text and problems.",
    run="realign.backbones.pretrain:run",
    settings=Pretrain,
    inputs={
        "text": Input("Text, JSONL with id and text."),
        "problems": Input("Problems with worked solutions, JSONL."),
    },
    outputs={"model": _MODEL, "history": _HISTORY},
    formats=_FORMATS,
)

SFT = Command(
    name="sft",
    help="Fine-tune a backbone on worked solutions.",
    run="realign.backbones.sft:run",
    settings=Sft,
    inputs={
        "base": Input("The backbone to start from."),
        "problems": Input("Problems with worked solutions, JSONL."),
    },
    outputs={"model": _MODEL, "history": _HISTORY},
    formats=_FORMATS,
)

RLVR = Command(
    name="rlvr",
    help="Tune a backbone by GRPO with rewards that rules decide.",
    run="realign.backbones.rlvr:run",
    settings=Rlvr,
    inputs={
        "base": Input("The backbone to start from."),
        "problems": Input("Problems with right answers, JSONL."),
    },
    outputs={"model": _MODEL, "history": _HISTORY},
    formats=_FORMATS,
)

MERGE = Command(
    name="merge",
    help="Put the weights of several backbones together.",
    run="realign.backbones.merge:run",
    settings=Merge,
    inputs={"parents": Input("The backbones, in their order.", many=True)},
    outputs={"model": _MODEL},
    formats=_FORMATS,
)

UNTRAINED = Command(
    name="untrained",
    help="Make random weights in the shape of a backbone.",
    run="realign.backbones.untrained:run",
    settings=Untrained,
    inputs={"like": Input("The backbone whose architecture and tokenizer are copied.")},
    outputs={"model": _MODEL},
    formats=_FORMATS,
)

SCORE_BACKBONE = Command(
    name="score_backbone",
    help="Measure a backbone's pass rate on held-out problems and its perplexity of held-out text.",
    run="realign.backbones.score:run",
    settings=ScoreJob,
    inputs={
        "model": Input("The backbone."),
        "problems": Input("Held-out problems, JSONL."),
        "text": Input("The text that pretraining read, JSONL; only its held-out share is used."),
        "base_details": Input("The details of its base, to be compared one by one.", required=False),
    },
    outputs={
        "metrics": Output("Tidy results, Parquet."),
        "details": Output("Each problem's and each text's own result, JSON."),
    },
    formats={"metrics": 1, "details": 1},
)

CHECK_PAIR = Command(
    name="check_pair",
    help="Check that the two sides of a pair can be compared: same shape, same tokens.",
    run="realign.backbones.pair:run",
    settings=CheckPairJob,
    inputs={
        "left": Input("The base backbone."),
        "right": Input("The post-trained backbone."),
        "corpora": Input("Probe corpora, JSONL with text.", many=True),
    },
    outputs={"report": Output("What was found, JSON.")},
    formats={"report": 1},
)

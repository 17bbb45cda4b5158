"""A floor: the same architecture and tokenizer with fresh random weights."""

from realign.artifacts.command import Job
from realign.backbones.derive import write_model
from realign.backbones.layout import check_layout, load_tokenizer, read_config
from realign.backbones.model import fresh_model, stored_dtype
from realign.seeds import derive_seed
from realign.study.backbones import Untrained


def run(job: Job[Untrained]) -> None:
    """Draw random weights in the shape of a model."""
    from transformers import AutoConfig

    like = job.input("like")
    read_config(like)
    config = AutoConfig.from_pretrained(like, local_files_only=True, trust_remote_code=False)
    model = fresh_model(config, derive_seed(job.settings.seed or 0, "untrained"))
    values = {name: parameter.detach() for name, parameter in model.named_parameters()}
    write_model(model, values, load_tokenizer(like), job.output("model"), stored_dtype("keep", like))
    job.note(**check_layout(job.output("model")))

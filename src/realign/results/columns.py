"""The columns of every tidy table, and which of them hold numbers."""

# Presets of measures: rows that the authors' code computes in another way than we do, and rows that are taken
# without attention sinks. Rows without a preset are ours.
PUBLISHED, WITHOUT_SINKS = "published", "without_sinks"
COLUMNS = {
    "measures": [
        "study", "stage", "step", "recipe", "pair", "kind", "tags", "corpus", "token_rule", "attention",
        "preset", "seed_left", "seed_right", "measure", "part", "layer_left", "layer_right", "k", "task",
        "split", "direction", "statistic", "value", "ci_low", "ci_high", "se", "df", "n",
    ],
    "scores": [
        "study", "embedder", "backbone", "recipe", "seed", "step", "preset", "benchmark", "task",
        "task_type", "split", "subset", "metric", "value", "mteb_version", "dataset_revision", "prompt_hash",
    ],
    "queries": [
        "study", "embedder", "backbone", "recipe", "seed", "step", "preset", "task", "task_type", "split",
        "subset", "query", "metric", "value",
    ],
    "backbones": ["study", "backbone", "kind", "base", "metric", "split", "value", "ci_low", "ci_high", "n"],
    "training": ["study", "backbone", "recipe", "seed", "step", "metric", "value"],
    "mining": ["study", "dataset", "statistic", "value"],
    "audits": [
        "study", "dataset", "judge", "by", "least", "greatest", "value", "ci_low", "ci_high", "judged", "n",
    ],
    "claims": [
        "study", "claim", "pair", "statistic", "value", "ci_low", "ci_high", "threshold", "verdict",
        "evidence",
    ],
}  # fmt: skip
NUMBERS = {
    "step", "seed", "seed_left", "seed_right", "layer_left", "layer_right", "k", "value", "ci_low",
    "ci_high", "se", "df", "n", "threshold", "least", "greatest", "judged",
}  # fmt: skip
WHOLE = {"step", "seed_left", "seed_right", "layer_left", "layer_right", "k", "n"}  # as measures are written
LATER = {"se", "df", "part"}  # columns that measures of earlier versions lack

"""The command that writes down what a study is made of."""

from realign.artifacts.command import Command, Output
from realign.study.description import Description

DESCRIBE = Command(
    name="describe_study",
    help="Write what the study is made of, which all drawings are planned from.",
    run="realign.results.describe:run",
    settings=Description,
    outputs={"study": Output("The description, JSON.")},
    formats={"study": 1},
)

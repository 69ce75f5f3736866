"""Every error that jarvis-embed raises on purpose, as one tree.

    JarvisEmbedError
    ├── HomeError              the folder that holds everything
    │   ├── HomeNotWritable
    │   ├── HomeLocked         another process is building; names its pid
    │   └── DiskFull
    ├── ConfigError            config.json cannot be used as it is
    ├── InputError             an argument or a text that cannot be used
    ├── SourceError            a message source that cannot be read
    │   ├── SourceMissing      nothing there
    │   ├── SourceNotPermitted the system does not let this program read it
    │   ├── SourceLocked       another program holds it, or changed it meanwhile
    │   ├── SourceDamaged      no database, or not a whole one
    │   └── SourceForeign      a database, but of another kind, or in a schema that is not known
    ├── LibraryError           the library of messages
    ├── ModelError
    │   ├── UnknownModel       no such name
    │   ├── WeightsMissing     a known model without weights on this machine
    │   ├── WeightsDamaged     weights or tokenizer that cannot be read
    │   ├── ModelUnsupported   a readable model that is not a BERT encoder of ours
    │   ├── ModelRefused       a trained model that did not pass its exam
    │   └── DownloadFailed     the hub did not give what was asked for
    ├── SpaceError
    │   ├── LibraryEmpty       no pair of messages to build a space of
    │   ├── SpaceMissing       never built
    │   ├── SpaceStale         built from messages that have changed since
    │   ├── SpaceDamaged       a file is missing or its checksum is wrong
    │   ├── HeadsMissing       no classifier was trained for this space
    │   └── FingerprintMismatch  made by one model, about to be used with another
    ├── LabelError             labels that cannot be read, or that nothing can be learned from
    ├── TrainingError          a model cannot be trained: too few pairs, or torch is missing
    └── EvaluationError        a model cannot be examined
        └── TextLeak           what is examined is also in the training data

An error is one sentence about what is wrong and one about what to do next. It names files, models and
numbers; never the text of a message.
"""

from __future__ import annotations


class JarvisEmbedError(Exception):
    """Base of the tree.

    Attributes:
        problem: what is wrong, without a full stop.
        next_step: what the user can do about it; empty where nothing can be done.
    """

    def __init__(self, problem: str, next_step: str = "") -> None:
        super().__init__(f"{problem}. {next_step}" if next_step else problem)
        self.problem = problem
        self.next_step = next_step


class HomeError(JarvisEmbedError):
    """The home folder cannot be used."""


class HomeNotWritable(HomeError):
    """The home folder, or a file in it, may not be written by this user."""


class HomeLocked(HomeError):
    """Another process holds the lock of this space or library."""


class DiskFull(HomeError):
    """The disk had no room; what was there before is untouched."""


class ConfigError(JarvisEmbedError):
    """``config.json`` is broken, or from a newer version. It is never overwritten."""


class InputError(JarvisEmbedError):
    """An argument, option or text is not usable."""


class SourceError(JarvisEmbedError):
    """A source of messages is missing, unreadable, or of an unknown kind."""


class SourceMissing(SourceError):
    """There is no such file."""


class SourceNotPermitted(SourceError):
    """The file is there, and this program may not read it (on macOS: Full Disk Access)."""


class SourceLocked(SourceError):
    """Another program holds the file, or changed it while it was being read. Trying again helps."""


class SourceDamaged(SourceError):
    """The file is no database, or not a whole one."""


class SourceForeign(SourceError):
    """A database that lacks the tables or columns which this kind needs."""


class LibraryError(JarvisEmbedError):
    """The library is missing, damaged, or from a newer version."""


class ModelError(JarvisEmbedError):
    """A model cannot be used."""


class UnknownModel(ModelError):
    """The name is in no registry and is not a folder."""


class WeightsMissing(ModelError):
    """The model is known, but its weights are not on this machine."""


class WeightsDamaged(ModelError):
    """A file of the model is missing, truncated, or of the wrong shape."""


class ModelUnsupported(ModelError):
    """The folder holds a model that this package cannot run."""


class ModelRefused(ModelError):
    """A trained model that is not better than its parent, or was never examined."""


class DownloadFailed(ModelError):
    """The hub could not be reached, or what it sent is not what was asked for."""


class SpaceError(JarvisEmbedError):
    """A space cannot be used."""


class LibraryEmpty(SpaceError):
    """There is no pair of messages to build a space of."""


class SpaceMissing(SpaceError):
    """No generation of this space was ever built."""


class SpaceStale(SpaceError):
    """The library has changed since the space was built."""


class SpaceDamaged(SpaceError):
    """A file of the generation is missing or fails its checksum."""


class HeadsMissing(SpaceError):
    """The space has no classifier heads."""


class FingerprintMismatch(SpaceError):
    """Two artifacts were made by different models. Equal dimensions prove nothing."""


class LabelError(JarvisEmbedError):
    """A file of labels is broken, or there are too few labels to learn from."""


class TrainingError(JarvisEmbedError):
    """There is too little to learn from, or a library that training needs is missing."""


class EvaluationError(JarvisEmbedError):
    """A model cannot be examined as asked."""


class TextLeak(EvaluationError):
    """Examined texts or conversations are also in the training data; a figure from them would lie."""

"""jarvis-embed: a person's own message history as a fast, private vector space."""

from . import sources
from .classify import classify_responses, classify_triggers
from .errors import JarvisEmbedError
from .evaluation.exam import run_exam
from .evaluation.exam_record import Exam
from .intake import IngestReport
from .labels.scheme import Label
from .library import Library
from .messages import Conversation, Message, Pair, Segment, Tapback, Thread, Turn
from .models.encoder import Encoder, load_encoder
from .pipeline import Reply, Suggestion, Timing, suggest
from .quality import quality
from .spaces.build import BuildReport, build
from .spaces.space import Match, Space, ThreadMatch

__version__ = "0.1.0"

__all__ = [
    "BuildReport",
    "Conversation",
    "Encoder",
    "Exam",
    "IngestReport",
    "JarvisEmbedError",
    "Label",
    "Library",
    "Match",
    "Message",
    "Pair",
    "Reply",
    "Segment",
    "Space",
    "Suggestion",
    "Tapback",
    "Thread",
    "ThreadMatch",
    "Timing",
    "Turn",
    "__version__",
    "build",
    "classify_responses",
    "classify_triggers",
    "load_encoder",
    "quality",
    "run_exam",
    "sources",
    "suggest",
]

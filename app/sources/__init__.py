"""Sources post events: one file a sender. SOURCE is the one that this relay listens to."""

from app.sources import nector
from app.sources.base import Source

SOURCE: Source = nector

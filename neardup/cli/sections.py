"""The list in `neardup --help`: each command with its purpose, in a line that is not truncated."""

from collections.abc import Mapping
from types import MappingProxyType

SECTIONS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "Find near-duplicates and decide": {
            "duplicates": "Find all near-duplicates among the photos of a folder.",
            "review": "Judge in a browser what is in doubt.",
            "watch": "Find what is new in a folder, and what it is a copy of.",
            "explain": "Say and draw how two photos belong together.",
            "embed": "Write the vectors of a folder's photos, to search in.",
            "search": "Find the photos that are most like one photo.",
            "verdicts": "Carry what people decided to Excel, and back.",
        },
        "Measure and train on your own ground truth": {
            "experiment": "Do all from prepare to verify, and compare approaches.",
            "prepare": "Read sheets and photos; list all that does not fit.",
            "translate": "Translate legends to English captions.",
            "augment": "Write varied copies of photos, or damaged ones (press).",
            "train": "Fine-tune the encoder.",
            "evaluate": "Measure how well each approach finds near-duplicates.",
            "verify": "Fit to the ground truth what decides pairs.",
            "tune": "Search for a better recipe of training.",
        },
        "Keep it running": {
            "up": "Start the servers and the nightly runs.",
            "down": "End the servers and the runs in progress.",
            "promote": "Use a new model, if it is better beyond chance.",
            "rollback": "Use the former model again.",
        },
        "Try it": {
            "demo": "Draw a small archive and do everything with it.",
        },
    }
)
"""Title of each part of the list → command → what it does, in the order in which they are needed."""

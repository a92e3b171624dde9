"""Takes out of an environment what the relay never reads: `python slim.py .venv`. The image is 40 MB smaller by it.

The languages are those in which WhatsApp takes templates: a store whose locale is of another one is refused by `check`
in the image as an unknown locale. https://developers.facebook.com/docs/whatsapp/business-management-api/message-templates/supported-languages
"""

from __future__ import annotations

import shutil
import struct
import sys
from pathlib import Path

LANGUAGES = frozenset({
    "root", "af", "ar", "az", "bg", "bn", "ca", "cs", "da", "de", "el", "en", "es", "et", "fa", "fi", "fil",
    "fr", "ga", "gu", "ha", "he", "hi", "hr", "hu", "id", "it", "ja", "ka", "kk", "kn", "ko", "ky", "lo", "lt",
    "lv", "mk", "ml", "mr", "ms", "nb", "nl", "nn", "no", "pa", "pl", "ps", "pt", "ro", "ru", "rw", "si", "sk",
    "sl", "sq", "sr", "sv", "sw", "ta", "te", "th", "tr", "uk", "ur", "uz", "vi", "zh", "zu",
})  # fmt: skip


def drop_locales(packages: Path) -> None:
    """Remove what Babel knows of other languages; `en_IN.dat` leans on `en_001.dat`, `en.dat` and `root.dat`."""
    for path in packages.glob("babel/locale-data/*.dat"):
        if path.stem.partition("_")[0] not in LANGUAGES:
            path.unlink()


def strip_library(path: Path) -> None:
    """Cut off what no loader maps: section headers, symbols and debugging lines, half of it all."""
    data = path.read_bytes()
    if data[:5] != b"\x7fELF\x02":  # 64 bits
        return
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    places = (struct.unpack_from("<Q16xQ", data, table + number * size + 8) for number in range(count))
    kept = bytearray(data[: max(offset + length for offset, length in places)])
    struct.pack_into("<Q", kept, 40, 0)
    struct.pack_into("<HH", kept, 60, 0, 0)
    path.write_bytes(kept)


def main() -> None:
    """Slim the environment whose folder is named."""
    (packages,) = Path(sys.argv[1]).glob("lib/python*/site-packages")
    drop_locales(packages)
    shutil.rmtree(packages / "pygments/lexers")  # rich would colour source code by them
    for path in packages.rglob("*.so"):
        strip_library(path)


if __name__ == "__main__":
    main()

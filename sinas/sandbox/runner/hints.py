"""What to add to an error for the person who reads it."""

import json
import sys

# Where the package is not called like the module. An empty one is of many packages: no advice.
_PACKAGES = {
    "Bio": "biopython",
    "Crypto": "pycryptodome",
    "MySQLdb": "mysqlclient",
    "OpenSSL": "pyOpenSSL",
    "PIL": "Pillow",
    "attr": "attrs",
    "azure": "",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "discord": "discord.py",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "fitz": "PyMuPDF",
    "git": "GitPython",
    "google": "",
    "google.protobuf": "protobuf",
    "grpc": "grpcio",
    "jose": "python-jose",
    "jwt": "PyJWT",
    "magic": "python-magic",
    "pptx": "python-pptx",
    "psycopg2": "psycopg2-binary",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "slugify": "python-slugify",
    "telegram": "python-telegram-bot",
    "usb": "pyusb",
    "websocket": "websocket-client",
    "yaml": "PyYAML",
    "zmq": "pyzmq",
}


def hint(error: BaseException) -> str:
    """How to have the package that an import missed; "" where that is not the trouble."""
    name = getattr(error, "name", None)
    if not isinstance(error, ModuleNotFoundError) or not isinstance(name, str):
        return ""
    is_inner = "." in name or name.startswith("_") or name in sys.stdlib_module_names
    package = _PACKAGES.get(name, "" if is_inner or not name.isidentifier() else name)
    if not package:
        return ""
    body = json.dumps({"package_name": package})
    return (
        f". The package {package} is not approved here; an admin can approve it with "
        f"POST /api/v1/dependencies {body}."
    )

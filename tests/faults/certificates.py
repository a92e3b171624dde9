"""Certificates for `localhost`: a good one, one that expired, and one that nobody vouches for."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

_CA_SETTINGS = """
[ca]
default_ca = own
[own]
database = {folder}/index.txt
new_certs_dir = {folder}
rand_serial = yes
default_md = sha256
policy = any
copy_extensions = copy
[any]
commonName = supplied
"""


def make_certificates(folder: Path) -> Path:
    """Write an authority (returned) and `good`, `expired` and `self-signed` into the folder: NAME.pem and NAME.key."""
    settings = folder / "ca.conf"
    settings.write_text(_CA_SETTINGS.format(folder=folder))
    (folder / "index.txt").write_text("")
    (folder / "index.txt.attr").write_text("unique_subject = no\n")
    for name in ("authority", "self-signed"):
        _run_openssl(folder, "req -x509 -days 2", name, more=["-out", f"{folder}/{name}.pem"])
    for name, days in (("good", "-days 2"), ("expired", "-startdate 20200101000000Z -enddate 20200201000000Z")):
        _run_openssl(folder, "req", name, more=["-out", f"{folder}/{name}.csr"])
        command = f"openssl ca -batch -notext -config {settings} -cert authority.pem -keyfile authority.key {days}"
        files = ["-in", f"{name}.csr", "-out", f"{name}.pem"]
        subprocess.run([*command.split(), *files], check=True, capture_output=True, cwd=folder)
    return folder / "authority.pem"


def _run_openssl(folder: Path, command: str, name: str, more: list[str]) -> None:
    options = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj"]
    subject = "/CN=a test's authority" if name == "authority" else "/CN=localhost"
    names = [] if name == "authority" else ["-addext", "subjectAltName=DNS:localhost"]
    given = ["openssl", *command.split(), *options, subject, *names, "-keyout", f"{folder}/{name}.key", *more]
    subprocess.run(given, check=True, capture_output=True)


def load_certificate(folder: Path, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    return context

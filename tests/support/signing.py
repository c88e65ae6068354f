"""Throw-away OpenPGP keys with all that can befall a key."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path


class KeyRing:
    """A GnuPG home with secret keys. Making a key takes some ten milliseconds: they are ed25519."""

    def __init__(self) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="dindkit-test-keys-")
        self._public: dict[tuple[str, bool], bytes] = {}

    def close(self) -> None:
        """Stop gpg's agent and forget all keys."""
        subprocess.run(["gpgconf", "--homedir", self._home.name, "--kill", "all"], check=False)
        self._home.cleanup()

    def make(self, name: str = "Test Archive", *, created: str = "", expires: str = "never") -> str:
        """Make a primary key that may sign, and return its fingerprint.

        `created` is a time as gpg's --faked-system-time reads it (`20240101T000000`), `expires` a period as
        --quick-generate-key reads it, from then on (`1d`).
        """
        faked = ["--faked-system-time", f"{created}!"] if created else []
        said = self.gpg(
            *faked, "--yes", "--quick-generate-key", f"{name} <test@example.org>", "ed25519", "sign", expires
        )
        return _created(said)

    def add_subkey(self, primary: str) -> str:
        """Give `primary` a subkey that may sign; returns its fingerprint, to be used as `FINGERPRINT!`."""
        before = set(self._fingerprints(primary))
        self.gpg("--quick-add-key", primary, "ed25519", "sign", "never")
        self._public.clear()
        (new,) = set(self._fingerprints(primary)) - before
        return new

    def revoke(self, primary: str) -> None:
        """Revoke a primary key."""
        certificate = Path(self._home.name, "openpgp-revocs.d", f"{primary}.rev").read_text()
        self.gpg("--import", data=certificate.replace(":-----BEGIN", "-----BEGIN").encode())
        self._public.clear()

    def public(self, primary: str, armour: bool = True) -> bytes:
        """Return the public key."""
        wanted = (primary, armour)
        if wanted not in self._public:
            armoured = ["--armor"] if armour else []
            self._public[wanted] = self.gpg(*armoured, "--export", primary, status=False)
        return self._public[wanted]

    def clear_sign(self, text: bytes, *signers: str, digest: str = "SHA256", when: str = "") -> bytes:
        """Return `text` clear-signed by all of `signers`, at the faked time `when` if given."""
        users = [word for signer in signers for word in ("--local-user", signer)]
        faked = ["--faked-system-time", f"{when}!"] if when else []
        options = ["--digest-algo", digest, "--allow-weak-digest-algos", *faked, *users]
        return self.gpg(*options, "--clear-sign", data=text, status=False)

    def gpg(self, *words: str, data: bytes = b"", status: bool = True) -> bytes:
        """Run gpg in this home and return its output, with its status lines where `status` is set."""
        head = ["gpg", "--homedir", self._home.name, "--batch", "--no-tty", "--pinentry-mode", "loopback"]
        head += ["--passphrase", "", "--trust-model", "always", *(["--status-fd", "1"] if status else [])]
        done = subprocess.run([*head, *words], input=data, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def _fingerprints(self, primary: str) -> list[str]:
        lines = self.gpg("--with-colons", "--list-keys", primary, status=False).decode().splitlines()
        return [line.split(":")[9] for line in lines if line.startswith("fpr:")]


def _created(status: bytes) -> str:
    (line,) = [line for line in status.decode().splitlines() if "KEY_CREATED" in line]
    return line.split()[-1]

"""The key that signs checkpoints: a file (0600) beside the store, made on first use; its public half lies next to it.

Whoever holds the key can sign any history, so it is worth less than the earlier checkpoints that others keep.
"""

import hashlib
from contextlib import suppress
from pathlib import Path

from sqlalchemy import make_url

from contract.entropy import Entropy, system_entropy
from contract.errors import ErrorCode, TuttiError
from privacy.ledger.notes import SignerKey, VerifierKey
from server import whole_files

PUBLIC_SUFFIX = ".pub"


class LedgerKey:
    """The signing key of one store.

    Args:
      directory: where files that belong to the store are kept.
      store: the store's directory or database URL; stores that share a directory have keys of their own.
    """

    def __init__(self, directory: Path, *, store: str = "", entropy: Entropy = system_entropy) -> None:
        self._path, self._entropy = directory / f"{_name(store)}.key", entropy

    @property
    def public_path(self) -> Path:
        """Where the public key lies, for whoever verifies offline."""
        return self._path.with_suffix(PUBLIC_SUFFIX)

    def signer(self) -> SignerKey:
        """The key; a fresh one on first use.

        Raises:
          TuttiError: LEDGER_BROKEN if the file is damaged or others may read it.
        """
        if not self._path.exists():
            self._create()
        if self._path.stat().st_mode & 0o077:
            raise TuttiError(ErrorCode.LEDGER_BROKEN, f"{self._path} may be read by others: chmod 600, and rotate the key")
        try:
            key = SignerKey.parse(self._path.read_text("ascii"))
        except ValueError:
            raise TuttiError(ErrorCode.LEDGER_BROKEN, f"{self._path} holds no signing key") from None
        if not self._published(key.verifier):  # this process, or the one before, was stopped between the two files
            self._publish(key.verifier)
        return key

    def verifier(self) -> VerifierKey:
        """The public half; makes the key if there is none."""
        if self.public_path.exists():
            try:
                return VerifierKey.parse(self.public_path.read_text("ascii"))
            except ValueError as error:
                raise TuttiError(ErrorCode.LEDGER_BROKEN, f"{self.public_path}: {error}") from None
        return self.signer().verifier

    def successor(self) -> SignerKey:
        """A fresh key of the same name, for the old one to endorse on the record before `replace` puts it in its place."""
        return SignerKey.create(self.signer().name, self._entropy)

    def replace(self, fresh: SignerKey) -> None:
        """Puts `fresh` in the place of the old key, whose public half is kept under the name of its id: what it signed stays checkable."""
        old = self.signer().verifier
        whole_files.replace(
            self._path.with_suffix(f".{old.id.hex()}.retired{PUBLIC_SUFFIX}"), f"{old}\n".encode("ascii"), mode=0o644
        )
        whole_files.replace(self._path, _content(fresh))
        self._publish(fresh.verifier)

    def _create(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        key = SignerKey.create(f"tutti-ledger/{self._entropy(8).hex()}", self._entropy)
        with suppress(FileExistsError):  # another process made one meanwhile, and may have signed with it
            whole_files.create(self._path, _content(key))

    def _published(self, verifier: VerifierKey) -> bool:
        try:
            return self.public_path.read_bytes() == f"{verifier}\n".encode("ascii")
        except FileNotFoundError:
            return False

    def _publish(self, verifier: VerifierKey) -> None:
        whole_files.replace(self.public_path, f"{verifier}\n".encode("ascii"), mode=0o644)


def _content(key: SignerKey) -> bytes:
    return f"{key.secret_text()}\n".encode("ascii")


def _name(store: str) -> str:
    if "://" not in store:
        return "ledger"
    url = make_url(store)
    place = f"{url.host}:{url.port}/{url.database}?{sorted(url.query.items())}"
    return f"ledger-{hashlib.sha256(place.encode()).hexdigest()[:12]}"

"""How chains are verified and their heads kept elsewhere, where reads go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger.ddl.migrate import require_head
from ledger.errors import SchemaNotReady
from ledger.maintenance.audit.checkpoints import checkpoint, inclusion_proof
from ledger.maintenance.audit.guards import guards
from ledger.maintenance.audit.verify import verify, verify_chains
from ledger.records.verification import LedgerVerification

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from uuid import UUID

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

    from ledger.records.checkpoint import Checkpoint, InclusionProof
    from ledger.records.verification import Verification


class AuditVerifying:
    """What verifies, called."""

    if TYPE_CHECKING:  # the repository's

        def _long_read(self) -> AbstractContextManager[Connection]: ...
        def _transaction(self) -> AbstractContextManager[Connection]: ...

    def verify(
        self,
        project_id: UUID | str,
        *,
        checkpoint: Checkpoint | None = None,
        on_progress: Callable[[int], object] | None = None,
    ) -> Verification:
        """Recompute the chain of a project, and name the first row that is not as it was written.

        Checked are the sequence of rows, each row's link to the one before it, its hash, the
        digest of each payload, that erased payloads have their record, the links of these
        records, the head, and the sums of each day, agent and status.
        A tail that was cut off together with its head, and a history that was written anew to
        the end, are found by a ``checkpoint`` taken before that and kept elsewhere.

        Rows are read in the database, 20,000 at a time; ``on_progress`` is told how many hold
        so far. Those appended meanwhile are left for the next time. Raises PermissionMissing
        for a role that does not see every run of the project, UnknownReference for a project that
        the ledger does not know, InvalidSignature for a checkpoint that was altered after it was
        signed, SigningUnavailable where that cannot be told without the extra `signing`,
        InvalidArgument, SchemaNotReady, DatabaseUnavailable.
        """
        with self._long_read() as connection:
            return verify(connection, project_id, checkpoint, on_progress)

    def verify_all(
        self,
        *,
        checkpoint: Checkpoint | None = None,
        on_progress: Callable[[UUID, int], object] | None = None,
    ) -> LedgerVerification:
        """Verify all chains, and whether what guards their tables is still in place.

        Guards are triggers, row level security, foreign keys and the like, compared with what
        this version declares, which is for the ledger's owner; another role is told in
        `not_compared` what it cannot tell. ``on_progress`` is told the project and how many of
        its rows hold so far. Where a table or a column is gone, no chain can be verified, and
        `unguarded` says what is missing. Raises as `verify`.
        """
        found: tuple[Verification, ...] = ()
        unreadable: SchemaNotReady | None = None
        with self._long_read() as connection:
            require_head(connection)
        try:
            with self._long_read() as connection:
                found = verify_chains(connection, checkpoint, on_progress)
        except SchemaNotReady as error:
            unreadable = error
        with self._transaction() as connection:
            return LedgerVerification.of(found, *guards(connection, unreadable))

    def checkpoint(self, *, private_key: bytes | None = None) -> Checkpoint:
        """The heads of all chains at this moment, to be kept where this database's owner is not.

        Signed with ``private_key``, an Ed25519 key in PEM, where there is one, which needs the
        extra `signing`; `ledger.new_signing_key` makes a pair. A project whose first run is not
        committed yet is not in it.

        Raises PermissionMissing for a role that does not see every run, AppendOnlyViolation where
        a head was changed into what is none, SigningUnavailable without the extra, and
        InvalidArgument for what is no such key.
        """
        with self._long_read() as connection:
            return checkpoint(connection, private_key)

    def inclusion_proof(self, run_id: str, checkpoint: Checkpoint) -> InclusionProof:
        """That a run is under the Merkle root of a checkpoint, for whoever trusts the root.

        It holds nothing of payloads but salted digests, and 32 bytes for each later run of the
        project up to the checkpoint, so take the first one after the run. docs/proofs.md has
        the function that checks it without this package.

        Raises UnknownReference for a run that is not recorded, or hidden from the role,
        PermissionMissing where others of its project are, InvalidArgument for one that is not
        under the checkpoint, InvalidSignature for a checkpoint that was altered after it was
        signed, and SigningUnavailable where that cannot be told without the extra `signing`.
        """
        with self._long_read() as connection:
            return inclusion_proof(connection, run_id, checkpoint)


class AsyncAuditVerifying:
    """What verifies, awaited."""

    if TYPE_CHECKING:  # the repository's

        def _long_read(self) -> AbstractAsyncContextManager[AsyncConnection]: ...
        def _transaction(self) -> AbstractAsyncContextManager[AsyncConnection]: ...

    async def verify(
        self,
        project_id: UUID | str,
        *,
        checkpoint: Checkpoint | None = None,
        on_progress: Callable[[int], object] | None = None,
    ) -> Verification:
        """Recompute the chain of a project, and name the first row that is not as it was written.

        As `Audit.verify`.
        """
        async with self._long_read() as connection:
            return await connection.run_sync(verify, project_id, checkpoint, on_progress)

    async def verify_all(
        self,
        *,
        checkpoint: Checkpoint | None = None,
        on_progress: Callable[[UUID, int], object] | None = None,
    ) -> LedgerVerification:
        """Verify all chains, and whether what guards their tables is still in place.

        As `Audit.verify_all`.
        """
        found: tuple[Verification, ...] = ()
        unreadable: SchemaNotReady | None = None
        async with self._long_read() as connection:
            await connection.run_sync(require_head)
        try:
            async with self._long_read() as connection:
                found = await connection.run_sync(verify_chains, checkpoint, on_progress)
        except SchemaNotReady as error:
            unreadable = error
        async with self._transaction() as connection:
            return LedgerVerification.of(found, *await connection.run_sync(guards, unreadable))

    async def checkpoint(self, *, private_key: bytes | None = None) -> Checkpoint:
        """The heads of all chains at this moment, to be kept where this database's owner is not.

        As `Audit.checkpoint`.
        """
        async with self._long_read() as connection:
            return await connection.run_sync(checkpoint, private_key)

    async def inclusion_proof(self, run_id: str, checkpoint: Checkpoint) -> InclusionProof:
        """That a run is under the Merkle root of a checkpoint, for whoever trusts the root.

        As `Audit.inclusion_proof`.
        """
        async with self._long_read() as connection:
            return await connection.run_sync(inclusion_proof, run_id, checkpoint)

"""`ledger audit verify`, `checkpoint`, `prove` and `new-key`: whether runs are as recorded."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from ledger.cli.console import busy, hint, printable, say, say_json
from ledger.cli.database import Database
from ledger.cli.failures import FOUND_SOMETHING, explained_failures
from ledger.cli.figures import counted, moment
from ledger.cli.questions import JSON
from ledger.errors import ExportFailed, InvalidArgument
from ledger.records.checkpoint import Checkpoint
from ledger.records.signing import new_key, require_signature
from ledger.records.verification import LedgerVerification
from ledger.repositories.export_files import destination

if TYPE_CHECKING:
    from ledger.records.verification import Verification

CheckpointFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="A checkpoint that was kept elsewhere, to hold them to."),
]
KeyFile = Path | None


def verify(
    database: Database,
    project: Annotated[
        UUID | None, typer.Option(metavar="UUID", help="Only this project's, and no guards.")
    ] = None,
    checkpoint: CheckpointFile = None,
    public_key: Annotated[
        KeyFile,
        typer.Option(metavar="FILE", help="In PEM; the checkpoint must be signed with its other."),
    ] = None,
    *,
    as_json: JSON = False,
) -> None:
    """Verify that runs are as they were recorded, and what guards them is in place.

    Exits with 1 where they are not.
    """
    kept = _kept(checkpoint, public_key)
    with database.ledger() as ledger, busy("Verifying"):
        if project is None:
            found: LedgerVerification | Verification = ledger.audit.verify_all(checkpoint=kept)
        else:
            found = ledger.audit.verify(project, checkpoint=kept)
    if as_json:
        say_json(found.to_dict())
    else:
        _say(found)
    if not found.is_intact:
        raise typer.Exit(FOUND_SOMETHING)


def checkpoint(
    database: Database,
    to: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to. By default the output.")
    ] = None,
    private_key: Annotated[
        KeyFile, typer.Option(metavar="FILE", help="In PEM, an Ed25519 key to sign it with.")
    ] = None,
) -> None:
    """Write down how far each project's chain goes; keep it where this database's owner is not."""
    key = None if private_key is None else _read(private_key)
    with database.ledger() as ledger:
        taken = ledger.audit.checkpoint(private_key=key)
    _put(taken.to_json(), to)


def prove(
    database: Database,
    run_id: Annotated[str, typer.Argument(metavar="RUN_ID", help="The run.")],
    checkpoint: Annotated[
        Path, typer.Option(metavar="FILE", help="The checkpoint that it is to be under.")
    ],
    to: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to. By default the output.")
    ] = None,
) -> None:
    """Write a proof that a run was there at a checkpoint, for whoever trusts the checkpoint."""
    kept = Checkpoint.from_json(_read(checkpoint).decode(errors="replace"))
    with database.ledger() as ledger:
        proof = ledger.audit.inclusion_proof(run_id, kept)
    _put(proof.to_json(), to)


def make_key(
    private_key: Annotated[Path, typer.Argument(metavar="PRIVATE", help="A new file.")],
    public_key: Annotated[Path, typer.Argument(metavar="PUBLIC", help="A new file.")],
) -> None:
    """Make a pair of Ed25519 keys that sign checkpoints; the private one is nobody else's."""
    with explained_failures(is_debugging=False), ExitStack() as undoing:
        private, public = new_key()
        for path, pem, mode in ((private_key, private, 0o600), (public_key, public, 0o644)):
            try:
                path.touch(mode=mode, exist_ok=False)
                undoing.callback(path.unlink, missing_ok=True)
                path.write_bytes(pem)
            except FileExistsError as error:
                reason = "it is there already, or named twice; name two new files"
                raise ExportFailed(str(path), reason) from error
            except OSError as error:
                raise ExportFailed(str(path), error.strerror or str(error)) from error
        undoing.pop_all()
    say(f"{private_key} signs checkpoints; {public_key} is for whoever verifies them.")


def _kept(path: Path | None, public_key: Path | None) -> Checkpoint | None:
    if path is None:
        if public_key is not None:
            raise typer.BadParameter("--public-key is of a --checkpoint; name one")
        return None
    kept = Checkpoint.from_json(_read(path).decode(errors="replace"))
    if public_key is not None:
        require_signature(kept, _read(public_key))
    elif kept.signature is not None:
        hint(
            f"The checkpoint is signed with the key {kept.signature.public_key.hex()}; whose that"
            " is, --public-key tells"
        )
    return kept


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be read: {error.strerror or error}") from error


def _put(document: str, to: Path | None) -> None:
    """The document, whole or not at all where it is a file."""
    if to is None:
        typer.echo(document)
        return
    file = destination(to)
    try:
        file.open()
        file.write(f"{document}\n".encode())
        file.settle()
        file.publish()
    except BaseException:
        file.discard()
        raise


def _say(found: LedgerVerification | Verification) -> None:
    if isinstance(found, LedgerVerification):
        for project in found.projects:
            _say_project(project)
        for missing in found.unguarded:
            say(f"Unguarded: {printable(missing)}")
        if found.not_compared:
            hint(
                f"{counted(len(found.not_compared), 'guard')} cannot be compared by this role; ask"
                " the ledger's owner for: ledger db check"
            )
        if not found.projects and not found.unguarded:
            say("No runs are recorded.")
    else:
        _say_project(found)
    say(
        "The runs are as they were recorded."
        if found.is_intact
        else "Something is not as it was recorded."
    )


def _say_project(found: Verification) -> None:
    held = counted(found.rows, "run")
    since = (
        f", and as at the checkpoint of {moment(found.checkpoint_taken_at)} UTC"
        if found.checkpoint_taken_at is not None and found.is_intact
        else ""
    )
    erased = f", {counted(found.erased, 'run')} erased" if found.erased else ""
    say(f"Project {found.project_id}: {held} in place{since}{erased}.")
    if (fault := found.first_fault) is not None:
        place = [] if fault.sequence is None else [f"row {fault.sequence}"]
        run = [] if fault.run_id is None else [f"run {printable(fault.run_id)}"]
        where = f" {', '.join([*place, *run])}:" if place or run else ""
        say(f"  {fault.kind.capitalize()}:{where} {printable(fault.detail)}.")

"""Runs the revisions: on a connection the caller gives, on one of its own, or as a script."""

from alembic import context

from ledger.ddl import deploys, environment

with deploys.told_in_a_line(context):
    if context.is_offline_mode():
        environment.run_offline(context)
    else:
        environment.run_online(context)

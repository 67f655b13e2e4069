"""What Alembic runs: the migrations, inside the transaction that `llmux.migrations.upgrade` has begun."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()

"""The parts that only PostgreSQL needs, where replicas share the outbox. The extra `postgres` brings the driver."""
